//! What becomes of an upload: staged, checked, converted in a limited process, noted, published.
//!
//! ```text
//! body ──► staging/.rekal-*.tmp ──► Profile (bounded) or worker (PDB, kernel) ──► audit ──► store.publish ──► audit
//! ```
//! Nothing is visible before it is published, and publishing is one rename. A crash leaves at most a staged file, which
//! nothing reads.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::StatusCode;
use profile::names::{BuildId, ProfileName};
use profile::{Document, Kind, Profile};
use profile_gen::LinuxOptions;
use profile_gen::pdb::PdbOptions;
use profile_gen::symbol_server::PdbFile;
use profile_gen::worker::{Conversion, Worker, WorkerError, WorkerLimits};
use tempfile::NamedTempFile;
use tokio::sync::Semaphore;

use crate::app::Service;
use crate::audit::{Audit, Line};
use crate::config::Config;
use crate::names::{guid_age, pdb_name, pdbs_of};
use crate::store::{PublishError, Published};
use crate::tokens::{Denied, Holder, Tokens};

/// Longest chain of symlinks that a new one may make.
const MAX_SYMLINKS: usize = 8;

/// Everything uploads need.
pub(crate) struct Uploads {
    pub(crate) tokens: Tokens,
    /// How many are received and converted at a time.
    pub(crate) turns: Semaphore,
    work: Option<Work>,
}

/// What there is where uploads are allowed.
struct Work {
    staging: PathBuf,
    audit: Audit,
    worker: Worker,
}

/// Why nothing was published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The token is for other things.
    #[error("{}", .0.reason())]
    Denied(Denied),
    /// What was sent is not what it should be.
    #[error("{0}")]
    Content(String),
    /// It is larger than allowed.
    #[error("{0}")]
    TooLarge(String),
    /// Something else is published under the name.
    #[error("{0}")]
    Taken(String),
    /// There is nothing of this name.
    #[error("no such profile")]
    NotFound,
    /// The disk does not take it now.
    #[error("cannot be stored now: {0}")]
    Storage(io::Error),
    /// This server takes no uploads.
    #[error("this server takes no uploads")]
    Closed,
}

impl Refusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Denied(denied) => denied.status(),
            Self::Content(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Taken(_) => StatusCode::CONFLICT,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Storage(error) if error.kind() == io::ErrorKind::StorageFull => {
                StatusCode::INSUFFICIENT_STORAGE
            }
            Self::Storage(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Closed => StatusCode::FORBIDDEN,
        }
    }
}

/// What was published.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) names: Vec<ProfileName>,
    pub(crate) created: bool,
    /// What a conversion has to say.
    pub(crate) remarks: Vec<String>,
}

/// A body on the disk, and who sent it.
pub(crate) struct Upload {
    pub(crate) file: NamedTempFile,
    /// SHA-256 of the bytes in hex.
    pub(crate) sha256: String,
    pub(crate) holder: Holder,
    pub(crate) peer: IpAddr,
}

impl Uploads {
    /// Prepares uploads, where there are tokens. `state` is where things that are no profiles lie.
    pub(crate) fn new(config: &Config, state: Option<&Path>) -> io::Result<Self> {
        let tokens = Tokens::new(&config.uploads.tokens).map_err(io::Error::other)?;
        let turns = Semaphore::new(config.uploads.at_a_time.max(1));
        if tokens.is_empty() {
            return Ok(Self { tokens, turns, work: None });
        }
        let state = state.ok_or_else(|| {
            io::Error::other(
                "uploads need a root that holds v1.0/, not v1.0/ itself or a bucket, or a `state` directory",
            )
        })?;
        let staging = state.join("staging");
        fs::create_dir_all(&staging)?;
        let audit = config.uploads.audit.clone().unwrap_or_else(|| state.join("audit.jsonl"));
        let limits = WorkerLimits {
            input: config.uploads.linux_mib.max(config.uploads.pdb_mib) << 20,
            memory: config.build.convert_mib << 20,
            cpu_seconds: config.build.convert_seconds,
            wall: Duration::from_secs(config.build.convert_seconds.saturating_mul(2)),
            output: config.uploads.profile_text_mib << 20,
            threads: 1,
        };
        let worker = match &config.build.worker {
            Some(program) => Worker::new(program.clone(), limits),
            None => Worker::this_program(limits).map_err(io::Error::other)?,
        };
        Ok(Self { tokens, turns, work: Some(Work { staging, audit: Audit::open(&audit)?, worker }) })
    }

