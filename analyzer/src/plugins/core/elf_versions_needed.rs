//! `elf_versions_needed`: versions that an ELF file needs from libraries. Truth: `readelf -V` on the files that guests booted with.

use crate::elf::file::FileArgs;
use crate::plugin::prelude::*;

/// The command.
pub struct ElfVersionsNeeded;

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
    type Args = FileArgs;
    type Row = Row;

    fn collect(&self, _: &Session, args: &FileArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let file = args.open()?;
        for needed in file.versions_needed()? {
            out.push(Row { library: needed.library, version: needed.version })?;
        }
        Ok(())
    }
}
