//! `elf_sections`: sections of an ELF file. Truth: `readelf -S`.

use std::path::PathBuf;

use crate::elf::file::File;
use crate::plugin::prelude::*;

/// The command.
pub struct ElfSections;

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
    type Args = Args;
    type Row = Row;

    fn collect(&self, _: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let file = File::open(&args.binary_path, args.header_offset)?;
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
