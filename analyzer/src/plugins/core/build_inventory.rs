//! `build_inventory`: writes the inventory of a repository directory, which clients over HTTP ask first.
//!
//! Reads every document below the directory. Truth: original Rekall reads the inventory (spec of static repositories).

use std::path::PathBuf;

use crate::plugin::prelude::*;

/// The command.
pub struct BuildInventory;

/// Which repository.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of the repository
    directory: PathBuf,
}

row! {
    pub struct Row {
        /// The file written.
        path: String,
        /// Number of profiles and symlinks listed in it.
        documents: u64,
    }
}

impl Plugin for BuildInventory {
    const NAME: &'static str = "build_inventory";
    const SUMMARY: &'static str = "Write the inventory of a repository directory";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let built = repository::build_inventory(&args.directory, &repository::Limits::default())
            .map_err(|error| Error::analysis(error.to_string()))?;
        for (name, reason) in &built.skipped {
            session.notes.partial(format!("not listed, as it cannot be read: {name}: {reason}"));
        }
        out.push(Row { path: built.path.display().to_string(), documents: built.listed as u64 })
    }
}
