//! `guess_guid`: which profile fits a module in memory or a file.
//!
//! The RSDS record of the module names its PDB. Where that cannot be read, the module's index (`nt/index`) is compared
//! with the bytes at its base; without an address, all memory is searched for records of the module. Truth: the points
//! of Rekall's real index, laid out in memory.

use std::path::PathBuf;
use std::sync::Arc;

use memory::{AddressSpace, FileSpace};
use profile::names::ProfileName;
use repository::index::DataIndex;

use crate::os::address_space::SpaceArg;
use crate::os::symbols;
use crate::pe::{Pe, Rsds, rsds};
use crate::plugin::prelude::*;

/// The command.
pub struct GuessGuid;

/// Names of the kernel's PDB.
const KERNELS: [&str; 4] = ["ntkrnlmp", "ntkrnlpa", "ntkrpamp", "ntoskrnl"];

/// Which module.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The module, as repositories name it: nt, tcpip, win32k
    module: String,
    /// Address of the module; without it, memory is searched for its RSDS records
    #[arg(value_name = "ADDRESS")]
    image_base: Option<String>,
    /// A file of the module to look at instead of memory
    #[arg(long, value_name = "FILE", conflicts_with = "image_base")]
    filename: Option<PathBuf>,
    /// Points of the index that have to match
    #[arg(long, value_name = "N", default_value_t = 1)]
    minimal_match: u32,
    /// What the address means
    #[command(flatten)]
    space: SpaceArg,
}

row! {
    pub struct Row {
        /// Name of the profile.
        profile: String,
        /// What speaks for it: `rsds` or `index`.
        method: &'static str,
        /// Whether a repository has it.
        available: bool,
        /// Address of the RSDS record that was found by searching.
        offset: Option<Address>,
        /// Points of the index that match.
        matched: Option<u64>,
        /// Points of the index where something else stands.
        unmatched: Option<u64>,
        /// Points of the index that cannot be read.
        unreadable: Option<u64>,
    }
}

impl Plugin for GuessGuid {
    const NAME: &'static str = "guess_guid";
    const SUMMARY: &'static str = "Find out which profile fits a module";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let guess = Guess { session, module: &args.module };
        let (space, base, record) = match (&args.filename, &args.image_base) {
            (Some(path), _) => {
                let file = FileSpace::open(path, &memory::Limits::default())
                    .map_err(|error| Error::usage(format!("cannot read {}: {error}", path.display())))?;
                let file: Arc<dyn AddressSpace> = Arc::new(file);
                let pe = Pe::file(&file, 0)
                    .map_err(|why| Error::analysis(format!("cannot use {}: {why}", path.display())))?;
                (Arc::clone(pe.space()), 0, pe.rsds())
            }
            (None, Some(text)) => {
                let (base, space) =
                    (symbols::address(session, text)?, args.space.name(session).open(session)?);
                let record = Pe::mapped(&space, base).and_then(|pe| pe.rsds());
                (space, base, record)
            }
            (None, None) => return guess.search(out),
        };
        match record {
            Ok(record) => out.push(guess.row(guess.profile(&record), "rsds"))?,
            Err(why) => session.notes.info(format!("no RSDS record at the module's base: {why}")),
        }
        guess.by_index(&*space, base, args.minimal_match as usize, out)
    }
}

struct Guess<'a> {
    session: &'a Session,
    module: &'a str,
}

impl Guess<'_> {
    fn profile(&self, record: &Rsds) -> String {
        format!("{}/GUID/{}", self.module, record.id)
    }

    fn row(&self, profile: String, method: &'static str) -> Row {
        let available = ProfileName::new(&profile)
            .is_ok_and(|name| self.session.repositories().is_ok_and(|path| path.load_named(&name).is_ok()));
        Row { profile, method, available, offset: None, matched: None, unmatched: None, unreadable: None }
    }

    /// All records of the module in memory.
    fn search(&self, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let found = rsds::scan(&*self.session.image()?.space);
        for (offset, record) in found.records {
            let file = record.file_name().to_ascii_lowercase();
            let stem = file.strip_suffix(".pdb").unwrap_or(&file);
            if stem == self.module.to_ascii_lowercase() || self.module == "nt" && KERNELS.contains(&stem) {
                let row = self.row(self.profile(&record), "rsds");
                out.push(Row { offset: Some(Address(offset)), ..row })?;
            }
        }
        Ok(())
    }

    fn by_index(
        &self,
        space: &dyn AddressSpace,
        base: u64,
        minimal: usize,
        out: &mut Rows<'_, Row>,
    ) -> Result<(), Error> {
        let name = format!("{}/index", self.module);
        let bad =
            |error: &dyn std::fmt::Display| Error::usage(format!("not a module ({error}): {}", self.module));
        let name = ProfileName::new(&name).map_err(|error| bad(&error))?;
        let loaded = match self.session.repositories()?.load_named(&name) {
            Ok(loaded) => loaded,
            Err(error) => {
                self.session.notes.info(format!("no index to compare with: {error}"));
                return Ok(());
            }
        };
        let index = DataIndex::read(&loaded.profile)
            .map_err(|error| Error::analysis(format!("cannot use {name}: {error}")))?;
        if index.rejected > 0 {
            self.session.notes.partial(format!("damaged entries of {name}: {}", index.rejected));
        }
        let read = |offset: i64, buf: &mut [u8]| {
            base.checked_add_signed(offset).is_some_and(|at| space.read_at(at, buf).is_ok())
        };
        for found in index.matches(minimal, read) {
            let row = self.row(found.profile.to_string(), "index");
            out.push(Row {
                matched: Some(found.matched as u64),
                unmatched: Some(found.unmatched as u64),
                unreadable: Some(found.unreadable as u64),
                ..row
            })?;
        }
        Ok(())
    }
}
