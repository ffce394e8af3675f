//! Writing ISF.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::base64;
use crate::document::Document;
use crate::model::{DataModel, NativeKind};
use crate::vtype::{MAX_TYPE_NESTING, Struct, Type};

/// The version of the schema that is written.
const FORMAT: &str = "6.2.0";

/// The ISF of a profile, as JSON text. Deterministic: no time of writing, keys sorted.
#[must_use]
pub fn document_to_isf(document: &Document) -> String {
    let mut writer = Writer {
        document,
        model: DataModel::of(&document.metadata),
        windows: document.metadata.contains_key("GUID_AGE"),
        bases: BTreeSet::new(),
    };
    let user_types: Map<String, Value> = document
        .structs
        .iter()
        .map(|(name, structure)| (name.clone(), writer.user_type(structure)))
        .collect();
    let storage = enum_storage(document, writer.model);
    let mut enums = Map::new();
    for (name, table) in &document.enums {
        let base = storage.get(name.as_str()).cloned().unwrap_or_else(|| "int".to_owned());
        let size = writer.model.native(&base).map_or(4, |native| u64::from(native.size));
        writer.bases.insert(base.clone());
        let constants: Map<String, Value> =
            table.values.iter().map(|(constant, value)| (constant.clone(), number(*value))).collect();
        enums.insert(name.clone(), json!({"base": base, "size": size, "constants": constants}));
    }
    let symbols = writer.symbols();
    let isf = json!({
        "metadata": writer.metadata(),
        "base_types": writer.base_types(),
        "user_types": user_types,
        "enums": enums,
        "symbols": symbols,
    });
    isf.to_string()
}

struct Writer<'a> {
    document: &'a Document,
    model: DataModel,
    /// Whether it comes from a PDB: its compilers name every member, and `u1` is a name that Microsoft gives.
    windows: bool,
    /// Names of native types that are used.
    bases: BTreeSet<String>,
}

