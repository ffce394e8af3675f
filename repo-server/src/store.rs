//! The documents of a repository as bytes to send.

use std::io::Read;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use profile::names::ProfileName;
use repository::{Answer, Directory, Inventory, Limits};
use sha2::{Digest as _, Sha256};

/// How long an inventory is served before the directory is looked through again.
const INVENTORY_AGE: Duration = Duration::from_secs(5);

/// How the bytes of a document are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `<name>.gz`: gzip bytes, whatever is stored.
    Gzip,
    /// `<name>`: JSON text.
    Plain,
}

impl Form {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/gzip",
            Self::Plain => "application/json",
        }
    }
}

/// Bytes to send.
pub(crate) struct Blob {
    pub(crate) bytes: Vec<u8>,
    pub(crate) form: Form,
    /// SHA-256 of the bytes in lower-case hex.
    pub(crate) hash: String,
    pub(crate) last_modified: SystemTime,
}

/// Why there are none.
#[derive(Debug)]
pub(crate) enum Miss {
    NotFound,
    Damaged(String),
}

/// A repository directory behind the server.
pub(crate) struct Store {
    directory: Directory,
    limits: Limits,
    inventory: Mutex<Listing>,
}

#[derive(Default)]
struct Listing {
    inventory: Inventory,
    looked: Option<Instant>,
}

impl Store {
    pub(crate) fn open(root: &Path) -> Self {
        let limits = Limits::default();
        Self { directory: Directory::new(root, limits), limits, inventory: Mutex::default() }
    }

    /// A document by name, in the form asked for. A plain file is compressed on the way out, reproducibly, so its
    /// `.gz` has a stable ETag and original clients are spared their second request.
    pub(crate) fn get(&self, name: &str, form: Form) -> Result<Blob, Miss> {
        let name = ProfileName::new(name).map_err(|_| Miss::NotFound)?;
        if name.as_str() == "inventory" {
            return self.inventory(form);
        }
        let stored = self.directory.get(&name).map_err(|answer| match answer {
            Answer::Damaged(reason) => Miss::Damaged(reason),
            _ => Miss::NotFound,
        })?;
        if !is_json_object(&stored.bytes) {
            return Err(Miss::NotFound);
        }
        let last_modified =
            UNIX_EPOCH + Duration::try_from_secs_f64(stored.last_modified).unwrap_or_default();
        self.blob(stored.bytes, form, last_modified)
    }

    fn inventory(&self, form: Form) -> Result<Blob, Miss> {
        let mut listing = self.inventory.lock().unwrap_or_else(PoisonError::into_inner);
        if listing.looked.is_none_or(|looked| looked.elapsed() > INVENTORY_AGE) {
            listing.inventory = self.directory.full_inventory(&listing.inventory);
            listing.looked = Some(Instant::now());
        }
        let newest = listing.inventory.entries.values().map(|entry| entry.last_modified).fold(0.0, f64::max);
        let bytes = listing.inventory.to_gzip();
        drop(listing);
        self.blob(bytes, form, UNIX_EPOCH + Duration::try_from_secs_f64(newest).unwrap_or_default())
    }

    fn blob(&self, stored: Vec<u8>, form: Form, last_modified: SystemTime) -> Result<Blob, Miss> {
        let bytes = match (form, is_gzip(&stored)) {
            (Form::Gzip, true) | (Form::Plain, false) => stored,
            (Form::Gzip, false) => profile::gzip(&stored),
            (Form::Plain, true) => profile::json_text(&stored, &self.limits.profile())
                .map_err(|error| Miss::Damaged(error.to_string()))?
                .into_bytes(),
        };
        let hash = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Blob { bytes, form, hash, last_modified })
    }
}

fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Whether a file looks like a document; other files that lie in a repository are not served.
fn is_json_object(bytes: &[u8]) -> bool {
    let mut start = [0; 256];
    let (mut plain, mut compressed);
    let reader: &mut dyn Read = if is_gzip(bytes) {
        compressed = flate2::bufread::GzDecoder::new(bytes);
        &mut compressed
    } else {
        plain = bytes;
        &mut plain
    };
    let read = reader.read(&mut start).unwrap_or_default();
    start.iter().take(read).find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}
