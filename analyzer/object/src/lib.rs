//! Types over bytes: a profile's structs joined with an address space.
//!
//! Two doors to one [`Types`]: [`layout!`] views for code (offsets resolved once per profile, a field read is one
//! memory read) and [`Object`] for `dt`, the shell and queries. Presence of a field decides, never a version number.
//! Lists and trees over image data go through [`walk`]: seen-set, node cap, forward and backward, and an end state.
//! The crate knows no operating system.

mod absent;
mod field;
mod object;
mod overlay;
mod target;
#[cfg(test)]
mod testkit;
mod types;
mod view;
pub mod walk;

pub use absent::{Absent, Read};
pub use field::{Addr, Bytes, Decode, Field, Place, Ptr, Text, Uint, little_endian};
pub use object::{Object, Scalar};
pub use overlay::{FieldOverlay, Overlay, OverlayNote, StructOverlay};
pub use profile::{DataModel, Native, NativeKind};
pub use target::Target;
pub use types::{Missing, Resolved, Types};
#[doc(hidden)]
pub use view::Layout;
