//! What an index is made of: the YAML files `<module>/index.yaml` of a repository's sources.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Largest specification in bytes.
const MAX_TEXT: usize = 1 << 20;
/// Traits per profile where the specification does not say.
const MIN_TRAITS: usize = 6;

/// Why a specification cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// It is no YAML of the expected shape.
    #[error("not an index specification: {0}")]
    Yaml(String),
    /// It is larger than 1 MiB.
    #[error("index specification is larger than 1 MiB")]
    TooLarge,
    /// Its `type` is none we know.
    #[error("unknown type of index (known: struct, symbol_offset, or none for an index of data): {0}")]
    Kind(String),
    /// It lacks what its type needs.
    #[error("index specification has no {0}")]
    Missing(&'static str),
    /// Data is neither hexadecimal nor text.
    #[error("data of {symbol} is neither hexadecimal nor begins with str: or lstr: : {data}")]
    Data {
        /// The symbol it is for.
        symbol: String,
        /// The data as written.
        data: String,
    },
}

/// A specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexSpec {
    /// The folder of profiles to index: `nt` for `nt/GUID/...`.
    pub path: String,
    /// What to record of each.
    pub kind: IndexKind,
}

/// What an index records of each profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexKind {
    /// Bytes that stand at symbols.
    Data {
        /// The symbol that offsets count from; without one they count from the module's base.
        base_symbol: Option<String>,
        /// The symbols and what stands there.
        symbols: Vec<SymbolData>,
    },
    /// Offsets of members of structs.
    Struct {
        /// Class to record for the index.
        class: String,
        /// Members by struct.
        members: BTreeMap<String, Vec<String>>,
    },
    /// Symbols whose distance from the base symbol no other profile has.
    Traits {
        /// Class to record for the index.
        class: String,
        /// The symbol that distances count from.
        base_symbol: String,
        /// How many such symbols to record of each profile.
        min_traits: usize,
    },
}

/// What stands at a symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolData {
    /// The symbol.
    pub name: String,
    /// Added to its address: -1 for the byte before a function.
    pub shift: i64,
    /// Byte strings of which one stands there.
    pub data: Vec<Vec<u8>>,
}

#[derive(Deserialize)]
struct RawSpec {
    #[serde(default)]
    path: String,
    #[serde(rename = "type")]
    kind: Option<String>,
    implementation: Option<String>,
    base_symbol: Option<String>,
    min_traits: Option<usize>,
    symbols: Option<Vec<RawSymbol>>,
    members: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Deserialize)]
struct RawSymbol {
    name: String,
    #[serde(default)]
    shift: i64,
    data: OneOrMany,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(Scalar),
    Many(Vec<Scalar>),
}

/// Text; hexadecimal digits without quotes may look like a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scalar {
    Number(u64),
    Text(String),
}

