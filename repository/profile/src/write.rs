//! Canonical writing: the same document is the same bytes on every machine.
//!
//! The text form is that of the original (keys sorted, one member per line, one space of indentation per level of
//! objects, `", \n"` between members, empty objects dropped, lists on one line), so diffs against old files stay small.

use std::fmt::{self, Write as _};
use std::io::Write as _;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::document::Document;
use crate::vtype::{Struct, Type};

const STRUCTS: &str = "$STRUCTS";

/// Writes a document whose structs come one after the other, so that they need not all be held at once.
#[derive(Debug)]
pub struct StructWriter {
    out: String,
    /// The sections behind the structs, each with the separator in front.
    rest: String,
    /// Whether something stands before the structs.
    preceded: bool,
    any: bool,
}

impl StructWriter {
    /// Starts with everything else that the document holds; its own structs are not written.
    #[must_use]
    pub fn new(document: &Document) -> Self {
        let sections = document.sections();
        let (before, after) = sections.split_at(sections.partition_point(|section| *section < STRUCTS));
        let write = |sections: &[&str]| {
            let mut out = String::from("{");
            let mut object = Object { out: &mut out, depth: 0, empty: true };
            sections.iter().for_each(|section| document.write_section(&mut object, section));
            out
        };
        Self { out: write(before), rest: write(after), preceded: !before.is_empty(), any: false }
    }

    /// Adds a struct. Names must ascend for the text to be canonical.
    pub fn add(&mut self, name: &str, definition: &Struct) {
        if !self.any {
            self.any = true;
            let mut document = Object { out: &mut self.out, depth: 0, empty: !self.preceded };
            document.member(STRUCTS, |out, _| out.push('{'));
            Object { out: &mut self.out, depth: 1, empty: true }
                .member(name, |out, depth| write_struct(out, definition, depth));
        } else {
            Object { out: &mut self.out, depth: 1, empty: false }
                .member(name, |out, depth| write_struct(out, definition, depth));
        }
    }

    /// The whole text, without a trailing newline.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.any {
            Object { out: &mut self.out, depth: 1, empty: false }.close();
        }
        let rest = self.rest.get(1..).unwrap_or_default();
        if !rest.is_empty() {
            self.out.push_str(if self.preceded || self.any { ", " } else { "" });
            self.out.push_str(rest);
        }
        let empty = !self.preceded && !self.any && rest.is_empty();
        Object { out: &mut self.out, depth: 0, empty }.close();
        self.out
    }
}

impl Document {
    /// The canonical JSON text, without a trailing newline.
    #[must_use]
    pub fn to_canonical_json(&self) -> String {
        let mut writer = StructWriter::new(self);
        for (name, definition) in &self.structs {
            writer.add(name, definition);
        }
        writer.finish()
    }

    /// Names of the sections that are not empty, sorted; without `$STRUCTS`.
    fn sections(&self) -> Vec<&str> {
        let mut sections: Vec<&str> = [
            ("$CONFIG", self.config.is_empty()),
            ("$CONSTANTS", self.constants.is_empty()),
            ("$CONSTANT_TYPES", self.constant_types.is_empty()),
            ("$ENUMS", self.enums.is_empty()),
            ("$FUNCTIONS", self.functions.is_empty()),
            ("$MERGE", self.merge.is_empty()),
            ("$METADATA", self.metadata.is_empty()),
            ("$REVENUMS", self.enums.is_empty()),
        ]
        .into_iter()
        .filter_map(|(name, empty)| (!empty).then_some(name))
        .chain(self.other.keys().map(String::as_str).filter(|name| *name != STRUCTS))
        .collect();
        sections.sort_unstable();
        sections.dedup();
        sections
    }

