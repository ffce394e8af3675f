//! What was fetched from one URL before: a repository tree of its own, with a record beside each file.
//!
//! ```text
//! <cache_dir>/remote/<host>-<hash of the base URL>/v1.0/<name>.gz      the body, always gzip
//!                                                 /records/<name>.json  validators and hashes
//!                                                 /parts/<name>.gz.part  what arrived of a body that broke off
//! ```
//! Trees are kept apart by URL, so that one repository can never answer for another. Body and record are each
//! replaced in one step; the record holds the body's hash, so a pair torn by a crash counts as not cached.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use profile::names::ProfileName;
use serde::{Deserialize, Serialize};
use transport::{Url, Validators, atomic};

use crate::LAYOUT;
use crate::config::Limits;
use crate::directory::read_file;
use crate::inventory;
use crate::signature::{MAX_SIGNATURE, SIGNATURE_FILE};
use crate::source::sha256_hex;

/// Largest record file in bytes.
const MAX_RECORD: usize = 16 << 10;

/// The stored form of an inventory.
const INVENTORY_FILE: &str = "inventory.gz";

/// Hidden directory in the root of a mirror.
pub(crate) const MIRROR_STATE: &str = ".rekal-mirror";

/// The two addresses a document may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Form {
    /// `<name>.gz`.
    Gzip,
    /// `<name>`: plain JSON.
    Plain,
}

/// What is known about a cached body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Address that gave it, to which the validators belong.
    pub(crate) form: Form,
    pub(crate) validators: Validators,
    /// `LastModified` of the inventory entry for which it was fetched or confirmed.
    pub(crate) listed: f64,
    /// SHA-256 of the JSON text.
    pub(crate) text_sha256: String,
    /// SHA-256 of the file.
    file_sha256: String,
}

impl Record {
    pub(crate) fn new(form: Form, validators: Validators, listed: f64, text_sha256: String) -> Self {
        Self { form, validators, listed, text_sha256, file_sha256: String::new() }
    }
}

/// A body from the cache.
pub(crate) struct Cached {
    pub(crate) bytes: Vec<u8>,
    pub(crate) record: Record,
    pub(crate) path: PathBuf,
}

/// The cached tree of one URL.
pub(crate) struct Cache {
    root: PathBuf,
    /// Where records and parts of bodies are, outside of what a reader of the tree sees.
    state: PathBuf,
    /// Where the inventory and its signature are.
    inventories: PathBuf,
    limits: Limits,
}

impl Cache {
    pub(crate) fn new(cache_dir: &Path, base: &Url, limits: Limits) -> Self {
        let root = cache_dir.join("remote").join(directory_name(base));
        Self { state: root.clone(), inventories: root.join(LAYOUT), root, limits }
    }

    /// The tree of a mirror: a repository of its own, with the records in a hidden directory. The inventory stays there
    /// too until it is published.
    pub(crate) fn mirror(directory: &Path, limits: Limits) -> Self {
        let state = directory.join(MIRROR_STATE);
        Self { root: directory.to_owned(), inventories: state.clone(), state, limits }
    }

    /// Puts the inventory where readers of the mirror look for it.
    pub(crate) fn publish(&self, signature: Option<&str>) -> io::Result<()> {
        let names = self.root.join(LAYOUT);
        let inventory = read_file(&self.inventories.join(INVENTORY_FILE), self.limits.max_body);
        let inventory = inventory.map_err(|answer| io::Error::other(answer.to_string()))?;
        atomic::write(&names.join(INVENTORY_FILE), &inventory)?;
        replace(&names.join(SIGNATURE_FILE), signature)
    }

    /// Keeps the signature of the inventory; `None` removes it.
    pub(crate) fn put_signature(&self, signature: Option<&str>) -> io::Result<()> {
        replace(&self.inventories.join(SIGNATURE_FILE), signature)
    }

    /// The signature of the cached inventory.
    pub(crate) fn signature(&self) -> Option<String> {
        let bytes = read_file(&self.inventories.join(SIGNATURE_FILE), MAX_SIGNATURE).ok()?;
        String::from_utf8(bytes).ok()
    }

