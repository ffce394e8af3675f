//! What a profile needs from an ELF file: debug sections (uncompressed, relocated), BTF, symbols, notes, banner.
//!
//! The file is read by position, section by section, and never mapped: sections that are not needed (relocations kept
//! by `--emit-relocs` make up half of a Debian `vmlinux`) cost nothing, and a file that shrinks is an error, not a crash.

use std::borrow::Cow;

use object_file::{
    Architecture, CompressionFormat, File, Object as _, ObjectKind, ObjectSection as _, ObjectSymbol as _,
    ReadRef, RelocationKind, RelocationTarget,
};
use profile::names::BuildId;

use crate::dwarf::Sections;
use crate::symbols::Symbol;

/// Largest section after decompression; the largest real one (`.debug_info` of a kernel with everything built in) has 600 MB.
const MAX_SECTION: u64 = 3 << 30;
/// A compressed section may grow by this factor; deflate cannot do more, debug information does about 10.
const MAX_EXPANSION: u64 = 1100;
/// Longest symbol name; the kernel's own limit (`KSYM_NAME_LEN`) is 512.
const MAX_SYMBOL_NAME: usize = 1024;
/// Most bytes of all symbol names together; a kernel has about 4 MB.
const MAX_SYMBOL_NAMES: usize = 128 << 20;
/// Longest kernel banner that is read.
const MAX_BANNER: u64 = 1024;

/// Why an ELF file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Headers are damaged.
    #[error("damaged ELF file: {0}")]
    Damaged(String),
    /// A section cannot be read, decompressed or relocated.
    #[error("cannot read section {name}: {reason}")]
    Section {
        /// Name of the section.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A processor no plugin knows.
    #[error("kernels of this processor are not supported: {0}; supported are x86-64, i386, arm and arm64")]
    Machine(String),
    /// Big-endian targets.
    #[error("big-endian kernels are not supported")]
    BigEndian,
}

/// Processor architecture of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arch {
    Amd64,
    I386,
    Arm,
    Arm64,
}

impl Arch {
    /// The spelling of `$METADATA.arch`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "AMD64",
            Self::I386 => "I386",
            Self::Arm => "ARM",
            Self::Arm64 => "ARM64",
        }
    }

    /// Bytes of a pointer.
    pub(crate) fn address_size(self) -> u8 {
        match self {
            Self::Amd64 | Self::Arm64 => 8,
            Self::I386 | Self::Arm => 4,
        }
    }
}

/// An ELF file with its headers read.
pub(crate) struct Elf<'d, R: ReadRef<'d>> {
    file: File<'d, R>,
    data: R,
    pub(crate) arch: Arch,
}

/// Debug sections in memory.
pub(crate) struct DebugSections<'d> {
    info: Cow<'d, [u8]>,
    abbrev: Cow<'d, [u8]>,
    str: Cow<'d, [u8]>,
    line_str: Cow<'d, [u8]>,
    str_offsets: Cow<'d, [u8]>,
    addr: Cow<'d, [u8]>,
}

impl DebugSections<'_> {
    pub(crate) fn borrow(&self) -> Sections<'_> {
        Sections {
            info: &self.info,
            abbrev: &self.abbrev,
            str: &self.str,
            line_str: &self.line_str,
            str_offsets: &self.str_offsets,
            addr: &self.addr,
        }
    }
}

