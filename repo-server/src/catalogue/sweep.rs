//! Keeps the catalogue true to the files: at the start from the stored inventory, later from what others changed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Instant;

use profile::Profile;
use profile::names::ProfileName;
use rayon::prelude::*;
use repository::{Inventory, InventoryEntry, may_be_document};
use sha2::{Digest as _, Sha256};

use crate::blob::hex;
use crate::blobs::{Blobs, Stamp};
use crate::catalogue::{Catalogue, Entry, Inner};
use crate::store::{INVENTORY, MAX_DOCUMENT, MAX_INVENTORY};

/// Documents described before the results are added, and the deadline is looked at.
const BATCH: usize = 64;

/// The files of a tree by the name they are read under.
type Files = BTreeMap<ProfileName, (String, Stamp)>;

impl Catalogue {
    /// Fills an empty catalogue from the tree. What a stored inventory tells is believed for files that are not newer;
    /// others are opened, as long as `deadline` permits; the rest is listed by its time only until the next
    /// [`Self::sweep`], which is enough for original clients.
    pub(crate) fn load(&self, blobs: &dyn Blobs, deadline: Instant) -> io::Result<()> {
        let files = files(blobs)?;
        let (mut stored, written) = stored(blobs).unwrap_or_default();
        let mut unknown = Vec::new();
        for (name, (path, stamp)) in files {
            match stored.entries.remove(&name) {
                Some(entry) if stamp.seconds() <= written.max(entry.last_modified) => {
                    self.insert(Entry::new(name, Some(stamp), entry));
                }
                _ => unknown.push((name, path, stamp)),
            }
        }
        drop(stored);
        let rest = self.add(blobs, &unknown, Some(deadline));
        for (name, _, stamp) in unknown.iter().skip(rest) {
            // Without the stamp the next sweep takes it for changed and opens it.
            let time = InventoryEntry { last_modified: stamp.seconds(), ..InventoryEntry::default() };
            self.insert(Entry::new(name.clone(), Some(Stamp { len: u64::MAX, ..*stamp }), time));
        }
        Ok(())
    }

    /// Looks through the tree for files that were added, replaced or removed by others since.
    pub(crate) fn sweep(&self, blobs: &dyn Blobs) -> io::Result<()> {
        let start = self.read().version;
        let files = files(blobs)?;
        let inner = self.read();
        let fresh = |name: &ProfileName, stamp: &Stamp| {
            let known =
                inner.get(name).is_some_and(|entry| entry.stamp == Some(*stamp) || entry.version > start);
            known || inner.rejected.get(name) == Some(stamp)
        };
        let changed: Vec<_> = files
            .iter()
            .filter(|(name, (_, stamp))| !fresh(name, stamp))
            .map(|(name, (path, stamp))| (name.clone(), path.clone(), *stamp))
            .collect();
        let gone: Vec<_> = inner
            .entries()
            // What came while the tree was walked may have been missed, and what is announced need not be there.
            .filter(|entry| {
                entry.version <= start && entry.stamp.is_some() && !files.contains_key(&entry.name)
            })
            .map(|entry| entry.name.clone())
            .collect();
        drop(inner);
        for name in gone {
            self.remove_older(&name, start);
        }
        self.write().rejected.retain(|name, _| files.contains_key(name));
        self.add(blobs, &changed, None);
        Ok(())
    }

    /// Describes and adds documents until the deadline; how many were done.
    fn add(
        &self,
        blobs: &dyn Blobs,
        files: &[(ProfileName, String, Stamp)],
        deadline: Option<Instant>,
    ) -> usize {
        let mut done = 0;
        for batch in files.chunks(BATCH) {
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                break;
            }
            let described: Vec<_> = batch.par_iter().map(|(_, path, _)| read_entry(blobs, path)).collect();
            for ((name, path, stamp), described) in batch.iter().zip(described) {
                // A file that was replaced or removed meanwhile is the next sweep's business.
                if !blobs.stamp(path).is_ok_and(|now| now == Some(*stamp)) {
                    continue;
                }
                match described {
                    Some(entry) => self.insert(Entry::new(name.clone(), Some(*stamp), entry)),
                    None => {
                        let mut inner = self.write();
                        inner.remove(name);
                        inner.rejected.insert(name.clone(), *stamp);
                    }
                }
            }
            done += batch.len();
        }
        done
    }

    /// Announces exactly these names: they are listed before they are built. `seconds` is when they were announced; it
    /// must lie in the past, or original clients fetch a profile again and again.
    pub(crate) fn announce(&self, names: BTreeSet<ProfileName>, seconds: f64) {
        let mut inner = self.write();
        let dropped: Vec<_> = inner.announced.difference(&names).cloned().collect();
        for name in dropped {
            if inner.get(&name).is_some_and(|entry| entry.stamp.is_none()) {
                inner.remove(&name);
            }
        }
        for name in &names {
            if inner.get(name).is_none() {
                inner.insert(announced(name, seconds));
            }
        }
        inner.announced = names;
    }
}

impl Inner {
    /// Lists a name that lost its file again where it is announced.
    pub(super) fn relist(&mut self, name: &ProfileName) {
        if self.announced.contains(name) && self.get(name).is_none() {
            self.insert(announced(name, 0.0));
        }
    }
}

fn announced(name: &ProfileName, seconds: f64) -> Entry {
    let mut entry = InventoryEntry { last_modified: seconds, ..InventoryEntry::default() };
    entry.keys.insert("Announced".to_owned(), serde_json::Value::Bool(true));
    Entry::new(name.clone(), None, entry)
}

/// Every file that may be a document. Where a plain and a compressed one have the same name, the plain one is read, as
/// the original does.
fn files(blobs: &dyn Blobs) -> io::Result<Files> {
    let mut files = Files::new();
    blobs.walk(&mut |path, stamp| {
        let file = path.rsplit('/').next().unwrap_or_default();
        if !may_be_document(file) {
            return;
        }
        let Ok(name) = ProfileName::new(path) else { return };
        if name.as_str() == INVENTORY || path.ends_with(".gz") && files.contains_key(&name) {
            return;
        }
        files.insert(name, (path.to_owned(), stamp));
    })?;
    Ok(files)
}

/// The inventory that lies in the tree, and when it was written.
fn stored(blobs: &dyn Blobs) -> Option<(Inventory, f64)> {
    let read = |path: &str| blobs.read(path, MAX_INVENTORY).ok().flatten();
    let (bytes, stamp) = read("inventory.gz").or_else(|| read(INVENTORY))?;
    Some((Inventory::parse(&bytes, MAX_INVENTORY).ok()?, stamp.seconds()))
}

fn read_entry(blobs: &dyn Blobs, path: &str) -> Option<InventoryEntry> {
    let (bytes, stamp) = blobs.read(path, MAX_DOCUMENT).ok()??;
    let text = profile::json_text(&bytes, &profile::Limits { max_text: MAX_DOCUMENT }).ok()?;
    describe(text, stamp.seconds())
}

/// What the inventory tells about a document; `None` where the text is none.
pub(crate) fn describe(text: String, seconds: f64) -> Option<InventoryEntry> {
    let hash = hex(&Sha256::digest(text.as_bytes()));
    let profile = Profile::parse_text(text).ok()?;
    (!profile.metadata().is_empty()).then(|| InventoryEntry::describe(&profile, seconds, &hash))
}