impl Writer<'_> {
    fn user_type(&mut self, structure: &Struct) -> Value {
        let fields: Map<String, Value> = structure
            .fields
            .iter()
            .map(|(name, field)| {
                let mut value = json!({"offset": field.offset, "type": self.ty(&field.ty, 0)});
                if !self.windows
                    && is_anonymous(name)
                    && let Some(object) = value.as_object_mut()
                {
                    object.insert("anonymous".to_owned(), Value::Bool(true));
                }
                (name.clone(), value)
            })
            .collect();
        json!({"kind": kind_of(structure), "size": structure.size.unwrap_or(0), "fields": fields})
    }

    fn ty(&mut self, ty: &Type, depth: usize) -> Value {
        if depth > MAX_TYPE_NESTING {
            return self.base("void");
        }
        match ty {
            Type::Void => self.base("void"),
            Type::Named(name) if self.model.native(name).is_some() => self.base(name),
            Type::Named(name) => {
                let kind = self.document.structs.get(name).map_or("struct", kind_of);
                json!({"kind": kind, "name": name})
            }
            Type::Pointer(target) => json!({"kind": "pointer", "subtype": self.ty(target, depth + 1)}),
            // ISF knows one pointer width; a narrower one is an integer there.
            Type::Pointer32(_) => self.base("unsigned int"),
            Type::Array { count, size, target } => {
                let by_size =
                    || size.zip(self.size_of(target, 0).filter(|&n| n > 0)).map(|(size, n)| size / n);
                let count = count.or_else(by_size).unwrap_or(0);
                json!({"kind": "array", "count": count, "subtype": self.ty(target, depth + 1)})
            }
            Type::BitField { start, end, target } => {
                let inner = match target {
                    Some(target) => self.ty(target, depth + 1),
                    None => self.base("unsigned long"),
                };
                bit_field(*start, *end, &inner)
            }
            Type::Enumeration { name, target, .. } => {
                let named = name.as_ref().filter(|name| self.document.enums.contains_key(*name));
                match (named, target.as_deref()) {
                    (Some(name), Some(Type::BitField { start, end, .. })) => {
                        bit_field(*start, *end, &json!({"kind": "enum", "name": name}))
                    }
                    (Some(name), _) => json!({"kind": "enum", "name": name}),
                    (None, Some(target)) => self.ty(target, depth + 1),
                    (None, None) => self.base("unsigned long"),
                }
            }
            Type::Function(_) => json!({"kind": "function"}),
            Type::Other { class, args } => self.class(class, args, depth),
        }
    }

    /// Classes that only profiles know, by what they store.
    fn class(&mut self, class: &str, args: &Map<String, Value>, depth: usize) -> Value {
        let length = args.get("length").and_then(Value::as_u64);
        match (class, length) {
            // The PDB converter writes the number of characters.
            ("UnicodeString", Some(length)) => {
                json!({"kind": "array", "count": length, "subtype": self.base("wchar")})
            }
            ("String", Some(length)) => {
                json!({"kind": "array", "count": length, "subtype": self.base("char")})
            }
            _ => match args.get("target").and_then(Value::as_str) {
                Some(target) => {
                    let inner = Type::from_json(&json!([target, args.get("target_args").cloned()]));
                    match inner {
                        Ok(inner) => self.ty(&inner, depth + 1),
                        Err(_) => self.base("void"),
                    }
                }
                None => self.base("void"),
            },
        }
    }

    fn base(&mut self, name: &str) -> Value {
        self.bases.insert(name.to_owned());
        json!({"kind": "base", "name": name})
    }

    fn size_of(&self, ty: &Type, depth: usize) -> Option<u64> {
        if depth > MAX_TYPE_NESTING {
            return None;
        }
        match ty {
            Type::Named(name) => match self.model.native(name) {
                Some(native) => Some(u64::from(native.size)),
                None => self.document.structs.get(name)?.size,
            },
            Type::Pointer(_) => Some(u64::from(self.model.pointer_size())),
            Type::Array { count: Some(count), target, .. } => {
                self.size_of(target, depth + 1)?.checked_mul(*count)
            }
            Type::Enumeration { target: Some(target), .. } => self.size_of(target, depth + 1),
            _ => None,
        }
    }

    fn symbols(&mut self) -> Map<String, Value> {
        let banner = self.document.metadata.get("Banner").and_then(Value::as_str).map(|banner| {
            // The kernel's string ends in a newline and a NUL, and Volatility compares all of it.
            format!("{banner}\n\0")
        });
        let document = self.document;
        let mut symbols = Map::new();
        // Whoever reads ISF may ask any symbol for its type; `void` is what its other writers give those without one.
        let untyped = self.base("void");
        for (name, address) in document.functions.iter().chain(&document.constants) {
            let ty = document.constant_types.get(name).map(|ty| self.ty(ty, 0));
            let mut symbol = json!({"address": address, "type": ty.as_ref().unwrap_or(&untyped)});
            if name == "linux_banner"
                && let (Some(banner), Some(object)) = (&banner, symbol.as_object_mut())
            {
                if ty.is_none() {
                    let ty = json!({"kind": "array", "count": banner.len(), "subtype": self.base("char")});
                    object.insert("type".to_owned(), ty);
                }
                object.insert("constant_data".to_owned(), Value::from(base64::encode(banner.as_bytes())));
            }
            symbols.insert(name.clone(), symbol);
        }
        symbols
    }

    fn base_types(&mut self) -> Map<String, Value> {
        let mut types = Map::new();
        types.insert(
            "void".to_owned(),
            json!({"endian": "little", "kind": "void", "signed": true, "size": 0}),
        );
        let pointer = self.model.pointer_size();
        types.insert(
            "pointer".to_owned(),
            json!({"endian": "little", "kind": "int", "signed": false, "size": pointer}),
        );
        for name in &self.bases {
            let Some(native) = self.model.native(name) else { continue };
            let (kind, signed) = match native.kind {
                NativeKind::Signed => ("int", true),
                NativeKind::Unsigned => ("int", false),
                NativeKind::Bool => ("bool", false),
                NativeKind::Char => ("char", true),
                NativeKind::Float => ("float", true),
            };
            let kind = if native.size == 1 && kind == "int" { "char" } else { kind };
            let base = json!({"endian": "little", "kind": kind, "signed": signed, "size": native.size});
            types.insert(name.clone(), base);
        }
        types
    }

    fn metadata(&self) -> Value {
        let text = |key: &str| self.document.metadata.get(key).and_then(Value::as_str);
        let mut metadata = match self.document.metadata.get("ISF") {
            Some(Value::Object(kept)) => kept.clone(),
            _ => Map::new(),
        };
        metadata.insert("format".to_owned(), Value::from(FORMAT));
        // The schema asks for a time; a fixed one keeps equal profiles equal.
        metadata.entry("producer").or_insert_with(|| {
            json!({"name": "rekal", "version": env!("CARGO_PKG_VERSION"), "datetime": "1970-01-01T00:00:00"})
        });
        if let Some((guid, age)) = text("GUID_AGE").and_then(|id| id.split_at_checked(32)) {
            metadata.entry("windows").or_insert_with(|| {
                let machine = match text("arch") {
                    Some("I386") => 0x14c,
                    Some("ARM64") => 0xaa64,
                    Some("ARM") => 0x1c4,
                    _ => 0x8664,
                };
                let age = u64::from_str_radix(age, 16).unwrap_or(1);
                let database = text("PDBFile").unwrap_or_default();
                json!({"pdb": {"GUID": guid, "age": age, "database": database, "machine_type": machine}})
            });
        } else if text("ProfileClass").is_some_and(|class| class.starts_with("Linux")) {
            metadata.entry("linux").or_insert_with(|| json!({}));
        } else if text("ProfileClass").is_some_and(|class| class.starts_with("Darwin")) {
            metadata.entry("mac").or_insert_with(|| json!({}));
        }
        Value::Object(metadata)
    }
}

