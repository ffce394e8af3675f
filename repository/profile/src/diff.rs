//! What changed between two profiles: structs, fields, enums and symbols.

use std::collections::BTreeMap;

use crate::document::Document;
use crate::vtype::Type;

/// One difference. Items are `struct`, `struct.field`, `enum.NAME` or a symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What sort of item it is about.
    pub kind: ChangeKind,
    /// Its name.
    pub item: String,
    /// What the first profile says; absent where it lacks the item.
    pub before: Option<String>,
    /// What the second profile says; absent where it lacks the item.
    pub after: Option<String>,
}

/// What sort of item a change is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// A struct's presence or size.
    Struct,
    /// A field's presence, offset or type.
    Field,
    /// An enumerator's presence or value.
    Enumerator,
    /// A symbol's presence. Addresses differ in every build and are not compared.
    Symbol,
}

/// All differences, structs first, each sorted by name. Fields of a struct that only one side has are not listed.
#[must_use]
pub fn diff(before: &Document, after: &Document) -> Vec<Change> {
    let mut changes = Vec::new();
    let size =
        |size: Option<u64>| size.map_or_else(|| "size unknown".to_owned(), |size| format!("{size} bytes"));
    for (name, a, b) in pairs(&before.structs, &after.structs) {
        let (old, new) = (a.map(|s| size(s.size)), b.map(|s| size(s.size)));
        push(&mut changes, ChangeKind::Struct, name.clone(), old, new);
        let (Some(a), Some(b)) = (a, b) else { continue };
        for (field, a, b) in pairs(&a.fields, &b.fields) {
            let show = |field: &crate::Field| format!("offset {}, {}", field.offset, type_text(&field.ty));
            push(&mut changes, ChangeKind::Field, format!("{name}.{field}"), a.map(show), b.map(show));
        }
    }
    for (name, a, b) in pairs(&before.enums, &after.enums) {
        let empty = BTreeMap::new();
        let (a, b) = (a.map_or(&empty, |table| &table.values), b.map_or(&empty, |table| &table.values));
        for (constant, a, b) in pairs(a, b) {
            let (a, b) = (a.map(ToString::to_string), b.map(ToString::to_string));
            push(&mut changes, ChangeKind::Enumerator, format!("{name}.{constant}"), a, b);
        }
    }
    let symbols = |document: &Document| -> BTreeMap<String, ()> {
        document.constants.keys().chain(document.functions.keys()).map(|name| (name.clone(), ())).collect()
    };
    for (name, a, b) in pairs(&symbols(before), &symbols(after)) {
        let present = |side: Option<&()>| side.map(|()| "present".to_owned());
        push(&mut changes, ChangeKind::Symbol, name.clone(), present(a), present(b));
    }
    changes.sort_by(|a, b| (a.kind, &a.item).cmp(&(b.kind, &b.item)));
    changes
}

/// A type as C-like text: `pointer to task_struct`, `array of 16 char`.
#[must_use]
pub fn type_text(ty: &Type) -> String {
    match ty {
        Type::Named(name) => name.clone(),
        Type::Void => "void".to_owned(),
        Type::Pointer(target) | Type::Pointer32(target) => format!("pointer to {}", type_text(target)),
        Type::Array { count: Some(count), target, .. } => format!("array of {count} {}", type_text(target)),
        Type::Array { target, .. } => format!("array of {}", type_text(target)),
        Type::BitField { start, end, target } => {
            let inner =
                target.as_ref().map_or_else(String::new, |target| format!(" of {}", type_text(target)));
            format!("bits {start} to {end}{inner}")
        }
        Type::Enumeration { name, .. } => format!("enum {}", name.as_deref().unwrap_or("without name")),
        Type::Function(_) => "function".to_owned(),
        Type::Other { class, .. } => class.clone(),
    }
}

fn push(
    changes: &mut Vec<Change>,
    kind: ChangeKind,
    item: String,
    before: Option<String>,
    after: Option<String>,
) {
    if before != after {
        changes.push(Change { kind, item, before, after });
    }
}

/// Every key of either map with both values, in order.
fn pairs<'a, V>(
    a: &'a BTreeMap<String, V>,
    b: &'a BTreeMap<String, V>,
) -> impl Iterator<Item = (&'a String, Option<&'a V>, Option<&'a V>)> {
    let only_b =
        b.iter().filter(|(key, _)| !a.contains_key(*key)).map(|(key, value)| (key, None, Some(value)));
    a.iter().map(|(key, value)| (key, Some(value), b.get(key))).chain(only_b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Profile;

    fn document(text: &str) -> Document {
        Profile::parse_text(text.to_owned()).expect("well formed").to_document().expect("well formed")
    }

    #[test]
    fn sizes_offsets_types_enumerators_and_symbols_are_compared() {
        let a = document(
            r#"{"$STRUCTS": {"s": [8, {"x": [0, ["int"]], "y": [4, ["int"]], "gone": [0, ["int"]]}], "old": [4, {}]},
                "$REVENUMS": {"e": {"A": 0, "B": 1}}, "$CONSTANTS": {"kept": 1, "lost": 2}}"#,
        );
        let b = document(
            r#"{"$STRUCTS": {"s": [16, {"x": [0, ["Pointer", {"target": "s"}]], "y": [8, ["int"]]}]},
                "$REVENUMS": {"e": {"A": 0, "B": 2}}, "$CONSTANTS": {"kept": 100, "found": 2}}"#,
        );
        let shown: Vec<String> = diff(&a, &b)
            .iter()
            .map(|c| {
                let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "-".to_owned());
                format!("{}: {} > {}", c.item, side(&c.before), side(&c.after))
            })
            .collect();
        assert_eq!(
            shown,
            [
                "old: 4 bytes > -",
                "s: 8 bytes > 16 bytes",
                "s.gone: offset 0, int > -",
                "s.x: offset 0, int > offset 0, pointer to s",
                "s.y: offset 4, int > offset 8, int",
                "e.B: 1 > 2",
                "found: - > present",
                "lost: present > -",
            ]
        );
    }

    #[test]
    fn equal_profiles_have_no_changes() {
        let a = document(r#"{"$STRUCTS": {"s": [8, {"x": [0, ["int"]]}]}}"#);
        assert_eq!(diff(&a, &a), []);
    }
}
