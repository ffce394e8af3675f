//! URL repositories against a real HTTP server on the loopback, request by request.
//!
//! The sequences in [`wire`] are those that original Rekall clients were recorded to make.

#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod hostile;
mod mirror;
mod server;
mod service;
mod wire;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use profile::Document;
use repository::{Config, Inventory, InventoryEntry, Limits, SearchPath};

/// A Linux profile that is told apart by one symbol.
fn kernel(symbol: &str) -> Document {
    let mut document = Document::default();
    document.set("Type", "Profile");
    document.set("ProfileClass", "Linux");
    document.constants.insert(symbol.to_owned(), 1);
    document
}

fn gz(document: &Document) -> Vec<u8> {
    profile::gzip(document.to_canonical_json().as_bytes())
}

/// An inventory as the original writes it: nothing but `LastModified`.
fn inventory(entries: &[(&str, f64)]) -> Vec<u8> {
    let mut inventory = Inventory::default();
    for (name, last_modified) in entries {
        let name = profile::names::ProfileName::new(name).expect("a name");
        let entry = InventoryEntry { last_modified: *last_modified, ..InventoryEntry::default() };
        inventory.entries.insert(name, entry);
    }
    inventory.to_gzip()
}

/// One session: a new search path, with what it announced.
struct Session {
    path: SearchPath,
    announced: Arc<Mutex<Vec<String>>>,
}

impl Session {
    fn new(base: &str, cache: Option<&Path>) -> Self {
        Self::with(&Config {
            entries: vec![base.to_owned()],
            cache_dir: cache.map(Path::to_owned),
            limits: quick(),
            ..Config::default()
        })
    }

    fn with(config: &Config) -> Self {
        let announced = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&announced);
        let path = SearchPath::open(config).expect("a search path");
        let path = path.on_network(move |url| log.lock().expect("a lock").push(url.to_owned()));
        Self { path, announced }
    }

    fn announced(&self) -> Vec<String> {
        self.announced.lock().expect("a lock").clone()
    }
}

/// Limits with short waits.
fn quick() -> Limits {
    Limits {
        connect_timeout: Duration::from_secs(2),
        read_timeout: Duration::from_millis(500),
        total_timeout: Duration::from_secs(10),
        ..Limits::default()
    }
}
