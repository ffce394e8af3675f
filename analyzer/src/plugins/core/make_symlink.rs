//! `make_symlink`: gives a profile another name, by a document of type `Symlink`.
//!
//! Writes into a repository, reads no image. Truth: the layout of Rekall's static repositories.

use std::path::PathBuf;

use profile::names::ProfileName;

use crate::plugin::prelude::*;

/// The command.
pub struct MakeSymlink;

/// Which names.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The new name
    name: String,
    /// The name it stands for
    target: String,
    /// Repository to write to; without it the first directory of --repository_path that can be written
    #[arg(long, value_name = "DIR")]
    repository: Option<PathBuf>,
}

row! {
    pub struct Row {
        /// The new name.
        name: String,
        /// The profile it stands for.
        target: String,
        /// The file written.
        path: String,
    }
}

impl Plugin for MakeSymlink {
    const NAME: &'static str = "make_symlink";
    const SUMMARY: &'static str = "Give a profile of a repository another name";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let checked = |text: &str| {
            ProfileName::new(text)
                .map_err(|error| Error::usage(format!("not a profile name ({error}): {text}")))
        };
        let (name, target) = (checked(&args.name)?, checked(&args.target)?);
        let only;
        let repositories = match &args.repository {
            Some(directory) => {
                only = session.repository_at(directory)?;
                &only
            }
            None => session.repositories()?,
        };
        let path = repositories.make_symlink(&name, &target).map_err(|e| Error::analysis(e.to_string()))?;
        if let Err(error) = repositories.load_named(&target) {
            session.notes.info(format!("the symlink points to nothing yet: {error}"));
        }
        out.push(Row {
            name: name.as_str().to_owned(),
            target: target.as_str().to_owned(),
            path: path.display().to_string(),
        })
    }
}
