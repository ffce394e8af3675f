//! `elf_versions_symbols`: dynamic symbols of an ELF file and their versions. Truth: `readelf --dyn-syms`.

use std::path::PathBuf;

use crate::elf::file::File;
use crate::plugin::prelude::*;

/// The command.
pub struct ElfVersionsSymbols;

/// The file.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The file
    #[arg(value_name = "FILE")]
    binary_path: PathBuf,
    /// Where the ELF header is in the file, in bytes
    #[arg(long, value_name = "OFFSET", default_value = "0", value_parser = crate::parse::address)]
    header_offset: u64,
}

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
    type Args = Args;
    type Row = Row;

    fn collect(&self, _: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let file = File::open(&args.binary_path, args.header_offset)?;
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
