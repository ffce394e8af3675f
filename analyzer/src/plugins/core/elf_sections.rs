//! `elf_sections`: sections of an ELF file. Truth: `readelf -S` on the files that guests booted with.

use crate::elf::file::FileArgs;
use crate::plugin::prelude::*;

/// The command.
pub struct ElfSections;

row! {
    pub struct Row {
        /// Name of the section.
        section: String,
        /// `sh_type`, a number.
        section_type as "sh_type": u32,
        /// `W` writable, `A` in memory, `X` code, as `readelf` shows them.
        flags: String,
        /// Virtual address.
        address: Address,
        /// Place in the file.
        file_offset: Address,
        /// Length in bytes.
        size: ByteSize,
    }
}

impl Plugin for ElfSections {
    const NAME: &'static str = "elf_sections";
    const SUMMARY: &'static str = "List sections of an ELF file";
    const ACTIVE: Active = Active::Always;
    type Args = FileArgs;
    type Row = Row;

    fn collect(&self, _: &Session, args: &FileArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let file = args.open()?;
        for section in file.sections()? {
            let letters = [(1, 'W'), (2, 'A'), (4, 'X')];
            let flags = letters.iter().filter(|(bit, _)| section.flags & bit != 0).map(|(_, letter)| *letter);
            out.push(Row {
                section: section.name,
                section_type: section.kind,
                flags: flags.collect(),
                address: Address(section.addr),
                file_offset: Address(section.offset),
                size: ByteSize(section.size),
            })?;
        }
        Ok(())
    }
}