    fn work(&self) -> Result<&Work, Refusal> {
        self.work.as_ref().ok_or(Refusal::Closed)
    }

    /// A file for a body.
    pub(crate) fn stage(&self) -> Result<NamedTempFile, Refusal> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".rekal-").suffix(".tmp").tempfile_in(&self.work()?.staging).map_err(Refusal::Storage)
    }
}

impl Service {
    /// Publishes a profile document, an index or a symlink under a name. Blocks.
    pub(crate) fn put(&self, name: &ProfileName, upload: &Upload, replace: bool) -> Result<Stored, Refusal> {
        upload.holder.allows(name.as_str()).map_err(Refusal::Denied)?;
        let max_text = usize::try_from(self.config.uploads.profile_text_mib << 20).unwrap_or(usize::MAX);
        let bytes = fs::read(upload.file.path()).map_err(Refusal::Storage)?;
        let profile = Profile::parse(&bytes, &profile::Limits { max_text }).map_err(|error| match error {
            profile::ReadError::TooLarge(_) => Refusal::TooLarge(error.to_string()),
            error => Refusal::Content(error.to_string()),
        })?;
        drop(bytes);
        let symlink = match profile.kind() {
            Kind::Symlink { target } => {
                self.check_symlink(name, &target, &upload.holder)?;
                true
            }
            Kind::Inventory => {
                return Err(Refusal::Content("the server writes the inventory itself".to_owned()));
            }
            Kind::Profile | Kind::Index => false,
        };
        // Everything is decoded, so what is published can be read.
        let document = profile.to_document().map_err(|error| Refusal::Content(error.to_string()))?;
        if document.metadata.is_empty() {
            return Err(Refusal::Content("not a profile document: no $METADATA".to_owned()));
        }
        same_build(name, &document)?;
        let created = self.note_and_publish("put", name, &document, upload, replace || symlink)?;
        Ok(Stored { names: vec![name.clone()], created, remarks: Vec::new() })
    }

    /// Symlinks decide what other names mean, so they are for admins; a target must be there.
    fn check_symlink(&self, name: &ProfileName, target: &str, holder: &Holder) -> Result<(), Refusal> {
        if !holder.is_admin() {
            return Err(Refusal::Denied(Denied::Scope));
        }
        if self.catalogue_kind(name).is_some_and(|kind| kind != "Symlink") {
            return Err(Refusal::Taken(format!("a profile is published under this name: {name}")));
        }
        let mut next = ProfileName::new(target).map_err(|error| Refusal::Content(error.to_string()))?;
        for _ in 0..MAX_SYMLINKS {
            if next == *name {
                return Err(Refusal::Content(format!("the symlink would lead to itself: {name}")));
            }
            let Some(entry) = self.store.catalogue.get(&next) else {
                return Err(Refusal::Content(format!("the symlink would lead nowhere: {next}")));
            };
            let target = entry.keys().get("Target").and_then(|target| target.as_str().map(str::to_owned));
            let Some(target) = target.and_then(|target| ProfileName::new(&target).ok()) else {
                return Ok(());
            };
            next = target;
        }
        Err(Refusal::Content(format!("more than {MAX_SYMLINKS} symlinks in a row")))
    }

    fn catalogue_kind(&self, name: &ProfileName) -> Option<String> {
        let keys = self.store.catalogue.get(name)?.keys();
        Some(keys.get("Type").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned())
    }

