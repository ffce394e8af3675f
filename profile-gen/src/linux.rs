//! Linux sources: tells what a source is, collects its parts, and hands them to the draft of a profile.

use std::fs::{self, File};
use std::io::{Cursor, Read as _, Seek as _};
use std::path::{Path, PathBuf};

use object_file::{ReadCache, ReadRef};
use profile::names::{BuildId, release_of_banner};
use serde::{Deserialize, Serialize};

use crate::archive::{Archive, MemberFile, base_name};
use crate::draft::{Draft, sha256, sha256_of_file};
use crate::elf::{Arch, Elf, ElfError};
use crate::symbols::{self, Symbol, SymbolList};
use crate::types::Table;
use crate::types::merge::Merger;
use crate::unpack::{UnpackError, Wrapper, read_bounded, unpack};
use crate::{ConvertError, Converted, btf, dwarf};

/// Bytes by which a source is recognised.
const HEAD: usize = 4096;
/// Largest kernel or BTF inside a compression wrapper, decompressed in memory.
const MAX_UNPACKED: u64 = 2 << 30;
const MAX_MODULE: u64 = 512 << 20;
const MAX_SYMBOL_LIST: u64 = 128 << 20;
const MAX_CONFIG: u64 = 8 << 20;
const MAX_BTF: u64 = 256 << 20;
/// The BTF of the running kernel; its symbols, notes and banner are found elsewhere on the same machine.
const LIVE_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What the caller knows beyond the source itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LinuxOptions {
    /// `System.map`, or a copy of `/proc/kallsyms`. Default: the one in the archive, beside the kernel, or the kernel's own symbol table.
    pub system_map: Option<PathBuf>,
    /// The kernel's `.config`, plain or compressed. Default: the one in the archive or beside the kernel; none is fine.
    pub config: Option<PathBuf>,
    /// `$METADATA.ProfileClass`; default `Linux`.
    pub profile_class: Option<String>,
    /// `uname -r` of the kernel, for sources that do not hold it (bare BTF).
    pub release: Option<String>,
    /// The kernel's GNU build-id, for sources that do not hold it (module zip, bare BTF).
    pub build_id: Option<BuildId>,
}

/// Converts a source, recognised by content: a zip or directory with a module or BTF and `System.map`, a `vmlinux` with DWARF
/// or BTF, or bare BTF; a file also inside gzip, xz or zstd.
///
/// # Errors
/// [`ConvertError`], one for each way a source can be wrong. A profile that converts but lacks what plugins need
/// is no error here: see [`crate::FitnessReport::usable`].
pub fn convert_linux(source: &Path, options: &LinuxOptions) -> Result<Converted, ConvertError> {
    let failed = |error| ConvertError::Io { path: source.to_owned(), error };
    if source.is_dir() {
        return classic(Archive::directory(source)?, options);
    }
    let path = source;
    let source = Source { name: base_name(path), path: Some(path), options };
    let mut file = File::open(path).map_err(failed)?;
    let mut head = Vec::new();
    file.by_ref().take(HEAD as u64).read_to_end(&mut head).map_err(failed)?;
    file.rewind().map_err(failed)?;
    let limit = match Kind::of(&head) {
        Kind::Zip => return classic(Archive::zip(file, &source.name)?, options),
        Kind::Elf => return Ok(kernel_file(file, path, &source)?.finish(options)),
        Kind::Btf => MAX_BTF,
        Kind::Wrapped(_) => MAX_UNPACKED,
        Kind::Unknown(what) => return Err(ConvertError::Unrecognised { name: source.name, what }),
    };
    let bytes = read_bounded(file, limit).map_err(|error| source.unpack_error(limit, error))?;
    convert_bytes(&bytes, &source, true)
}

/// Converts a source that is in memory, recognised by content; `name` stands in `$METADATA.Sources` and messages.
///
/// # Errors
/// Those of [`convert_linux`].
pub fn convert_linux_bytes(
    bytes: &[u8],
    name: &str,
    options: &LinuxOptions,
) -> Result<Converted, ConvertError> {
    convert_bytes(bytes, &Source { name: base_name(Path::new(name)), path: None, options }, true)
}

