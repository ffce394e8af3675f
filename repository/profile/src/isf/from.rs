//! Reading ISF.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::base64;
use crate::document::{Document, Enum};
use crate::names::release_of_banner;
use crate::vtype::{Field, MAX_TYPE_NESTING, Struct, Type};

/// Most anonymous members followed below one struct; the widest kernel struct has a few dozen.
const MAX_ANONYMOUS: usize = 4096;

/// Why a text is no usable ISF.
#[derive(Debug, thiserror::Error)]
pub enum IsfError {
    /// Not JSON of the expected shape.
    #[error("not an ISF symbol table: {0}")]
    Json(#[from] serde_json::Error),
    /// A type that cannot be understood; the text names it.
    #[error("damaged ISF type: {0}")]
    Type(String),
}

#[derive(Deserialize)]
struct Isf {
    metadata: Map<String, Value>,
    #[serde(default)]
    base_types: BTreeMap<String, BaseType>,
    #[serde(default)]
    user_types: BTreeMap<String, UserType>,
    #[serde(default)]
    enums: BTreeMap<String, IsfEnum>,
    #[serde(default)]
    symbols: BTreeMap<String, IsfSymbol>,
}

#[derive(Deserialize)]
struct BaseType {
    size: u64,
}

#[derive(Deserialize)]
struct UserType {
    size: u64,
    #[serde(default)]
    fields: BTreeMap<String, IsfField>,
}

#[derive(Deserialize)]
struct IsfField {
    offset: i64,
    #[serde(rename = "type")]
    ty: Value,
    #[serde(default)]
    anonymous: bool,
}

#[derive(Deserialize)]
struct IsfEnum {
    #[serde(default)]
    base: String,
    #[serde(default)]
    constants: BTreeMap<String, i128>,
}

#[derive(Deserialize)]
struct IsfSymbol {
    address: u64,
    #[serde(rename = "type")]
    ty: Option<Value>,
    constant_data: Option<String>,
}

/// Whether a JSON text looks like ISF rather than a profile; decides by the first 64 KiB.
#[must_use]
pub fn is_isf(text: &str) -> bool {
    let head = (0..=text.len().min(64 << 10)).rev().find_map(|end| text.get(..end)).unwrap_or_default();
    let has = |key: &str| head.contains(key);
    !has("\"$METADATA\"")
        && !has("\"$CONSTANTS\"")
        && !has("\"$STRUCTS\"")
        && (has("\"base_types\"") || (has("\"metadata\"") && has("\"producer\"")))
}

/// Makes a profile document of an ISF's JSON text.
pub fn document_from_isf(text: &str) -> Result<Document, IsfError> {
    let isf: Isf = serde_json::from_str(text)?;
    let reader = Reader { enums: &isf.enums };
    let mut document = Document::default();
    for (name, user) in &isf.user_types {
        let mut structure = Struct { size: Some(user.size), fields: BTreeMap::new() };
        for (field, definition) in &user.fields {
            let ty = reader
                .ty(&definition.ty, 0)
                .map_err(|what| IsfError::Type(format!("{name}.{field}: {what}")))?;
            structure.fields.insert(field.clone(), Field { offset: definition.offset, ty });
        }
        document.structs.insert(name.clone(), structure);
    }
    hoist_anonymous(&isf.user_types, &mut document);
    for (name, definition) in &isf.enums {
        let mut table = Enum::default();
        for (constant, value) in &definition.constants {
            table.insert(constant.clone(), *value);
        }
        document.enums.insert(name.clone(), table);
    }
    let mut banner = None;
    for (name, symbol) in &isf.symbols {
        document.constants.insert(name.clone(), symbol.address);
        if let Some(ty) = &symbol.ty {
            let ty = reader.ty(ty, 0).map_err(|what| IsfError::Type(format!("{name}: {what}")))?;
            if ty != Type::Void {
                document.constant_types.insert(name.clone(), ty);
            }
        }
        if name == "linux_banner" {
            banner = symbol.constant_data.as_deref().and_then(base64::decode);
        }
    }
    let pointer = isf.base_types.get("pointer").map_or(8, |base| base.size);
    set_metadata(&mut document, isf.metadata, pointer, banner.as_deref());
    Ok(document)
}

struct Reader<'a> {
    enums: &'a BTreeMap<String, IsfEnum>,
}

