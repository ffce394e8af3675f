//! A loaded module as a relocatable ELF file: its sections as they are in memory, and its symbols.
//!
//! Sections are those of `/sys/module/NAME/sections`; each ends where the next one begins or the module's memory ends, so
//! it may be followed by padding. Sections that were freed after initialisation are not there. Relocations are applied, so
//! sections carry the addresses they were loaded to. Symbols have no types in memory that can be trusted: those in code are
//! called functions, others objects.

use std::collections::HashMap;

use object::Read;

use super::Kernel;
use super::kallsyms;
use super::module::{Module, sections};
use crate::dump_file::DumpFile;
use crate::elf::write::{
    EM_386, EM_AARCH64, EM_X86_64, ET_REL, FileHeader, Machine, SHT_NOTE, SHT_PROGBITS, SHT_STRTAB,
    SHT_SYMTAB, SectionHeader, Symbol,
};
use crate::error::Error;
use crate::notes::Notes;

/// Most bytes of symbols of one module.
const MAX_SYMBOLS: usize = 64 << 20;
/// `SHF_WRITE`, `SHF_ALLOC`, `SHF_EXECINSTR`.
const WRITE: u64 = 1;
const ALLOC: u64 = 2;
const EXECUTE: u64 = 4;
/// `SHN_ABS`.
const ABSOLUTE: u16 = 0xfff1;
/// Indexes from here on are special (`SHN_LORESERVE`).
const MAX_SECTIONS: usize = 0xff00;

/// What became of a module's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Sections of the module in it.
    pub sections: u64,
    /// Symbols in it.
    pub symbols: u64,
    /// Bytes that could be read.
    pub bytes: u64,
}

struct Section {
    name: String,
    start: u64,
    len: u64,
}

impl Section {
    fn flags(&self) -> u64 {
        let is = |part: &str| self.name.contains(part);
        match () {
            () if is("text") => ALLOC | EXECUTE,
            () if self.name.starts_with(".note") || is("rodata") || is("_info") => ALLOC,
            () if is("data") || is("bss") || is("this_module") => ALLOC | WRITE,
            () => ALLOC,
        }
    }
}

/// What the file of a module will hold.
pub struct Plan {
    sections: Vec<Section>,
    symbols: Vec<(u64, String)>,
}

/// Finds the sections and symbols of a module.
pub fn plan(notes: &Notes, module: &Module<'_>) -> Read<Plan> {
    let label = module.label()?;
    let sections = placed(notes, module, &label)?;
    let symbols = match kallsyms::symbols(module, MAX_SYMBOLS) {
        Ok(symbols) => symbols.symbols,
        Err(why) => {
            if why.is_loss() {
                notes.partial(format!("symbols of module {label} cannot be read: {why}"));
            }
            Vec::new()
        }
    };
    let symbols = symbols.into_iter().map(|symbol| (symbol.address, symbol.name)).collect();
    Ok(Plan { sections, symbols })
}

/// The sections that are in the module's memory, ascending, each up to the next.
fn placed(notes: &Notes, module: &Module<'_>, label: &str) -> Read<Vec<Section>> {
    let ranges = module.ranges()?;
    let mut found = Vec::new();
    let mut gone = Vec::new();
    for (name, address) in sections(module)? {
        match (name, address) {
            // They are made anew.
            (Ok(name), _) if [".symtab", ".strtab", ".shstrtab"].contains(&name.as_str()) => {}
            (Ok(name), Ok(start)) => {
                let range = ranges.iter().find(|(base, size)| start.wrapping_sub(*base) < *size);
                match range {
                    Some((base, size)) => found.push((start, base.saturating_add(*size), name)),
                    None => gone.push(name),
                }
            }
            (Err(why), _) | (_, Err(why)) => {
                notes.partial(format!("a section of module {label} is left out: {why}"));
            }
        }
    }
    if !gone.is_empty() {
        notes.info(format!("sections of module {label} that are freed: {}", gone.join(", ")));
    }
    found.truncate(MAX_SECTIONS);
    found.sort();
    let starts: Vec<u64> = found.iter().map(|(start, ..)| *start).skip(1).chain([u64::MAX]).collect();
    Ok(found
        .into_iter()
        .zip(starts)
        .map(|((start, end, name), next)| Section { name, start, len: end.min(next).saturating_sub(start) })
        .collect())
}

