//! Whether a repository holds what its inventory says, and signing it.

use std::path::{Path, PathBuf};

use profile::Kind;
use profile::names::ProfileName;
use rayon::prelude::*;
use transport::{atomic, plain};

use crate::archive::Archive;
use crate::config::Limits;
use crate::directory::{Directory, StoreError};
use crate::inventory::Inventory;
use crate::signature::{PublicKey, SIGNATURE_FILE, SecretKey};
use crate::source::{Source, sha256_hex};
use crate::trace::{Answer, Trace};
use crate::trusted::verified;

/// What is wrong with one document of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It is listed, but not there or not readable.
    Unreadable(Answer),
    /// It was changed after the inventory was written, or damaged: its SHA-256 is another one.
    Changed,
    /// The inventory lists no SHA-256, so nobody can tell. Repositories of original Rekall list none.
    Unhashed,
    /// It is there, but the inventory does not list it.
    Unlisted,
    /// It is a symlink whose target is not in the repository.
    Dangling(String),
}

/// What was found in a repository.
#[derive(Debug, Default)]
pub struct Verified {
    /// Number of documents the inventory lists.
    pub listed: usize,
    /// Number of documents with the listed SHA-256.
    pub intact: usize,
    /// What is wrong, sorted by name.
    pub problems: Vec<(ProfileName, Problem)>,
    /// What the signature of the inventory is worth: unsigned is `None` where no key was given.
    pub signature: Option<Result<PublicKey, Answer>>,
}

/// Compares the repository at `path`, a directory or a zip archive, with its inventory. With a key, the inventory's
/// signature is checked too.
pub fn verify(path: &Path, key: Option<&PublicKey>, limits: &Limits) -> Result<Verified, Answer> {
    if path.is_file() {
        let archive = Archive::new(path.to_owned(), *limits);
        compare(&archive, archive.names()?, key, limits)
    } else {
        let directory = Directory::new(path, *limits);
        compare(&directory, directory.names(), key, limits)
    }
}

fn compare(
    source: &dyn Source,
    present: Vec<ProfileName>,
    key: Option<&PublicKey>,
    limits: &Limits,
) -> Result<Verified, Answer> {
    let signed = source.signed_inventory()?;
    let inventory = Inventory::parse(&signed.inventory, limits.max_inventory).map_err(Answer::damaged)?;
    let signature = key.map(|key| verified(&signed, key, limits.max_inventory).map(|_| key.clone()));
    let check = |name: &ProfileName| (name.clone(), check(source, &inventory, name));
    let checked: Vec<(ProfileName, Option<Problem>)> =
        inventory.entries.par_iter().map(|(name, _)| check(name)).collect();
    let intact = checked.iter().filter(|(_, problem)| problem.is_none()).count();
    let found = checked.into_iter().filter_map(|(name, problem)| Some((name, problem?)));
    let unlisted = present.into_iter().filter(|name| inventory.get(name).is_none());
    let mut problems: Vec<_> = found.chain(unlisted.map(|name| (name, Problem::Unlisted))).collect();
    problems.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Verified { listed: inventory.entries.len(), intact, problems, signature })
}

fn check(source: &dyn Source, inventory: &Inventory, name: &ProfileName) -> Option<Problem> {
    let mut trace = Trace::default();
    let Some(found) = source.read(name, &mut trace) else {
        let answer = trace.0.pop().map_or(Answer::NotFound, |asked| asked.answer);
        return Some(Problem::Unreadable(answer));
    };
    match inventory.get(name).and_then(|entry| entry.sha256()) {
        Some(listed) if listed != sha256_hex(found.profile.text().as_bytes()) => {
            return Some(Problem::Changed);
        }
        Some(_) => {}
        None => return Some(Problem::Unhashed),
    }
    let Kind::Symlink { target } = found.profile.kind() else { return None };
    let there = ProfileName::new(&target).is_ok_and(|target| source.has(&target) == Answer::Found);
    (!there).then(|| Problem::Dangling(plain(&target)))
}

/// Signs the inventory of the repository directory at `root`; returns the signature's path. Sign again after every
/// change of the inventory.
pub fn sign(root: &Path, key: &SecretKey, limits: &Limits) -> Result<PathBuf, StoreError> {
    let directory = Directory::new(root, *limits);
    let names = directory.names_directory()?;
    let _lock = atomic::lock(&names).map_err(|error| StoreError::Io { path: names.clone(), error })?;
    let signed = directory.signed_inventory().map_err(|answer| {
        StoreError::Directory(format!("no inventory to sign ({answer}): {}", root.display()))
    })?;
    let path = names.join(SIGNATURE_FILE);
    let text = key.sign(&signed.inventory, SIGNED_COMMENT);
    atomic::write(&path, text.as_bytes()).map_err(|error| StoreError::Io { path: path.clone(), error })?;
    Ok(path)
}

/// The signed comment: what the file is for, so that a signature made for something else is of no use here.
pub const SIGNED_COMMENT: &str = "inventory of a rekal profile repository";
