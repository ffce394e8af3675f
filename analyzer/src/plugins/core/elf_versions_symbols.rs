//! `elf_versions_symbols`: dynamic symbols of an ELF file and their versions. Truth: `readelf --dyn-syms` on the files
//! that guests booted with.

use crate::elf::file::FileArgs;
use crate::plugin::prelude::*;

/// The command.
pub struct ElfVersionsSymbols;

row! {
    pub struct Row {
        /// The symbol.
        symbol: String,
        /// Its address; absent where it comes from a library.
        address: Option<Address>,
        /// Its version.
        version: Option<String>,
        /// The library that the version comes from.
        library: Option<String>,
    }
}

impl Plugin for ElfVersionsSymbols {
    const NAME: &'static str = "elf_versions_symbols";
    const SUMMARY: &'static str = "List dynamic symbols of an ELF file with their versions";
    const ACTIVE: Active = Active::Always;
    type Args = FileArgs;
    type Row = Row;

    fn collect(&self, _: &Session, args: &FileArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let file = args.open()?;
        for symbol in file.symbol_versions()? {
            out.push(Row {
                symbol: symbol.name,
                address: symbol.value.map(Address),
                version: symbol.version,
                library: symbol.library,
            })?;
        }
        Ok(())
    }
}
