//! `inventory.gz`: what a repository holds.
//!
//! ```text
//! {"$METADATA": {"Type": "Inventory", "ProfileClass": "Inventory"},
//!  "$INVENTORY": {"Linux/BuildID/3b43fad5...": {"LastModified": 1730000000.0, "ProfileClass": "Linux", ...}}}
//! ```
//! Original clients need `LastModified` (seconds since 1970, a float) in every entry and ignore the other keys.
//! Ours carry the scalar `$METADATA` of the document (`ProfileClass`, `Type`, `Version`, `arch`, `BuildID`,
//! `Banner`, `Release`, `Target`, ...) and `SHA256`, so that a kernel is recognised without opening a profile.

use std::collections::BTreeMap;

use profile::names::{BuildId, ProfileName, release_of_banner};
use profile::{Document, Kind, Profile, ReadError};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Longest text of one key that is kept, in bytes.
const MAX_VALUE: usize = 4096;

/// Most keys of one entry that are kept.
const MAX_KEYS: usize = 64;

/// Name of the inventory itself, which it does not list.
pub(crate) const NAME: &str = "inventory";

/// Why a document is no inventory.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// The document cannot be read at all.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// `$METADATA.Type` and `ProfileClass` are not both `Inventory`.
    #[error("the document found in place of the inventory is something else")]
    OtherDocument,
    /// There is no `$INVENTORY` section.
    #[error("the inventory has no $INVENTORY section")]
    NoList,
}

/// What a repository says it holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Inventory {
    /// Documents by name.
    pub entries: BTreeMap<ProfileName, InventoryEntry>,
    /// Number of listed names or entries that were not usable and left out.
    pub rejected: usize,
}

/// What an inventory tells about one document.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct InventoryEntry {
    /// Time of the last change in seconds since 1970-01-01 UTC; 0 where the inventory does not tell.
    pub last_modified: f64,
    /// The other keys: texts, numbers and booleans; lists and objects are not kept.
    pub keys: BTreeMap<String, Value>,
}

impl InventoryEntry {
    /// The entry of a document whose JSON text has this SHA-256.
    #[must_use]
    pub fn describe(profile: &Profile, last_modified: f64, sha256: &str) -> Self {
        let mut keys = scalars(profile.metadata().iter().map(|(key, value)| (key.clone(), value.clone())));
        keys.insert("SHA256".to_owned(), Value::from(sha256));
        let banner = profile.metadata_str("Banner");
        if let Some(release) = banner.and_then(release_of_banner)
            && !keys.contains_key("Release")
        {
            keys.insert("Release".to_owned(), Value::from(release));
        }
        Self { last_modified, keys }
    }

    /// A text value; `None` where the key is absent or no text.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.keys.get(key).and_then(Value::as_str)
    }

    /// GNU build-id of the kernel described: recorded (`BuildID`), or in the name a symlink points to.
    #[must_use]
    pub fn build_id(&self) -> Option<BuildId> {
        let recorded = self.text("BuildID").and_then(BuildId::from_hex);
        recorded.or_else(|| build_id_in(self.text("Target")?))
    }

    /// The kernel release described (`Release`, else taken from `Banner`).
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        self.text("Release").or_else(|| self.text("Banner").and_then(release_of_banner))
    }

    /// SHA-256 of the JSON text in lower-case hex.
    #[must_use]
    pub fn sha256(&self) -> Option<&str> {
        self.text("SHA256").filter(|hex| hex.len() == 64)
    }
}

impl Inventory {
    /// Reads an inventory, gzip-compressed or plain, of at most `max_text` bytes of JSON.
    pub fn parse(bytes: &[u8], max_text: usize) -> Result<Self, InventoryError> {
        let document = Profile::parse(bytes, &profile::Limits { max_text })?;
        if document.kind() != Kind::Inventory || document.metadata_str("ProfileClass") != Some("Inventory") {
            return Err(InventoryError::OtherDocument);
        }
        let listed: BTreeMap<String, Box<RawValue>> =
            document.section("$INVENTORY")?.ok_or(InventoryError::NoList)?;
        let mut inventory = Self::default();
        for (name, raw) in listed {
            let entry = serde_json::from_str::<Map<String, Value>>(raw.get()).ok().map(entry_from);
            match (ProfileName::new(&name), entry) {
                (Ok(name), Some(entry)) => {
                    inventory.entries.insert(name, entry);
                }
                _ => inventory.rejected += 1,
            }
        }
        Ok(inventory)
    }

