//! Building one profile, and many at once.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use profile::Profile;
use profile::names::{PdbId, ProfileName};
use profile_gen::LinuxOptions;
use profile_gen::pdb::PdbOptions;
use profile_gen::symbol_server::{self, PdbFile};
use profile_gen::worker::{Conversion, WorkerError};

use super::Manager;
use super::config::Entry;
use crate::error::Error;

/// A profile to build.
pub(super) struct Task {
    pub(super) name: ProfileName,
    source: Source,
}

enum Source {
    /// Identity, the names its PDB may have, and the class to record.
    Windows {
        id: PdbId,
        files: Vec<PdbFile>,
        class: Option<String>,
    },
    Linux(PathBuf),
}

/// A profile that was built.
pub(super) struct Built {
    /// Where it is.
    pub(super) path: PathBuf,
    /// The PDB it was made of.
    pub(super) pdb: Option<PdbFile>,
}

/// Why a profile was not built.
pub(super) struct Failure {
    pub(super) name: ProfileName,
    /// One line.
    pub(super) reason: String,
    /// Whether trying again is of no use.
    pub(super) permanent: bool,
}

impl Task {
    pub(super) fn windows(name: ProfileName, id: PdbId, files: Vec<PdbFile>, class: Option<&str>) -> Self {
        Self { name, source: Source::Windows { id, files, class: class.map(str::to_owned) } }
    }

    pub(super) fn linux(name: ProfileName, path: PathBuf) -> Self {
        Self { name, source: Source::Linux(path) }
    }

    /// The identity of a Windows module.
    pub(super) fn identity(&self) -> Option<PdbId> {
        match &self.source {
            Source::Windows { id, .. } => Some(*id),
            Source::Linux(_) => None,
        }
    }
}

/// Is told what became of each task.
type Told<'t> = dyn FnMut(&Task, Result<Built, Failure>) -> Result<(), Error> + 't;

impl Manager<'_> {
    /// Builds all, so many at once, and tells each result. An error of the listener ends the run after what is under way.
    pub(super) fn all(
        &self,
        tasks: &[Task],
        entry: &Entry,
        processes: usize,
        told: &mut Told<'_>,
    ) -> Result<(), Error> {
        let next = AtomicUsize::new(0);
        let (send, receive) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..processes.clamp(1, tasks.len().max(1)) {
                let (send, next) = (send.clone(), &next);
                scope.spawn(move || {
                    while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if send.send((task, self.build(task, entry))).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(send);
            for (task, result) in &receive {
                if let Err(error) = told(task, result) {
                    drop(receive);
                    return Err(error);
                }
            }
            Ok(())
        })
    }

    fn build(&self, task: &Task, entry: &Entry) -> Result<Built, Failure> {
        let failure = |reason: String, permanent| {
            let line = reason.lines().next_back().unwrap_or_default();
            let reason = line.chars().filter(|c| !c.is_control()).take(300).collect();
            Failure { name: task.name.clone(), reason, permanent }
        };
        let (path, conversion, pdb) = match &task.source {
            Source::Linux(path) => (path.clone(), Conversion::Linux(LinuxOptions::default()), None),
            Source::Windows { id, files, class } => {
                let (path, file) =
                    self.pdb(*id, files).map_err(|(reason, permanent)| failure(reason, permanent))?;
                let options = PdbOptions {
                    profile_class: class.clone(),
                    file_name: Some(file.name().to_owned()),
                    guid_age: Some(id.to_string()),
                    ..PdbOptions::default()
                };
                (path, Conversion::Pdb(options), Some(file.clone()))
            }
        };
        let answer = self.worker.convert(&path, &conversion).map_err(|error| {
            let permanent = !matches!(error, WorkerError::Start(_));
            failure(error.to_string(), permanent)
        })?;
        if !answer.usable {
            return Err(failure(format!("of no use: {}", answer.remarks.join("; ")), true));
        }
        let read = || Profile::parse_text(answer.json)?.to_document();
        let document = read().map_err(|error| failure(error.to_string(), true))?;
        let path = self.put(&task.name, document, entry).map_err(|error| failure(error, false))?;
        Ok(Built { path, pdb })
    }

    /// The PDB of an identity, fetched where it is not among the sources. Failures say whether they are permanent.
    fn pdb<'f>(&self, id: PdbId, files: &'f [PdbFile]) -> Result<(PathBuf, &'f PdbFile), (String, bool)> {
        let folder = self.root.join("src/pdb");
        let path = folder.join(format!("{id}.pdb"));
        let first = files.first().ok_or_else(|| ("its PDB has no name".to_owned(), true))?;
        if path.is_file() {
            return Ok((path, first));
        }
        let (mut reason, mut permanent) = (String::new(), true);
        for file in files {
            match self.server.fetch_pdb(file) {
                Ok(fetched) => {
                    write(&folder, &path, &fetched.bytes)
                        .map_err(|error| (format!("cannot write {}: {error}", path.display()), false))?;
                    return Ok((path, file));
                }
                Err(error) => {
                    use symbol_server::Failure::{NotFound, Withheld, Wrong};
                    permanent &= matches!(error.failure, NotFound | Withheld(_) | Wrong(_));
                    reason = error.to_string();
                }
            }
        }
        Err((reason, permanent))
    }
}

/// Writes a file whole or not at all.
pub(super) fn write(folder: &Path, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".").tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}