/// The integer that stores each enum, from the fields that use it.
fn enum_storage(document: &Document, model: DataModel) -> BTreeMap<&str, String> {
    let mut storage: BTreeMap<&str, String> = BTreeMap::new();
    let fields = document.structs.values().flat_map(|structure| structure.fields.values());
    let mut pending: Vec<&Type> = fields.map(|field| &field.ty).collect();
    while let Some(ty) = pending.pop() {
        match ty {
            Type::Enumeration { name: Some(name), target: Some(target), .. } => {
                if let Type::Named(base) = target.as_ref()
                    && model.native(base).is_some()
                {
                    storage.insert(name, base.clone());
                }
            }
            Type::Pointer(target) | Type::Array { target, .. } => pending.push(target),
            _ => {}
        }
    }
    storage
}

fn bit_field(start: u32, end: u32, inner: &Value) -> Value {
    json!({"kind": "bitfield", "bit_position": start, "bit_length": end.saturating_sub(start), "type": inner})
}

/// Names that generators give to anonymous members: `u1`, `unnamed_field_0`.
fn is_anonymous(name: &str) -> bool {
    let digits = name.strip_prefix("unnamed_field_").or_else(|| name.strip_prefix('u'));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Profiles do not tell unions from structs; several members that all stand at offset 0 make a union.
fn kind_of(structure: &Struct) -> &'static str {
    let is_bit_field = |ty: &Type| matches!(ty, Type::BitField { .. });
    let fields = || structure.fields.values();
    if fields().count() > 1 && fields().all(|field| field.offset == 0 && !is_bit_field(&field.ty)) {
        "union"
    } else {
        "struct"
    }
}

fn number(value: i128) -> Value {
    match (i64::try_from(value), u64::try_from(value)) {
        (Ok(value), _) => Value::from(value),
        (_, Ok(value)) => Value::from(value),
        _ => Value::from(value.to_string()),
    }
}
