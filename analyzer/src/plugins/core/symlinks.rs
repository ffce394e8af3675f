//! `symlinks`: other names of profiles, and whether each leads to one.
//!
//! Lists those of the repository directories; `make_symlink` makes one. A symlink that leads nowhere makes the result
//! partial. Truth: trees of both layouts of original Rekall, with loops and missing targets put in.

use std::path::PathBuf;

use repository::LoadFailure;

use crate::plugin::prelude::*;

/// The command.
pub struct Symlinks;

/// Which repository.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those of this repository; without it those of all directories of --repository_path
    #[arg(long, value_name = "DIR")]
    repository: Option<PathBuf>,
}

row! {
    pub struct Row {
        /// The other name.
        name: String,
        /// The name it stands for.
        target: String,
        /// `ok`, or what is wrong: `dangling`, `loop`, `too many`, `bad target`, `damaged`.
        state: &'static str,
        /// The profile at the end of all symlinks; absent where there is none.
        profile: Option<String>,
    }
}

impl Plugin for Symlinks {
    const NAME: &'static str = "symlinks";
    const SUMMARY: &'static str = "List other names of profiles, and check that they lead to one";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let only;
        let repositories = match &args.repository {
            Some(directory) => {
                only = session.repository_at(directory)?;
                &only
            }
            None => session.repositories()?,
        };
        let mut bad = 0;
        for link in repositories.symlinks().map_err(|error| Error::analysis(error.to_string()))? {
            let state = match &link.resolved {
                Ok(_) => "ok",
                Err(LoadFailure::NotFound) => "dangling",
                Err(LoadFailure::Loop) => "loop",
                Err(LoadFailure::TooManySymlinks(_)) => "too many",
                Err(LoadFailure::Target(_) | LoadFailure::Name(_)) => "bad target",
                Err(LoadFailure::Damaged(_)) => "damaged",
            };
            bad += u64::from(link.resolved.is_err());
            out.push(Row {
                name: link.name.to_string(),
                target: link.target,
                state,
                profile: link.resolved.ok(),
            })?;
        }
        if bad > 0 {
            session.notes.partial(format!("symlinks that lead to no profile: {bad}"));
        }
        Ok(())
    }
}
