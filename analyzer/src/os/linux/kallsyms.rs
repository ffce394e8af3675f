//! Symbols of loaded modules, as the kernel keeps them for `/proc/kallsyms` (kernel/module/kallsyms.c).
//!
//! `module.kallsyms` points to a `mod_kallsyms` (Linux commit 8244062ef1e5, v4.5; its fields were members of `module`
//! before): an ELF symbol table whose values are run-time addresses, and a string table. Once a module is loaded the
//! table is a copy that leaves out its freed init section. Without `CONFIG_KALLSYMS` there is none.

use object::{Absent, DataModel, Ptr, Read, Target, layout};

use super::module::Module;
use crate::table::text_of;

/// Most symbols of one module that are read; amdgpu, the largest, has about 100,000.
const MAX_SYMBOLS: u32 = 1 << 20;
/// Symbols read at once.
const CHUNK: u64 = 128;
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
}

/// The symbols of a module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleSymbols {
    /// Sorted by address, then name.
    pub symbols: Vec<ModuleSymbol>,
    /// Entries that cannot be read, or are beyond the limit.
    pub missing: u64,
}

/// Where fields of an ELF symbol are (ELF specification, `Elf64_Sym` and `Elf32_Sym`): size, `st_shndx`, `st_value`.
fn entry_layout(model: DataModel) -> (u64, usize, std::ops::Range<usize>) {
    match model {
        DataModel::Ilp32 => (16, 14, 4..8),
        DataModel::Lp64 | DataModel::Llp64 => (24, 6, 8..16),
    }
}

/// The symbols of a module. What cannot be read is counted.
pub fn symbols(module: &Module<'_>) -> Read<ModuleSymbols> {
    let target = module.target();
    let owner = Owner::at(target, module.addr());
    let (symtab, count, strtab) = match owner.kallsyms() {
        Err(Absent::NoProfile(_)) => (owner.symtab()?, owner.num_symtab()?, owner.strtab()?),
        tables => {
            let tables = Tables::at(target, tables?.non_null("module without symbols")?);
            (tables.symtab()?, tables.num_symtab()?, tables.strtab()?)
        }
    };
    Ok(read(target, symtab.0, count, strtab.0))
}

fn read(target: &Target, symtab: u64, count: u32, strtab: u64) -> ModuleSymbols {
    let (size, section, value) = entry_layout(target.types().model());
    let limit = count.min(MAX_SYMBOLS);
    let mut found =
        ModuleSymbols { missing: u64::from(count.saturating_sub(limit)), ..ModuleSymbols::default() };
    let mut at = 0;
    while at < u64::from(limit) {
        let now = CHUNK.min(u64::from(limit).saturating_sub(at));
        let address = symtab.wrapping_add(at.wrapping_mul(size));
        at = at.saturating_add(now);
        let Ok(bytes) = target.read_bytes(address, now.wrapping_mul(size), (CHUNK * size) as usize) else {
            found.missing = found.missing.saturating_add(now);
            continue;
        };
        for entry in bytes.chunks_exact(size as usize) {
            let name = little_endian(entry.get(..4));
            let undefined = little_endian(entry.get(section..section.saturating_add(2))) == 0;
            // The first entry of every table is the empty symbol.
            if name == 0 || undefined {
                continue;
            }
            match target.read_cstr(strtab.wrapping_add(name), MAX_NAME) {
                Ok(name) if name.is_empty() => {}
                Ok(name) => {
                    let address = little_endian(entry.get(value.clone()));
                    found.symbols.push(ModuleSymbol { address, name: text_of(&name) });
                }
                Err(_) => found.missing = found.missing.saturating_add(1),
            }
        }
    }
    found.symbols.sort_unstable();
    found.symbols.dedup();
    found
}

/// The value of up to 8 bytes; absent bytes are zeros.
fn little_endian(bytes: Option<&[u8]>) -> u64 {
    bytes.unwrap_or_default().iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
