//! The documents of a repository: reading them as bodies ready to send, publishing and removing them.

use std::hash::{Hash, Hasher};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use profile::names::ProfileName;
use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};
use repository::{SIGNATURE_FILE, SecretKey};
use sha2::{Digest as _, Sha256};

use crate::blob::{self, Blob, Form, Lifetime};
use crate::blobs::{Blobs, Stamp};
use crate::catalogue::{Catalogue, Entry, describe};
use crate::config::Limits;

/// Name of the inventory itself, which is no document to publish.
pub(crate) const INVENTORY: &str = "inventory";

/// Largest document as stored and as text, in bytes.
pub(crate) const MAX_DOCUMENT: usize = 256 << 20;

/// Largest inventory as text, in bytes.
pub(crate) const MAX_INVENTORY: usize = 256 << 20;

/// Most hashes of bodies remembered, for bodies that are not.
const MAX_HASHES: usize = 100_000;

/// Longest time the first look through the tree may open files; the rest is described later.
const FIRST_LOOK: Duration = Duration::from_secs(20);

/// Why there is no body.
#[derive(Debug)]
pub(crate) enum Miss {
    /// There is no such document.
    NotFound,
    /// There is something of this name that cannot be read.
    Damaged(String),
    /// The disk or bucket failed; trying again may help.
    Unreadable(io::Error),
}

/// What publishing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// The document is new, or replaced another.
    Stored,
    /// The very document was there already.
    Unchanged,
}

/// Why a document was not published.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// Names of that form are not for documents.
    #[error("reserved name: {0}")]
    Reserved(ProfileName),
    /// Something else is published under this name, and published documents do not change.
    #[error("another document is published under this name: {0}")]
    Taken(ProfileName),
    /// It would not be listed: no `$METADATA`.
    #[error("not a profile document: {0}")]
    NotADocument(ProfileName),
    /// Writing failed.
    #[error("cannot write {name}: {error}")]
    Io {
        /// The document.
        name: ProfileName,
        /// What the system said.
        error: io::Error,
    },
}

/// A repository behind the server.
pub(crate) struct Store {
    blobs: Box<dyn Blobs>,
    /// What the repository holds.
    pub(crate) catalogue: Catalogue,
    hot: Cache<HotKey, Arc<Hot>, Weight>,
    hashes: Cache<HotKey, (Stamp, blob::Hash)>,
    fresh: u64,
    start: Instant,
    /// Held while a document is compared and written, and while the inventory is.
    writer: Mutex<()>,
    /// Version of the catalogue the stored inventory shows.
    saved: Mutex<String>,
}

/// A body kept ready, and the file it was made from.
struct Hot {
    blob: Arc<Blob>,
    path: String,
    stamp: Stamp,
    /// When the file was last seen to be the same, in milliseconds since the start.
    checked: AtomicU64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct HotKey {
    form: Form,
    name: Box<str>,
}

impl Hash for HotKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Asked { form: self.form, name: &self.name }.hash(state);
    }
}

/// A key that need not be allocated to look something up.
#[derive(Hash)]
struct Asked<'a> {
    form: Form,
    name: &'a str,
}