    /// SHA-256 of the canonical JSON in lower-case hex: the identity of the content, whatever file holds it.
    #[must_use]
    pub fn content_hash(&self) -> String {
        Sha256::digest(self.to_canonical_json().as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
    }

    fn write_section(&self, document: &mut Object<'_>, section: &str) {
        match section {
            "$CONFIG" => document.object(section, &self.config, |out, _, text| write_string(out, text)),
            "$CONSTANTS" => {
                document.object(section, &self.constants, |out, _, n| write_display(out, n));
            }
            "$FUNCTIONS" => {
                document.object(section, &self.functions, |out, _, n| write_display(out, n));
            }
            "$CONSTANT_TYPES" => {
                document.object(section, &self.constant_types, |out, depth, ty| {
                    write_type(out, ty, depth);
                });
            }
            "$ENUMS" => document.object(section, &self.enums, |out, depth, table| {
                // Sorted by number, not by its text.
                let mut values = Object::open(out, depth);
                for (value, name) in &table.names {
                    values.member(&value.to_string(), |out, _| write_string(out, name));
                }
                values.close();
            }),
            "$REVENUMS" => document.object(section, &self.enums, |out, depth, table| {
                let mut names = Object::open(out, depth);
                for (name, value) in &table.values {
                    names.member(name, |out, _| write_display(out, value));
                }
                names.close();
            }),
            "$MERGE" => document.member(section, |out, depth| {
                write_value(out, &Value::from(self.merge.clone()), depth);
            }),
            "$METADATA" => {
                document.object(section, &self.metadata, |out, depth, v| write_value(out, v, depth));
            }
            other => {
                if let Some(value) = self.other.get(other) {
                    document.member(section, |out, depth| write_value(out, value, depth));
                }
            }
        }
    }
}

/// Gzips `data` reproducibly: no name, zero time stamp, no operating system mark.
#[must_use]
pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .write(Vec::new(), flate2::Compression::new(6));
    // Writing to a Vec cannot fail.
    encoder.write_all(data).and_then(|()| encoder.finish()).unwrap_or_default()
}

/// Writes the members of one JSON object, one per line.
struct Object<'a> {
    out: &'a mut String,
    depth: usize,
    empty: bool,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut String, depth: usize) -> Self {
        out.push('{');
        Self { out, depth, empty: true }
    }

    fn member(&mut self, key: &str, write: impl FnOnce(&mut String, usize)) {
        self.out.push_str(if self.empty { "\n" } else { ", \n" });
        self.empty = false;
        indent(self.out, self.depth + 1);
        write_string(self.out, key);
        self.out.push_str(": ");
        write(self.out, self.depth + 1);
    }

    fn object<V>(
        &mut self,
        key: &str,
        map: &std::collections::BTreeMap<String, V>,
        mut write: impl FnMut(&mut String, usize, &V),
    ) {
        self.member(key, |out, depth| {
            let mut object = Object::open(out, depth);
            for (key, value) in map {
                object.member(key, |out, depth| write(out, depth, value));
            }
            object.close();
        });
    }

    fn close(self) {
        if !self.empty {
            self.out.push('\n');
            indent(self.out, self.depth);
        }
        self.out.push('}');
    }
}

fn indent(out: &mut String, depth: usize) {
    const SPACES: &str = "                                ";
    match SPACES.get(..depth) {
        Some(spaces) => out.push_str(spaces),
        None => out.extend(std::iter::repeat_n(' ', depth)),
    }
}

fn write_struct(out: &mut String, definition: &Struct, depth: usize) {
    match definition.size {
        Some(size) => {
            out.push('[');
            write_display(out, size);
            out.push_str(", ");
        }
        None => out.push_str("[null, "),
    }
    let mut members = Object::open(out, depth);
    for (name, field) in &definition.fields {
        members.member(name, |out, depth| {
            out.push('[');
            write_display(out, field.offset);
            out.push_str(", ");
            write_type(out, &field.ty, depth);
            out.push(']');
        });
    }
    members.close();
    out.push(']');
}

/// What [`Type::to_json`] says, written without making it: types are most of a profile.
fn write_type(out: &mut String, ty: &Type, depth: usize) {
    out.push('[');
    write_string(out, ty.class());
    if has_arguments(ty) {
        out.push_str(", ");
        write_arguments(out, ty, depth);
    }
    out.push(']');
}

fn has_arguments(ty: &Type) -> bool {
    match ty {
        Type::Named(_) | Type::Void => false,
        Type::Pointer(_) | Type::Pointer32(_) | Type::Array { .. } | Type::BitField { .. } => true,
        Type::Enumeration { name, choices, target } => {
            name.is_some() || !choices.is_empty() || target.is_some()
        }
        Type::Function(arguments) => !arguments.is_empty(),
        Type::Other { args, .. } => !args.is_empty(),
    }
}

