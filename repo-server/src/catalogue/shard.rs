//! A run of neighbouring entries, rendered and indexed together, so that a change costs one run and not the whole list.
//!
//! Each run is deflated by itself and ends on a byte boundary ("full flush"), so the runs can be strung together to one
//! gzip file (RFC 1951, 3.2.4; RFC 1952) without compressing anything twice.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::OnceLock;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use profile::names::{ProfileName, release_of_banner};
use repository::InventoryEntry;
use serde_json::{Map, Value};

use crate::blobs::Stamp;
use crate::names::pdbs_of;

/// Most entries of a shard.
pub(super) const MAX_ENTRIES: usize = 512;

/// One listed name.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: ProfileName,
    /// Time of the last change in seconds since 1970-01-01 UTC.
    pub(crate) last_modified: f64,
    /// The file; absent for a name that is announced but not built.
    pub(crate) stamp: Option<Stamp>,
    /// The entry as it stands in the inventory: one JSON object.
    pub(crate) json: Box<str>,
    /// Version of the catalogue that brought it.
    pub(super) version: u64,
}

impl Entry {
    /// An entry of a document with this description.
    pub(crate) fn new(name: ProfileName, stamp: Option<Stamp>, described: InventoryEntry) -> Self {
        let last_modified = described.last_modified;
        let mut keys: Map<String, Value> = described.keys.into_iter().collect();
        keys.insert("LastModified".to_owned(), Value::from(last_modified));
        Self { name, last_modified, stamp, json: Value::Object(keys).to_string().into(), version: 0 }
    }

    /// The keys of the entry.
    pub(crate) fn keys(&self) -> Map<String, Value> {
        serde_json::from_str(&self.json).unwrap_or_default()
    }
}