    /// File for what arrived of a body whose transfer broke off.
    pub(crate) fn part_path(&self, name: &ProfileName, form: Form) -> PathBuf {
        let form = match form {
            Form::Gzip => "gz",
            Form::Plain => "json",
        };
        self.state.join("parts").join(format!("{name}.{form}.part"))
    }

    /// The cached body of a name; `None` where there is none or it is not what the record says.
    pub(crate) fn get(&self, name: &ProfileName) -> Option<Cached> {
        let record = read_file(&self.record_path(name), MAX_RECORD).ok()?;
        let record: Record = serde_json::from_slice(&record).ok()?;
        let path = self.body_path(name);
        let bytes = read_file(&path, self.limits.max_body).ok()?;
        (sha256_hex(&bytes) == record.file_sha256).then_some(Cached { bytes, record, path })
    }

    /// Keeps a body. Plain JSON is compressed.
    pub(crate) fn put(&self, name: &ProfileName, bytes: &[u8], mut record: Record) -> io::Result<()> {
        let compressed;
        let body = if bytes.starts_with(&[0x1f, 0x8b]) {
            bytes
        } else {
            compressed = profile::gzip(bytes);
            &compressed
        };
        record.file_sha256 = sha256_hex(body);
        atomic::write(&self.body_path(name), body)?;
        self.confirm(name, &record)
    }

    /// Replaces the record of a body that is still current.
    pub(crate) fn confirm(&self, name: &ProfileName, record: &Record) -> io::Result<()> {
        atomic::write(&self.record_path(name), &serde_json::to_vec(record)?)
    }

    fn body_path(&self, name: &ProfileName) -> PathBuf {
        if name.as_str() == inventory::NAME {
            return self.inventories.join(INVENTORY_FILE);
        }
        self.root.join(LAYOUT).join(format!("{name}.gz"))
    }

    fn record_path(&self, name: &ProfileName) -> PathBuf {
        self.state.join("records").join(format!("{name}.json"))
    }
}

/// Writes a text file in one step, or removes it.
fn replace(path: &Path, text: Option<&str>) -> io::Result<()> {
    match text {
        Some(text) => atomic::write(path, text.as_bytes()),
        None => fs::remove_file(path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        }),
    }
}

/// Host and hash of the base URL, credentials and trailing slash left out.
fn directory_name(base: &Url) -> String {
    let identity = format!(
        "{}://{}:{}{}?{}",
        base.scheme(),
        base.host_str().unwrap_or_default(),
        base.port_or_known_default().unwrap_or_default(),
        base.path().trim_end_matches('/'),
        base.query().unwrap_or_default()
    );
    let plain = |c: char| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' };
    let host: String = base.host_str().unwrap_or_default().chars().take(64).map(plain).collect();
    let hash = sha256_hex(identity.as_bytes());
    format!("{host}-{}", hash.get(..12).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(directory: &Path) -> Cache {
        let base = Url::parse("https://user:secret@Example.org:8443/repo/").expect("a URL");
        Cache::new(directory, &base, Limits::default())
    }

    fn record() -> Record {
        Record::new(Form::Gzip, Validators::default(), 1.0, "0".repeat(64))
    }

    #[test]
    fn a_body_that_is_not_what_its_record_says_counts_as_absent() {
        let directory = tempfile::tempdir().expect("scratch directory");
        let cache = cache(directory.path());
        let name = ProfileName::new("a/b").expect("a name");
        assert!(cache.get(&name).is_none());
        cache.put(&name, b"{}", record()).expect("writing");
        assert_eq!(cache.get(&name).map(|cached| cached.bytes), Some(profile::gzip(b"{}")));
        // A crash after the new body and before its record.
        atomic::write(&cache.body_path(&name), b"torn").expect("writing");
        assert!(cache.get(&name).is_none());
    }

    #[test]
    fn the_directory_of_a_url_shows_the_host_and_no_password() {
        let name = directory_name(&Url::parse("https://user:secret@Example.org:8443/repo/").expect("a URL"));
        assert!(name.starts_with("example.org-") && !name.contains("secret"), "{name}");
        let same = directory_name(&Url::parse("https://example.org:8443/repo").expect("a URL"));
        assert_eq!(name, same);
        let other = directory_name(&Url::parse("https://example.org:8443/other").expect("a URL"));
        assert_ne!(name, other);
    }
}
