//! Volatility 3's symbol tables (ISF, Intermediate Symbol Format): read as profiles, written from profiles.
//!
//! The format is `schema-6.2.0.json` of Volatility 3: `metadata`, `base_types`, `user_types`, `enums`, `symbols`. Both
//! formats can say sizes, offsets, bit-fields, arrays, pointers, enums and symbol addresses, and those survive a round
//! trip. Only ISF tells structs from unions and classes, which is guessed when writing (members that all stand at 0 make a
//! union); only profiles have `$CONFIG`, `$MERGE` and dynamic sections, which are left out.

mod base64;
mod from;
mod to;

pub use from::{IsfError, document_from_isf, is_isf};
pub use to::document_to_isf;
