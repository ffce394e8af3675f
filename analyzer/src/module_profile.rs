//! Profiles of Windows modules: from the repositories, else made of the PDB that a symbol store has.
//!
//! ```text
//! module, PDB name, GUID+age ──► repositories ──► profile
//!                                     │ none
//!                                     └──► symbol stores ──► PDB ──► profile, kept in the first writable repository
//! ```
//! A profile is named `<module>/GUID/<GUID+age>` after what was asked for, whatever ages the PDB itself has.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use profile::names::{PdbId, ProfileName};
use profile::{Document, Profile};
use profile_gen::pdb::{ConvertReport, ConvertedPdb, PdbOptions, convert_pdb};
use profile_gen::symbol_server::{self, Failure, FetchError, Fetched, Listener, PdbFile};

use crate::error::Error;
use crate::progress::Progress;
use crate::session::Session;

/// Names of the kernel's PDB, the commonest first: x64 and multi-processor, PAE, and those of single-processor kernels;
/// `ntkrla57` has page tables of five levels.
pub const KERNEL_PDBS: [&str; 5] =
    ["ntkrnlmp.pdb", "ntkrpamp.pdb", "ntkrnlpa.pdb", "ntoskrnl.pdb", "ntkrla57.pdb"];
/// Most PDBs that a session fetches unasked: an image may name thousands.
const MAX_UNASKED: usize = 8;

/// The repository's name for a module: `nt` for every kernel, else the PDB's name without extension, in lower case.
#[must_use]
pub fn module_of(pdb: &str) -> String {
    let name = pdb.to_ascii_lowercase();
    if KERNEL_PDBS.contains(&name.as_str()) {
        return "nt".to_owned();
    }
    name.strip_suffix(".pdb").unwrap_or(&name).to_owned()
}

/// The PDBs that a module may have.
#[must_use]
pub fn pdbs_of(module: &str) -> Vec<String> {
    match module.to_ascii_lowercase().as_str() {
        "nt" => KERNEL_PDBS.map(str::to_owned).to_vec(),
        name if name.ends_with(".pdb") => vec![module.to_owned()],
        _ => vec![format!("{module}.pdb")],
    }
}

/// The name under which a repository has the profile of a module.
pub fn profile_name(module: &str, id: PdbId) -> Result<ProfileName, Error> {
    ProfileName::new(&format!("{}/GUID/{id}", module.to_ascii_lowercase()))
        .map_err(|error| Error::usage(error.to_string()))
}

/// A profile of a module.
#[derive(Debug)]
pub struct ModuleProfile {
    /// Its name in the repositories.
    pub name: String,
    /// What it came from.
    pub source: String,
    /// The profile.
    pub profile: Profile,
}