fn convert_bytes(bytes: &[u8], source: &Source<'_>, unwrap: bool) -> Result<Converted, ConvertError> {
    let unrecognised = |what| Err(ConvertError::Unrecognised { name: source.name.clone(), what });
    let draft = match Kind::of(bytes.get(..HEAD).unwrap_or(bytes)) {
        Kind::Zip => return classic(Archive::zip(Cursor::new(bytes), &source.name)?, source.options),
        Kind::Elf => {
            let mut draft = kernel(bytes, source)?;
            draft.source(&source.name, sha256(bytes));
            draft
        }
        Kind::Btf => bare_btf(bytes, source)?,
        Kind::Wrapped(wrapper) if unwrap => {
            let inner =
                unpack(wrapper, bytes, MAX_UNPACKED).map_err(|e| source.unpack_error(MAX_UNPACKED, e))?;
            return convert_bytes(&inner, source, false);
        }
        Kind::Wrapped(_) => return unrecognised("compressed twice"),
        Kind::Unknown(what) => return unrecognised(what),
    };
    Ok(draft.finish(source.options))
}

/// What is being converted.
struct Source<'a> {
    /// Base name, fit for messages.
    name: String,
    /// Where it is, if it is a file; companions are looked for beside it.
    path: Option<&'a Path>,
    options: &'a LinuxOptions,
}

impl Source<'_> {
    fn unpack_error(&self, limit: u64, error: UnpackError) -> ConvertError {
        unpack_error(&self.name, limit, error)
    }
}

/// What the first bytes of a file say it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Zip,
    Elf,
    Btf,
    Wrapped(Wrapper),
    Unknown(&'static str),
}

