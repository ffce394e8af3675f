//! The original's output for the same files: every difference is one that `docs/pdb-differences.md` lists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use profile::{Document, Struct, Type};
use profile_gen::pdb::{PdbOptions, convert_pdb};

use crate::{bits, data, skipped};

/// Differences found, by their names in the document, and what no name covers.
#[derive(Default)]
struct Differences {
    listed: BTreeSet<&'static str>,
    unlisted: Vec<String>,
}

impl Differences {
    fn add(&mut self, name: &'static str) {
        self.listed.insert(name);
    }

    fn other(&mut self, what: String) {
        self.unlisted.push(what);
    }

    fn types(&mut self, place: &str, ours: &Type, theirs: &Type) {
        match (ours, theirs) {
            (Type::Named(ours), Type::Named(theirs)) if ours == theirs => {}
            (Type::Named(ours), Type::Named(theirs)) => match (ours.as_str(), theirs.as_str()) {
                ("char", "unsigned char") => self.add("plain-char"),
                ("long", "int") | ("unsigned long", "unsigned int") => self.add("integer-names"),
                _ if ours.split('@').next() == Some(theirs) => self.add("same-name"),
                _ => self.other(format!("{place}: {ours}, not {theirs}")),
            },
            (Type::Pointer(ours), Type::Pointer(theirs)) => match (&**ours, &**theirs) {
                (Type::Named(name), Type::Void) if name == "float" || name == "double" => {
                    self.add("float-pointers");
                }
                (ours, theirs) => self.types(place, ours, theirs),
            },
            (
                Type::Array { target: ours, count: Some(count), .. },
                Type::Array { target: theirs, count: known, .. },
            ) => {
                match known {
                    None => self.add("array-counts"),
                    Some(known) if known == count => {}
                    Some(_) if matches!(**ours, Type::Pointer(_)) => self.add("pointer-arrays"),
                    Some(known) => self.other(format!("{place}: {count} elements, not {known}")),
                }
                self.types(place, ours, theirs);
            }
            (
                Type::BitField { start, end, target: Some(ours) },
                Type::BitField { start: first, end: last, target: Some(theirs) },
            ) if (start, end) == (first, last) => self.types(place, ours, theirs),
            (Type::Enumeration { name, .. }, Type::BitField { start, end, target: Some(theirs) })
                if bits(ours) == Some((*start, *end))
                    && matches!(&**theirs, Type::Enumeration { name: known, .. } if known == name) =>
            {
                self.add("enum-bit-fields");
            }
            (
                Type::Enumeration { name, target, .. },
                Type::Enumeration { name: known, target: stored, .. },
            ) if name == known => {
                if target != stored {
                    self.add("enum-sizes");
                }
            }
            (Type::Function(ours), Type::Function(theirs)) if ours.len() >= theirs.len() => {
                if ours.len() > theirs.len() {
                    self.add("function-arguments");
                }
                ours.iter().zip(theirs).for_each(|(ours, theirs)| self.types(place, ours, theirs));
            }
            _ if ours == theirs => {}
            _ => self.other(format!("{place}: {ours:?}, not {theirs:?}")),
        }
    }

    fn structs(&mut self, name: &str, ours: &Struct, theirs: &Struct) {
        if ours.size != theirs.size && name.contains("<unnamed-tag>") {
            self.add("same-name");
        } else if ours.size != theirs.size {
            self.other(format!("{name}: {:?} bytes, not {:?}", ours.size, theirs.size));
        }
        for (member, field) in &theirs.fields {
            let place = format!("{name}.{member}");
            match ours.fields.get(member) {
                _ if member.is_empty() => self.add("nested-types"),
                // The original's is one of several types of that name with the members of all.
                None if name.contains("<unnamed-tag>") => self.add("same-name"),
                None => self.other(format!("{place} is missing")),
                Some(our) => {
                    if our.offset != field.offset {
                        self.other(format!("{place} at {}, not {}", our.offset, field.offset));
                    }
                    self.types(&place, &our.ty, &field.ty);
                }
            }
        }
        for (member, field) in &ours.fields {
            if theirs.fields.contains_key(member) {
                continue;
            }
            match &field.ty {
                Type::Pointer(_) => self.add("dropped-members"),
                ty => self.other(format!("{name}.{member} is ours only: {ty:?}")),
            }
        }
    }

