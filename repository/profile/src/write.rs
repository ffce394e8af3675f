//! Canonical writing: the same document is the same bytes on every machine.
//!
//! The text form is that of the original (keys sorted, one member per line, one space of indentation per level of
//! objects, `", \n"` between members, empty objects dropped, lists on one line), so diffs against old files stay small.

use std::io::Write as _;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::document::Document;
use crate::vtype::Struct;

impl Document {
    /// The canonical JSON text, without a trailing newline.
    #[must_use]
    pub fn to_canonical_json(&self) -> String {
        let mut sections: Vec<&str> = [
            ("$CONFIG", self.config.is_empty()),
            ("$CONSTANTS", self.constants.is_empty()),
            ("$CONSTANT_TYPES", self.constant_types.is_empty()),
            ("$ENUMS", self.enums.is_empty()),
            ("$FUNCTIONS", self.functions.is_empty()),
            ("$MERGE", self.merge.is_empty()),
            ("$METADATA", self.metadata.is_empty()),
            ("$REVENUMS", self.enums.is_empty()),
            ("$STRUCTS", self.structs.is_empty()),
        ]
        .into_iter()
        .filter_map(|(name, empty)| (!empty).then_some(name))
        .chain(self.other.keys().map(String::as_str))
        .collect();
        sections.sort_unstable();
        sections.dedup();

        let mut out = String::new();
        let mut document = Object::open(&mut out, 0);
        for section in sections {
            self.write_section(&mut document, section);
        }
        document.close();
        out
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
                document.object(section, &self.constants, |out, _, n| out.push_str(&n.to_string()));
            }
            "$FUNCTIONS" => {
                document.object(section, &self.functions, |out, _, n| out.push_str(&n.to_string()));
            }
            "$CONSTANT_TYPES" => {
                document.object(section, &self.constant_types, |out, depth, ty| {
                    write_value(out, &ty.to_json(), depth);
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
                    names.member(name, |out, _| out.push_str(&value.to_string()));
                }
                names.close();
            }),
            "$MERGE" => document.member(section, |out, depth| {
                write_value(out, &Value::from(self.merge.clone()), depth);
            }),
            "$METADATA" => {
                document.object(section, &self.metadata, |out, depth, v| write_value(out, v, depth));
            }
            "$STRUCTS" => {
                document.object(section, &self.structs, |out, depth, v| write_struct(out, v, depth));
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
    out.extend(std::iter::repeat_n(' ', depth));
}

fn write_struct(out: &mut String, definition: &Struct, depth: usize) {
    match definition.size {
        Some(size) => out.push_str(&format!("[{size}, ")),
        None => out.push_str("[null, "),
    }
    let mut members = Object::open(out, depth);
    for (name, field) in &definition.fields {
        members.member(name, |out, depth| {
            out.push_str(&format!("[{}, ", field.offset));
            write_value(out, &field.ty.to_json(), depth);
            out.push(']');
        });
    }
    members.close();
    out.push(']');
}

fn write_string(out: &mut String, text: &str) {
    out.push_str(&Value::from(text).to_string());
}

fn write_value(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) => {
            let mut object = Object::open(out, depth);
            for (key, value) in map {
                if !matches!(value, Value::Object(inner) if inner.is_empty()) {
                    object.member(key, |out, depth| write_value(out, value, depth));
                }
            }
            object.close();
        }
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
        scalar => out.push_str(&scalar.to_string()),
    }
}
