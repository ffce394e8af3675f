//! A profile in the making: parts are added in any order, `finish` completes the metadata and judges the result.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use profile::names::{BuildId, release_of_banner};
use profile::{Document, Type};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::elf::Arch;
use crate::symbols::{self, Symbol, SymbolList};
use crate::types::emit::{self, Emitted, emit};
use crate::types::merge::Merged;
use crate::{Converted, FitnessReport, LinuxOptions};

/// Most entries of a kernel configuration; real ones have about 10,000.
const MAX_CONFIG_ENTRIES: usize = 200_000;

/// A profile in the making.
pub(crate) struct Draft {
    document: Document,
    arch: Arch,
    emitted: Emitted,
    /// Types of global variables, of which those are kept that are symbols too.
    globals: Vec<(String, Option<u64>, Type)>,
    ambiguous_names: usize,
    /// Base name and SHA-256 of each file used.
    sources: BTreeSet<(String, String)>,
    warnings: Vec<String>,
}

impl Draft {
    /// Starts with the types.
    pub(crate) fn new(arch: Arch, merged: &Merged) -> Self {
        let mut document = Document::default();
        let emitted = emit(merged, arch.address_size(), &mut document);
        let mut draft = Self {
            document,
            arch,
            emitted,
            globals: emit::globals(merged, arch.address_size()),
            ambiguous_names: merged.ambiguous_names,
            sources: BTreeSet::new(),
            warnings: Vec::new(),
        };
        if emitted.cut > 0 {
            draft.warn(format!(
                "{} structs have more members than any real one; some are left out",
                emitted.cut
            ));
        }
        draft
    }

    /// The symbols so far.
    pub(crate) fn into_constants(self) -> std::collections::BTreeMap<String, u64> {
        self.document.constants
    }

    pub(crate) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Records a file that was used.
    pub(crate) fn source(&mut self, name: &str, sha256: String) {
        self.sources.insert((name.to_owned(), sha256));
    }

    /// Adds symbols with link-time addresses.
    pub(crate) fn symbols(&mut self, symbols: &[Symbol<'_>]) {
        self.document.constants = symbols::constants(symbols);
    }

    /// Adds a parsed `System.map` or `/proc/kallsyms`; the addresses of a running kernel are taken back to where it
    /// was linked.
    pub(crate) fn symbol_list(&mut self, name: &str, list: &SymbolList<'_>) {
        if list.odd_lines > 0 {
            self.warn(format!("{name}: {} lines are no symbols", list.odd_lines));
        }
        let running = list.module_symbols > 0 || name.to_ascii_lowercase().contains("kallsyms");
        if !running {
            return self.symbols(&list.symbols);
        }
        if !list.symbols.iter().any(|symbol| symbol.name == "init_task") {
            self.warn(format!(
                "{name} lists no data, only code: the kernel is built without CONFIG_KALLSYMS_ALL; use its System.map"
            ));
        }
        match (self.arch, symbols::x86_64_slide(&list.symbols)) {
            (Arch::Amd64, Some(0)) => self.symbols(&list.symbols),
            (Arch::Amd64, Some(slide)) => {
                self.warn(format!(
                    "{name} holds the addresses of a running kernel, {slide:#x} above where it was linked; they are \
                     taken back"
                ));
                // Symbols below the kernel's text are offsets (per-CPU data), which do not move.
                let back = |symbol: &Symbol<'_>| symbol.address.checked_sub(slide).filter(|a| a >> 63 == 1);
                let moved: Vec<Symbol<'_>> = list
                    .symbols
                    .iter()
                    .map(|symbol| Symbol { address: back(symbol).unwrap_or(symbol.address), ..*symbol })
                    .collect();
                self.symbols(&moved);
            }
            _ => {
                self.warn(format!(
                    "{name} holds the addresses of a running kernel, and where it was linked cannot be told; with \
                     address randomisation they fit no other boot"
                ));
                self.symbols(&list.symbols);
            }
        }
    }

    /// Adds a kernel configuration: lines `NAME=value`, the value possibly quoted and possibly with more `=`.
    pub(crate) fn config(&mut self, text: &[u8]) {
        for line in text.split(|&byte| byte == b'\n').take(MAX_CONFIG_ENTRIES) {
            let Ok(line) = std::str::from_utf8(line) else { continue };
            let Some((name, value)) =
                line.trim().split_once('=').filter(|_| !line.trim_start().starts_with('#'))
            else {
                continue;
            };
            let name = name.trim();
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                continue;
            }
            let value = value.trim();
            let unquoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            self.document.config.insert(name.to_owned(), unquoted.to_owned());
        }
    }

    /// Sets the release (`uname -r`), where it is known and plain text.
    pub(crate) fn release(&mut self, release: Option<String>) {
        if let Some(release) = release.filter(|r| !r.is_empty() && !r.contains(char::is_control)) {
            self.document.set("Release", release);
        }
    }

    /// Sets the banner (`Linux version ...`) and the release it names.
    pub(crate) fn banner(&mut self, banner: &str) {
        if let Some(release) = release_of_banner(banner) {
            self.document.set("Banner", banner);
            self.release(Some(release.to_owned()));
        }
    }

    pub(crate) fn build_id(&mut self, id: &BuildId) {
        self.document.set("BuildID", id.as_str());
    }

    /// Completes the metadata and checks the fitness.
    pub(crate) fn finish(mut self, options: &LinuxOptions) -> Converted {
        if let Some(id) = &options.build_id {
            self.build_id(id);
        }
        self.release(options.release.clone());
        let document = &mut self.document;
        document.set("Type", "Profile");
        document.set("ProfileClass", options.profile_class.as_deref().unwrap_or("Linux"));
        document.set("Version", 1);
        document.set("arch", self.arch.name());
        document.set("Generator", concat!("rekal ", env!("CARGO_PKG_VERSION")));
        let sources: Vec<Value> =
            self.sources.iter().map(|(name, sha256)| json!({ "name": name, "sha256": sha256 })).collect();
        document.set("Sources", sources);
        // A definition comes after declarations of the same name and takes their place. One whose address is not the
        // symbol's is another variable of that name, in another file.
        for (name, address, ty) in self.globals {
            if let Some(symbol) = document.constants.get(&name)
                && address.is_none_or(|address| address == *symbol)
            {
                document.constant_types.insert(name, ty);
            }
        }
        let mut report = FitnessReport::of(document);
        report.types = self.emitted.types;
        report.ambiguous_names = self.ambiguous_names;
        report.warnings = self.warnings;
        Converted { document: self.document, report }
    }
}

/// SHA-256 in lower-case hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file, read in pieces.
pub(crate) fn sha256_of_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
