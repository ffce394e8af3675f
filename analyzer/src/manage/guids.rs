//! The lists of a Windows module: identities of its PDBs, and those that cannot be built.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use profile::names::PdbId;
use profile_gen::symbol_server::PdbFile;

use super::build::{Task, write};
use super::config::yaml;
use crate::error::Error;

/// `guids.yaml` and `guids.yaml.rejects`.
#[derive(Clone)]
pub(super) struct Files {
    path: PathBuf,
    rejects_path: PathBuf,
    /// Names of PDBs with identities, as the file has them.
    listed: BTreeMap<String, Vec<String>>,
    /// Identities that cannot be built, with the reason.
    pub(super) rejects: BTreeMap<PdbId, String>,
    listed_changed: bool,
    rejects_changed: bool,
}

/// What is to be built.
#[derive(Default)]
pub(super) struct Wanted {
    /// Identities with the names their PDBs may have.
    pub(super) files: BTreeMap<PdbId, Vec<PdbFile>>,
    /// What the list has and is none.
    pub(super) unusable: Vec<String>,
}

impl Files {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let mut rejects_path = path.as_os_str().to_owned();
        rejects_path.push(".rejects");
        let rejects_path = PathBuf::from(rejects_path);
        let rejects: BTreeMap<String, String> = yaml(&rejects_path)?.unwrap_or_default();
        let rejects =
            rejects.into_iter().filter_map(|(id, why)| Some((PdbId::from_text(&id)?, why))).collect();
        Ok(Self {
            listed: yaml(path)?.unwrap_or_default(),
            path: path.to_owned(),
            rejects_path,
            rejects,
            listed_changed: false,
            rejects_changed: false,
        })
    }

    /// Everything listed. Real lists hold all-zero identities and the same ones twice.
    pub(super) fn all(&self) -> Wanted {
        let mut wanted = Wanted::default();
        for (name, ids) in &self.listed {
            for id in ids {
                match PdbFile::parse(name, id) {
                    Ok(file) => {
                        let files = wanted.files.entry(file.id()).or_default();
                        if !files.contains(&file) {
                            files.push(file);
                        }
                    }
                    Err(error) => wanted.unusable.push(error.to_string()),
                }
            }
        }
        wanted
    }

    /// Identities the user named, as `PDB/ID` or `ID`. A bare one has the name that the list has it under, else one of the
    /// candidates, else any name of the list.
    pub(super) fn named(&self, identities: &[String], candidates: &[String]) -> Result<Wanted, Error> {
        if identities.is_empty() {
            return Err(Error::usage("no identity given").with_hint("name GUID and age, or PDB/GUID and age"));
        }
        let mut wanted = Wanted::default();
        let all = self.all();
        for text in identities {
            let (name, id) =
                text.rsplit_once('/').map_or((None, text.as_str()), |(name, id)| (Some(name), id));
            let id = PdbId::from_text(id).ok_or_else(|| {
                Error::usage(format!("not a GUID and age (32 hex digits, then the age in hex): {id}"))
            })?;
            let names: Vec<&str> = match name {
                Some(name) => vec![name],
                None if candidates.is_empty() => self.listed.keys().map(String::as_str).collect(),
                None => candidates.iter().map(String::as_str).collect(),
            };
            let files = match all.files.get(&id) {
                Some(files) if name.is_none() => files.clone(),
                _ => names
                    .into_iter()
                    .map(|name| PdbFile::new(name, id).map_err(|error| Error::usage(error.to_string())))
                    .collect::<Result<_, _>>()?,
            };
            wanted.files.insert(id, files);
        }
        Ok(wanted)
    }

    /// A profile was built of a PDB; `add` lists it.
    pub(super) fn built(&mut self, pdb: Option<&PdbFile>, add: bool) {
        let Some(file) = pdb else { return };
        self.rejects_changed |= self.rejects.remove(&file.id()).is_some();
        if add {
            let ids = self.listed.entry(file.name().to_owned()).or_default();
            if !ids.iter().any(|known| PdbId::from_text(known) == Some(file.id())) {
                ids.push(file.id().to_string());
                ids.sort_unstable();
                self.listed_changed = true;
            }
        }
    }

    pub(super) fn rejected(&mut self, task: &Task, reason: &str) {
        if let Some(id) = task.identity() {
            self.rejects.insert(id, reason.to_owned());
            self.rejects_changed = true;
        }
    }

    /// Writes what changed.
    pub(super) fn save(&self) -> Result<(), Error> {
        if self.rejects_changed {
            let lines = self.rejects.iter().map(|(id, reason)| format!("{id}: {}\n", quoted(reason)));
            save(&self.rejects_path, &lines.collect::<String>())?;
        }
        if self.listed_changed {
            let mut text = String::new();
            for (name, ids) in &self.listed {
                text.push_str(&format!("{}:\n", quoted(name)));
                ids.iter().for_each(|id| text.push_str(&format!("- {}\n", quoted(id))));
            }
            save(&self.path, &text)?;
        }
        Ok(())
    }
}

/// A string as JSON writes it, which YAML reads.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn save(path: &Path, text: &str) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    write(folder, path, text.as_bytes()).map_err(|error| {
        Error::output(std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    })
}
