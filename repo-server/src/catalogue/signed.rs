//! The signature of the inventory: our own, or one that lies in the tree, as long as it is of what is served.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use axum::http::HeaderValue;
use axum::http::header::{CONTENT_TYPE, VARY};
use repository::{Inventory, MAX_SIGNATURE, SIGNATURE_FILE};
use serde_json::Value;

use crate::blob::{Blob, Form, Lifetime};
use crate::blobs::{Blobs, Stamp};
use crate::catalogue::{Catalogue, Inner};
use crate::store::MAX_INVENTORY;

/// The stored inventory, the signature beside it, and the version of the catalogue.
pub(super) type State = (Option<Stamp>, Option<Stamp>, u64);

impl Catalogue {
    /// The signature of the inventory's gzip file; `None` where there is none. Blocks.
    pub(crate) fn signature(&self) -> Option<Arc<Blob>> {
        if self.key.is_some() {
            self.render(Form::GzipFile);
            return self.bodies().signature.as_ref().map(|(_, blob)| Arc::clone(blob));
        }
        let bodies = self.bodies();
        let (version, blob) = bodies.signature.as_ref()?;
        (*version == self.read().version).then(|| Arc::clone(blob))
    }

    /// Without a key of our own: serves the stored inventory, byte for byte, with the signature that lies beside it, where
    /// it lists exactly the documents there are. Whether the signature is good is for those to say who have the key. Blocks.
    pub(crate) fn adopt_signature(&self, blobs: &dyn Blobs) -> io::Result<()> {
        if self.key.is_some() {
            return Ok(());
        }
        let version = self.read().version;
        let state = (blobs.stamp("inventory.gz")?, blobs.stamp(SIGNATURE_FILE)?, version);
        if self.bodies().judged == Some(state) {
            return Ok(());
        }
        let signature = match state {
            (Some(_), Some(_), _) => blobs.read(SIGNATURE_FILE, MAX_SIGNATURE)?,
            _ => None,
        };
        let stored = if signature.is_some() { blobs.read("inventory.gz", MAX_INVENTORY)? } else { None };
        let mut bodies = self.bodies();
        let inner = self.read();
        bodies.judged = Some(state);
        bodies.signature = None;
        if let (Some((signature, of)), Some((stored, stamp))) = (signature, stored)
            && let Ok(inventory) = Inventory::parse(&stored, MAX_INVENTORY)
            && inner.version == version
            && inner.lists(&inventory)
        {
            let inventory = Blob::new(stored, Form::GzipFile, Lifetime::Seconds, stamp.time(), None);
            bodies.of.insert(Form::GzipFile, (version, Arc::new(inventory)));
            bodies.signature = Some((version, Arc::new(body(signature, of.time()))));
        }
        Ok(())
    }
}

impl Inner {
    /// Whether an inventory lists exactly the documents there are.
    fn lists(&self, inventory: &Inventory) -> bool {
        let same = |entry: &super::Entry| {
            let (keys, listed) =
                (entry.keys(), inventory.get(&entry.name).and_then(|listed| listed.sha256()));
            listed.is_some() && listed == keys.get("SHA256").and_then(Value::as_str)
        };
        self.len == inventory.entries.len() && self.entries().all(same)
    }
}

/// A signature as it is sent.
pub(super) fn body(text: impl Into<bytes::Bytes>, changed: SystemTime) -> Blob {
    let mut blob = Blob::new(text, Form::Plain, Lifetime::Seconds, changed, None);
    blob.headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    blob.headers.remove(VARY);
    blob
}