    fn symbols(&mut self, ours: &BTreeMap<String, u64>, theirs: &BTreeMap<String, u64>) {
        for (name, address) in theirs {
            if ours.get(name) == Some(address) {
                continue;
            }
            match ours.get(&format!("_{name}")) {
                Some(ours) if ours == address => self.add("x64-underscores"),
                _ => self.other(format!("symbol {name}")),
            }
        }
        if ours.len() != theirs.len() {
            self.other(format!("{} symbols, not {}", ours.len(), theirs.len()));
        }
    }

    fn documents(&mut self, ours: &Document, theirs: &Document) {
        for (key, value) in &theirs.metadata {
            if ours.metadata.get(key) != Some(value) {
                self.other(format!("{key}: {:?}, not {value}", ours.metadata.get(key)));
            }
        }
        for key in ours.metadata.keys().filter(|key| !theirs.metadata.contains_key(*key)) {
            match key.as_str() {
                "arch" => self.add("arch"),
                "Generator" => self.add("generator"),
                _ => self.other(format!("{key} is ours only")),
            }
        }
        self.symbols(&ours.constants, &theirs.constants);
        self.symbols(&ours.functions, &theirs.functions);
        if !ours.enums.keys().eq(theirs.enums.keys()) {
            self.other("other enums".to_owned());
        }
        for (name, table) in &theirs.enums {
            for (label, value) in &table.values {
                match ours.enums.get(name).and_then(|ours| ours.values.get(label)) {
                    Some(ours) if ours == value => {}
                    Some(ours) if *ours < 0 && ours + (1 << 32) == *value => self.add("enum-signs"),
                    ours => self.other(format!("{name} {label}: {ours:?}, not {value}")),
                }
            }
        }
        for (name, theirs) in &theirs.structs {
            match ours.structs.get(name) {
                Some(ours) => self.structs(name, ours, theirs),
                None => self.other(format!("no struct {name}")),
            }
        }
        for name in ours.structs.keys().filter(|name| !theirs.structs.contains_key(*name)) {
            if name.contains("<unnamed-tag>@") {
                self.add("same-name");
            } else {
                self.other(format!("struct {name} is ours only"));
            }
        }
    }
}

/// Names in the document, with whether it says that the original's files show them.
fn documented() -> BTreeMap<String, bool> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pdb-differences.md");
    let text = fs::read_to_string(path).expect("the document is part of the project");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let name = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        Some((name, cells.next()? == "yes"))
    });
    rows.collect()
}

#[test]
fn the_original_differs_only_as_documented() {
    let golden = data("rekall-golden");
    if !golden.is_dir() {
        return skipped("no files of the original");
    }
    let mut found = Differences::default();
    for name in ["types_x64", "types_x86"] {
        let bytes =
            fs::read(golden.join("inputs").join(format!("{name}.pdb"))).expect("test data is readable");
        // As the original was called.
        let options = PdbOptions {
            profile_class: Some("Win7x64".to_owned()),
            file_name: Some(format!("{name}.pdb")),
            ..PdbOptions::default()
        };
        let ours = convert_pdb(&bytes, &options).expect("a whole PDB").document;
        let text = fs::read_to_string(golden.join("outputs").join(format!("{name}.160.json")));
        let theirs = profile::Profile::parse_text(text.expect("test data is readable")).expect("a profile");
        found.documents(&ours, &theirs.to_document().expect("a document"));
    }
    assert!(found.unlisted.is_empty(), "{:#?}", found.unlisted);
    let documented = documented();
    let shown: BTreeSet<&str> =
        documented.iter().filter(|(_, shown)| **shown).map(|(name, _)| &**name).collect();
    assert_eq!(found.listed, shown, "what the files show and what the document says they show");
    assert!(documented.len() > shown.len(), "differences that these files do not show");
}

#[test]
fn equally_named_types_are_told_apart() {
    let golden = data("rekall-golden").join("inputs");
    if !golden.is_dir() {
        return skipped("no files of the original");
    }
    let document = crate::converted(&golden.join("types_x64.pdb")).document;
    let nested = &document.structs["nested"].fields;
    let Type::Named(pte) = &nested["pte"].ty else { panic!("pte is {:?}", nested["pte"].ty) };
    let members: Vec<&str> = document.structs[pte].fields.keys().map(String::as_str).collect();
    assert_eq!(members, ["high", "low", "mid", "raw"]);
    assert!(document.structs.contains_key("nested::<unnamed-tag>@1"));
    let arrays = &document.structs["arrays"].fields;
    assert_eq!(arrays["matrix"].ty, Type::array(3, Type::array(4, Type::named("long"))));
    assert_eq!(arrays["ptrs"].ty, Type::array(6, Type::pointer(Type::named("list_node"))));
    assert_eq!(document.enums["color"].values["NEG"], -3);
}
