//! The vtype language: what the bytes at an offset mean.
//!
//! A field is `[offset, [class, {kwargs}]]`; nested types are spelled `target` + `target_args`. The legacy list
//! grammar of Volatility (`["pointer", ["X"]]`) and every short form the original wrote are read, never written.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Deepest nesting of types inside one field (pointer to array of pointer ...) that is read.
pub const MAX_TYPE_NESTING: usize = 32;

/// Why a type, field or struct of a profile cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TypeError {
    /// The JSON has another shape than the vtype grammar; the text names the offending part.
    #[error("not a vtype: {0}")]
    Shape(String),
    /// Types nest deeper than [`MAX_TYPE_NESTING`].
    #[error("types nest deeper than {MAX_TYPE_NESTING}")]
    TooDeep,
}

/// What stands at a place in memory.
#[derive(Debug, Clone, PartialEq)]
pub enum Type {
    /// A native type (`unsigned int`), a struct or union by name, or a class with behaviour by name (`timespec`).
    Named(String),
    /// No type: only the address is known (`Void`).
    Void,
    /// A pointer of the target's native width.
    Pointer(Box<Type>),
    /// A 32-bit pointer also on 64-bit targets (WoW64, registry).
    Pointer32(Box<Type>),
    /// Consecutive elements. Either `count` is known or `size`, the whole length in bytes.
    Array {
        /// Number of elements; absent where only the byte size is known.
        count: Option<u64>,
        /// Length in bytes; written by the original for element types whose size it did not know.
        size: Option<u64>,
        /// Type of one element.
        target: Box<Type>,
    },
    /// Bits `start..end` (end exclusive, 0 = least significant) of an integer.
    BitField {
        /// First bit.
        start: u32,
        /// One past the last bit.
        end: u32,
        /// The integer that stores the bits; `None` means the default `unsigned long` of the original.
        target: Option<Box<Type>>,
    },
    /// An integer whose values have names.
    Enumeration {
        /// Key in `$ENUMS`; absent where the names are inline.
        name: Option<String>,
        /// Inline value-to-name table of hand-made profiles.
        choices: BTreeMap<i128, String>,
        /// The integer (or bit-field) that stores the value; `None` means `unsigned long`.
        target: Option<Box<Type>>,
    },
    /// A code address with the types of its arguments.
    Function(Vec<Type>),
    /// A class this crate gives no meaning to (`Flags`, `String`, `UnicodeString`, `Signature`, ...), kept verbatim.
    Other {
        /// Class name.
        class: String,
        /// Its keyword arguments.
        args: Map<String, Value>,
    },
}

/// One member of a struct.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Bytes from the start of the struct; negative where a header in front is described.
    pub offset: i64,
    /// What stands there.
    pub ty: Type,
}

/// A struct or union.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Struct {
    /// Size in bytes; absent where the profile does not know it.
    pub size: Option<u64>,
    /// Members by name.
    pub fields: BTreeMap<String, Field>,
}

