//! Overlays: what fields mean, laid over the generated types.
//!
//! `const` tables, merged by Rekall's rule: what an overlay leaves out bubbles up from the generated types. An overlay
//! name that matches nothing is reported, not ignored.

/// A set of struct overlays.
pub type Overlay = &'static [StructOverlay];

/// Overlays for the fields of one struct.
#[derive(Debug, Clone, Copy)]
pub struct StructOverlay {
    /// Kernel name of the struct.
    pub name: &'static str,
    /// Field name and what it becomes.
    pub fields: &'static [(&'static str, FieldOverlay)],
}

/// What an overlay says of one field.
#[derive(Debug, Clone, Copy)]
pub enum FieldOverlay {
    /// The first of these dotted paths that exists in this build.
    Alias(&'static [&'static str]),
    /// Same place, other meaning: a class name such as `String` (bytes up to NUL, as long as the field) or `UnixTimeStamp`.
    Class(&'static str),
}

/// An overlay entry that matches nothing in a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverlayNote {
    /// Struct the overlay names.
    pub structure: &'static str,
    /// Field the overlay names; absent where the whole struct is missing.
    pub field: Option<&'static str>,
}