impl Kind {
    fn of(head: &[u8]) -> Self {
        if let Some(wrapper) = Wrapper::of(head) {
            return Self::Wrapped(wrapper);
        }
        match head {
            [b'P', b'K', 3 | 5, 4 | 6, ..] => Self::Zip,
            [0x7f, b'E', b'L', b'F', ..] if head.get(16..18) == Some(&[4, 0]) => Self::Unknown("a core dump"),
            [0x7f, b'E', b'L', b'F', ..] => Self::Elf,
            [0x9f, 0xeb, ..] => Self::Btf,
            [0xeb, 0x9f, ..] => Self::Unknown("BTF of a big-endian kernel"),
            [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => {
                Self::Unknown("a package or static library; unpack it and use the vmlinux inside")
            }
            [0xed, 0xab, 0xee, 0xdb, ..] => {
                Self::Unknown("an rpm package; unpack it and use the vmlinux inside")
            }
            [b'{', ..] => Self::Unknown("JSON; it may be a profile already"),
            [] => Self::Unknown("an empty file"),
            // The boot protocol's signature of x86, the image header of arm64.
            _ if head.get(0x202..0x206) == Some(b"HdrS") || head.get(0x38..0x3c) == Some(b"ARM\x64") => {
                Self::Unknown("a bootable kernel image (vmlinuz), which has no debug information")
            }
            _ if symbols::parse(head).is_ok() => {
                Self::Unknown("a symbol list; pass it with --system_map beside a vmlinux or BTF")
            }
            _ => Self::Unknown("no known format"),
        }
    }
}

fn unpack_error(name: &str, limit: u64, error: UnpackError) -> ConvertError {
    let name = name.to_owned();
    match error {
        UnpackError::TooLarge => ConvertError::TooLarge { name, limit },
        UnpackError::Damaged(reason) => ConvertError::Decompress { name, reason },
    }
}

/// Reads a file given by option or found beside the source; decompresses it.
fn read_part(path: &Path, limit: u64) -> Result<MemberFile, ConvertError> {
    let name = base_name(path);
    let file = File::open(path).map_err(|error| ConvertError::Io { path: path.to_owned(), error })?;
    let bytes = read_bounded(file, limit).map_err(|error| unpack_error(&name, limit, error))?;
    let bytes = match Wrapper::of(&bytes) {
        Some(wrapper) => unpack(wrapper, &bytes, limit).map_err(|error| unpack_error(&name, limit, error))?,
        None => bytes,
    };
    Ok(MemberFile { name, bytes })
}

/// The classic zip or directory.
fn classic(mut archive: Archive<'_>, options: &LinuxOptions) -> Result<Converted, ConvertError> {
    let chosen = archive.select();
    let Some(types) = chosen.module.or(chosen.btf) else {
        return Err(match chosen.dwarf_dump {
            Some(dump) => ConvertError::LegacyDwarfDump(base_name(Path::new(archive.name_of(dump)))),
            None => archive.missing("kernel module with debug information (module*.ko) or BTF (*.btf)"),
        });
    };
    let list = match (&options.system_map, chosen.system_map) {
        (Some(path), _) => read_part(path, MAX_SYMBOL_LIST)?,
        (None, Some(at)) => archive.read(at, MAX_SYMBOL_LIST)?,
        (None, None) => return Err(archive.missing("System.map")),
    };
    let config = match (&options.config, chosen.config) {
        (Some(path), _) => Some(read_part(path, MAX_CONFIG)?),
        (None, Some(at)) => Some(archive.read(at, MAX_CONFIG)?),
        (None, None) => None,
    };
    // A damaged or placeholder list is told before the work on types.
    let symbols = parse_symbols(&list)?;
    let types = archive.read(types, MAX_MODULE)?;
    let (mut draft, built_for) = if matches!(Kind::of(&types.bytes), Kind::Btf) {
        (btf_types(&types.bytes, &types.name, None)?, None)
    } else {
        let elf = parse_elf(types.bytes.as_slice(), &types.name)?;
        let built_for = elf.modinfo("vermagic").and_then(|magic| magic.split(' ').next().map(str::to_owned));
        (types_of(&elf, &types.name)?, built_for)
    };
    draft.source(&types.name, sha256(&types.bytes));
    draft.symbol_list(&list.name, &symbols);
    draft.source(&list.name, sha256(&list.bytes));
    if let Some(config) = config {
        draft.config(&config.bytes);
        draft.source(&config.name, sha256(&config.bytes));
    }
    let listed = release_in_name(&list.name);
    if let (Some(built_for), Some(listed)) = (&built_for, &listed)
        && built_for != listed
    {
        draft.warn(format!(
            "{} is built for {built_for:?}, but {} is of another release",
            types.name, list.name
        ));
    }
    draft.release(built_for.or(listed));
    Ok(draft.finish(options))
}

/// A `vmlinux` on disk: its content hash is computed while its types are read.
fn kernel_file(file: File, path: &Path, source: &Source<'_>) -> Result<Draft, ConvertError> {
    let (hash, draft) = rayon::join(
        || sha256_of_file(path).map_err(|error| ConvertError::Io { path: path.to_owned(), error }),
        || {
            let cache = ReadCache::new(file);
            kernel(&cache, source)
        },
    );
    let mut draft = draft?;
    draft.source(&source.name, hash?);
    Ok(draft)
}

/// A `vmlinux`, or a single module with a symbol list given by option.
fn kernel<'d, R: ReadRef<'d>>(data: R, source: &Source<'_>) -> Result<Draft, ConvertError> {
    let name = source.name.as_str();
    let elf = parse_elf(data, name)?;
    let own = if elf.is_relocatable() {
        Vec::new()
    } else {
        elf.symbols().map_err(|error| ConvertError::Elf { name: name.to_owned(), error })?
    };
    let list = symbol_list_file(source, !own.is_empty())?;
    let parsed = list.as_ref().map(|(list, _)| parse_symbols(list));
    // A placeholder beside the kernel is no obstacle while the kernel has symbols of its own.
    let (listed, ignored) = match (parsed, &list) {
        (Some(Ok(parsed)), _) => (Some(parsed), None),
        (Some(Err(error)), Some((_, Found::Beside))) if !own.is_empty() => (None, Some(error.to_string())),
        (Some(Err(error)), _) => return Err(error),
        (None, _) => (None, None),
    };
    if let (Some(listed), Some((list, _))) = (&listed, &list) {
        same_kernel(&own, &listed.symbols, name, &list.name)?;
    }
    if listed.is_none() && own.is_empty() {
        return Err(ConvertError::NoSymbols(name.to_owned()));
    }

    let mut draft = types_of(&elf, name)?;
    if let Some(reason) = ignored {
        draft.warn(format!("using the symbols of {name}: {reason}"));
    }
    let list_name = list.as_ref().map(|(list, _)| list.name.clone());
    match (&listed, &list) {
        (Some(listed), Some((list, _))) => {
            draft.symbol_list(&list.name, listed);
            draft.source(&list.name, sha256(&list.bytes));
        }
        _ => draft.symbols(&own),
    }
    if let Some(config) = config_file(source)? {
        draft.config(&config.bytes);
        draft.source(&config.name, sha256(&config.bytes));
    } else if let Some(config) = embedded_config(&elf, &own) {
        draft.config(&config);
    }
    if elf.is_relocatable() {
        let built_for = elf.modinfo("vermagic").and_then(|magic| magic.split(' ').next().map(str::to_owned));
        draft.release(built_for.or_else(|| release_in_name(&list_name?)));
        return Ok(draft);
    }
    if let Some(id) = elf.build_id() {
        draft.build_id(&id);
    }
    let banner = address_of(&own, "linux_banner")
        .or_else(|| address_of(&listed.as_ref()?.symbols, "linux_banner"))
        .and_then(|address| elf.text_at(address))
        .filter(|text| release_of_banner(text).is_some());
    match &banner {
        Some(banner) => draft.banner(banner),
        None => draft.release(release_in_name(name).or_else(|| release_in_name(&list_name?))),
    }
    Ok(draft)
}

/// BTF without the kernel it belongs to.
fn bare_btf(bytes: &[u8], source: &Source<'_>) -> Result<Draft, ConvertError> {
    let name = source.name.as_str();
    let live = source.path == Some(Path::new(LIVE_BTF)) && source.options.system_map.is_none();
    let list = if live {
        read_part(Path::new("/proc/kallsyms"), MAX_SYMBOL_LIST)?
    } else {
        match symbol_list_file(source, false)? {
            Some((list, _)) => list,
            None => return Err(ConvertError::NoSymbols(name.to_owned())),
        }
    };
    let symbols = parse_symbols(&list)?;
    let mut draft = btf_types(bytes, name, None)?;
    draft.source(name, sha256(bytes));
    draft.symbol_list(&list.name, &symbols);
    draft.source(&list.name, sha256(&list.bytes));
    if let Some(config) = config_file(source)? {
        draft.config(&config.bytes);
        draft.source(&config.name, sha256(&config.bytes));
    }
    draft.release(release_in_name(&list.name).or_else(|| release_in_name(name)));
    if live {
        let notes = read_part(Path::new("/sys/kernel/notes"), MAX_CONFIG).ok();
        if let Some(id) = notes.and_then(|notes| build_id_in_notes(&notes.bytes)) {
            draft.build_id(&id);
        }
        if let Ok(banner) = fs::read_to_string("/proc/version") {
            draft.banner(banner.trim_end());
        }
    }
    Ok(draft)
}

fn parse_elf<'d, R: ReadRef<'d>>(data: R, name: &str) -> Result<Elf<'d, R>, ConvertError> {
    Elf::parse(data).map_err(|error| ConvertError::Elf { name: name.to_owned(), error })
}

