//! Indexes: which profiles fit what is found in an image, when nothing names the profile.
//!
//! | index | asks | finds |
//! |---|---|---|
//! | [`DataIndex`] (`nt/index`) | bytes at offsets of a mapped module | the module's build |
//! | [`StructIndex`] (`nt/eprocess_index`) | nothing: lists layouts that exist | where a DTB is, from a process name |
//! | [`TraitIndex`] (`Linux/index`) | addresses of symbols | the kernel's build |
//!
//! Indexes are documents of a repository; [`build_index`] makes them from an [`IndexSpec`] and the profiles of a
//! directory. Nothing here knows a memory image: bytes and symbols are asked for by closures. Format: that of Rekall's
//! indexes; the real ones are read and, from the same profiles, made again entry for entry.

mod build;
mod data;
mod spec;
mod structs;
mod traits;

use profile::names::ProfileName;
use profile::{Profile, ReadError};
use serde_json::{Map, Value};

pub use build::{BuiltIndex, build_index};
pub use data::{DataIndex, DataMatch, Point};
pub use spec::{IndexKind, IndexSpec, SpecError, SymbolData};
pub use structs::{EprocessLayout, Layout, StructIndex};
pub use traits::{Trait, TraitIndex, TraitMatch};

/// Why a document cannot be used as an index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// It has no `$INDEX`, or one of another kind of index.
    #[error("not {0}")]
    OtherDocument(&'static str),
    /// Its `$INDEX` cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The entries of `$INDEX` whose keys are names of profiles, and the number of those that are not.
fn entries(profile: &Profile, section: &'static str) -> Result<Map<String, Value>, IndexError> {
    profile.section("$INDEX")?.ok_or(IndexError::OtherDocument(section))
}

/// Decodes the entries of a map from profile names; what is damaged is only counted.
fn decode<T>(
    entries: &Map<String, Value>,
    mut one: impl FnMut(&Value) -> Option<T>,
) -> (Vec<(ProfileName, T)>, usize) {
    let promised = entries.len();
    let decoded: Vec<(ProfileName, T)> = entries
        .iter()
        .filter_map(|(name, value)| Some((ProfileName::new(name).ok()?, one(value)?)))
        .collect();
    let rejected = promised.saturating_sub(decoded.len());
    (decoded, rejected)
}
