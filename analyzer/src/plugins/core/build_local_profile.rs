//! `build_local_profile`: fetches the PDB of a Windows module, makes a profile of it and keeps that in a repository.
//!
//! The module `nt` is the kernel, whose PDB has several names; all are tried. The profile is stored as
//! `<module>/GUID/<GUID+age>` under what was asked for. Truth: that of `fetch_pdb` and `parse_pdb`, which it joins.

use std::path::PathBuf;

use profile::names::PdbId;

use crate::module_profile::{build, module_of, pdbs_of, profile_name};
use crate::plugin::prelude::*;
use crate::profile_file::{self, Report};

/// The command.
pub struct BuildLocalProfile;

/// Which module, and where to put its profile.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The module: nt, tcpip, win32k, ...; the name of its PDB; or a whole profile name such as nt/GUID/ID
    #[arg(value_name = "MODULE")]
    module_name: String,
    /// GUID and age in hex, as version_scan prints them
    #[arg(value_name = "GUID")]
    guid: Option<String>,
    /// File to write the profile to as well, gzip-compressed if its name ends in .gz
    #[arg(long, value_name = "FILE")]
    dumpfile: Option<PathBuf>,
    /// Repository directory to store it in; without it the first directory of --repository_path that can be written,
    /// else the cache
    #[arg(long, value_name = "DIR")]
    repository: Option<PathBuf>,
}

impl Plugin for BuildLocalProfile {
    const NAME: &'static str = "build_local_profile";
    const SUMMARY: &'static str = "Make the profile of a Windows module from its PDB and keep it";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Report;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Report>) -> Result<(), Error> {
        let (module, id) = split(args)?;
        let pdbs = pdbs_of(module);
        let name = profile_name(&pdbs.first().map_or_else(|| module.to_owned(), |pdb| module_of(pdb)), id)?;
        // Opened first: a file that may not be written is known before the work, not after it.
        let file = args.dumpfile.as_deref().map(|path| session.create_file(path)).transpose()?;
        let only;
        let repositories = match &args.repository {
            Some(directory) => {
                only = session.repository_at(directory)?;
                &only
            }
            None => session.repositories()?,
        };
        let built = build(session, &pdbs, id)?;
        let path =
            repositories.store(&name, &built.document).map_err(|error| Error::analysis(error.to_string()))?;
        let mut rows = vec![
            Report::text("fetched", format!("{} from {}", built.file, built.source)),
            Report::text("profile", name.to_string()),
        ];
        rows.extend(profile_file::of_pdb(session, &built.report, &built.document.metadata));
        rows.push(Report::written(&path));
        if let Some(file) = file {
            rows.push(Report::written(&profile_file::write(file, &built.document.to_canonical_json())?));
        }
        // Shown only when everything is written: a reader who has seen enough rows must not stop the work.
        rows.into_iter().try_for_each(|row| out.push(row))
    }
}

/// Module and identity, given apart or as the name of a profile.
fn split(args: &Args) -> Result<(&str, PdbId), Error> {
    let name = args.module_name.as_str();
    let whole = name.split_once("/GUID/").or_else(|| name.split_once("\\GUID\\"));
    let (module, guid) = match (whole, &args.guid) {
        (Some((module, guid)), None) => (module, guid),
        (None, Some(guid)) => (name, guid.as_str()),
        (Some(_), Some(_)) => return Err(Error::usage("the GUID is given twice")),
        (None, None) => {
            return Err(Error::usage("no GUID given").with_hint(
                "GUID and age are what rekal version_scan prints of an image, and rekal peinfo of an executable",
            ));
        }
    };
    let id = PdbId::from_text(guid.trim_end_matches(".gz"));
    let wrong = || Error::usage(format!("not a GUID and age (32 hex digits, then the age in hex): {guid}"));
    id.map(|id| (module, id)).ok_or_else(wrong)
}