impl Plan {
    /// Writes the file.
    pub fn write(&self, kernel: &Kernel, file: &mut DumpFile) -> Result<Written, Error> {
        let machine = match kernel.target().types().profile().arch() {
            Some("AMD64") => Machine { wide: true, number: EM_X86_64 },
            Some("I386") => Machine { wide: false, number: EM_386 },
            Some("ARM64") => Machine { wide: true, number: EM_AARCH64 },
            _ => return Err(Error::analysis("modules of this architecture cannot be written")),
        };
        let space = kernel.target().space();
        // The header comes last, when it is known where the sections are.
        file.append(&vec![0; usize::from(machine.file_header_size())])?;
        let mut names = Names::default();
        let mut headers = vec![SectionHeader::default()];
        let mut bytes = 0u64;
        for section in &self.sections {
            align(file)?;
            let note = section.name.starts_with(".note");
            let size = if note { notes_len(space, section) } else { section.len };
            headers.push(SectionHeader {
                name: names.add(&section.name),
                kind: if note { SHT_NOTE } else { SHT_PROGBITS },
                flags: section.flags(),
                addr: section.start,
                offset: file.len(),
                size,
                align: 1,
                ..SectionHeader::default()
            });
            bytes = bytes.saturating_add(file.copy(space, section.start, size)?);
        }
        let symtab = self.append_symbols(machine, file, &mut headers, &mut names)?;
        align(file)?;
        let name = names.add(".shstrtab");
        headers.push(SectionHeader {
            name,
            kind: SHT_STRTAB,
            offset: file.len(),
            size: names.bytes.len() as u64,
            align: 1,
            ..SectionHeader::default()
        });
        file.append(&names.bytes)?;
        align(file)?;
        let table = file.len();
        for header in &headers {
            file.append(&machine.section_header(header))?;
        }
        let count = u16::try_from(headers.len()).unwrap_or(u16::MAX);
        let header = FileHeader {
            kind: ET_REL,
            sections: (table, count),
            names: count.saturating_sub(1),
            ..FileHeader::default()
        };
        file.write_at(0, &machine.file_header(&header))?;
        Ok(Written { sections: self.sections.len() as u64, symbols: symtab, bytes })
    }

    /// `.symtab` and `.strtab`; how many symbols.
    fn append_symbols(
        &self,
        machine: Machine,
        file: &mut DumpFile,
        headers: &mut Vec<SectionHeader>,
        names: &mut Names,
    ) -> Result<u64, Error> {
        let mut strings = Names::default();
        let mut entries = machine.symbol(&Symbol::default());
        for (address, name) in &self.symbols {
            let above = self.sections.partition_point(|section| section.start <= *address);
            let holder = above.checked_sub(1).and_then(|index| self.sections.get(index));
            let holder = holder.filter(|section| address.wrapping_sub(section.start) <= section.len);
            let (section, value, kind) = match holder {
                // The first header is that of no section.
                Some(section) => (
                    u16::try_from(above).unwrap_or(ABSOLUTE),
                    address.wrapping_sub(section.start),
                    if section.flags() & EXECUTE != 0 { 2 } else { 1 },
                ),
                None => (ABSOLUTE, *address, 0),
            };
            entries.extend(machine.symbol(&Symbol { name: strings.add(name), info: kind, section, value }));
        }
        align(file)?;
        // Of symbols that are all local, the first that is not is the one behind the last.
        let link = u32::try_from(headers.len().saturating_add(1)).unwrap_or(u32::MAX);
        let info = u32::try_from(self.symbols.len().saturating_add(1)).unwrap_or(u32::MAX);
        headers.push(SectionHeader {
            name: names.add(".symtab"),
            kind: SHT_SYMTAB,
            offset: file.len(),
            size: entries.len() as u64,
            link,
            info,
            align: 8,
            entry: machine.symbol_size().into(),
            ..SectionHeader::default()
        });
        file.append(&entries)?;
        headers.push(SectionHeader {
            name: names.add(".strtab"),
            kind: SHT_STRTAB,
            offset: file.len(),
            size: strings.bytes.len() as u64,
            align: 1,
            ..SectionHeader::default()
        });
        file.append(&strings.bytes)?;
        Ok(self.symbols.len() as u64)
    }
}

/// Bytes of the whole notes at the start of a section, without the padding behind them.
fn notes_len(space: &dyn memory::AddressSpace, section: &Section) -> u64 {
    let mut len = 0;
    while let Ok([name, content]) = (|| {
        let at = section.start.wrapping_add(len);
        Ok::<_, memory::Fault>([space.read_u32(at)?, space.read_u32(at.wrapping_add(4))?])
    })() {
        let whole = 12 + u64::from(name).next_multiple_of(4) + u64::from(content).next_multiple_of(4);
        if name == 0 || len + whole > section.len {
            break;
        }
        len += whole;
    }
    len
}

/// Pads a file to whole words.
fn align(file: &mut DumpFile) -> Result<(), Error> {
    let padding = file.len().next_multiple_of(16).saturating_sub(file.len());
    file.append(&vec![0; usize::try_from(padding).unwrap_or(0)])
}

/// A string table under construction.
struct Names {
    bytes: Vec<u8>,
    known: HashMap<String, u32>,
}

impl Default for Names {
    fn default() -> Self {
        Self { bytes: vec![0], known: HashMap::new() }
    }
}

impl Names {
    fn add(&mut self, name: &str) -> u32 {
        if let Some(at) = self.known.get(name) {
            return *at;
        }
        let at = u32::try_from(self.bytes.len()).unwrap_or(0);
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.known.insert(name.to_owned(), at);
        at
    }
}