impl Scalar {
    fn into_text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

impl IndexSpec {
    /// Reads a specification.
    pub fn parse(yaml: &str) -> Result<Self, SpecError> {
        if yaml.len() > MAX_TEXT {
            return Err(SpecError::TooLarge);
        }
        let raw: RawSpec =
            serde_saphyr::from_str(yaml).map_err(|error| SpecError::Yaml(first_line(&error.to_string())))?;
        let path = raw.path.trim_matches('/').to_owned();
        if path.is_empty() {
            return Err(SpecError::Missing("path"));
        }
        let class = |default: &str| raw.implementation.clone().unwrap_or_else(|| default.to_owned());
        let kind = match raw.kind.as_deref() {
            None | Some("data" | "profile") => IndexKind::Data {
                base_symbol: raw.base_symbol.filter(|symbol| !symbol.is_empty()),
                symbols: raw
                    .symbols
                    .ok_or(SpecError::Missing("symbols"))?
                    .into_iter()
                    .map(symbol_data)
                    .collect::<Result<_, _>>()?,
            },
            Some("struct") => IndexKind::Struct {
                class: class("StructIndex"),
                members: raw.members.ok_or(SpecError::Missing("members"))?,
            },
            Some("symbol_offset") => IndexKind::Traits {
                class: class("SymbolOffsetIndex"),
                base_symbol: raw.base_symbol.ok_or(SpecError::Missing("base_symbol"))?,
                min_traits: raw.min_traits.unwrap_or(MIN_TRAITS).max(1),
            },
            Some(other) => return Err(SpecError::Kind(other.to_owned())),
        };
        Ok(Self { path, kind })
    }
}

/// Errors of the YAML reader show the place in several lines.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

fn symbol_data(raw: RawSymbol) -> Result<SymbolData, SpecError> {
    let texts = match raw.data {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    };
    let mut data = Vec::new();
    for text in texts.into_iter().map(Scalar::into_text) {
        let bytes = bytes_of(&text).filter(|bytes| !bytes.is_empty());
        let Some(bytes) = bytes else { return Err(SpecError::Data { symbol: raw.name, data: text }) };
        data.push(bytes);
    }
    if data.is_empty() {
        return Err(SpecError::Missing("data for a symbol"));
    }
    Ok(SymbolData { name: raw.name, shift: raw.shift, data })
}

/// `str:` is text in UTF-8, `lstr:` text in UTF-16, everything else is hexadecimal.
fn bytes_of(text: &str) -> Option<Vec<u8>> {
    if let Some(text) = text.strip_prefix("str:") {
        return Some(text.as_bytes().to_vec());
    }
    if let Some(text) = text.strip_prefix("lstr:") {
        return Some(text.encode_utf16().flat_map(u16::to_le_bytes).collect());
    }
    super::data::from_hex(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_text_or_hexadecimal() {
        let spec = IndexSpec::parse(
            "path: nt/\nsymbols:\n  - name: a\n    data: ['str:KernelSpace', lstr:~M, \"90\", CC]\n    shift: -1\n  - {name: b, data: 90}\n",
        );
        let spec = spec.unwrap();
        assert_eq!(spec.path, "nt");
        let IndexKind::Data { base_symbol: None, symbols } = spec.kind else { panic!("{:?}", spec.kind) };
        let expected = [&b"KernelSpace"[..], b"~\0M\0", &[0x90], &[0xcc]];
        assert_eq!((symbols[0].data.as_slice(), symbols[0].shift), (&expected.map(<[u8]>::to_vec)[..], -1));
        assert_eq!((symbols[1].data.as_slice(), symbols[1].shift), (&[vec![0x90]][..], 0));
    }

    #[test]
    fn the_other_kinds_name_their_class() {
        let spec =
            "path: nt\ntype: struct\nimplementation: EProcessIndex\nmembers:\n  _EPROCESS:\n    - Pcb\n";
        let members = BTreeMap::from([("_EPROCESS".to_owned(), vec!["Pcb".to_owned()])]);
        let kind = IndexKind::Struct { class: "EProcessIndex".to_owned(), members };
        assert_eq!(IndexSpec::parse(spec).unwrap().kind, kind);
        let spec = "type: symbol_offset\npath: Linux\nbase_symbol: \"linux_proc_banner\"\nmin_traits: 3\n";
        let IndexKind::Traits { base_symbol, min_traits, .. } = IndexSpec::parse(spec).unwrap().kind else {
            panic!("another kind")
        };
        assert_eq!((base_symbol.as_str(), min_traits), ("linux_proc_banner", 3));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let message = |text: &str| IndexSpec::parse(text).unwrap_err().to_string();
        assert_eq!(message("symbols: []"), "index specification has no path");
        assert_eq!(message("path: nt"), "index specification has no symbols");
        assert!(message("path: nt\ntype: other").starts_with("unknown type of index"));
        assert!(message("path: nt\nsymbols: [{name: a, data: xyz}]").ends_with(": xyz"));
        assert!(message("path: [").starts_with("not an index specification: "));
        // Aliases that expand to a thousand million items.
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..10 {
            let list = vec![format!("*a{}", n - 1); 10].join(",");
            bomb.push_str(&format!("a{n}: &a{n} [{list}]\n"));
        }
        bomb.push_str("path: *a9\n");
        assert!(message(&bomb).starts_with("not an index specification: "));
    }
}