impl Type {
    /// A type by name.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self::Named(name.into())
    }

    /// A pointer to `target`.
    #[must_use]
    pub fn pointer(target: Type) -> Self {
        Self::Pointer(Box::new(target))
    }

    /// An array of `count` elements.
    #[must_use]
    pub fn array(count: u64, target: Type) -> Self {
        Self::Array { count: Some(count), size: None, target: Box::new(target) }
    }

    /// Reads a target list such as `["Pointer", {"target": "list_head"}]`, in any grammar the original accepted.
    pub fn from_json(value: &Value) -> Result<Self, TypeError> {
        parse_target(value, 0)
    }

    /// The canonical target list of this type.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let args = self.args();
        let mut list = vec![Value::from(self.class())];
        if !args.is_empty() {
            list.push(Value::Object(args));
        }
        Value::Array(list)
    }

    /// The name that the vtype language has for what this is.
    pub(crate) fn class(&self) -> &str {
        match self {
            Self::Named(name) => name,
            Self::Void => "Void",
            Self::Pointer(_) => "Pointer",
            Self::Pointer32(_) => "Pointer32",
            Self::Array { .. } => "Array",
            Self::BitField { .. } => "BitField",
            Self::Enumeration { .. } => "Enumeration",
            Self::Function(_) => "Function",
            Self::Other { class, .. } => class,
        }
    }

    fn args(&self) -> Map<String, Value> {
        let mut args = Map::new();
        match self {
            Self::Named(_) | Self::Void => {}
            Self::Pointer(target) | Self::Pointer32(target) => put_target(&mut args, target),
            Self::Array { count, size, target } => {
                if let Some(count) = count {
                    args.insert("count".to_owned(), Value::from(*count));
                }
                if let Some(size) = size {
                    args.insert("size".to_owned(), Value::from(*size));
                }
                put_target(&mut args, target);
            }
            Self::BitField { start, end, target } => {
                args.insert("start_bit".to_owned(), Value::from(*start));
                args.insert("end_bit".to_owned(), Value::from(*end));
                if let Some(target) = target {
                    put_target(&mut args, target);
                }
            }
            Self::Enumeration { name, choices, target } => {
                if let Some(name) = name {
                    args.insert("enum_name".to_owned(), Value::from(name.clone()));
                }
                if !choices.is_empty() {
                    let table =
                        choices.iter().map(|(k, v)| (k.to_string(), Value::from(v.clone()))).collect();
                    args.insert("choices".to_owned(), Value::Object(table));
                }
                if let Some(target) = target {
                    put_target(&mut args, target);
                }
            }
            Self::Function(list) => {
                if !list.is_empty() {
                    args.insert("args".to_owned(), Value::Array(list.iter().map(Type::to_json).collect()));
                }
            }
            Self::Other { args: known, .. } => args.clone_from(known),
        }
        args
    }
}

fn put_target(args: &mut Map<String, Value>, target: &Type) {
    let inner = target.args();
    args.insert("target".to_owned(), Value::from(target.class()));
    if !inner.is_empty() {
        args.insert("target_args".to_owned(), Value::Object(inner));
    }
}

fn parse_target(value: &Value, depth: usize) -> Result<Type, TypeError> {
    if depth > MAX_TYPE_NESTING {
        return Err(TypeError::TooDeep);
    }
    let list = match value {
        Value::Array(list) => list.as_slice(),
        // A bare name, seen in hand-made profiles.
        Value::String(name) => return build(name, &Map::new(), depth),
        other => return Err(shape("target", other)),
    };
    let Some(Value::String(class)) = list.first() else {
        return Err(shape("target", value));
    };
    if let Some(legacy) = parse_legacy(class, list, depth)? {
        return Ok(legacy);
    }
    match list.get(1) {
        None | Some(Value::Null) => build(class, &Map::new(), depth),
        Some(Value::Object(args)) => build(class, args, depth),
        Some(other) => Err(shape("arguments", other)),
    }
}

/// The list grammar of Volatility 2: `["pointer", ["X"]]`, `["array", N, ["X"]]`.
fn parse_legacy(class: &str, list: &[Value], depth: usize) -> Result<Option<Type>, TypeError> {
    let inner = |value: &Value| parse_target(value, depth + 1).map(Box::new);
    Ok(match (class, list.get(1), list.get(2)) {
        ("pointer" | "pointer64" | "address", Some(target @ Value::Array(_)), None) => {
            Some(Type::Pointer(inner(target)?))
        }
        ("pointer32", Some(target @ Value::Array(_)), None) => Some(Type::Pointer32(inner(target)?)),
        ("array", Some(count), Some(target)) => {
            let count = count.as_u64().ok_or_else(|| shape("array count", count))?;
            Some(Type::Array { count: Some(count), size: None, target: inner(target)? })
        }
        ("void", None, None) => Some(Type::Void),
        _ => None,
    })
}