impl<'d, R: ReadRef<'d>> Elf<'d, R> {
    /// Reads the headers.
    pub(crate) fn parse(data: R) -> Result<Self, ElfError> {
        let file = File::parse(data).map_err(|error| ElfError::Damaged(error.to_string()))?;
        if !file.is_little_endian() {
            return Err(ElfError::BigEndian);
        }
        let arch = match file.architecture() {
            Architecture::X86_64 => Arch::Amd64,
            Architecture::I386 => Arch::I386,
            Architecture::Arm => Arch::Arm,
            Architecture::Aarch64 => Arch::Arm64,
            other => return Err(ElfError::Machine(format!("{other:?}"))),
        };
        Ok(Self { file, data, arch })
    }

    /// Whether there is a section of this name with contents.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.file.section_by_name(name).is_some_and(|section| section.size() > 0)
    }

    /// Whether this is an object to be linked or loaded (`.o`, `.ko`), not a kernel.
    pub(crate) fn is_relocatable(&self) -> bool {
        self.file.kind() == ObjectKind::Relocatable
    }

    /// The sections that describe types.
    pub(crate) fn debug_sections(&self) -> Result<DebugSections<'d>, ElfError> {
        Ok(DebugSections {
            info: self.contents(".debug_info")?,
            abbrev: self.contents(".debug_abbrev")?,
            str: self.contents(".debug_str")?,
            line_str: self.contents(".debug_line_str")?,
            str_offsets: self.contents(".debug_str_offsets")?,
            addr: self.contents(".debug_addr")?,
        })
    }

    /// Contents of a section, uncompressed and, in an object to be linked, relocated; empty where there is none.
    ///
    /// In a linked kernel the contents are final even where the linker kept `.rela.debug_*` for later tools.
    pub(crate) fn contents(&self, name: &str) -> Result<Cow<'d, [u8]>, ElfError> {
        let fail = |reason: String| ElfError::Section { name: name.to_owned(), reason };
        let Some(section) = self.file.section_by_name(name) else { return Ok(Cow::Borrowed(&[])) };
        let compressed = section.compressed_data().map_err(|error| fail(error.to_string()))?;
        let size = compressed.uncompressed_size;
        let bound = if compressed.format == CompressionFormat::None {
            MAX_SECTION
        } else {
            (compressed.data.len() as u64).saturating_mul(MAX_EXPANSION).min(MAX_SECTION)
        };
        if size > bound {
            return Err(fail(format!("implausible size: {size} bytes")));
        }
        let mut contents = compressed.decompress().map_err(|error| fail(error.to_string()))?;
        if self.is_relocatable() {
            for (offset, relocation) in section.relocations() {
                self.relocate(&mut contents, offset, &relocation);
            }
        }
        Ok(contents)
    }

    /// Applies one relocation to a debug section. Kinds other than absolute do not occur in what describes types.
    fn relocate(&self, contents: &mut Cow<'d, [u8]>, offset: u64, relocation: &object_file::Relocation) {
        if !matches!(relocation.kind(), RelocationKind::Absolute | RelocationKind::SectionOffset) {
            return;
        }
        let base = match relocation.target() {
            RelocationTarget::Symbol(index) => {
                self.file.symbol_by_index(index).map_or(0, |symbol| symbol.address())
            }
            RelocationTarget::Section(index) => {
                self.file.section_by_index(index).map_or(0, |section| section.address())
            }
            _ => 0,
        };
        let width = usize::from(relocation.size() / 8);
        let Ok(start) = usize::try_from(offset) else { return };
        let Some(place) = start.checked_add(width).and_then(|end| contents.to_mut().get_mut(start..end))
        else {
            return;
        };
        let old = if relocation.has_implicit_addend() {
            place.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte))
        } else {
            0
        };
        let value = base.wrapping_add(relocation.addend().cast_unsigned()).wrapping_add(old);
        for (byte, new) in place.iter_mut().zip(value.to_le_bytes()) {
            *byte = new;
        }
    }

    /// Symbols of code and data with their link-time addresses, as `nm` lists them, in file order.
    pub(crate) fn symbols(&self) -> Result<Vec<Symbol<'d>>, ElfError> {
        let table = self.contents(".symtab")?;
        let strings = match self.contents(".strtab")? {
            Cow::Borrowed(strings) => strings,
            // Never compressed in a real file.
            Cow::Owned(_) => return Ok(Vec::new()),
        };
        let record_size = if self.arch.address_size() == 8 { 24 } else { 16 };
        let mut symbols: Vec<Symbol<'d>> = Vec::new();
        let mut name_bytes = 0usize;
        for record in table.chunks_exact(record_size) {
            let Some(symbol) = parse_symbol(record, self.arch.address_size() == 8, strings) else { continue };
            // Names may overlap in the file, so its size does not bound their sum.
            name_bytes = name_bytes.saturating_add(symbol.name.len());
            if name_bytes > MAX_SYMBOL_NAMES {
                return Err(ElfError::Damaged("symbol names are implausibly long".to_owned()));
            }
            symbols.push(symbol);
        }
        Ok(symbols)
    }

    /// The GNU build-id.
    pub(crate) fn build_id(&self) -> Option<BuildId> {
        self.file.build_id().ok().flatten().and_then(BuildId::from_bytes)
    }

    /// Value of a `key=value` text in `.modinfo` of a module.
    pub(crate) fn modinfo(&self, key: &str) -> Option<String> {
        let contents = self.contents(".modinfo").ok()?;
        contents.split(|&byte| byte == 0).find_map(|entry| {
            let value = std::str::from_utf8(entry).ok()?.strip_prefix(key)?.strip_prefix('=')?;
            Some(value.to_owned())
        })
    }

    /// At most `len` bytes at a link-time address; fewer where the section ends.
    pub(crate) fn bytes_at(&self, address: u64, len: u64) -> Option<&'d [u8]> {
        let (offset, left) = self.file.sections().find_map(|section| {
            let inside = address.checked_sub(section.address())?;
            let (start, size) = section.file_range()?;
            (section.address() != 0 && inside < size).then(|| (start.saturating_add(inside), size - inside))
        })?;
        self.data.read_bytes_at(offset, left.min(len)).ok()
    }

    /// The text at a link-time address, up to NUL or newline; `None` where it is no printable text.
    pub(crate) fn text_at(&self, address: u64) -> Option<String> {
        let bytes = self.bytes_at(address, MAX_BANNER)?;
        let text = bytes.split(|&byte| byte == 0 || byte == b'\n').next()?;
        let text = std::str::from_utf8(text).ok()?;
        text.chars().all(|c| !c.is_control()).then(|| text.to_owned())
    }
}

/// One record of `.symtab`: a defined symbol of code or data, else `None`.
fn parse_symbol<'d>(record: &[u8], wide: bool, strings: &'d [u8]) -> Option<Symbol<'d>> {
    let field = |at: usize, len: usize| {
        let bytes = record.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte)))
    };
    let (info, section, address) = if wide {
        (field(4, 1)?, field(6, 2)?, field(8, 8)?)
    } else {
        (field(12, 1)?, field(14, 2)?, field(4, 4)?)
    };
    const UNDEFINED: u64 = 0;
    const ABSOLUTE: u64 = 0xfff1;
    const COMMON: u64 = 0xfff2;
    let (binding, kind) = (info >> 4, info & 0xf);
    let global = binding != 0;
    // Section, file and TLS symbols are no places in memory.
    if matches!(kind, 3 | 4 | 6) || section == UNDEFINED || section == COMMON {
        return None;
    }
    // Local absolute symbols are constants of assembly files; nm's list of kernel symbols leaves them out too.
    if section == ABSOLUTE && !global {
        return None;
    }
    let start = usize::try_from(field(0, 4)?).ok()?;
    let rest = strings.get(start..)?;
    let bounded = rest.get(..=MAX_SYMBOL_NAME).unwrap_or(rest);
    let bytes = std::ffi::CStr::from_bytes_until_nul(bounded).ok()?;
    let name = bytes.to_str().ok()?;
    Some(Symbol { name, address, global })
}