/// Keyword arguments, keys in order.
fn write_arguments(out: &mut String, ty: &Type, depth: usize) {
    if let Type::Other { args, .. } = ty {
        return write_map(out, args, depth);
    }
    let mut object = Object::open(out, depth);
    match ty {
        Type::Named(_) | Type::Void | Type::Other { .. } => {}
        Type::Pointer(target) | Type::Pointer32(target) => write_target(&mut object, target),
        Type::Array { count, size, target } => {
            for (key, value) in [("count", count), ("size", size)] {
                if let Some(value) = value {
                    object.member(key, |out, _| write_display(out, value));
                }
            }
            write_target(&mut object, target);
        }
        Type::BitField { start, end, target } => {
            object.member("end_bit", |out, _| write_display(out, end));
            object.member("start_bit", |out, _| write_display(out, start));
            target.iter().for_each(|target| write_target(&mut object, target));
        }
        Type::Enumeration { name, choices, target } => {
            if !choices.is_empty() {
                let choices = choices.iter().map(|(value, name)| (value.to_string(), Value::from(&**name)));
                object.member("choices", |out, depth| write_map(out, &choices.collect(), depth));
            }
            if let Some(name) = name {
                object.member("enum_name", |out, _| write_string(out, name));
            }
            target.iter().for_each(|target| write_target(&mut object, target));
        }
        Type::Function(arguments) => object.member("args", |out, depth| {
            out.push('[');
            for (i, argument) in arguments.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_type(out, argument, depth);
            }
            out.push(']');
        }),
    }
    object.close();
}

fn write_target(object: &mut Object<'_>, target: &Type) {
    object.member("target", |out, _| write_string(out, target.class()));
    if has_arguments(target) {
        object.member("target_args", |out, depth| write_arguments(out, target, depth));
    }
}

fn write_display(out: &mut String, value: impl fmt::Display) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{value}");
}

fn write_string(out: &mut String, text: &str) {
    if text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        write_display(out, Value::from(text));
    }
}

fn write_value(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) => write_map(out, map, depth),
        Value::Array(list) => {
            out.push('[');
            for (i, value) in list.iter().enumerate() {
                if i > 0 {
                    out.push_str(", ");
                }
                write_value(out, value, depth);
            }
            out.push(']');
        }
        scalar => write_display(out, scalar),
    }
}

fn write_map(out: &mut String, map: &Map<String, Value>, depth: usize) {
    let mut object = Object::open(out, depth);
    for (key, value) in map {
        if !matches!(value, Value::Object(inner) if inner.is_empty()) {
            object.member(key, |out, depth| write_value(out, value, depth));
        }
    }
    object.close();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn types_are_written_as_their_json() {
        let pointer = Type::pointer(Type::array(3, Type::pointer(Type::named("_X"))));
        let bits = Type::BitField { start: 1, end: 4, target: Some(Box::new(Type::named("unsigned long"))) };
        let choices =
            BTreeMap::from([(2, "TWO".to_owned()), (10, "TEN \"\n\u{e9}".to_owned()), (-1, String::new())]);
        let args = serde_json::json!({"length": 3, "empty": {}, "deep": {"a": [1, {"b": null}]}});
        let types = [
            Type::named("unsigned long"),
            Type::Void,
            Type::Pointer32(Box::new(pointer.clone())),
            Type::Array { count: None, size: Some(8), target: Box::new(Type::Void) },
            Type::Array { count: Some(1), size: Some(8), target: Box::new(bits.clone()) },
            Type::BitField { start: 0, end: 1, target: None },
            Type::Enumeration { name: None, choices: BTreeMap::new(), target: None },
            Type::Enumeration { name: Some("E\\".to_owned()), choices, target: Some(Box::new(bits)) },
            Type::Function(Vec::new()),
            Type::Function(vec![pointer, Type::Function(vec![Type::Void])]),
            Type::Other { class: "String".to_owned(), args: args.as_object().cloned().unwrap_or_default() },
            Type::Other { class: "Flags".to_owned(), args: Map::new() },
        ];
        for ty in types {
            let (mut direct, mut through) = (String::new(), String::new());
            write_type(&mut direct, &ty, 3);
            write_value(&mut through, &ty.to_json(), 3);
            assert_eq!(direct, through);
        }
    }

    #[test]
    fn sections_stand_in_order_with_and_without_structs() {
        let mut document = Document::default();
        assert_eq!(document.to_canonical_json(), "{}");
        document.other.insert("$ZZ".to_owned(), Value::from(1));
        assert_eq!(document.to_canonical_json(), "{\n \"$ZZ\": 1\n}");
        document.structs.insert("a".to_owned(), Struct { size: Some(4), ..Struct::default() });
        assert_eq!(
            document.to_canonical_json(),
            "{\n \"$STRUCTS\": {\n  \"a\": [4, {}]\n }, \n \"$ZZ\": 1\n}"
        );
        document.set("Type", "Profile");
        document.structs.insert("b".to_owned(), Struct::default());
        let text = document.to_canonical_json();
        let order =
            ["$METADATA", "$STRUCTS", "\"a\"", "\"b\": [null, {}]", "$ZZ"].map(|part| text.find(part));
        assert!(order.is_sorted() && order[0].is_some(), "{text}");
        assert!(serde_json::from_str::<Value>(&text).is_ok());
    }
}