    /// Removes a document. Blocks.
    pub(crate) fn delete(&self, name: &ProfileName, holder: &Holder, peer: IpAddr) -> Result<(), Refusal> {
        holder.allows(name.as_str()).map_err(Refusal::Denied)?;
        let audit = &self.uploads.work()?.audit;
        let line = || Line::new("delete", name.as_str(), &holder.name, peer);
        audit.append(line()).map_err(Refusal::Storage)?;
        let removed = self.store.remove(name);
        let outcome = match &removed {
            Ok(true) => "deleted".to_owned(),
            Ok(false) => "not there".to_owned(),
            Err(error) => error.to_string(),
        };
        audit.append(Line { outcome: &outcome, ..line() }).map_err(Refusal::Storage)?;
        match removed {
            Ok(true) => Ok(()),
            Ok(false) => Err(Refusal::NotFound),
            Err(error) => Err(refusal(error)),
        }
    }

    /// Makes a profile of a PDB and publishes it; the PDB itself is kept for symbol clients. Blocks.
    pub(crate) fn put_pdb(&self, file_name: &str, upload: &Upload) -> Result<Stored, Refusal> {
        let file_name = pdb_name(file_name).ok_or_else(|| {
            Refusal::Content("the name must be that of a PDB: ?name=ntkrnlmp.pdb".to_owned())
        })?;
        let module = file_name.strip_suffix(".pdb").unwrap_or(&file_name);
        let is_kernel = pdbs_of("nt").contains(&file_name);
        let module = if is_kernel { "nt" } else { module };
        let options = PdbOptions {
            profile_class: is_kernel.then(|| "Nt".to_owned()),
            file_name: Some(file_name.clone()),
            ..PdbOptions::default()
        };
        let (document, remarks) = self.convert(upload, &Conversion::Pdb(options))?;
        let id = document.metadata.get("GUID_AGE").and_then(|id| id.as_str()).and_then(guid_age);
        let id = id.ok_or_else(|| Refusal::Content("the PDB has no GUID and age".to_owned()))?;
        if document.structs.is_empty() && document.constants.is_empty() && document.functions.is_empty() {
            return Err(Refusal::Content("the PDB holds neither types nor addresses".to_owned()));
        }
        let name = ProfileName::new(&format!("{module}/GUID/{id}"))
            .map_err(|error| Refusal::Content(error.to_string()))?;
        upload.holder.allows(name.as_str()).map_err(Refusal::Denied)?;
        if let Some(path) = PdbFile::new(&file_name, id).ok().and_then(|file| self.uploaded_pdb(&file)) {
            keep(upload.file.path(), &path)?;
        }
        let created = self.note_and_publish("pdb", &name, &document, upload, false)?;
        Ok(Stored { names: vec![name], created, remarks })
    }

    /// Makes a profile of a kernel and publishes it under its build-id, with the release as another name where that is
    /// free. Blocks.
    pub(crate) fn put_linux(&self, options: LinuxOptions, upload: &Upload) -> Result<Stored, Refusal> {
        let (document, remarks) = self.convert(upload, &Conversion::Linux(options))?;
        let text = |key: &str| document.metadata.get(key).and_then(|value| value.as_str());
        let id = text("BuildID").and_then(BuildId::from_hex);
        let release = text("Release").map(|release| ProfileName::new(&format!("Linux/{release}")));
        let release = release.transpose().map_err(|error| Refusal::Content(error.to_string()))?;
        let Some(name) = id.as_ref().map(ProfileName::linux_build_id).or_else(|| release.clone()) else {
            let what = "no name: neither build-id nor release is known; give ?build_id= or ?release=";
            return Err(Refusal::Content(what.to_owned()));
        };
        upload.holder.allows(name.as_str()).map_err(Refusal::Denied)?;
        if let Some(path) = id.as_ref().and_then(|id| self.debuginfo(id))
            && is_elf(upload.file.path())
        {
            keep(upload.file.path(), &path)?;
        }
        let mut created = self.note_and_publish("linux", &name, &document, upload, false)?;
        let mut names = vec![name.clone()];
        if let Some(release) = release.filter(|release| *release != name)
            && self.store.catalogue.get(&release).is_none()
            && upload.holder.allows(release.as_str()).is_ok()
        {
            let symlink = Document::symlink(name.as_str());
            created |= self.note_and_publish("linux", &release, &symlink, upload, false)?;
            names.push(release);
        }
        Ok(Stored { names, created, remarks })
    }