fn build(class: &str, args: &Map<String, Value>, depth: usize) -> Result<Type, TypeError> {
    let known = |allowed: &[&str]| args.keys().all(|key| allowed.contains(&key.as_str()));
    let other = || Type::Other { class: class.to_owned(), args: args.clone() };
    Ok(match class {
        "Void" | "void" if args.is_empty() => Type::Void,
        "Pointer" | "pointer" if known(&["target", "target_args"]) => {
            Type::Pointer(Box::new(inner_target(args, depth)?.unwrap_or(Type::Void)))
        }
        "Pointer32" if known(&["target", "target_args"]) => {
            Type::Pointer32(Box::new(inner_target(args, depth)?.unwrap_or(Type::Void)))
        }
        "Array" if known(&["count", "size", "target", "target_args"]) => Type::Array {
            count: integer(args, "count")?,
            size: integer(args, "size")?,
            target: Box::new(inner_target(args, depth)?.unwrap_or(Type::Void)),
        },
        "BitField" if known(&["start_bit", "end_bit", "target", "target_args", "native_type"]) => {
            Type::BitField {
                start: bit(args, "start_bit", 0)?,
                end: bit(args, "end_bit", 32)?,
                target: inner_target(args, depth)?.map(Box::new),
            }
        }
        "Enumeration"
            if known(&["enum_name", "choices", "target", "target_args"])
                && args.get("choices").is_none_or(Value::is_object) =>
        {
            Type::Enumeration {
                name: args.get("enum_name").and_then(Value::as_str).map(str::to_owned),
                choices: choices(args)?,
                target: inner_target(args, depth)?.map(Box::new),
            }
        }
        "Function" if known(&["args"]) => match args.get("args") {
            None | Some(Value::Null) => Type::Function(Vec::new()),
            Some(Value::Array(list)) => {
                Type::Function(list.iter().map(|t| parse_target(t, depth + 1)).collect::<Result<_, _>>()?)
            }
            Some(value) => return Err(shape("function arguments", value)),
        },
        _ if args.is_empty() => Type::Named(class.to_owned()),
        _ => other(),
    })
}

/// `target` + `target_args`, or the older `native_type`; `target_args: null` is the DWARF writer's empty.
fn inner_target(args: &Map<String, Value>, depth: usize) -> Result<Option<Type>, TypeError> {
    if depth >= MAX_TYPE_NESTING {
        return Err(TypeError::TooDeep);
    }
    let Some(target) = args.get("target").or_else(|| args.get("native_type")) else { return Ok(None) };
    match (target, args.get("target_args")) {
        (Value::Null, _) => Ok(None),
        (Value::String(class), None | Some(Value::Null)) => build(class, &Map::new(), depth + 1).map(Some),
        (Value::String(class), Some(Value::Object(inner))) => build(class, inner, depth + 1).map(Some),
        (Value::Array(_), _) => parse_target(target, depth + 1).map(Some),
        (other, _) => Err(shape("target", other)),
    }
}

fn integer(args: &Map<String, Value>, key: &str) -> Result<Option<u64>, TypeError> {
    match args.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| shape(key, value)),
    }
}

fn bit(args: &Map<String, Value>, key: &str, default: u32) -> Result<u32, TypeError> {
    match integer(args, key)? {
        None => Ok(default),
        Some(bit) if bit <= 128 => Ok(u32::try_from(bit).unwrap_or(default)),
        Some(bit) => Err(TypeError::Shape(format!("{key} out of range: {bit}"))),
    }
}

fn choices(args: &Map<String, Value>) -> Result<BTreeMap<i128, String>, TypeError> {
    let Some(Value::Object(table)) = args.get("choices") else { return Ok(BTreeMap::new()) };
    table
        .iter()
        .map(|(key, name)| match (key.parse::<i128>(), name.as_str()) {
            (Ok(key), Some(name)) => Ok((key, name.to_owned())),
            _ => Err(shape("choices", name)),
        })
        .collect()
}

