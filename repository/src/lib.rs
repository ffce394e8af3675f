//! Where profiles are found and kept.
//!
//! A [`SearchPath`] is an ordered list of repositories (directories, zip archives, http(s) URLs); the first that
//! has a name wins. Everything asked and every answer is kept as [`Asked`], because "the profile was not found" is
//! only useful together with who was asked and what each one said.
//!
//! ```text
//! name ──► SearchPath ──► directory.rs   files below a root
//!              │     ├──► archive.rs     members of a zip
//!              │     └──► remote.rs      exchange.rs (one question) + cache.rs (what was fetched before)
//!              └── find.rs: names that fit the evidence of an image, from inventory.rs
//!
//! mirror.rs  a URL copied      bundle.rs  a part of it in one archive      verify.rs, gc.rs  what is wrong, what is dead
//! signature.rs  who vouches for an inventory      trusted.rs  entries that give only what is signed
//! ```
//!
//! The layout is that of Rekall's static repositories: `<root>/v1.0/<name>.gz` (or plain `<name>`) and
//! `<root>/v1.0/inventory.gz`. Repositories may be hostile: names are checked before they touch a path, sizes are
//! bounded, and nothing in a profile is ever evaluated.
//!
//! Calls block; from an async task, call from a blocking thread.

mod archive;
mod bundle;
mod cache;
mod config;
mod directory;
mod exchange;
mod find;
mod gc;
pub mod index;
mod inventory;
mod mirror;
mod nearest;
mod remote;
mod search_path;
mod service;
mod signature;
mod source;
mod symlinks;
mod trace;
mod trusted;
mod verify;

pub use bundle::{Bundle, BundleError, Want};
pub use config::{Config, Limits};
pub use directory::{BuiltInventory, Directory, StoreError, Stored, build_inventory, may_be_document};
pub use find::{Candidate, FindError, LinuxEvidence, Reason};
pub use gc::{Garbage, GarbageKind, find_garbage, remove_garbage};
pub use inventory::{Inventory, InventoryEntry, InventoryError};
pub use mirror::{MirrorError, MirrorOptions, Mirrored, mirror};
pub use search_path::{LoadError, LoadFailure, Loaded, OpenError, SearchPath};
pub use signature::{MAX_SIGNATURE, PublicKey, SIGNATURE_FILE, SecretKey, SignatureError, new_token};
pub use symlinks::Symlink;
pub use trace::{Answer, Asked};
pub use verify::{Problem, SIGNED_COMMENT, Verified, sign, verify};

/// The directory between a repository's root and its names: the version of the layout.
pub const LAYOUT: &str = "v1.0";
