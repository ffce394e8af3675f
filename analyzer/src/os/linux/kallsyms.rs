//! Symbols of loaded modules, as the kernel keeps them for `/proc/kallsyms` (kernel/module/kallsyms.c).
//!
//! `module.kallsyms` points to a `mod_kallsyms` (Linux commit 8244062ef1e5, v4.5; its fields were members of `module`
//! before): an ELF symbol table whose values are run-time addresses, and a string table. Once a module is loaded the
//! table is a copy that leaves out its freed init section. Without `CONFIG_KALLSYMS` there is none.

use std::ops::Range;

use object::{Absent, DataModel, Ptr, Read, Target, layout, little_endian};

use super::module::Module;
use crate::table::text_of;

/// Most symbols of one module that are read; amdgpu, the largest, has less than 100,000.
const MAX_SYMBOLS: u32 = 1 << 18;
/// Bytes of the symbol table read at once; a multiple of both sizes of a symbol.
const CHUNK: usize = 3072;
/// `KSYM_NAME_LEN` (include/linux/kallsyms.h), 128 before v6.1.
const MAX_NAME: usize = 512;

layout! {
    struct Owner / OwnerLayout = "module" {
        kallsyms: Ptr = "kallsyms",
        symtab: Ptr = "symtab",
        num_symtab: u32 = "num_symtab",
        strtab: Ptr = "strtab",
    }

    struct Tables / TablesLayout = "mod_kallsyms" {
        /// A letter for each symbol; from Linux commit 1c7651f43777 (v5.2).
        kinds: Ptr = "typetab",
        symtab: Ptr = "symtab",
        num_symtab: u32 = "num_symtab",
        strtab: Ptr = "strtab",
    }
}

/// A symbol of a module.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ModuleSymbol {
    /// Run-time address.
    pub address: u64,
    /// Name.
    pub name: String,
    /// Letter of `nm` in the case the kernel keeps it, where it keeps one.
    pub kind: Option<u8>,
}

/// The symbols of a module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleSymbols {
    /// Sorted by address, then name.
    pub symbols: Vec<ModuleSymbol>,
    /// Entries that cannot be read, or are beyond the limit.
    pub missing: u64,
}

/// Where fields of an ELF symbol are (ELF specification, `Elf64_Sym` and `Elf32_Sym`), in bytes.
struct EntryLayout {
    size: usize,
    section: Range<usize>,
    value: Range<usize>,
}

impl EntryLayout {
    fn of(model: DataModel) -> Self {
        match model {
            DataModel::Ilp32 => Self { size: 16, section: 14..16, value: 4..8 },
            DataModel::Lp64 | DataModel::Llp64 => Self { size: 24, section: 6..8, value: 8..16 },
        }
    }
}

impl ModuleSymbols {
    /// Bytes of memory they take.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.symbols.iter().map(ModuleSymbol::cost).sum()
    }
}

impl ModuleSymbol {
    fn cost(&self) -> usize {
        size_of::<Self>().saturating_add(self.name.len())
    }
}

/// The symbols of a module, as many as fit into `budget` bytes. What cannot be read or does not fit is counted.
pub fn symbols(module: &Module<'_>, budget: usize) -> Read<ModuleSymbols> {
    let target = module.target();
    let owner = Owner::at(target, module.addr());
    let (symtab, count, strtab, kinds) = match owner.kallsyms() {
        Err(Absent::NoProfile(_)) => (owner.symtab()?, owner.num_symtab()?, owner.strtab()?, None),
        tables => {
            let tables = Tables::at(target, tables?.non_null("module without symbols")?);
            (tables.symtab()?, tables.num_symtab()?, tables.strtab()?, tables.kinds().ok())
        }
    };
    let kinds =
        kinds.and_then(|Ptr(kinds)| target.read_bytes(kinds, count.into(), MAX_SYMBOLS as usize).ok());
    Ok(read(target, symtab.0, count, strtab.0, kinds.as_deref().unwrap_or_default(), budget))
}

fn read(target: &Target, symtab: u64, count: u32, strtab: u64, kinds: &[u8], budget: usize) -> ModuleSymbols {
    let EntryLayout { size, section, value } = EntryLayout::of(target.types().model());
    let limit = count.min(MAX_SYMBOLS) as usize;
    let mut found = ModuleSymbols { missing: u64::from(count) - limit as u64, ..ModuleSymbols::default() };
    // Absent bytes are zeros.
    let number = |bytes: Option<&[u8]>| little_endian(bytes.unwrap_or_default());
    let mut left = budget;
    let mut done = 0;
    while done < limit {
        let now = (CHUNK / size).min(limit - done);
        let address = symtab.wrapping_add((done * size) as u64);
        let first = done;
        done += now;
        let Ok(bytes) = target.read_bytes(address, (now * size) as u64, CHUNK) else {
            found.missing += now as u64;
            continue;
        };
        for (index, entry) in (first..).zip(bytes.chunks_exact(size)) {
            let name = number(entry.get(..4));
            let undefined = number(entry.get(section.clone())) == 0;
            // The first entry of every table is the empty symbol.
            if name == 0 || undefined {
                continue;
            }
            match target.read_cstr(strtab.wrapping_add(name), MAX_NAME) {
                Ok(name) if name.is_empty() => {}
                Ok(name) => {
                    let address = number(entry.get(value.clone()));
                    let symbol =
                        ModuleSymbol { address, name: text_of(&name), kind: kinds.get(index).copied() };
                    match left.checked_sub(symbol.cost()) {
                        Some(rest) => {
                            left = rest;
                            found.symbols.push(symbol);
                        }
                        None => found.missing += 1,
                    }
                }
                Err(_) => found.missing += 1,
            }
        }
    }
    found.symbols.sort_unstable();
    found.symbols.dedup();
    found
}
