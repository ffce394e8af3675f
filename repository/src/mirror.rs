//! A copy of a repository behind a URL, brought up to date again and again.
//!
//! The copy is a directory repository. Documents come first and the inventory last, so that it never lists what is not
//! there yet; a run that was broken off goes on where it stopped, also inside a document. What is current is not asked
//! for, and what may have changed is asked for conditionally.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use profile::names::ProfileName;
use transport::atomic;

use crate::LAYOUT;
use crate::cache::Cache;
use crate::config::{Config, Limits};
use crate::directory::Directory;
use crate::inventory::{self, InventoryEntry};
use crate::remote::{Listener, Remote, Shared, Update};
use crate::signature::PublicKey;
use crate::source::{Signed, Source as _};
use crate::trace::Answer;
use crate::trusted::{split, verified};

/// Most transfers at a time; more would be unkind to the server.
const MAX_JOBS: usize = 16;

/// How often a document is asked for whose transfer breaks off.
const ATTEMPTS: u32 = 5;

/// How a mirror is made.
pub struct MirrorOptions {
    /// Transfers at a time, 1 to 16.
    pub jobs: usize,
    /// Delete documents that are no longer listed.
    pub prune: bool,
    /// Bounds on sizes and times.
    pub limits: Limits,
    /// Called with the URL before each request.
    pub on_network: Option<Listener>,
}

/// What a run of a mirror did.
#[derive(Debug, Default)]
pub struct Mirrored {
    /// Number of documents the inventory lists.
    pub listed: usize,
    /// Number that were up to date.
    pub current: usize,
    /// Number fetched or confirmed by the server.
    pub fetched: usize,
    /// Documents that could not be had or are not what the inventory says, with the reason, sorted by name.
    pub failed: Vec<(ProfileName, Answer)>,
    /// Documents deleted because they are not listed any more.
    pub pruned: Vec<ProfileName>,
    /// The key that signed the inventory, where one is required.
    pub signed_by: Option<PublicKey>,
}

/// Why a mirror was not made at all.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// The source is no http(s) URL.
    #[error("not an http(s) URL: {0}")]
    Url(String),
    /// The required key is none.
    #[error("{0}")]
    Key(crate::SignatureError),
    /// The repository has no usable inventory, or not the required signature.
    #[error("cannot mirror {0}: {1}")]
    Source(String, Answer),
    /// The copy cannot be written.
    #[error("cannot write {path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Copies the repository at `url` into `directory`, or brings the copy up to date. `url` may end in `#minisign=KEY`.
/// `progress` is told the number of documents done and of all.
pub fn mirror(
    url: &str,
    directory: &Path,
    options: MirrorOptions,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<Mirrored, MirrorError> {
    let (place, key) = split(url);
    if !Remote::is_url(place) {
        return Err(MirrorError::Url(place.to_owned()));
    }
    let key = key.map(PublicKey::parse).transpose().map_err(MirrorError::Key)?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| MirrorError::Io { path, error }
    };
    let names = directory.join(LAYOUT);
    fs::create_dir_all(&names).map_err(failed(&names))?;
    let _lock = atomic::lock(&names).map_err(failed(&names))?;

    let limits = Limits { attempts: ATTEMPTS, ..options.limits };
    let config = Config { limits, ..Config::default() };
    let shared = Arc::new(Shared::default());
    if let Some(listener) = options.on_network {
        let _ = shared.on_network.set(listener);
    }
    let remote = Remote::mirrored(place, directory, &config, shared);
    let source = |answer| MirrorError::Source(remote.label().to_owned(), answer);
    let inventory = remote.inventory().map_err(source)?;
    let signed = match (&key, remote.signed_inventory()) {
        (Some(key), Ok(signed)) => {
            verified(&signed, key, limits.max_inventory).map_err(source)?;
            signed
        }
        (Some(_), Err(answer)) => return Err(source(answer)),
        (None, Ok(signed)) => signed,
        // Without a required key a signature is only carried along.
        (None, Err(_)) => Signed { inventory: Vec::new(), signature: None },
    };

    let entries: Vec<(&ProfileName, &InventoryEntry)> =
        inventory.entries.iter().filter(|(name, _)| name.as_str() != inventory::NAME).collect();
    let mut done = Mirrored { listed: entries.len(), signed_by: key, ..Mirrored::default() };
    fetch_all(&remote, &entries, options.jobs.clamp(1, MAX_JOBS), progress, &mut done);
    Cache::mirror(directory, limits).publish(signed.signature.as_deref()).map_err(failed(&names))?;
    if options.prune {
        let listed: BTreeSet<&ProfileName> = entries.iter().map(|(name, _)| *name).collect();
        done.pruned = prune(directory, &listed, &limits).map_err(failed(&names))?;
    }
    Ok(done)
}

fn fetch_all(
    remote: &Remote,
    entries: &[(&ProfileName, &InventoryEntry)],
    jobs: usize,
    progress: &(dyn Fn(u64, u64) + Sync),
    done: &mut Mirrored,
) {
    let next = AtomicUsize::new(0);
    let finished = AtomicU64::new(0);
    let result = Mutex::new(done);
    let work = || {
        while let Some((name, entry)) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
            let update = remote.update(name, entry);
            let mut done = result.lock().unwrap_or_else(PoisonError::into_inner);
            match update {
                Ok(Update::Current) => done.current += 1,
                Ok(Update::Fetched) => done.fetched += 1,
                Err(answer) => done.failed.push(((*name).clone(), answer)),
            }
            drop(done);
            progress(finished.fetch_add(1, Ordering::Relaxed) + 1, entries.len() as u64);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    let done = result.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.failed.sort_by(|(a, _), (b, _)| a.cmp(b));
}

/// Deletes what is not listed. Only files of the mirror's own tree are looked at.
fn prune(directory: &Path, listed: &BTreeSet<&ProfileName>, limits: &Limits) -> io::Result<Vec<ProfileName>> {
    let tree = Directory::new(directory, *limits);
    let mut pruned = Vec::new();
    for name in tree.names().into_iter().filter(|name| !listed.contains(name)) {
        tree.remove_files(&name)?;
        pruned.push(name);
    }
    Ok(pruned)
}