impl Reader<'_> {
    fn ty(&self, value: &Value, depth: usize) -> Result<Type, String> {
        if depth > MAX_TYPE_NESTING {
            return Err("types nest too deep".to_owned());
        }
        let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        let inner =
            |key: &str| value.get(key).ok_or_else(|| format!("no {key}")).and_then(|v| self.ty(v, depth + 1));
        let number = |key: &str| value.get(key).and_then(Value::as_u64).ok_or_else(|| format!("no {key}"));
        Ok(match text("kind") {
            "base" if text("name") == "void" => Type::Void,
            "base" if text("name") == "pointer" => Type::pointer(Type::Void),
            "base" | "struct" | "union" | "class" if !text("name").is_empty() => Type::named(text("name")),
            "pointer" => Type::pointer(inner("subtype")?),
            "array" => Type::array(number("count")?, inner("subtype")?),
            "function" => Type::Function(Vec::new()),
            "enum" => self.enumeration(text("name"), None),
            "bitfield" => {
                let start = u32::try_from(number("bit_position")?).map_err(|e| e.to_string())?;
                let length = u32::try_from(number("bit_length")?).map_err(|e| e.to_string())?;
                let end =
                    start.checked_add(length).filter(|&end| end <= 128).ok_or("bit-field out of range")?;
                match inner("type")? {
                    Type::Enumeration { name: Some(name), target, .. } => {
                        self.enumeration(&name, Some(Type::BitField { start, end, target }))
                    }
                    target => Type::BitField { start, end, target: Some(Box::new(target)) },
                }
            }
            other => return Err(format!("unknown kind {other:?}")),
        })
    }

    fn enumeration(&self, name: &str, stored: Option<Type>) -> Type {
        let base = self.enums.get(name).map(|table| table.base.as_str()).filter(|base| !base.is_empty());
        let target = stored.unwrap_or_else(|| Type::named(base.unwrap_or("int")));
        Type::Enumeration {
            name: Some(name.to_owned()),
            choices: BTreeMap::new(),
            target: Some(Box::new(target)),
        }
    }
}

/// Makes the members of anonymous members reachable by the names C code uses, as our own generators do.
fn hoist_anonymous(types: &BTreeMap<String, UserType>, document: &mut Document) {
    for (name, user) in types {
        let mut hoisted: Vec<(String, Field)> = Vec::new();
        let mut pending: Vec<(i64, &IsfField, usize)> = user
            .fields
            .values()
            .filter(|field| field.anonymous)
            .map(|field| (field.offset, field, 0))
            .collect();
        let mut budget = MAX_ANONYMOUS;
        while let Some((offset, member, depth)) = pending.pop() {
            let Some(left) = budget.checked_sub(1) else { break };
            budget = left;
            let inner = member.ty.get("name").and_then(Value::as_str).unwrap_or_default();
            let (Some(inner_type), Some(converted)) = (types.get(inner), document.structs.get(inner)) else {
                continue;
            };
            for (field, definition) in &inner_type.fields {
                let at = offset.wrapping_add(definition.offset);
                if definition.anonymous && depth < MAX_TYPE_NESTING {
                    pending.push((at, definition, depth + 1));
                } else if let Some(known) = converted.fields.get(field) {
                    hoisted.push((field.clone(), Field { offset: at, ty: known.ty.clone() }));
                }
            }
        }
        if let Some(structure) = document.structs.get_mut(name) {
            for (field, definition) in hoisted {
                structure.fields.entry(field).or_insert(definition);
            }
        }
    }
}

fn set_metadata(
    document: &mut Document,
    mut metadata: Map<String, Value>,
    pointer: u64,
    banner: Option<&[u8]>,
) {
    document.set("Type", "Profile");
    document.set("Version", 1);
    let pdb = metadata.get("windows").and_then(|windows| windows.get("pdb")).cloned();
    let is_linux = metadata.contains_key("linux") || document.constants.contains_key("linux_banner");
    if let Some(pdb) = pdb {
        let text = |key: &str| pdb.get(key).and_then(Value::as_str).unwrap_or_default();
        let database = text("database");
        let class = database.rsplit_once('.').map_or(database, |(stem, _)| stem);
        let class: String =
            class.chars().enumerate().map(|(i, c)| if i == 0 { c.to_ascii_uppercase() } else { c }).collect();
        let age = pdb.get("age").and_then(Value::as_u64).unwrap_or(1);
        document.set("ProfileClass", class);
        document.set("PDBFile", database);
        document.set("GUID_AGE", format!("{}{age:X}", text("GUID").to_ascii_uppercase()));
        // IMAGE_FILE_MACHINE_* of the PE header.
        document.set(
            "arch",
            match pdb.get("machine_type").and_then(Value::as_u64) {
                Some(0x14c) => "I386",
                Some(0xaa64) => "ARM64",
                Some(0x1c0 | 0x1c4) => "ARM",
                _ if pointer == 4 => "I386",
                _ => "AMD64",
            },
        );
    } else {
        document.set("ProfileClass", if is_linux { "Linux" } else { "Darwin" });
        document.set("arch", if pointer == 4 { "I386" } else { "AMD64" });
    }
    if let Some(banner) = banner {
        let text = String::from_utf8_lossy(banner);
        let banner = text.trim_end_matches(['\0', '\n']);
        if let Some(release) = release_of_banner(banner) {
            document.set("Release", release);
        }
        document.set("Banner", banner);
    }
    // Kept so that writing ISF again gives back what only ISF says; the version is that of whoever writes.
    metadata.remove("format");
    document.set("ISF", Value::Object(metadata));
}
