//! What the repository holds now, kept while it changes: the inventory, listings, and the index behind lookups.
//!
//! Nothing is rebuilt for a request. A change touches one run of up to 512 entries (`shard`); the body of the inventory
//! is strung together from the runs when it is first asked for after a change.

mod shard;
mod signed;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flate2::Crc;
use profile::names::ProfileName;
use repository::SecretKey;

use crate::blob::{Blob, Form, Lifetime};
use crate::blobs::Stamp;

pub(crate) use shard::{Entry, Key};
use shard::{MAX_ENTRIES, Shard, deflate, push_member};
pub(crate) use sweep::describe;

/// Most removed names remembered for those who ask what changed.
const MAX_REMOVED: usize = 10_000;

const HEAD: &str = "{\n \"$INVENTORY\": {\n  ";
const SEPARATOR: &str = ", \n";
const TAIL: &str =
    "\n }, \n \"$METADATA\": {\n  \"ProfileClass\": \"Inventory\", \n  \"Type\": \"Inventory\"\n }\n}";

/// The list of all names.
pub(crate) struct Catalogue {
    inner: RwLock<Inner>,
    bodies: Mutex<Bodies>,
    /// What the inventory is signed with.
    key: Option<SecretKey>,
    /// Distinguishes versions of this run of the server from those of others.
    run: u64,
}

/// The whole inventory as it was last asked for.
#[derive(Default)]
struct Bodies {
    /// In each form, with the version it shows.
    of: HashMap<Form, (u64, Arc<Blob>)>,
    /// The signature of the gzip file of this version.
    signature: Option<(u64, Arc<Blob>)>,
    /// What was looked at when a signature in the tree was last judged.
    judged: Option<signed::State>,
}

struct Inner {
    /// Sorted and not empty, but for a single one.
    shards: Vec<Shard>,
    version: u64,
    changed: SystemTime,
    len: usize,
    /// Names that are gone, oldest first, with the version that removed them.
    removed: VecDeque<(u64, ProfileName)>,
    /// Up to this version removals are forgotten.
    forgotten: u64,
    /// Files that are no documents, so that they are read once only.
    rejected: HashMap<ProfileName, Stamp>,
    announced: BTreeSet<ProfileName>,
}

/// What changed between two versions.
pub(crate) struct Delta {
    /// Names that are new or replaced.
    pub(crate) changed: Vec<Entry>,
    /// Names that are gone.
    pub(crate) removed: Vec<ProfileName>,
}