/// What a profile is looked up by, each with its kind so that equal texts of different kinds do not meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key<'a> {
    /// `<GUID><age>` in upper-case hex, or the GUID alone.
    Guid(&'a str),
    /// Name of a PDB in lower case.
    Pdb(&'a str),
    /// GNU build-id in lower-case hex.
    BuildId(&'a str),
    /// A kernel's banner without the white space around it.
    Banner(&'a str),
    /// A kernel's release, `uname -r`.
    Release(&'a str),
    /// Version of a file, `10.0.19041.329`.
    Version(&'a str),
    /// SHA-256 of the profile's JSON text in lower-case hex.
    Content(&'a str),
}

impl Key<'_> {
    /// A number that stands for the key in the index. Different keys may share one, so what is found is checked.
    fn hash64(self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// A run of entries, sorted by name.
#[derive(Default)]
pub(super) struct Shard {
    pub(super) entries: Vec<Entry>,
    rendered: OnceLock<Rendered>,
    index: OnceLock<Vec<(u64, u16)>>,
}

/// The text of a run, compressed.
pub(super) struct Rendered {
    pub(super) deflated: Vec<u8>,
    pub(super) crc: Crc,
    pub(super) len: usize,
}

impl Shard {
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        Self { entries, ..Self::default() }
    }

    /// To be called after every change.
    pub(super) fn changed(&mut self) {
        self.rendered.take();
        self.index.take();
    }

    /// The members of the list, with a comma and a line break between them.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for entry in &self.entries {
            if !text.is_empty() {
                text.push_str(", \n");
            }
            push_member(&mut text, entry);
        }
        text
    }

    pub(super) fn rendered(&self) -> &Rendered {
        self.rendered.get_or_init(|| deflate(self.text().as_bytes()))
    }

    #[cfg(test)]
    pub(super) fn is_rendered(&self) -> bool {
        self.rendered.get().is_some()
    }

    /// Entries that have the key.
    pub(super) fn find(&self, key: Key<'_>) -> impl Iterator<Item = &Entry> {
        let hash = key.hash64();
        let index = self.index();
        let start = index.partition_point(|(at, _)| *at < hash);
        let same = index.get(start..).unwrap_or_default().iter().take_while(move |(at, _)| *at == hash);
        let entries = same.filter_map(|(_, number)| self.entries.get(usize::from(*number)));
        entries.filter(move |entry| keys_of(entry, |found| found == key))
    }

    fn index(&self) -> &[(u64, u16)] {
        self.index.get_or_init(|| {
            let mut index = Vec::new();
            for (number, entry) in (0..).zip(&self.entries) {
                keys_of(entry, |key| {
                    index.push((key.hash64(), number));
                    false
                });
            }
            index.sort_unstable();
            index.dedup();
            index.shrink_to_fit();
            index
        })
    }
}

/// Writes one member of the list.
pub(super) fn push_member(text: &mut String, entry: &Entry) {
    text.push_str(&Value::from(entry.name.as_str()).to_string());
    text.push_str(": ");
    text.push_str(&entry.json);
}

/// Calls `wanted` with every key of an entry until it says yes; whether it did.
fn keys_of(entry: &Entry, mut wanted: impl FnMut(Key<'_>) -> bool) -> bool {
    let keys = entry.keys();
    let text = |key: &str| keys.get(key).and_then(Value::as_str).map(str::trim);
    let name = entry.name.as_str();
    let (folder, last) = name.rsplit_once('/').unwrap_or(("", name));
    let recorded = text("GUID_AGE").filter(|guid| guid.len() > 32).map(str::to_ascii_uppercase);
    let named = folder.ends_with("/GUID").then(|| last.to_ascii_uppercase());
    for guid in recorded.iter().chain(&named) {
        // The age in the file may differ from the one it is asked for by; both lead here.
        if wanted(Key::Guid(guid)) || guid.get(..32).is_some_and(|guid| wanted(Key::Guid(guid))) {
            return true;
        }
    }
    if let Some(module) = folder.strip_suffix("/GUID")
        && pdbs_of(&module.to_ascii_lowercase()).iter().any(|pdb| wanted(Key::Pdb(pdb)))
    {
        return true;
    }
    let pdb = text("PDBFile").map(str::to_ascii_lowercase);
    let id = folder.ends_with("/BuildID").then(|| last.to_ascii_lowercase());
    let id = text("BuildID").map(str::to_ascii_lowercase).or(id);
    let banner = text("Banner").map(|banner| banner.trim_matches('\0').trim());
    let release = text("Release").or_else(|| banner.and_then(release_of_banner));
    let part = |key: &str| match keys.get(key) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let version = || Some(format!("{}.{}.{}", part("major")?, part("minor")?, part("rev")?));
    let version = part("FileVersion").or_else(version);
    pdb.is_some_and(|pdb| wanted(Key::Pdb(&pdb)))
        || id.is_some_and(|id| wanted(Key::BuildId(&id)))
        || banner.is_some_and(|banner| wanted(Key::Banner(banner)))
        || release.is_some_and(|release| wanted(Key::Release(release)))
        || wanted(Key::Release(last))
        || version.is_some_and(|version| wanted(Key::Version(&version)))
        || text("SHA256").is_some_and(|hash| wanted(Key::Content(hash)))
}

/// Compresses one run so that it ends on a byte boundary and refers to nothing in front of it.
pub(super) fn deflate(text: &[u8]) -> Rendered {
    let mut crc = Crc::new();
    crc.update(text);
    let mut compress = Compress::new(Compression::new(6), false);
    let mut deflated = Vec::with_capacity(text.len() / 4 + 64);
    let mut rest = text;
    loop {
        let before = compress.total_in();
        deflated.reserve(rest.len() / 4 + 64);
        let status = compress.compress_vec(rest, &mut deflated, FlushCompress::Full);
        let taken = usize::try_from(compress.total_in() - before).unwrap_or(usize::MAX);
        rest = rest.get(taken..).unwrap_or_default();
        // With room left in the buffer the flush is complete.
        let done = rest.is_empty() && deflated.len() < deflated.capacity();
        if done || !matches!(status, Ok(Status::Ok)) {
            break;
        }
    }
    Rendered { deflated, crc, len: text.len() }
}