/// Why there is no profile of a module, and who was asked.
#[derive(Debug)]
pub struct Unavailable {
    /// What the repositories answered.
    pub repositories: Vec<repository::Asked>,
    /// What the symbol stores answered.
    pub stores: Vec<symbol_server::Asked>,
    /// Why the last of them did not help; its details list the symbol stores too.
    pub error: Error,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// The profile of a build of a module, as an image names it: from the repositories, else fetched, converted and kept.
/// Every use of the network is announced. A session does not fetch without end, however many builds an image names.
pub fn find(session: &Session, module: &str, pdb: &str, id: PdbId) -> Result<ModuleProfile, Unavailable> {
    let failed = |error| Unavailable { repositories: Vec::new(), stores: Vec::new(), error };
    let name = profile_name(module, id).map_err(failed)?;
    let repositories = session.repositories().map_err(failed)?;
    let asked = match repositories.load_named(&name) {
        Ok(loaded) => {
            return Ok(ModuleProfile { name: loaded.name, source: loaded.source, profile: loaded.profile });
        }
        Err(error) => error.trace,
    };
    let failed = |stores, error| Unavailable { repositories: asked.clone(), stores, error };
    if session.unasked_fetches.fetch_add(1, Ordering::Relaxed) >= MAX_UNASKED {
        let error = Error::analysis(format!("more than {MAX_UNASKED} modules without a profile"));
        return Err(failed(Vec::new(), error.with_hint(format!("rekal build_local_profile {module} {id}"))));
    }
    let file =
        PdbFile::new(pdb, id).map_err(|error| failed(Vec::new(), Error::analysis(error.to_string())))?;
    let fetched = session
        .symbol_server()
        .fetch_pdb(&file)
        .map_err(|error| failed(error.trace.clone(), fetch_error(&[error])))?;
    let failed = |error| failed(fetched.trace.clone(), error);
    warn(session, &fetched);
    let ConvertedPdb { document, report } = convert(&fetched, &file).map_err(&failed)?;
    for text in report.losses().into_iter().chain(report.remarks()) {
        session.notes.info(format!("{file}: {text}"));
    }
    let kept = match repositories.store(&name, &document) {
        Ok(path) => format!(", kept in {}", path.display()),
        Err(error) => {
            session.notes.info(format!("the profile of {file} cannot be kept: {error}"));
            String::new()
        }
    };
    let profile = Profile::parse_text(document.to_canonical_json())
        .map_err(|error| failed(Error::analysis(error.to_string())))?;
    Ok(ModuleProfile { name: name.to_string(), source: format!("made of {}{kept}", fetched.source), profile })
}

/// A profile made of a PDB that was fetched.
pub struct Built {
    /// What was asked for: the module's PDB under the name that a store has it by.
    pub file: PdbFile,
    /// The store that gave it.
    pub source: String,
    /// The profile.
    pub document: Document,
    /// What it holds and what could not be read.
    pub report: ConvertReport,
}

/// Fetches the PDB of a module under each name it may have, and converts it.
pub fn build(session: &Session, pdbs: &[String], id: PdbId) -> Result<Built, Error> {
    let mut failures: Vec<FetchError> = Vec::new();
    for name in pdbs {
        let file = PdbFile::new(name, id).map_err(|error| Error::usage(error.to_string()))?;
        match session.symbol_server().fetch_pdb(&file) {
            Ok(fetched) => {
                warn(session, &fetched);
                let ConvertedPdb { document, report } = convert(&fetched, &file)?;
                return Ok(Built { file, source: fetched.source, document, report });
            }
            Err(error) => failures.push(error),
        }
    }
    Err(fetch_error(&failures))
}

fn convert(fetched: &Fetched, file: &PdbFile) -> Result<ConvertedPdb, Error> {
    let options = PdbOptions {
        file_name: Some(file.name().to_owned()),
        guid_age: Some(file.id().to_string()),
        ..PdbOptions::default()
    };
    convert_pdb(&fetched.bytes, &options)
        .map_err(|error| Error::analysis(format!("{}: {error}", fetched.source)))
}

/// Tells the user what went wrong beside a file that was fetched.
pub fn warn(session: &Session, fetched: &Fetched) {
    fetched.warnings.iter().for_each(|warning| session.notes.info(warning.clone()));
}

/// The error for files that no store gave: the failure that says most, everything asked, and what to do.
#[must_use]
pub fn fetch_error(failures: &[FetchError]) -> Error {
    let told = failures.iter().find(|error| error.failure != Failure::NotFound).or(failures.first());
    let Some(told) = told else { return Error::analysis("nothing was asked for") };
    let asked = failures.iter().flat_map(|error| &error.trace);
    let lines = asked.map(|asked| format!("asked: {asked}")).collect();
    let remembered = |error: &FetchError| {
        error.trace.iter().any(|asked| matches!(asked.answer, symbol_server::Answer::Remembered(_)))
    };
    let hint = match &told.failure {
        Failure::NotFound if failures.iter().any(remembered) => {
            "a store that did not have it is asked again after a day, or by rekal fetch_pdb --ask_again"
        }
        Failure::NoStores => "name a store: rekal --symbol_path DIR_OR_URL ...",
        Failure::NotFound => {
            "check name and GUID: rekal peinfo FILE, or rekal -f IMAGE version_scan; a private build needs its own \
             store: --symbol_path"
        }
        Failure::Offline => {
            "leave out --offline; or fetch it elsewhere with rekal fetch_pdb and name its directory: --symbol_path DIR"
        }
        Failure::Unreachable(_) => {
            "check the network and the proxy (HTTPS_PROXY); or fetch it elsewhere with rekal fetch_pdb and name its \
             directory: --symbol_path DIR"
        }
        Failure::Withheld(_) | Failure::Wrong(_) => "name another store before this one: --symbol_path",
    };
    Error::analysis(told.to_string()).with_details(lines).with_hint(hint)
}

/// Passes on what the symbol server client does: requests to the announcer, bytes to the progress line.
pub(crate) struct Told {
    on_network: Option<fn(&str)>,
    progress: Mutex<Option<(Progress, u64)>>,
}

impl Told {
    pub(crate) fn new(on_network: Option<fn(&str)>) -> Self {
        Self { on_network, progress: Mutex::new(None) }
    }

    fn tell(&self, text: &str) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if let Some(announce) = self.on_network {
            announce(text);
        }
    }
}

impl Listener for Told {
    fn asking(&self, url: &str) {
        self.tell(&format!("asking {url}"));
    }

    fn progress(&self, done: u64, total: Option<u64>) {
        let Some(total) = total else { return };
        let mut slot = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let (progress, before) = slot.get_or_insert_with(|| (Progress::new("fetching", total), 0));
        progress.add(done.saturating_sub(*before));
        *before = done;
        if done >= total {
            *slot = None;
        }
    }

    fn waiting(&self, server: &str, reason: &str, pause: Duration) {
        self.tell(&format!("{server}: {reason}; asking again in {} s", pause.as_secs_f64()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_and_their_pdbs() {
        assert_eq!(module_of("NtKrnlMp.pdb"), "nt");
        assert_eq!(module_of("TcpIp.pdb"), "tcpip");
        assert_eq!(pdbs_of("nt"), KERNEL_PDBS);
        assert_eq!(pdbs_of("tcpip"), ["tcpip.pdb"]);
        assert_eq!(pdbs_of("Wdf01000.pdb"), ["Wdf01000.pdb"]);
        let id = PdbId::from_text("F8E2A8B5C9B74BF4A6E4A48F180099942").unwrap();
        assert_eq!(profile_name("Win32k", id).unwrap().as_str(), format!("win32k/GUID/{id}"));
        assert!(profile_name("../x", id).is_err());
    }
}
