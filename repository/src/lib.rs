//! Where profiles are found and kept.
//!
//! A [`SearchPath`] is an ordered list of repositories (directories, zip archives, http(s) URLs); the first that
//! has a name wins. Everything asked and every answer is kept as [`Asked`], because "the profile was not found" is
//! only useful together with who was asked and what each one said.
//!
//! ```text
//! name ──► SearchPath ──► directory.rs   files below a root
//!              │     ├──► archive.rs     members of a zip
//!              │     └──► remote.rs      transport (one request) + cache.rs (what was fetched before)
//!              └── find.rs: names that fit the evidence of an image, from inventory.rs
//! ```
//!
//! The layout is that of Rekall's static repositories: `<root>/v1.0/<name>.gz` (or plain `<name>`) and
//! `<root>/v1.0/inventory.gz`. Repositories may be hostile: names are checked before they touch a path, sizes are
//! bounded, and nothing in a profile is ever evaluated.
//!
//! Calls block; from an async task, call from a blocking thread.

mod archive;
mod cache;
mod config;
mod directory;
mod find;
mod inventory;
mod remote;
mod search_path;
mod source;
mod trace;

pub use config::{Config, Limits};
pub use directory::{BuiltInventory, Directory, StoreError, Stored, build_inventory, may_be_document};
pub use find::{Candidate, FindError, LinuxEvidence, Reason};
pub use inventory::{Inventory, InventoryEntry, InventoryError};
pub use search_path::{LoadError, LoadFailure, Loaded, OpenError, SearchPath};
pub use trace::{Answer, Asked};

/// The directory between a repository's root and its names: the version of the layout.
pub const LAYOUT: &str = "v1.0";
