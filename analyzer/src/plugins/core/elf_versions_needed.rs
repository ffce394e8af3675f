//! `elf_versions_needed`: versions that an ELF file needs from libraries. Truth: `readelf -V`.

use std::path::PathBuf;

use crate::elf::file::File;
use crate::plugin::prelude::*;

/// The command.
pub struct ElfVersionsNeeded;

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
        /// The library.
        library: String,
        /// The version.
        version: String,
    }
}

impl Plugin for ElfVersionsNeeded {
    const NAME: &'static str = "elf_versions_needed";
    const SUMMARY: &'static str = "List versions of libraries that an ELF file needs";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Row;

    fn collect(&self, _: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let file = File::open(&args.binary_path, args.header_offset)?;
        for needed in file.versions_needed()? {
            out.push(Row { library: needed.library, version: needed.version })?;
        }
        Ok(())
    }
}
