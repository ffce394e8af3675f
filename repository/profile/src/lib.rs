//! The profile document: struct layouts, enums and symbol addresses of one kernel build, as pure JSON data.
//!
//! The crate knows the format and nothing else: no files, no network, no memory image.
//! [`Profile`] reads lazily (a struct is decoded when first asked for), [`Document`] is the complete owned
//! form that generators fill and [`Document::to_canonical_json`] writes, byte for byte the same on every machine.
//!
//! The format is that of Rekall's profile repository (`v1.0`): one JSON object whose keys start with `$`.

mod diff;
mod document;
pub mod isf;
mod model;
pub mod names;
mod read;
mod vtype;
mod write;

pub use diff::{Change, ChangeKind, diff, type_text};
pub use document::{Document, Enum, Metadata};
pub use model::{DataModel, Native, NativeKind};
pub use read::{Kind, Limits, Profile, ReadError, Symbol, json_text};
pub use vtype::{Field, MAX_TYPE_NESTING, Struct, Type, TypeError};
pub use write::{StructWriter, gzip};
