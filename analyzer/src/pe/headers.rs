//! DOS header, NT headers of 32 and 64 bits, and the table of sections.

use memory::AddressSpace;
use object::{Absent, Read};

use super::Listing;
use super::fields::Fields;

/// Most data directories; the loader looks at no more.
const MAX_DIRECTORIES: u32 = 16;
/// Length of the DOS header.
const DOS_HEADER: usize = 64;
/// Length of the signature and the file header.
const NT_HEADERS: usize = 24;
/// Longest optional header: the 64-bit one with all directories.
const OPTIONAL_HEADER: u64 = 240;
/// Length of an entry of the section table.
const SECTION_HEADER: u64 = 40;

/// What the headers say. Numbers are as stored; names of the fields are those of the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// Offset of the NT headers (`e_lfanew`).
    pub nt_offset: u32,
    /// Processor (`Machine`).
    pub machine: u16,
    /// Number of sections the header promises.
    pub number_of_sections: u16,
    /// When it was linked, in seconds since 1970-01-01 UTC; reproducible builds store a hash instead.
    pub timestamp: u32,
    /// Offset of the COFF symbol table in the file, 0 if none.
    pub symbol_table: u32,
    /// Number of COFF symbols.
    pub number_of_symbols: u32,
    /// Length of the optional header in bytes.
    pub size_of_optional_header: u16,
    /// Flags of the file (`IMAGE_FILE_*`).
    pub characteristics: u16,
    /// Whether it is PE32+ (64-bit addresses).
    pub is_64: bool,
    /// Version of the linker.
    pub linker_version: (u8, u8),
    /// Bytes of all sections with code.
    pub size_of_code: u32,
    /// Bytes of all sections with initialised data.
    pub size_of_initialized_data: u32,
    /// Bytes of all sections with uninitialised data.
    pub size_of_uninitialized_data: u32,
    /// Relative address of the entry point; 0 if none.
    pub entry_point: u32,
    /// Relative address of the first code section.
    pub base_of_code: u32,
    /// Preferred address; in memory the loader replaces it by the actual one.
    pub image_base: u64,
    /// Alignment of sections in memory, in bytes.
    pub section_alignment: u32,
    /// Alignment of sections in the file, in bytes.
    pub file_alignment: u32,
    /// Version of the operating system it needs.
    pub os_version: (u16, u16),
    /// Its own version, as told to the linker.
    pub image_version: (u16, u16),
    /// Version of the subsystem it needs.
    pub subsystem_version: (u16, u16),
    /// Bytes of the module in memory.
    pub size_of_image: u32,
    /// Bytes of all headers in the file.
    pub size_of_headers: u32,
    /// Checksum of the file; drivers must have one, others may say 0.
    pub checksum: u32,
    /// Subsystem (`IMAGE_SUBSYSTEM_*`).
    pub subsystem: u16,
    /// More flags (`IMAGE_DLLCHARACTERISTICS_*`).
    pub dll_characteristics: u16,
    /// Stack of the first thread: bytes reserved and committed.
    pub stack: (u64, u64),
    /// Default heap: bytes reserved and committed.
    pub heap: (u64, u64),
    /// The data directories, by [`DirectoryIndex`]; at most 16.
    pub directories: Vec<Directory>,
    /// The sections in the order of the table.
    pub sections: Listing<Section>,
}

/// Position of a data directory in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum DirectoryIndex {
    /// Functions for other modules.
    Export = 0,
    /// Functions of other modules.
    Import = 1,
    /// Icons, texts, the version.
    Resource = 2,
    /// Where the symbols are.
    Debug = 6,
    /// What the linker knew of imported modules.
    BoundImport = 11,
    /// Functions of other modules, loaded when first called.
    DelayImport = 13,
}

/// A data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directory {
    /// Relative address; 0 where the executable has no such directory. For certificates an offset in the file.
    pub rva: u32,
    /// Length in bytes.
    pub size: u32,
}

/// A section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Name of up to 8 bytes; `/N` points into the COFF string table.
    pub name: String,
    /// Bytes in memory; what the file does not have is zeros.
    pub virtual_size: u32,
    /// Relative address.
    pub rva: u32,
    /// Bytes in the file, rounded up to the file alignment.
    pub raw_size: u32,
    /// Offset in the file.
    pub raw_offset: u32,
    /// Flags (`IMAGE_SCN_*`).
    pub characteristics: u32,
}

impl Section {
    /// Bytes of the section in memory that come from the file. Pages are mapped whole, so with what the file has there
    /// behind the section's end. `alignment` is that of sections in memory.
    #[must_use]
    pub fn initialized(&self, alignment: u32) -> u32 {
        // A virtual size of 0 is an old linker's way to say that it is the raw size.
        let virtual_size = if self.virtual_size == 0 { self.raw_size } else { self.virtual_size };
        let mapped = virtual_size.checked_next_multiple_of(alignment.max(1)).unwrap_or(u32::MAX);
        self.raw_size.min(mapped)
    }
}

