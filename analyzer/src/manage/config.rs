//! `config.yaml` of a repository: which profiles it has and what they are made of.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use profile::names::ProfileName;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// Largest file of a repository's sources that is read as text, in bytes.
const MAX_TEXT: u64 = 32 << 20;

/// One folder or profile of the repository.
pub(super) struct Entry {
    /// Name of the profile, or of the folder of profiles.
    pub(super) prefix: ProfileName,
    pub(super) kind: Kind,
    /// Profiles whose sections are applied on top.
    pub(super) merge: Vec<String>,
    /// Indexes over the profiles: specification and name.
    pub(super) indexes: Vec<(PathBuf, ProfileName)>,
}

/// How the profiles of an entry are made.
pub(super) enum Kind {
    /// Of PDBs, which symbol stores have under the identities that a file lists.
    WindowsGuids {
        /// YAML: names of PDBs, each with its identities.
        guids: PathBuf,
        class: Option<String>,
        /// Names to try for an identity that comes without one.
        candidates: Vec<String>,
    },
    /// Of a profile written by hand, in YAML or JSON.
    Copy { source: PathBuf },
    /// Of the zips of kernel modules below a folder.
    Linux { folder: PathBuf },
    /// Something that is not built here, with its name.
    Unknown(String),
}

#[derive(Deserialize)]
struct Raw {
    #[serde(rename = "type")]
    kind: String,
    guids: Option<String>,
    profile_class: Option<String>,
    source: Option<String>,
    #[serde(default)]
    transforms: Transforms,
    index: Option<Indexes>,
    #[serde(default)]
    possible_guid_filenames: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Transforms {
    #[serde(default)]
    merge: Vec<String>,
}

/// The original's configuration has a plain name for `nt`, where its code wants a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Indexes {
    One(String),
    Several(Vec<IndexFiles>),
}

#[derive(Deserialize)]
struct IndexFiles {
    src: String,
    dest: String,
}

/// Reads the configuration of the repository whose names are below `root`.
pub(super) fn read(root: &Path) -> Result<Vec<Entry>, Error> {
    let path = root.join("config.yaml");
    let entries: BTreeMap<String, Raw> = yaml(&path)?.ok_or_else(|| {
        Error::usage(format!("no such file: {}", path.display()))
            .with_hint("name the repository's directory: --path_to_repository DIR")
    })?;
    entries.into_iter().map(|(prefix, raw)| entry(root, &prefix, raw)).collect()
}

fn entry(root: &Path, prefix: &str, raw: Raw) -> Result<Entry, Error> {
    let needed = |file: Option<String>, key| {
        let file = file.ok_or_else(|| Error::usage(format!("config.yaml: {prefix} has no {key}")))?;
        inside(root, &file)
    };
    let kind = match raw.kind.as_str() {
        "WindowsGUIDProfile" => Kind::WindowsGuids {
            guids: needed(raw.guids, "guids")?,
            class: raw.profile_class,
            candidates: raw.possible_guid_filenames,
        },
        "CopyAndTransform" => Kind::Copy { source: needed(raw.source, "source")? },
        "LinuxProfile" => Kind::Linux { folder: inside(root, &format!("src/{prefix}"))? },
        other => Kind::Unknown(other.to_owned()),
    };
    let files = match raw.index {
        None => Vec::new(),
        Some(Indexes::One(src)) => {
            let dest = src.strip_prefix("src/").unwrap_or(&src).trim_end_matches(".yaml").to_owned();
            vec![IndexFiles { src, dest }]
        }
        Some(Indexes::Several(files)) => files,
    };
    let indexes = files
        .into_iter()
        .map(|files| Ok((inside(root, &files.src)?, name(&files.dest)?)))
        .collect::<Result<_, Error>>()?;
    Ok(Entry { prefix: name(prefix)?, kind, merge: raw.transforms.merge, indexes })
}

pub(super) fn name(text: &str) -> Result<ProfileName, Error> {
    ProfileName::new(text).map_err(|error| Error::usage(format!("config.yaml: {error}")))
}

/// A file of the repository; names that lead out of it are refused.
fn inside(root: &Path, file: &str) -> Result<PathBuf, Error> {
    name(file).map(|name| root.join(name.as_str()))
}

/// Reads a YAML or JSON file; `None` where there is none.
pub(super) fn yaml<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let failed = |error: String| Error::usage(format!("{error}: {}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    let mut text = String::new();
    file.take(MAX_TEXT + 1).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > MAX_TEXT {
        return Err(failed(format!("larger than {} MB", MAX_TEXT >> 20)));
    }
    serde_saphyr::from_str(&text).map(Some).map_err(|error| failed(error.to_string()))
}