impl Equivalent<HotKey> for Asked<'_> {
    fn equivalent(&self, key: &HotKey) -> bool {
        self.form == key.form && self.name == &*key.name
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<HotKey, Arc<Hot>> for Weight {
    fn weight(&self, key: &HotKey, hot: &Arc<Hot>) -> u64 {
        hot.blob.weight() + key.name.len() as u64
    }
}

impl Store {
    /// Opens a repository and looks through it.
    pub(crate) fn open(blobs: Box<dyn Blobs>, limits: &Limits, key: Option<SecretKey>) -> io::Result<Self> {
        let catalogue = Catalogue::new(key);
        catalogue.load(&*blobs, Instant::now() + FIRST_LOOK)?;
        catalogue.adopt_signature(&*blobs)?;
        let bytes = limits.cache_mib << 20;
        // Only a guess of the number of bodies, to size the table.
        let bodies = usize::try_from(bytes >> 16).unwrap_or(1 << 12);
        Ok(Self {
            blobs,
            catalogue,
            hot: Cache::with_weighter(bodies, bytes, Weight),
            hashes: Cache::new(MAX_HASHES),
            fresh: limits.fresh_milliseconds,
            start: Instant::now(),
            writer: Mutex::default(),
            saved: Mutex::default(),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A body that is ready and was looked at lately. Never blocks.
    pub(crate) fn ready(&self, name: &str, form: Form) -> Option<Arc<Blob>> {
        let hot = self.hot.get(&Asked { form, name })?;
        let age = self.now().saturating_sub(hot.checked.load(Ordering::Relaxed));
        (age <= self.fresh).then(|| Arc::clone(&hot.blob))
    }

    /// A document by name in the form asked for. Blocks.
    ///
    /// A plain file is compressed on the way out, reproducibly, so its `.gz` has a stable tag and original clients are
    /// spared their second request.
    pub(crate) fn get(&self, name: &ProfileName, form: Form) -> Result<Arc<Blob>, Miss> {
        if is_hidden(name) {
            return Err(Miss::NotFound);
        }
        let now = self.now();
        let (path, stamp) = self.locate(name)?.ok_or(Miss::NotFound)?;
        let asked = Asked { form, name: name.as_str() };
        if let Some(hot) = self.hot.get(&asked)
            && hot.path == path
            && hot.stamp == stamp
        {
            hot.checked.store(now, Ordering::Relaxed);
            return Ok(Arc::clone(&hot.blob));
        }
        let (stored, stamp) =
            self.blobs.read(&path, MAX_DOCUMENT).map_err(Miss::from)?.ok_or(Miss::NotFound)?;
        if !is_json_object(&stored) {
            return Err(Miss::NotFound);
        }
        let unchanged = match form {
            Form::GzipFile | Form::GzipEncoded => is_gzip(&stored),
            Form::Plain => !is_gzip(&stored),
            Form::ZstdEncoded => false,
        };
        let bytes = Bytes::from(convert(stored, form)?);
        let hash = match self.hashes.get(&asked) {
            Some((of, hash)) if of == stamp => hash,
            _ => Sha256::digest(&bytes).into(),
        };
        let blob = Blob::new(bytes, form, Lifetime::of(name.as_str()), stamp.time(), Some(hash));
        let blob = if unchanged { blob.of_file(stamp, || self.blobs.open(&path)) } else { blob };
        let blob = Arc::new(blob);
        let key = HotKey { form, name: name.as_str().into() };
        self.hashes.insert(key.clone(), (stamp, hash));
        let hot = Hot { blob: Arc::clone(&blob), path, stamp, checked: AtomicU64::new(now) };
        self.hot.insert(key, Arc::new(hot));
        Ok(blob)
    }

    /// The file that holds a name: the plain one first, as in the original.
    fn locate(&self, name: &ProfileName) -> Result<Option<(String, Stamp)>, Miss> {
        for path in [name.to_string(), format!("{name}.gz")] {
            if let Some(stamp) = self.blobs.stamp(&path).map_err(Miss::from)? {
                return Ok(Some((path, stamp)));
            }
        }
        Ok(None)
    }

    /// Stores a document, compressed, in one step, and lists it; when it returns, the document outlives a crash.
    ///
    /// `text` is the canonical JSON. Publishing the same document again does nothing. Another document of that name is replaced only where `replace`
    /// says so.
    pub(crate) fn publish(
        &self,
        name: &ProfileName,
        text: String,
        replace: bool,
    ) -> Result<Published, PublishError> {
        if is_hidden(name) || name.as_str() == INVENTORY {
            return Err(PublishError::Reserved(name.clone()));
        }
        let io_error = |error| PublishError::Io { name: name.clone(), error };
        let _writing = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match self.get(name, Form::Plain) {
            Ok(blob) if blob.bytes == text.as_bytes() => return Ok(Published::Unchanged),
            Ok(_) | Err(Miss::Damaged(_)) if !replace => return Err(PublishError::Taken(name.clone())),
            Err(Miss::Unreadable(error)) => return Err(io_error(error)),
            _ => {}
        }
        let path = format!("{name}.gz");
        let bytes = profile::gzip(text.as_bytes());
        let entry = describe(text, 0.0).ok_or_else(|| PublishError::NotADocument(name.clone()))?;
        self.blobs.write(&path, &bytes).map_err(io_error)?;
        // Readers would prefer it.
        self.blobs.remove(name.as_str()).map_err(io_error)?;
        let stamp = self.blobs.stamp(&path).map_err(io_error)?;
        let seconds = stamp.map_or(0.0, |stamp| stamp.seconds());
        self.catalogue.insert(Entry::new(
            name.clone(),
            stamp,
            repository::InventoryEntry { last_modified: seconds, ..entry },
        ));
        self.forget(name);
        Ok(Published::Stored)
    }

    /// Removes a document and its entry; whether it was there.
    pub(crate) fn remove(&self, name: &ProfileName) -> Result<bool, PublishError> {
        let _writing = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let io_error = |error| PublishError::Io { name: name.clone(), error };
        let plain = self.blobs.remove(name.as_str()).map_err(io_error)?;
        let compressed = self.blobs.remove(&format!("{name}.gz")).map_err(io_error)?;
        self.catalogue.remove(name);
        self.forget(name);
        Ok(plain || compressed)
    }

    fn forget(&self, name: &ProfileName) {
        for form in Form::ALL {
            self.hot.remove(&Asked { form, name: name.as_str() });
        }
    }

    /// Looks for files that others added, replaced or removed.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        self.catalogue.sweep(&*self.blobs)?;
        self.catalogue.adopt_signature(&*self.blobs)
    }

    /// Writes `inventory.gz` and its signature where they changed, for those who read the directory itself. A signature
    /// of something else is removed.
    pub(crate) fn save_inventory(&self) -> io::Result<()> {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        let cursor = self.catalogue.cursor();
        if *saved == cursor {
            return Ok(());
        }
        let signature = self.catalogue.signature();
        let body = self.catalogue.render(Form::GzipFile);
        if signature.is_none() {
            self.blobs.remove(SIGNATURE_FILE)?;
        }
        self.blobs.write("inventory.gz", &body.bytes)?;
        if let Some(signature) = signature {
            self.blobs.write(SIGNATURE_FILE, &signature.bytes)?;
        }
        *saved = cursor;
        Ok(())
    }
}

impl From<io::Error> for Miss {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::FileTooLarge => Self::Damaged(format!("larger than {MAX_DOCUMENT} bytes")),
            _ => Self::Unreadable(error),
        }
    }
}

fn convert(stored: Vec<u8>, form: Form) -> Result<Vec<u8>, Miss> {
    let is_gzip = is_gzip(&stored);
    let text = |stored: &[u8]| {
        profile::json_text(stored, &profile::Limits { max_text: MAX_DOCUMENT })
            .map_err(|error| Miss::Damaged(error.to_string()))
    };
    Ok(match form {
        Form::GzipFile | Form::GzipEncoded if is_gzip => stored,
        Form::GzipFile | Form::GzipEncoded => profile::gzip(&stored),
        Form::Plain if !is_gzip => stored,
        Form::Plain => text(&stored)?.into_bytes(),
        Form::ZstdEncoded if !is_gzip => zstd(&stored),
        Form::ZstdEncoded => zstd(text(&stored)?.as_bytes()),
    })
}

/// Compresses with the only level there is in pure Rust, a fast one.
pub(crate) fn zstd(text: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Fastest)
}

fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Whether a file looks like a document; other files that lie in a repository are not served.
fn is_json_object(bytes: &[u8]) -> bool {
    let mut start = [0; 256];
    let (mut plain, mut compressed);
    let reader: &mut dyn io::Read = if is_gzip(bytes) {
        compressed = flate2::bufread::GzDecoder::new(bytes);
        &mut compressed
    } else {
        plain = bytes;
        &mut plain
    };
    let read = reader.read(&mut start).unwrap_or_default();
    start.iter().take(read).find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// Lock, temporary and version-control files start with a dot; no document does.
fn is_hidden(name: &ProfileName) -> bool {
    name.as_str().split('/').any(|part| part.starts_with('.'))
}