    fn convert(&self, upload: &Upload, conversion: &Conversion) -> Result<(Document, Vec<String>), Refusal> {
        let answer = self.uploads.work()?.worker.convert(upload.file.path(), conversion);
        let answer = answer.map_err(|error| match error {
            WorkerError::Start(error) => Refusal::Storage(error),
            WorkerError::InputTooLarge(_) | WorkerError::OutputTooLarge(_) => {
                Refusal::TooLarge(error.to_string())
            }
            error => Refusal::Content(error.to_string()),
        })?;
        if !answer.usable {
            let why = answer.remarks.join("; ");
            return Err(Refusal::Content(format!("no command could work with the profile: {why}")));
        }
        // What a worker made is believed as little as what it was made of.
        let profile =
            Profile::parse_text(answer.json).map_err(|error| Refusal::Content(error.to_string()))?;
        let document = profile.to_document().map_err(|error| Refusal::Content(error.to_string()))?;
        Ok((document, answer.remarks))
    }

    /// Publishes, with a line in the audit log before and after. Whether there is something new.
    fn note_and_publish(
        &self,
        action: &str,
        name: &ProfileName,
        document: &Document,
        upload: &Upload,
        replace: bool,
    ) -> Result<bool, Refusal> {
        let audit = &self.uploads.work()?.audit;
        let line = || Line {
            sha256: Some(&upload.sha256),
            ..Line::new(action, name.as_str(), &upload.holder.name, upload.peer)
        };
        audit.append(line()).map_err(Refusal::Storage)?;
        let published = self.publish(name, document.to_canonical_json(), replace);
        let outcome = match &published {
            Ok(Published::Stored) => "stored".to_owned(),
            Ok(Published::Unchanged) => "unchanged".to_owned(),
            Err(error) => error.to_string(),
        };
        audit.append(Line { outcome: &outcome, ..line() }).map_err(Refusal::Storage)?;
        published.map(|published| published == Published::Stored).map_err(refusal)
    }

    /// Where an uploaded PDB is kept, in the layout of symbol stores; `None` where the server keeps no such files.
    pub(crate) fn uploaded_pdb(&self, file: &PdbFile) -> Option<PathBuf> {
        let own = || Some(self.state.as_ref()?.join("symbols"));
        let store = self.config.build.symbols.clone().or_else(own)?;
        Some(store.join(file.to_string()).join(file.name()))
    }
}

fn refusal(error: PublishError) -> Refusal {
    match error {
        PublishError::Taken(_) => Refusal::Taken(error.to_string()),
        PublishError::Io { error, .. } => Refusal::Storage(error),
        PublishError::Reserved(_) | PublishError::NotADocument(_) => Refusal::Content(error.to_string()),
    }
}

/// A profile published under a build-id must be of that build.
fn same_build(name: &ProfileName, document: &Document) -> Result<(), Refusal> {
    let Some(id) = name.as_str().strip_prefix("Linux/BuildID/") else { return Ok(()) };
    match document.metadata.get("BuildID").and_then(|recorded| recorded.as_str()) {
        Some(recorded) if recorded.eq_ignore_ascii_case(id) => Ok(()),
        _ => Err(Refusal::Content(format!("the profile is not of the build-id {id}"))),
    }
}

/// Keeps a copy of a source under a name, in one step, unless there is one.
fn keep(source: &Path, path: &Path) -> Result<(), Refusal> {
    if path.exists() {
        return Ok(());
    }
    let copy = || -> io::Result<()> {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        fs::create_dir_all(parent)?;
        let file = tempfile::Builder::new().prefix(".rekal-").suffix(".tmp").tempfile_in(parent)?;
        fs::copy(source, file.path())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        fs::File::open(parent)?.sync_all()
    };
    copy().map_err(Refusal::Storage)
}

fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    let mut read = || io::Read::read_exact(&mut fs::File::open(path)?, &mut magic);
    read().is_ok() && magic == *b"\x7fELF"
}