impl Catalogue {
    pub(crate) fn new(key: Option<SecretKey>) -> Self {
        let inner = Inner {
            shards: vec![Shard::default()],
            version: 1,
            changed: UNIX_EPOCH,
            len: 0,
            removed: VecDeque::new(),
            forgotten: 0,
            rejected: HashMap::new(),
            announced: BTreeSet::new(),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let run = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        Self { inner: RwLock::new(inner), bodies: Mutex::default(), key, run }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn bodies(&self) -> MutexGuard<'_, Bodies> {
        self.bodies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of names, announced ones included.
    pub(crate) fn len(&self) -> usize {
        self.read().len
    }

    /// The entry of a name.
    pub(crate) fn get(&self, name: &ProfileName) -> Option<Entry> {
        self.read().get(name).cloned()
    }

    /// Adds or replaces an entry.
    pub(crate) fn insert(&self, entry: Entry) {
        self.write().insert(entry);
    }

    /// Removes a name; an announced one is listed as not built again.
    pub(crate) fn remove(&self, name: &ProfileName) {
        self.remove_older(name, u64::MAX);
    }

    /// The same, where the entry was there in `version` already.
    fn remove_older(&self, name: &ProfileName, version: u64) {
        let mut inner = self.write();
        if inner.get(name).is_some_and(|entry| entry.version <= version) {
            inner.remove(name);
            inner.relist(name);
        }
    }

    /// Where in the history of the list it stands: to be given back to [`Self::since`].
    pub(crate) fn cursor(&self) -> String {
        format!("{:x}.{}", self.run, self.read().version)
    }

    /// What changed since a cursor; `None` where it is of another run or too old, so everything must be sent.
    pub(crate) fn since(&self, cursor: &str) -> Option<Delta> {
        let (run, version) = cursor.split_once('.')?;
        let version: u64 = version.parse().ok()?;
        let inner = self.read();
        if u64::from_str_radix(run, 16).ok()? != self.run
            || version < inner.forgotten
            || version > inner.version
        {
            return None;
        }
        let changed = inner.entries().filter(|entry| entry.version > version).cloned().collect();
        let removed = inner.removed.iter().filter(|(at, _)| *at > version);
        let removed =
            removed.map(|(_, name)| name.clone()).filter(|name| inner.get(name).is_none()).collect();
        Some(Delta { changed, removed })
    }

    /// Up to `limit` entries behind the name `after` that start with `prefix` and hold `part` (in any case).
    pub(crate) fn list(&self, prefix: &str, after: &str, part: &str, limit: usize) -> Vec<Entry> {
        let inner = self.read();
        let part = part.to_ascii_lowercase();
        let start = if after.is_empty() { prefix } else { after };
        let first = inner
            .shards
            .partition_point(|shard| shard.entries.last().is_some_and(|last| last.name.as_str() < start));
        let entries = inner.shards.iter().skip(first).flat_map(|shard| &shard.entries);
        entries
            .skip_while(|entry| entry.name.as_str() < start || entry.name.as_str() == after)
            .take_while(|entry| entry.name.as_str().starts_with(prefix) || entry.name.as_str() < prefix)
            .filter(|entry| part.is_empty() || entry.name.as_str().to_ascii_lowercase().contains(&part))
            .take(limit)
            .cloned()
            .collect()
    }

    /// Up to `limit` entries that have the key, sorted by name.
    pub(crate) fn find(&self, key: Key<'_>, limit: usize) -> Vec<Entry> {
        let inner = self.read();
        inner.shards.iter().flat_map(|shard| shard.find(key)).take(limit).cloned().collect()
    }

    /// The whole inventory if it is ready; otherwise [`Self::render`] makes it.
    pub(crate) fn ready(&self, form: Form) -> Option<Arc<Blob>> {
        let bodies = self.bodies();
        let (version, blob) = bodies.of.get(&form)?;
        (*version == self.read().version).then(|| Arc::clone(blob))
    }

    /// The whole inventory. Takes time after a change; those who ask meanwhile wait for the same work.
    pub(crate) fn render(&self, form: Form) -> Arc<Blob> {
        let mut bodies = self.bodies();
        let inner = self.read();
        if let Some((version, blob)) = bodies.of.get(&form)
            && *version == inner.version
        {
            return Arc::clone(blob);
        }
        let bytes = match form {
            Form::GzipFile | Form::GzipEncoded => inner.gzip(),
            Form::Plain => inner.text().into_bytes(),
            Form::ZstdEncoded => crate::store::zstd(inner.text().as_bytes()),
        };
        let blob = Arc::new(Blob::new(bytes, form, Lifetime::Seconds, inner.changed, None));
        let version = inner.version;
        bodies.of.retain(|_, (of, _)| *of == version);
        bodies.of.insert(form, (version, Arc::clone(&blob)));
        if let Some(key) = self.key.as_ref().filter(|_| form == Form::GzipFile) {
            let text = key.sign(&blob.bytes, repository::SIGNED_COMMENT);
            bodies.signature = Some((version, Arc::new(signed::body(text, inner.changed))));
        }
        blob
    }

    /// An inventory of some entries only, as gzip; `removed` is listed under `$REMOVED`.
    pub(crate) fn excerpt(entries: &[Entry], removed: Option<&[ProfileName]>) -> Vec<u8> {
        let mut text = HEAD.to_owned();
        for (number, entry) in entries.iter().enumerate() {
            if number > 0 {
                text.push_str(SEPARATOR);
            }
            push_member(&mut text, entry);
        }
        text.push_str(TAIL);
        if let Some(removed) = removed {
            let names: Vec<&str> = removed.iter().map(ProfileName::as_str).collect();
            let list = serde_json::Value::from(names);
            text.truncate(text.len() - 2);
            text.push_str(&format!(", \n \"$REMOVED\": {list}\n}}"));
        }
        profile::gzip(text.as_bytes())
    }
}

impl Inner {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.shards.iter().flat_map(|shard| &shard.entries)
    }

    /// Number of the shard that has the name or would get it.
    fn shard(&self, name: &ProfileName) -> usize {
        let after = self
            .shards
            .partition_point(|shard| shard.entries.first().is_some_and(|first| first.name <= *name));
        after.saturating_sub(1)
    }

    fn get(&self, name: &ProfileName) -> Option<&Entry> {
        let entries = &self.shards.get(self.shard(name))?.entries;
        let at = entries.binary_search_by(|entry| entry.name.cmp(name)).ok()?;
        entries.get(at)
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn insert(&mut self, mut entry: Entry) {
        entry.version = self.next_version();
        let time = UNIX_EPOCH + Duration::try_from_secs_f64(entry.last_modified).unwrap_or_default();
        self.changed = self.changed.max(time);
        self.rejected.remove(&entry.name);
        let number = self.shard(&entry.name);
        let Some(shard) = self.shards.get_mut(number) else { return };
        match shard.entries.binary_search_by(|other| other.name.cmp(&entry.name)) {
            Ok(at) => {
                if let Some(old) = shard.entries.get_mut(at) {
                    *old = entry;
                }
            }
            Err(at) => {
                shard.entries.insert(at, entry);
                self.len += 1;
            }
        }
        shard.changed();
        if shard.entries.len() > MAX_ENTRIES {
            let rest = shard.entries.split_off(MAX_ENTRIES / 2);
            self.shards.insert(number + 1, Shard::new(rest));
        }
    }

    fn remove(&mut self, name: &ProfileName) {
        let number = self.shard(name);
        let Some(shard) = self.shards.get_mut(number) else { return };
        let Ok(at) = shard.entries.binary_search_by(|entry| entry.name.cmp(name)) else { return };
        shard.entries.remove(at);
        shard.changed();
        self.len -= 1;
        if shard.entries.is_empty() && self.shards.len() > 1 {
            self.shards.remove(number);
        }
        let version = self.next_version();
        self.changed = SystemTime::now();
        self.removed.push_back((version, name.clone()));
        while self.removed.len() > MAX_REMOVED {
            if let Some((version, _)) = self.removed.pop_front() {
                self.forgotten = version;
            }
        }
    }

    fn text(&self) -> String {
        let parts: Vec<String> =
            self.shards.iter().map(Shard::text).filter(|text| !text.is_empty()).collect();
        format!("{HEAD}{}{TAIL}", parts.join(SEPARATOR))
    }

    /// The inventory as a gzip file, strung together from the shards' compressed texts.
    fn gzip(&self) -> Vec<u8> {
        let (head, separator, tail) =
            (deflate(HEAD.as_bytes()), deflate(SEPARATOR.as_bytes()), deflate(TAIL.as_bytes()));
        let full: Vec<&Shard> = self.shards.iter().filter(|shard| !shard.entries.is_empty()).collect();
        let mut parts = vec![&head];
        for (number, shard) in full.iter().enumerate() {
            if number > 0 {
                parts.push(&separator);
            }
            parts.push(shard.rendered());
        }
        parts.push(&tail);
        let size: usize = parts.iter().map(|part| part.deflated.len()).sum();
        let mut bytes = Vec::with_capacity(size + 32);
        // Deflate, no name, no time, no system; as every other profile is compressed.
        bytes.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        let mut crc = Crc::new();
        let mut len = 0_usize;
        for part in parts {
            bytes.extend_from_slice(&part.deflated);
            crc.combine(&part.crc);
            len += part.len;
        }
        // The last block, which is empty.
        bytes.extend_from_slice(&[3, 0]);
        bytes.extend_from_slice(&crc.sum().to_le_bytes());
        // The length modulo 2^32, as the format has it.
        let len = u32::try_from(len as u64 & 0xffff_ffff).unwrap_or_default();
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes
    }
}
