//! `build_index`: makes an index of profiles from a specification in YAML.
//!
//! Indexes find a profile by bytes of a module (`nt/index`), struct layouts (`nt/eprocess_index`) or symbols
//! (`Linux/index`). The index goes to standard output, as in the original, or into the repository. Truth: the real indexes
//! of Rekall's repository, made again entry for entry from the same profiles.

use std::fs;
use std::path::PathBuf;

use profile::names::ProfileName;
use repository::Directory;
use repository::index::{IndexSpec, build_index};

use crate::plugin::prelude::*;

/// The command.
pub struct BuildIndex;

/// What to index.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The specification: a YAML file
    spec: PathBuf,
    /// Directory of the repository with the profiles
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Store the index in that repository under this name, such as nt/index, instead of writing it out
    #[arg(long, value_name = "NAME")]
    store: Option<String>,
}

row! {
    pub struct Row {
        /// The file written.
        path: String,
        /// Number of profiles in the index.
        profiles: u64,
    }
}

impl Plugin for BuildIndex {
    const NAME: &'static str = "build_index";
    const SUMMARY: &'static str = "Make an index of the profiles of a repository";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let failed = |error: &dyn std::fmt::Display| Error::analysis(error.to_string());
        let name = args
            .store
            .as_deref()
            .map(|name| {
                ProfileName::new(name)
                    .map_err(|error| Error::usage(format!("not a profile name ({error}): {name}")))
            })
            .transpose()?;
        let yaml = fs::read_to_string(&args.spec)
            .map_err(|error| Error::usage(format!("cannot read {}: {error}", args.spec.display())))?;
        let spec = IndexSpec::parse(&yaml)
            .map_err(|error| Error::usage(format!("{error}: {}", args.spec.display())))?;
        let directory = Directory::new(&args.root, repository::Limits::default());
        let built = build_index(&directory, &spec).map_err(|error| failed(&error))?;
        for (name, why) in &built.left_out {
            session.notes.info(format!("not in the index: {name}: {why}"));
        }
        for (first, second) in &built.ambiguous {
            session.notes.info(format!("the index cannot tell {first} from {second}"));
        }
        if built.indexed == 0 {
            let root = args.root.display();
            return Err(Error::analysis(format!("no profile of {} can be indexed below {root}", spec.path))
                .with_hint("name the repository's directory with --root"));
        }
        let Some(name) = name else { return out.document(&built.document.to_canonical_json()) };
        let path = directory.put(&name, &built.document).map_err(|error| failed(&error))?;
        out.push(Row { path: path.display().to_string(), profiles: built.indexed as u64 })
    }
}