fn shape(what: &str, value: &Value) -> TypeError {
    let mut text = value.to_string();
    if text.len() > 80 {
        let cut = (0..=80).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
        text.truncate(cut);
        text.push_str("...");
    }
    TypeError::Shape(format!("{what}: {text}"))
}

impl Struct {
    /// Reads `[size, {member: [offset, target]}]`. A field may start beyond the size: the original merged types of one
    /// name (`<unnamed-tag>` of its profile `pe`), and what a profile says is kept as it is.
    pub fn from_json(value: &Value) -> Result<Self, TypeError> {
        let Value::Array(list) = value else { return Err(shape("struct", value)) };
        let size = match list.first() {
            None | Some(Value::Null) => None,
            Some(size) => Some(size.as_u64().ok_or_else(|| shape("struct size", size))?),
        };
        let mut fields = BTreeMap::new();
        match list.get(1) {
            None | Some(Value::Null) => {}
            Some(Value::Object(members)) => {
                for (name, member) in members {
                    fields.insert(name.clone(), Field::from_json(name, member)?);
                }
            }
            Some(other) => return Err(shape("struct members", other)),
        }
        Ok(Self { size, fields })
    }
}

impl Field {
    fn from_json(name: &str, value: &Value) -> Result<Self, TypeError> {
        let Value::Array(list) = value else { return Err(shape(name, value)) };
        let (Some(offset), Some(target)) = (list.first(), list.get(1)) else {
            return Err(shape(name, value));
        };
        let offset = offset.as_i64().ok_or_else(|| shape(name, offset))?;
        Ok(Self { offset, ty: Type::from_json(target)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn modern_and_legacy_grammar_read_as_the_same_type() {
        let modern = json!(["Pointer", {"target": "Array", "target_args": {"count": 3, "target": "X"}}]);
        let legacy = json!(["pointer", ["array", 3, ["X"]]]);
        let expected = Type::pointer(Type::array(3, Type::named("X")));
        assert_eq!(Type::from_json(&modern), Ok(expected.clone()));
        assert_eq!(Type::from_json(&legacy), Ok(expected));
    }

    #[test]
    fn short_forms_of_the_original_are_read() {
        assert_eq!(Type::from_json(&json!(["unsigned int"])), Ok(Type::named("unsigned int")));
        assert_eq!(Type::from_json(&json!(["unsigned int", {}])), Ok(Type::named("unsigned int")));
        assert_eq!(
            Type::from_json(&json!(["Pointer", {"target": "list_node", "target_args": null}])),
            Ok(Type::pointer(Type::named("list_node")))
        );
        assert_eq!(
            Type::from_json(&json!(["BitField", {"end_bit": 1, "native_type": "unsigned long"}])),
            Ok(Type::BitField { start: 0, end: 1, target: Some(Box::new(Type::named("unsigned long"))) })
        );
    }

    #[test]
    fn unknown_classes_survive_a_round_trip() {
        let value = json!(["Flags", {"maskmap": {"A": 1, "B": 2}, "target": "unsigned int"}]);
        assert_eq!(Type::from_json(&value).map(|t| t.to_json()), Ok(value));
    }

    #[test]
    fn endless_nesting_is_refused() {
        let mut value = json!({"target": "X"});
        for _ in 0..100 {
            value = json!({"target": "Pointer", "target_args": value});
        }
        assert_eq!(Type::from_json(&json!(["Pointer", value])), Err(TypeError::TooDeep));
    }

    #[test]
    fn a_field_outside_its_struct_is_kept() {
        let read = Struct::from_json(&json!([8, {"far": [12, ["int"]]}])).expect("a struct");
        assert_eq!((read.size, read.fields["far"].offset), (Some(8), 12));
    }
}
