//! ELF files: sections and versions of symbols, read by the library `object`. Truth: `readelf`.

use std::path::PathBuf;

use memory::{AddressSpace as _, FileSpace, Limits};
use object_file::elf::{FileHeader32, FileHeader64, SHT_DYNSYM, STT_SECTION};
use object_file::endian::Endianness;
use object_file::read::elf::{FileHeader, SectionHeader as _, Sym as _};
use object_file::{FileKind, SectionIndex, SymbolIndex};

use crate::error::Error;
use crate::table::text_of;

/// A section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// `sh_type`.
    pub kind: u32,
    /// `sh_flags`.
    pub flags: u64,
    /// Virtual address; 0 where it is not loaded.
    pub addr: u64,
    /// Place in the file.
    pub offset: u64,
    /// Length in bytes.
    pub size: u64,
}

/// A version that the file needs from a library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// The library.
    pub library: String,
    /// The version.
    pub version: String,
}

/// A dynamic symbol and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// Name of the symbol.
    pub name: String,
    /// Its address; `None` where it comes from a library.
    pub value: Option<u64>,
    /// Its version; `None` for local and global symbols without one.
    pub version: Option<String>,
    /// The library that the version comes from.
    pub library: Option<String>,
}

/// The bytes of a file, from an offset on.
pub struct File {
    space: FileSpace,
    offset: u64,
}

/// Which file, for commands to take as their options.
#[derive(Debug, Clone, clap::Args)]
pub struct FileArgs {
    /// The file
    #[arg(value_name = "FILE")]
    binary_path: PathBuf,
    /// Where the ELF header is in the file, in bytes
    #[arg(long, value_name = "OFFSET", default_value = "0", value_parser = crate::parse::address)]
    header_offset: u64,
}

impl FileArgs {
    /// Opens the file.
    pub fn open(&self) -> Result<File, Error> {
        let cannot = |error| Error::usage(format!("cannot read {}: {error}", self.binary_path.display()));
        let space = FileSpace::open(&self.binary_path, &Limits::default()).map_err(cannot)?;
        Ok(File { space, offset: self.header_offset })
    }
}

impl File {
    fn bytes(&self) -> Result<&[u8], Error> {
        let len = self.space.end().saturating_sub(self.offset);
        let bytes = usize::try_from(len).ok().and_then(|len| self.space.borrow(self.offset, len));
        bytes.ok_or_else(|| Error::usage(format!("the file is shorter than the offset: {:#x}", self.offset)))
    }

    /// Its sections, without the one that is none.
    pub fn sections(&self) -> Result<Vec<Section>, Error> {
        let bytes = self.bytes()?;
        by_class(bytes, sections::<FileHeader32<Endianness>>, sections::<FileHeader64<Endianness>>)
    }

    /// The versions it needs, in the order of the file.
    pub fn versions_needed(&self) -> Result<Vec<Needed>, Error> {
        let bytes = self.bytes()?;
        by_class(bytes, needed::<FileHeader32<Endianness>>, needed::<FileHeader64<Endianness>>)
    }

    /// Its dynamic symbols with their versions.
    pub fn symbol_versions(&self) -> Result<Vec<Versioned>, Error> {
        let bytes = self.bytes()?;
        by_class(bytes, versioned::<FileHeader32<Endianness>>, versioned::<FileHeader64<Endianness>>)
    }
}

type Found<T> = object_file::Result<Vec<T>>;

fn by_class<T>(
    bytes: &[u8],
    narrow: impl Fn(&[u8]) -> Found<T>,
    wide: impl Fn(&[u8]) -> Found<T>,
) -> Result<Vec<T>, Error> {
    let found = match FileKind::parse(bytes) {
        Ok(FileKind::Elf32) => narrow(bytes),
        Ok(FileKind::Elf64) => wide(bytes),
        _ => return Err(Error::usage("not an ELF file")),
    };
    found.map_err(|error| Error::analysis(format!("damaged ELF file: {error}")))
}

fn sections<H: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Found<Section> {
    let header = H::parse(bytes)?;
    let endian = header.endian()?;
    let table = header.sections(endian, bytes)?;
    let section = |section: &H::SectionHeader| {
        Ok(Section {
            name: text_of(table.section_name(endian, section)?),
            kind: section.sh_type(endian).0,
            flags: section.sh_flags(endian).0,
            addr: section.sh_addr(endian).into(),
            offset: section.sh_offset(endian).into(),
            size: section.sh_size(endian).into(),
        })
    };
    table.iter().skip(1).map(section).collect()
}

fn needed<H: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Found<Needed> {
    let header = H::parse(bytes)?;
    let endian = header.endian()?;
    let table = header.sections(endian, bytes)?;
    let Some((mut files, link)) = table.gnu_verneed(endian, bytes)? else { return Ok(Vec::new()) };
    let strings = table.strings(endian, bytes, link)?;
    let mut found = Vec::new();
    // Entries may lead back to each other's names; there cannot be more of them than bytes.
    while let Some((file, mut versions)) = files.next()? {
        let library = text_of(file.file(endian, strings)?);
        while let Some(version) = versions.next()? {
            found.push(Needed { library: library.clone(), version: text_of(version.name(endian, strings)?) });
            if found.len() > bytes.len() / 16 {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

fn versioned<H: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Found<Versioned> {
    let header = H::parse(bytes)?;
    let endian = header.endian()?;
    let table = header.sections(endian, bytes)?;
    let symbols = table.symbols(endian, bytes, SHT_DYNSYM)?;
    let Some(versions) = table.versions(endian, bytes)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (index, symbol) in symbols.iter().enumerate().skip(1) {
        let version = versions.version(versions.version_index(endian, SymbolIndex(index)).index())?;
        // The symbol of a section has the section's name.
        let section = symbol.st_shndx(endian).index().filter(|_| symbol.st_type() == STT_SECTION);
        let name = match section {
            Some(section) => table.section_name(endian, table.section(SectionIndex(section.into()))?)?,
            None => symbol.name(endian, symbols.strings())?,
        };
        found.push(Versioned {
            name: text_of(name),
            value: (!symbol.is_undefined(endian)).then(|| symbol.st_value(endian).into()),
            version: version.map(|version| text_of(version.name())),
            library: version.and_then(object_file::read::elf::Version::file).map(text_of),
        });
    }
    Ok(found)
}