    /// What the inventory tells about a name; `None` where it does not list it.
    #[must_use]
    pub fn get(&self, name: &ProfileName) -> Option<&InventoryEntry> {
        self.entries.get(name)
    }

    /// The inventory as a document, in the shape original clients read.
    #[must_use]
    pub fn to_document(&self) -> Document {
        let mut document = Document::default();
        document.set("Type", "Inventory");
        document.set("ProfileClass", "Inventory");
        let list: Map<String, Value> = self
            .entries
            .iter()
            .map(|(name, entry)| {
                let mut keys: Map<String, Value> = entry.keys.clone().into_iter().collect();
                keys.insert("LastModified".to_owned(), Value::from(entry.last_modified));
                (name.to_string(), Value::Object(keys))
            })
            .collect();
        document.other.insert("$INVENTORY".to_owned(), Value::Object(list));
        document
    }

    /// The bytes of `inventory.gz`: canonical text, reproducibly compressed.
    #[must_use]
    pub fn to_gzip(&self) -> Vec<u8> {
        profile::gzip(self.to_document().to_canonical_json().as_bytes())
    }
}

/// The build-id in a name of the form [`ProfileName::linux_build_id`] gives.
pub(crate) fn build_id_in(name: &str) -> Option<BuildId> {
    BuildId::from_hex(name.strip_prefix("Linux/BuildID/")?)
}

fn entry_from(mut keys: Map<String, Value>) -> InventoryEntry {
    let last_modified = keys.remove("LastModified").and_then(|value| value.as_f64()).unwrap_or(0.0);
    InventoryEntry { last_modified, keys: scalars(keys) }
}

fn scalars(keys: impl IntoIterator<Item = (String, Value)>) -> BTreeMap<String, Value> {
    let fits = |value: &Value| match value {
        Value::String(text) => text.len() <= MAX_VALUE,
        Value::Number(_) | Value::Bool(_) => true,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    };
    let kept = keys.into_iter().filter(|(key, value)| key != "LastModified" && fits(value));
    kept.take(MAX_KEYS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ProfileName {
        ProfileName::new(text).expect("a valid name")
    }

    #[test]
    fn an_inventory_survives_a_round_trip() {
        let text = r#"{"$METADATA": {"Type": "Inventory", "ProfileClass": "Inventory"}, "$INVENTORY": {
            "Linux/a": {"LastModified": 1407274367.13, "BuildID": "3B43FAD5034874490492495D552C0AF6A5FAB235"},
            "b": {"LastModified": 5, "offsets": {"dropped": 1}, "Version": 1},
            "../c": {"LastModified": 1.0}, "d": 7, "e": {}}}"#;
        let inventory = Inventory::parse(text.as_bytes(), 1 << 20).expect("an inventory");
        assert_eq!(inventory.rejected, 2, "../c is no name and 7 is no entry");
        assert_eq!(inventory.get(&name("b")).map(|entry| entry.last_modified), Some(5.0));
        assert_eq!(inventory.get(&name("e")).map(|entry| entry.last_modified), Some(0.0));
        let id = inventory.get(&name("Linux/a")).and_then(InventoryEntry::build_id);
        assert_eq!(id.map(|id| id.to_string()).as_deref(), Some("3b43fad5034874490492495d552c0af6a5fab235"));
        let again = Inventory::parse(&inventory.to_gzip(), 1 << 20).expect("our own inventory");
        assert_eq!(again.entries, inventory.entries);
    }

    #[test]
    fn every_written_entry_has_a_float_last_modified() {
        let mut inventory = Inventory::default();
        inventory.entries.insert(name("a"), InventoryEntry { last_modified: 7.0, ..Default::default() });
        assert!(inventory.to_document().to_canonical_json().contains("\"LastModified\": 7.0"));
    }

    #[test]
    fn other_documents_are_told_apart() {
        let page = b"<!DOCTYPE html><html>Please log in</html>";
        assert!(matches!(Inventory::parse(page, 1000), Err(InventoryError::Read(ReadError::Html))));
        let profile = br#"{"$METADATA": {"Type": "Profile"}, "$INVENTORY": {}}"#;
        assert!(matches!(Inventory::parse(profile, 1000), Err(InventoryError::OtherDocument)));
        let empty = br#"{"$METADATA": {"Type": "Inventory", "ProfileClass": "Inventory"}}"#;
        assert!(matches!(Inventory::parse(empty, 1000), Err(InventoryError::NoList)));
        assert!(matches!(
            Inventory::parse(&profile::gzip(&vec![b' '; 1 << 20]), 1000),
            Err(InventoryError::Read(ReadError::TooLarge(1000)))
        ));
    }
}