fn parse_symbols(list: &MemberFile) -> Result<SymbolList<'_>, ConvertError> {
    symbols::parse(&list.bytes).map_err(|error| ConvertError::Symbols { name: list.name.clone(), error })
}

/// Types of an ELF file: DWARF where there is any, else BTF.
fn types_of<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>, name: &str) -> Result<Draft, ConvertError> {
    let failed = |error: ElfError| ConvertError::Elf { name: name.to_owned(), error };
    if elf.has(".debug_info") {
        let sections = elf.debug_sections().map_err(failed)?;
        let read = dwarf::read(&sections.borrow())
            .map_err(|error| ConvertError::Dwarf { name: name.to_owned(), error })?;
        drop(sections);
        let mut draft = Draft::new(elf.arch, &read.merged);
        if read.foreign > 0 {
            draft.warn(format!(
                "{} references to types of other units (link-time optimisation) are not followed; those fields have \
                 no type",
                read.foreign
            ));
        }
        return Ok(draft);
    }
    if elf.has(".BTF") {
        let bytes = elf.contents(".BTF").map_err(failed)?;
        return btf_types(&bytes, name, Some(elf.arch));
    }
    Err(ConvertError::NoDebugInfo(name.to_owned()))
}

/// A draft with the types of BTF.
pub(crate) fn btf_types(bytes: &[u8], name: &str, arch: Option<Arch>) -> Result<Draft, ConvertError> {
    let failed = |error| ConvertError::Btf { name: name.to_owned(), error };
    let btf = btf::parse(bytes).map_err(failed)?;
    let merger = Merger::new();
    let defs = merger.add(&btf.table, Some(&btf.uses)).map_err(|_| failed(btf::BtfError::Empty))?;
    let merged = merger.finish(&[defs]);
    let arch = arch.unwrap_or_else(|| guess_arch(&btf.table));
    Ok(Draft::new(arch, &merged))
}

/// The processor whose register frame the types describe, for BTF that does not say.
fn guess_arch(table: &Table<'_>) -> Arch {
    let members = |name: &[u8]| {
        let record = table.records.iter().find(|record| record.name == name && record.complete);
        record.map(|record| table.members_of(record)).unwrap_or_default()
    };
    match table.address_size {
        4 if members(b"pt_regs").iter().any(|member| member.name == b"uregs") => Arch::Arm,
        4 => Arch::I386,
        _ if members(b"user_pt_regs").iter().any(|member| member.name == b"pstate") => Arch::Arm64,
        _ => Arch::Amd64,
    }
}

/// How a symbol list came to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Given,
    Beside,
}

