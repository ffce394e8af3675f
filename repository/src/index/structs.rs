//! Indexes of struct layouts: offsets of a few members, and the metadata of each profile that has them.

use std::collections::BTreeMap;

use profile::names::ProfileName;
use profile::{Document, Metadata, Profile};
use serde_json::{Value, json};

use super::{IndexError, decode, entries};

/// An index of struct layouts.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StructIndex {
    /// Class recorded for the index: `EProcessIndex`.
    pub class: String,
    /// What is recorded of each profile, sorted by name.
    pub profiles: Vec<(ProfileName, Layout)>,
    /// Entries left out because they are damaged.
    pub rejected: usize,
}

/// Layout of one profile.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layout {
    /// `$METADATA` of the profile.
    pub metadata: Metadata,
    /// Offset of `STRUCT.MEMBER` in bytes.
    pub offsets: BTreeMap<String, i64>,
}

/// How to get from the name of a process to its page tables, in some builds of Windows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EprocessLayout {
    /// Whether the kernel is a 64-bit one.
    pub is_64: bool,
    /// Bytes from `DirectoryTableBase` to `ImageFileName`: subtract it from the address of the name.
    pub name_after_dtb: i64,
    /// Offset of `ImageFileName` in `_EPROCESS`.
    pub name_offset: i64,
    /// The profiles with that layout, sorted.
    pub profiles: Vec<ProfileName>,
}

impl StructIndex {
    /// Reads an index.
    pub fn read(profile: &Profile) -> Result<Self, IndexError> {
        let entries = entries(profile, "an index of structs")?;
        if entries.values().any(|entry| !entry.is_object()) {
            return Err(IndexError::OtherDocument("an index of structs"));
        }
        let class = profile.metadata_str("ProfileClass").unwrap_or_default().to_owned();
        let (profiles, rejected) = decode(&entries, layout);
        Ok(Self { class, profiles, rejected })
    }

    /// The different ways from the name of a process to its page tables, the most common first.
    #[must_use]
    pub fn eprocess_layouts(&self) -> Vec<EprocessLayout> {
        let mut layouts: BTreeMap<(bool, i64, i64), Vec<ProfileName>> = BTreeMap::new();
        for (name, layout) in &self.profiles {
            let offset = |member: &str| layout.offsets.get(member).copied();
            let name_offset = offset("_EPROCESS.ImageFileName");
            let dtb = offset("_EPROCESS.Pcb").zip(offset("_KPROCESS.DirectoryTableBase"));
            let (Some(name_offset), Some((pcb, in_pcb))) = (name_offset, dtb) else { continue };
            let distance = pcb.checked_add(in_pcb).and_then(|dtb| name_offset.checked_sub(dtb));
            let Some(distance) = distance else { continue };
            // Profiles of PDBs that do not say are of 64-bit kernels.
            let is_64 = layout.metadata.get("arch").and_then(Value::as_str).is_none_or(|arch| arch != "I386");
            layouts.entry((is_64, distance, name_offset)).or_default().push(name.clone());
        }
        let mut layouts: Vec<EprocessLayout> = layouts
            .into_iter()
            .map(|((is_64, name_after_dtb, name_offset), profiles)| EprocessLayout {
                is_64,
                name_after_dtb,
                name_offset,
                profiles,
            })
            .collect();
        layouts.sort_by_key(|layout| std::cmp::Reverse(layout.profiles.len()));
        layouts
    }

    /// The index as a document of a repository.
    #[must_use]
    pub fn to_document(&self) -> Document {
        let mut document = Document::default();
        document.set("Type", "Profile");
        document.set("ProfileClass", self.class.as_str());
        let entry = |(name, layout): &(ProfileName, Layout)| {
            let mut entry: serde_json::Map<String, Value> = layout.metadata.clone().into_iter().collect();
            entry.insert("offsets".to_owned(), json!(layout.offsets));
            (name.as_str().to_owned(), Value::from(entry))
        };
        let index = self.profiles.iter().map(entry).collect::<serde_json::Map<_, _>>();
        document.other.insert("$INDEX".to_owned(), index.into());
        document
    }
}

fn layout(entry: &Value) -> Option<Layout> {
    let mut metadata: Metadata = entry.as_object()?.clone().into_iter().collect();
    let offsets = metadata.remove("offsets")?;
    let offsets = offsets.as_object()?.iter().map(|(name, offset)| Some((name.clone(), offset.as_i64()?)));
    Some(Layout { metadata, offsets: offsets.collect::<Option<_>>()? })
}

/// The layout of a profile; `None` where it lacks one of the members.
pub(super) fn layout_of(profile: &Profile, members: &BTreeMap<String, Vec<String>>) -> Option<Layout> {
    let mut offsets = BTreeMap::new();
    for (structure, fields) in members {
        let definition = profile.struct_def(structure).ok()??;
        for field in fields {
            offsets.insert(format!("{structure}.{field}"), definition.fields.get(field)?.offset);
        }
    }
    Some(Layout { metadata: profile.metadata().clone(), offsets })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_layouts_are_one() {
        let text = r#"{"$METADATA": {"ProfileClass": "EProcessIndex"}, "$INDEX": {
            "nt/a": {"arch": "I386", "offsets": {"_EPROCESS.ImageFileName": 364, "_EPROCESS.Pcb": 0, "_KPROCESS.DirectoryTableBase": 24}},
            "nt/b": {"offsets": {"_EPROCESS.ImageFileName": 736, "_EPROCESS.Pcb": 0, "_KPROCESS.DirectoryTableBase": 40}},
            "nt/c": {"offsets": {"_EPROCESS.ImageFileName": 736, "_EPROCESS.Pcb": 0, "_KPROCESS.DirectoryTableBase": 40}},
            "nt/d": {"offsets": {"_EPROCESS.Pcb": 0}}, "nt/e": {"offsets": {"_EPROCESS.Pcb": "x"}}, "nt/f": {}}}"#;
        let index = StructIndex::read(&Profile::parse_text(text.to_owned()).unwrap()).unwrap();
        assert_eq!((index.profiles.len(), index.rejected), (4, 2));
        let layouts = index.eprocess_layouts();
        let seen: Vec<_> = layouts
            .iter()
            .map(|layout| (layout.is_64, layout.name_after_dtb, layout.profiles.len()))
            .collect();
        assert_eq!(seen, [(true, 696, 2), (false, 340, 1)]);
    }
}
