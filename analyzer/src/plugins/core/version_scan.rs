//! `version_scan`: RSDS records in memory or a file: which PDBs hold the symbols of the modules that were there.
//!
//! Looks at every byte, so it also finds modules that no list names, and leftovers of modules that were unloaded. A
//! record counts when its path is printable UTF-8 and ends in `.pdb`. Truth: `llvm-readobj` and a regular expression of
//! Python over the same bytes.

use std::path::PathBuf;

use memory::{AddressSpace, FileSpace};

use crate::pe::rsds;
use crate::plugin::prelude::*;

/// The command.
pub struct VersionScan;

/// What to look for, and where.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only PDBs whose path contains this, without regard to case
    #[arg(long, value_name = "REGEX", value_parser = crate::parse::regex)]
    name_regex: Option<regex::Regex>,
    /// A file of any kind to scan instead of the image's physical memory
    #[arg(long, value_name = "FILE")]
    scan_filename: Option<PathBuf>,
}

row! {
    pub struct Row {
        /// Physical address of the record; with --scan_filename the offset in the file.
        offset: Address,
        /// GUID and age, as symbol servers and profile repositories write them.
        guid: String,
        /// Path of the PDB as the linker wrote it.
        pdb: String,
    }
}

impl Plugin for VersionScan {
    const NAME: &'static str = "version_scan";
    const SUMMARY: &'static str = "Find the PDB identities of modules anywhere in memory or a file";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let found = match &args.scan_filename {
            Some(path) => {
                let file = FileSpace::open(path, &memory::Limits::default())
                    .map_err(|error| Error::usage(format!("cannot read {}: {error}", path.display())))?;
                rsds::scan(&file)
            }
            None => rsds::scan(session.image()?.space.as_ref() as &dyn AddressSpace),
        };
        for (offset, record) in found.records {
            if args.name_regex.as_ref().is_none_or(|regex| regex.is_match(&record.path)) {
                out.push(Row { offset: Address(offset), guid: record.id.to_string(), pdb: record.path })?;
            }
        }
        if found.left_out > 0 {
            session.notes.partial(format!("{} records in crowded places are left out", found.left_out));
        }
        if let Some((address, fault)) = found.gaps.first {
            let missing = found.gaps.missing;
            session.notes.partial(format!("{missing} bytes cannot be read, first at {address:#x}: {fault}"));
        }
        Ok(())
    }
}
