//! The complete, owned form of a profile: what generators fill and writers write.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::vtype::{Struct, Type};

/// `$METADATA`: what kind of document this is and where it comes from.
pub type Metadata = BTreeMap<String, Value>;

/// One enum: names of values. Several names may share a value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Enum {
    /// Name to value (`$REVENUMS`).
    pub values: BTreeMap<String, i128>,
    /// Value to the name that is printed for it (`$ENUMS`); where names share a value, the first declared.
    pub names: BTreeMap<i128, String>,
}

impl Enum {
    /// Adds one enumerator in order of declaration.
    pub fn insert(&mut self, name: impl Into<String>, value: i128) {
        let name = name.into();
        self.names.entry(value).or_insert_with(|| name.clone());
        self.values.insert(name, value);
    }
}

/// A whole profile document. All maps are ordered, so two equal documents are written as equal bytes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Document {
    /// `$METADATA`.
    pub metadata: Metadata,
    /// `$STRUCTS`.
    pub structs: BTreeMap<String, Struct>,
    /// `$ENUMS` and `$REVENUMS`.
    pub enums: BTreeMap<String, Enum>,
    /// `$CONSTANTS`: addresses of data; for Linux and macOS of all symbols. Link-time values.
    pub constants: BTreeMap<String, u64>,
    /// `$FUNCTIONS`: addresses of code, kept apart from data.
    pub functions: BTreeMap<String, u64>,
    /// `$CONSTANT_TYPES`: the type of a global.
    pub constant_types: BTreeMap<String, Type>,
    /// `$MERGE`: names of profiles whose sections are applied on top.
    pub merge: Vec<String>,
    /// `$CONFIG`: the Linux kernel's `.config`.
    pub config: BTreeMap<String, String>,
    /// Every other section (`$INDEX`, `$INVENTORY`, `$DYNAMIC_STRUCTS`, ...), verbatim.
    pub other: BTreeMap<String, Value>,
}

impl Document {
    /// A symlink document: the profile `target` under another name.
    #[must_use]
    pub fn symlink(target: &str) -> Self {
        let mut document = Self::default();
        document.set("Type", "Symlink");
        document.set("Target", target);
        document
    }

    /// Sets one `$METADATA` key.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.metadata.insert(key.to_owned(), value.into());
    }
}