/// The symbol list given by option, or the one beside the kernel. One beside it that cannot be read does not
/// matter where the kernel has symbols of its own.
fn symbol_list_file(source: &Source<'_>, has_own: bool) -> Result<Option<(MemberFile, Found)>, ConvertError> {
    if let Some(path) = &source.options.system_map {
        return read_part(path, MAX_SYMBOL_LIST).map(|list| Some((list, Found::Given)));
    }
    let Some(path) = beside(source.path, "System.map") else { return Ok(None) };
    match read_part(&path, MAX_SYMBOL_LIST) {
        Ok(list) => Ok(Some((list, Found::Beside))),
        Err(_) if has_own => Ok(None),
        Err(error) => Err(error),
    }
}

fn config_file(source: &Source<'_>) -> Result<Option<MemberFile>, ConvertError> {
    match &source.options.config {
        Some(path) => read_part(path, MAX_CONFIG).map(Some),
        None => Ok(["config", ".config"]
            .iter()
            .find_map(|name| beside(source.path, name))
            .and_then(|path| read_part(&path, MAX_CONFIG).ok())),
    }
}

/// The configuration inside a kernel built with `CONFIG_IKCONFIG`, gzip-compressed between two symbols
/// (`kernel/configs.c`).
fn embedded_config<'d, R: ReadRef<'d>>(elf: &Elf<'d, R>, symbols: &[Symbol<'_>]) -> Option<Vec<u8>> {
    let start = address_of(symbols, "kernel_config_data")?;
    let len = address_of(symbols, "kernel_config_data_end")?.checked_sub(start)?;
    let bytes = elf.bytes_at(start, len.min(MAX_CONFIG))?;
    unpack(Wrapper::of(bytes)?, bytes, MAX_CONFIG).ok()
}

/// `name-RELEASE` beside `vmlinux-RELEASE`, or plain `name` beside any kernel.
fn beside(kernel: Option<&Path>, name: &str) -> Option<PathBuf> {
    let kernel = kernel?;
    let folder = kernel.parent()?;
    let release = release_in_name(&base_name(kernel));
    let versioned = release.map(|release| folder.join(format!("{name}-{release}")));
    versioned.into_iter().chain([folder.join(name)]).find(|path| path.is_file())
}

/// `6.1.0-9-amd64` of `System.map-6.1.0-9-amd64` or `vmlinux-6.1.0-9-amd64`.
fn release_in_name(name: &str) -> Option<String> {
    let (stem, release) = name.split_once('-')?;
    let known = ["system.map", "vmlinux", "config"].contains(&stem.to_ascii_lowercase().as_str());
    (known && release.starts_with(|c: char| c.is_ascii_digit())).then(|| release.to_owned())
}

fn address_of(symbols: &[Symbol<'_>], name: &str) -> Option<u64> {
    symbols.iter().find(|symbol| symbol.name == name).map(|symbol| symbol.address)
}

/// Refuses a symbol list of another build.
fn same_kernel(
    own: &[Symbol<'_>],
    listed: &[Symbol<'_>],
    kernel: &str,
    list: &str,
) -> Result<(), ConvertError> {
    for symbol in ["_text", "linux_banner", "init_task", "_etext", "_end"] {
        let (Some(actual), Some(listed)) = (address_of(own, symbol), address_of(listed, symbol)) else {
            continue;
        };
        if actual != listed {
            return Err(ConvertError::Mismatch {
                system_map: list.to_owned(),
                kernel: kernel.to_owned(),
                symbol,
                listed,
                actual,
            });
        }
    }
    Ok(())
}

/// The GNU build-id in a sequence of ELF notes.
pub fn build_id_in_notes(mut notes: &[u8]) -> Option<BuildId> {
    const NT_GNU_BUILD_ID: u32 = 3;
    loop {
        let mut words = notes
            .get(..12)?
            .chunks_exact(4)
            .map(|word| word.iter().rev().fold(0, |n, &b| n << 8 | u32::from(b)));
        let (name_len, desc_len, kind) = (words.next()? as usize, words.next()? as usize, words.next()?);
        let desc_start = 12usize.checked_add(name_len.checked_next_multiple_of(4)?)?;
        let name = notes.get(12..12usize.checked_add(name_len)?)?;
        let desc = notes.get(desc_start..desc_start.checked_add(desc_len)?)?;
        if name == b"GNU\0" && kind == NT_GNU_BUILD_ID {
            return BuildId::from_bytes(desc);
        }
        notes = notes.get(desc_start.checked_add(desc_len.checked_next_multiple_of(4)?)?..)?;
    }
}

#[cfg(test)]
mod tests;
