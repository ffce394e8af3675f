//! What lies in a repository or a cache directory and is of no use any more.
//!
//! Finding and removing are two steps, because what looks dead may be somebody's work: temporary files and parts of
//! transfers are left alone while they are young, and documents that are only not listed are named but kept.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use profile::Kind;
use profile::names::ProfileName;
use transport::atomic;

use crate::LAYOUT;
use crate::config::Limits;
use crate::directory::{Directory, may_be_document};
use crate::source::Source as _;
use crate::trace::{Answer, Trace};

/// Deepest directory that is looked into.
const MAX_DEPTH: usize = 24;

/// Most bytes of a file that may be a symlink document; larger ones are profiles.
const MAX_SYMLINK: u64 = 4096;

/// Why a file is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GarbageKind {
    /// It was being written when the writer was killed.
    Temporary,
    /// The beginning of a transfer that was never taken up again.
    Part,
    /// A cached document without its record, or a record without its document: neither is ever used.
    Orphan,
    /// A symlink whose target is not in the repository. Removed only on request: the target may be in another one.
    Dangling,
    /// A document the inventory does not list, which original clients never ask for. Removed only on request: listing
    /// it (`build_inventory`) may be what is wanted.
    Unlisted,
}

impl GarbageKind {
    /// Whether nothing can be lost by removing it.
    #[must_use]
    pub fn is_certain(self) -> bool {
        !matches!(self, Self::Dangling | Self::Unlisted)
    }
}

/// One file of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// Why.
    pub kind: GarbageKind,
}

/// Looks through a repository directory or the cache directory of clients. Temporary files and parts count when nobody
/// wrote to them for `min_age`.
pub fn find_garbage(root: &Path, min_age: Duration, limits: &Limits) -> io::Result<Vec<Garbage>> {
    let mut walk = Walk { left: limits.max_tree.saturating_mul(4), files: Vec::new() };
    walk.directory(&fs::canonicalize(root)?, 0)?;
    let now = SystemTime::now();
    let mut found = Vec::new();
    let paths: BTreeSet<&Path> = walk.files.iter().map(|(path, _)| path.as_path()).collect();
    for (path, metadata) in &walk.files {
        if let Some(kind) = kind(path, metadata, now, min_age, &paths) {
            found.push(Garbage { path: path.clone(), size: metadata.len(), kind });
        }
    }
    found.extend(documents(root, limits));
    found.sort_by(|a, b| (a.kind, &a.path).cmp(&(b.kind, &b.path)));
    Ok(found)
}

/// Removes a file that was found, if it is still there.
pub fn remove_garbage(garbage: &Garbage) -> io::Result<()> {
    fs::remove_file(&garbage.path).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

struct Walk {
    left: usize,
    files: Vec<(PathBuf, Metadata)>,
}

impl Walk {
    /// Collects the files below a directory. Symbolic links are not followed: what they lead to is not ours.
    fn directory(&mut self, directory: &Path, depth: usize) -> io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if self.left == 0 {
                return Ok(());
            }
            self.left -= 1;
            let kind = entry.file_type()?;
            if kind.is_dir() && depth < MAX_DEPTH {
                self.directory(&entry.path(), depth + 1)?;
            } else if kind.is_file() {
                self.files.push((entry.path(), entry.metadata()?));
            }
        }
        Ok(())
    }
}

fn kind(
    path: &Path,
    metadata: &Metadata,
    now: SystemTime,
    min_age: Duration,
    paths: &BTreeSet<&Path>,
) -> Option<GarbageKind> {
    let file_name = path.file_name()?.to_str()?;
    let age = metadata.modified().ok().and_then(|time| now.duration_since(time).ok()).unwrap_or_default();
    if atomic::is_temporary(file_name) {
        return (age >= min_age).then_some(GarbageKind::Temporary);
    }
    let below = |directory: &str| path.components().any(|part| part.as_os_str() == directory);
    if below("parts") && file_name.ends_with(".part") {
        return (age >= min_age).then_some(GarbageKind::Part);
    }
    orphan(path, paths)
}

/// In the cache of a URL (`remote/<host>/`) each document has a record; there and in a mirror each record has a document.
fn orphan(path: &Path, paths: &BTreeSet<&Path>) -> Option<GarbageKind> {
    let text = path.to_str()?;
    let partner = if let Some((tree, name)) = text.rsplit_once("/records/") {
        let name = name.strip_suffix(".json")?;
        if name == crate::inventory::NAME {
            return None;
        }
        let tree = tree.strip_suffix(&format!("/{}", crate::cache::MIRROR_STATE)).unwrap_or(tree);
        format!("{tree}/{LAYOUT}/{name}.gz")
    } else {
        let (cache, rest) = text.split_once("/remote/")?;
        let (host, name) = rest.split_once(&format!("/{LAYOUT}/"))?;
        let name = name.strip_suffix(".gz")?;
        (!host.contains('/')).then(|| format!("{cache}/remote/{host}/records/{name}.json"))?
    };
    (!paths.contains(Path::new(&partner))).then_some(GarbageKind::Orphan)
}

/// Documents that are not listed, and symlinks that lead nowhere.
fn documents(root: &Path, limits: &Limits) -> Vec<Garbage> {
    let directory = Directory::new(root, *limits);
    let Ok(names_directory) = directory.names_directory() else { return Vec::new() };
    let listed = directory
        .signed_inventory()
        .ok()
        .and_then(|signed| crate::Inventory::parse(&signed.inventory, limits.max_inventory).ok());
    let mut found = Vec::new();
    for name in directory.names() {
        let Some((path, size)) = file_of(&names_directory, &name) else { continue };
        let kind = if size <= MAX_SYMLINK && is_dangling(&directory, &name) {
            GarbageKind::Dangling
        } else if listed.as_ref().is_some_and(|listed| listed.get(&name).is_none()) {
            GarbageKind::Unlisted
        } else {
            continue;
        };
        found.push(Garbage { path, size, kind });
    }
    found
}

fn file_of(names: &Path, name: &ProfileName) -> Option<(PathBuf, u64)> {
    ["", ".gz"].iter().find_map(|extension| {
        let path = names.join(format!("{name}{extension}"));
        let metadata = fs::symlink_metadata(&path).ok().filter(Metadata::is_file)?;
        may_be_document(path.file_name()?.to_str()?).then_some((path, metadata.len()))
    })
}

fn is_dangling(directory: &Directory, name: &ProfileName) -> bool {
    let Some(found) = directory.read(name, &mut Trace::default()) else { return false };
    let Kind::Symlink { target } = found.profile.kind() else { return false };
    !ProfileName::new(&target).is_ok_and(|target| directory.has(&target) == Answer::Found)
}