impl Headers {
    /// Reads the headers of the executable whose DOS header is at `base`.
    pub(super) fn read(space: &dyn AddressSpace, base: u64) -> Read<Self> {
        let mut dos = [0; DOS_HEADER];
        read(space, base, 0, &mut dos)?;
        let dos = Fields(&dos);
        if dos.u16(0)? != 0x5a4d {
            return Err(Absent::Malformed("no executable: it does not begin with \"MZ\""));
        }
        let nt_offset = dos.u32(60)?;
        let mut nt = [0; NT_HEADERS];
        read(space, base, nt_offset.into(), &mut nt)?;
        let nt = Fields(&nt);
        if nt.u32(0)? != 0x4550 {
            return Err(Absent::Malformed("no portable executable: no \"PE\" signature"));
        }
        let size_of_optional_header = nt.u16(20)?;
        let optional_at = u64::from(nt_offset).saturating_add(24);
        let mut optional = [0; 240];
        let size = OPTIONAL_HEADER.min(size_of_optional_header.into());
        let optional = optional.get_mut(..size.try_into().unwrap_or(0)).unwrap_or_default();
        read(space, base, optional_at, optional)?;
        let optional = Fields(optional);
        let number_of_sections = nt.u16(6)?;
        let table = optional_at.saturating_add(size_of_optional_header.into());
        let head =
            Head { nt_offset, nt, optional, sections: sections(space, base, table, number_of_sections) };
        head.decode(number_of_sections, size_of_optional_header)
    }

    /// The section that holds a relative address in memory.
    #[must_use]
    pub fn section_at(&self, rva: u32) -> Option<&Section> {
        self.sections.items.iter().find(|section| {
            let size = section.virtual_size.max(section.raw_size);
            rva.checked_sub(section.rva).is_some_and(|skip| skip < size)
        })
    }
}

/// The parts of the headers before they are decoded.
struct Head<'a> {
    nt_offset: u32,
    nt: Fields<'a>,
    optional: Fields<'a>,
    sections: Listing<Section>,
}

impl Head<'_> {
    fn decode(self, number_of_sections: u16, size_of_optional_header: u16) -> Read<Headers> {
        let Self { nt_offset, nt, optional, sections } = self;
        let is_64 = match optional.u16(0)? {
            0x10b => false,
            0x20b => true,
            _ => return Err(Absent::Malformed("optional header is neither of PE32 nor of PE32+")),
        };
        let pair = |at| -> Read<(u16, u16)> { Ok((optional.u16(at)?, optional.u16(at + 2)?)) };
        // From the stack on, 64-bit headers have wider fields.
        let width = if is_64 { 8 } else { 4 };
        let word = |index: usize| optional.word(72 + index * width, is_64);
        let count = optional.u32(76 + 4 * width)?.min(MAX_DIRECTORIES);
        let mut directories = Vec::new();
        for index in 0..count as usize {
            let at = 80 + 4 * width + index * 8;
            // A header may promise more directories than it has room for; the loader takes what is there.
            let (Ok(rva), Ok(size)) = (optional.u32(at), optional.u32(at + 4)) else { break };
            directories.push(Directory { rva, size });
        }
        Ok(Headers {
            nt_offset,
            machine: nt.u16(4)?,
            number_of_sections,
            timestamp: nt.u32(8)?,
            symbol_table: nt.u32(12)?,
            number_of_symbols: nt.u32(16)?,
            size_of_optional_header,
            characteristics: nt.u16(22)?,
            is_64,
            linker_version: (optional.u8(2)?, optional.u8(3)?),
            size_of_code: optional.u32(4)?,
            size_of_initialized_data: optional.u32(8)?,
            size_of_uninitialized_data: optional.u32(12)?,
            entry_point: optional.u32(16)?,
            base_of_code: optional.u32(20)?,
            image_base: if is_64 { optional.u64(24)? } else { optional.u32(28)?.into() },
            section_alignment: optional.u32(32)?,
            file_alignment: optional.u32(36)?,
            os_version: pair(40)?,
            image_version: pair(44)?,
            subsystem_version: pair(48)?,
            size_of_image: optional.u32(56)?,
            size_of_headers: optional.u32(60)?,
            checksum: optional.u32(64)?,
            subsystem: optional.u16(68)?,
            dll_characteristics: optional.u16(70)?,
            stack: (word(0)?, word(1)?),
            heap: (word(2)?, word(3)?),
            directories,
            sections,
        })
    }
}

/// Reads the table of sections, entry by entry, because the table may cross into a page that is missing.
fn sections(space: &dyn AddressSpace, base: u64, table: u64, count: u16) -> Listing<Section> {
    let mut listing = Listing::default();
    for index in 0..u64::from(count) {
        match section(space, base, table.saturating_add(index * SECTION_HEADER)) {
            Ok(section) => listing.items.push(section),
            Err(why) => {
                listing.cut = Some(why);
                break;
            }
        }
    }
    listing
}

fn section(space: &dyn AddressSpace, base: u64, at: u64) -> Read<Section> {
    let mut bytes = [0; 40];
    read(space, base, at, &mut bytes)?;
    let (name, _) = bytes.split_at(8);
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    let fields = Fields(&bytes);
    Ok(Section {
        name: crate::table::text_of(name),
        virtual_size: fields.u32(8)?,
        rva: fields.u32(12)?,
        raw_size: fields.u32(16)?,
        raw_offset: fields.u32(20)?,
        characteristics: fields.u32(36)?,
    })
}

fn read(space: &dyn AddressSpace, base: u64, offset: u64, buf: &mut [u8]) -> Read<()> {
    let addr = base.checked_add(offset).ok_or(Absent::Malformed("header lies beyond the address space"))?;
    space.read_at(addr, buf).map_err(|fault| Absent::Unreadable { addr, fault })
}
