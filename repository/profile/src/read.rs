//! Bounded, lazy reading of profile documents.
//!
//! [`Profile::parse`] indexes the sections and the symbols; a struct is decoded when it is first asked for.
//! Everything read may be hostile: sizes, nesting and integer ranges are checked, duplicate keys are refused.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::sync::OnceLock;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::document::{Document, Enum, Metadata};
use crate::isf::{IsfError, document_from_isf, is_isf};
use crate::vtype::{Struct, Type, TypeError};

/// Decoder memory for the dictionaries of xz, in KiB: 128 MiB, twice what its strongest preset needs.
const DICTIONARY_KIB: u32 = 128 << 10;

/// Bounds on what is accepted as a profile.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest JSON text in bytes, after decompression.
    pub max_text: usize,
}

impl Default for Limits {
    /// 256 MiB of text; the largest real profile is about 40 MB.
    fn default() -> Self {
        Self { max_text: 256 << 20 }
    }
}

/// Why a document cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The gzip stream is damaged or ends early.
    #[error("damaged gzip stream: {0}")]
    Gzip(std::io::Error),
    /// The xz stream is damaged or ends early.
    #[error("damaged xz stream: {0}")]
    Xz(std::io::Error),
    /// A symbol table of Volatility 3 that cannot be understood.
    #[error(transparent)]
    Isf(#[from] IsfError),
    /// The text is larger than [`Limits::max_text`].
    #[error("profile is larger than the limit of {0} bytes")]
    TooLarge(usize),
    /// The text is not UTF-8.
    #[error("profile is not UTF-8 text: bad byte at {0}")]
    Utf8(usize),
    /// The text is an HTML page: typically a captive portal or an error page of a proxy.
    #[error(
        "an HTML page was found where a profile was expected; a proxy or captive portal may have answered"
    )]
    Html,
    /// The text is not JSON of the expected shape.
    #[error("not a profile: {0}")]
    Json(#[from] serde_json::Error),
    /// A section has another shape than the format says.
    #[error("damaged section {section}: {reason}")]
    Section {
        /// Name of the section.
        section: String,
        /// What is wrong.
        reason: String,
    },
    /// A struct cannot be understood.
    #[error("damaged struct {name}: {error}")]
    Struct {
        /// Name of the struct.
        name: String,
        /// What is wrong.
        error: TypeError,
    },
}

/// What a document is, from `$METADATA.Type` and `ProfileClass`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Layouts and symbols of one build.
    Profile,
    /// Another name for the profile `target`.
    Symlink {
        /// Name of the profile meant.
        target: String,
    },
    /// The list of what a repository holds.
    Inventory,
    /// An index that finds profiles by properties of an image.
    Index,
}

/// A symbol's name and link-time value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// Name, verbatim.
    pub name: &'a str,
    /// Value as stored, sign-extended to 64 bits where the original had masked it to 48.
    pub value: u64,
}

/// A profile in memory. Structs and the address index are decoded on first use.
pub struct Profile {
    text: Box<str>,
    metadata: Metadata,
    /// Where each struct's JSON stands in `text`, and its decoded form.
    structs: HashMap<Box<str>, Lazy>,
    sections: BTreeMap<String, Range<usize>>,
    constants: Symbols,
    functions: Symbols,
    enums: OnceLock<Result<BTreeMap<String, Enum>, String>>,
    by_address: OnceLock<Vec<(u64, u32)>>,
}

struct Lazy {
    span: Range<usize>,
    decoded: OnceLock<Result<Struct, TypeError>>,
}

/// Symbols sorted by name; the names share one buffer.
#[derive(Default)]
struct Symbols {
    names: String,
    entries: Vec<(Range<u32>, u64)>,
}

impl Profile {
    /// Reads a document, gzip- or xz-compressed or plain (told by content).
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, ReadError> {
        Self::parse_text(json_text(bytes, limits)?)
    }

    /// Reads a document from its JSON text. A symbol table of Volatility 3 is read as the profile it says the same as.
    pub fn parse_text(text: String) -> Result<Self, ReadError> {
        if is_isf(&text) {
            let document = document_from_isf(&text)?;
            drop(text);
            return Self::index(document.to_canonical_json());
        }
        Self::index(text)
    }

    fn index(text: String) -> Result<Self, ReadError> {
        let text = text.into_boxed_str();
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        let Entries(top) = Entries::deserialize(&mut deserializer).map_err(|error| html_or(&text, error))?;
        deserializer.end()?;
        let span = |raw: &RawValue| {
            // A raw value borrows from the text, so its address tells where it stands.
            let start = (raw.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
            start..start + raw.get().len()
        };
        let mut sections = BTreeMap::new();
        let mut metadata = Metadata::new();
        let mut structs = HashMap::new();
        let (mut constants, mut functions) = (Symbols::default(), Symbols::default());
        for (name, raw) in &top {
            let damaged = |error: serde_json::Error| ReadError::Section {
                section: name.to_string(),
                reason: error.to_string(),
            };
            match name.as_ref() {
                "$METADATA" => metadata = serde_json::from_str(raw.get()).map_err(damaged)?,
                "$STRUCTS" => {
                    let Entries(entries) = serde_json::from_str(raw.get()).map_err(damaged)?;
                    structs.reserve(entries.len());
                    for (name, raw) in entries {
                        let lazy = Lazy { span: span(raw), decoded: OnceLock::new() };
                        structs.insert(Box::from(name.as_ref()), lazy);
                    }
                }
                "$CONSTANTS" => constants = serde_json::from_str(raw.get()).map_err(damaged)?,
                "$FUNCTIONS" => functions = serde_json::from_str(raw.get()).map_err(damaged)?,
                _ => {}
            }
            // The seed document spells it `$ENUM`.
            let name = if name == "$ENUM" { "$ENUMS" } else { name.as_ref() };
            if sections.insert(name.to_owned(), span(raw)).is_some() {
                return Err(ReadError::Section {
                    section: name.to_owned(),
                    reason: "stands twice".to_owned(),
                });
            }
        }
        drop(top);
        let mut profile = Self {
            text,
            metadata,
            structs,
            sections,
            constants,
            functions,
            enums: OnceLock::new(),
            by_address: OnceLock::new(),
        };
        if profile.has_masked_addresses() {
            profile.constants.sign_extend();
            profile.functions.sign_extend();
        }
        Ok(profile)
    }

    /// The JSON text, as it was read.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// `$METADATA`; empty where the document has none.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// A text value of `$METADATA`.
    pub fn metadata_str(&self, key: &str) -> Option<&str> {
        self.metadata.get(key).and_then(Value::as_str)
    }

    /// What the document is. Without a `Type` it is a profile (hand-made files may spell the key `type`).
    pub fn kind(&self) -> Kind {
        let class = self.metadata_str("ProfileClass").unwrap_or_default();
        match self.metadata_str("Type").unwrap_or_default() {
            "Symlink" => Kind::Symlink { target: self.metadata_str("Target").unwrap_or_default().to_owned() },
            "Inventory" => Kind::Inventory,
            "Index" => Kind::Index,
            _ if class.ends_with("Index") => Kind::Index,
            _ => Kind::Profile,
        }
    }

    /// Processor architecture: `AMD64`, `I386`, `ARM`, `ARM64`, `MIPS`; absent where the profile does not say.
    pub fn arch(&self) -> Option<&str> {
        self.metadata_str("arch")
    }

    /// Whether a struct of this name is defined.
    pub fn has_struct(&self, name: &str) -> bool {
        self.structs.contains_key(name)
    }

    /// A struct's layout, decoded on first use; `None` where the profile does not define it.
    pub fn struct_def(&self, name: &str) -> Result<Option<&Struct>, ReadError> {
        let Some(lazy) = self.structs.get(name) else { return Ok(None) };
        let decode = || {
            let value: Value = serde_json::from_str(self.text.get(lazy.span.clone()).unwrap_or_default())
                .map_err(|error| TypeError::Shape(error.to_string()))?;
            Struct::from_json(&value)
        };
        match lazy.decoded.get_or_init(decode) {
            Ok(definition) => Ok(Some(definition)),
            Err(error) => Err(ReadError::Struct { name: name.to_owned(), error: error.clone() }),
        }
    }

    /// Names of all structs, sorted.
    pub fn struct_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.structs.keys().map(AsRef::as_ref).collect();
        names.sort_unstable();
        names
    }

    /// The link-time value of a symbol of data or code; `None` where the profile does not have it.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        self.constants.get(name).or_else(|| self.functions.get(name))
    }

    /// All symbols: first constants, then functions, each sorted by name.
    pub fn symbols(&self) -> impl Iterator<Item = Symbol<'_>> {
        self.constants.iter().chain(self.functions.iter())
    }

    /// Number of symbols.
    pub fn symbol_count(&self) -> usize {
        self.constants.entries.len() + self.functions.entries.len()
    }

    /// All symbols at the greatest value not above `value`, sorted by name; empty where there is none.
    pub fn symbols_at_or_below(&self, value: u64) -> Vec<Symbol<'_>> {
        let index = self.address_index();
        let end = index.partition_point(|&(v, _)| v <= value);
        let Some(&(found, _)) = end.checked_sub(1).and_then(|i| index.get(i)) else { return Vec::new() };
        let start = index.partition_point(|&(v, _)| v < found);
        let mut hits: Vec<Symbol<'_>> = index
            .get(start..end)
            .unwrap_or_default()
            .iter()
            .filter_map(|&(_, id)| self.symbol_by_id(id))
            .collect();
        hits.sort_unstable_by_key(|symbol| symbol.name);
        hits
    }

    fn address_index(&self) -> &[(u64, u32)] {
        self.by_address.get_or_init(|| {
            let mut index: Vec<(u64, u32)> = self.symbols().map(|s| s.value).zip(0u32..).collect();
            index.sort_unstable();
            index
        })
    }

    fn symbol_by_id(&self, id: u32) -> Option<Symbol<'_>> {
        let id = id as usize;
        let constants = self.constants.entries.len();
        if id < constants { self.constants.nth(id) } else { self.functions.nth(id - constants) }
    }

    /// One enum; `None` where the profile does not define it.
    pub fn enum_def(&self, name: &str) -> Result<Option<&Enum>, ReadError> {
        Ok(self.enums()?.get(name))
    }

    /// All enums by name.
    pub fn enums(&self) -> Result<&BTreeMap<String, Enum>, ReadError> {
        let decode = || {
            let names: BTreeMap<String, BTreeMap<String, String>> =
                self.section_or_default("$ENUMS").map_err(|e| e.to_string())?;
            let values: BTreeMap<String, BTreeMap<String, i128>> =
                self.section_or_default("$REVENUMS").map_err(|e| e.to_string())?;
            let mut enums: BTreeMap<String, Enum> = BTreeMap::new();
            for (name, table) in values {
                enums.entry(name).or_default().values = table;
            }
            for (name, table) in names {
                let target = enums.entry(name).or_default();
                for (value, label) in table {
                    // The last source of the original adds `"-1": "-"` to every enum; it is no enumerator.
                    if label == "-" {
                        continue;
                    }
                    let value: i128 = value.parse().map_err(|_| format!("value is no integer: {value:?}"))?;
                    target.values.entry(label.clone()).or_insert(value);
                    target.names.insert(value, label);
                }
            }
            for table in enums.values_mut() {
                for (label, value) in &table.values {
                    table.names.entry(*value).or_insert_with(|| label.clone());
                }
            }
            Ok(enums)
        };
        match self.enums.get_or_init(decode) {
            Ok(enums) => Ok(enums),
            Err(reason) => Err(ReadError::Section { section: "$ENUMS".to_owned(), reason: reason.clone() }),
        }
    }

    /// A kernel configuration value (`CONFIG_HZ`); `None` where the profile has no `$CONFIG` or lacks the key.
    pub fn config(&self, key: &str) -> Option<String> {
        let config: BTreeMap<String, Value> = self.section("$CONFIG").ok().flatten()?;
        config.get(key).and_then(Value::as_str).map(str::to_owned)
    }

    /// Decodes a whole section; `None` where the document lacks it.
    pub fn section<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<Option<T>, ReadError> {
        let Some(text) = self.sections.get(name).and_then(|span| self.text.get(span.clone())) else {
            return Ok(None);
        };
        serde_json::from_str(text)
            .map(Some)
            .map_err(|error| ReadError::Section { section: name.to_owned(), reason: error.to_string() })
    }

    fn section_or_default<T: for<'de> Deserialize<'de> + Default>(&self, name: &str) -> Result<T, ReadError> {
        Ok(self.section(name)?.unwrap_or_default())
    }

    /// Decodes everything into the owned form.
    pub fn to_document(&self) -> Result<Document, ReadError> {
        let mut document = Document {
            metadata: self.metadata.clone(),
            enums: self.enums()?.clone(),
            constants: self.constants.iter().map(|s| (s.name.to_owned(), s.value)).collect(),
            functions: self.functions.iter().map(|s| (s.name.to_owned(), s.value)).collect(),
            merge: self.section_or_default("$MERGE")?,
            config: self.section_or_default("$CONFIG")?,
            ..Document::default()
        };
        for name in self.struct_names() {
            if let Some(definition) = self.struct_def(name)? {
                document.structs.insert(name.to_owned(), definition.clone());
            }
        }
        let types: BTreeMap<String, Value> = self.section_or_default("$CONSTANT_TYPES")?;
        for (name, value) in types {
            let ty = Type::from_json(&value).map_err(|error| ReadError::Section {
                section: "$CONSTANT_TYPES".to_owned(),
                reason: format!("{name}: {error}"),
            })?;
            document.constant_types.insert(name, ty);
        }
        const TYPED: [&str; 9] = [
            "$METADATA",
            "$STRUCTS",
            "$CONSTANTS",
            "$FUNCTIONS",
            "$ENUMS",
            "$REVENUMS",
            "$CONSTANT_TYPES",
            "$MERGE",
            "$CONFIG",
        ];
        for name in self.sections.keys().filter(|name| !TYPED.contains(&name.as_str())) {
            document.other.insert(name.clone(), self.section_or_default(name)?);
        }
        Ok(document)
    }

    /// Linux and macOS profiles of the original hold 64-bit kernel addresses masked to 48 bits.
    fn has_masked_addresses(&self) -> bool {
        let class = self.metadata_str("ProfileClass").unwrap_or_default();
        (class.starts_with("Linux") || class.starts_with("Darwin")) && self.arch() == Some("AMD64")
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("metadata", &self.metadata)
            .field("structs", &self.structs.len())
            .field("symbols", &self.symbol_count())
            .finish_non_exhaustive()
    }
}

/// The JSON text of a stored document, gzip- or xz-compressed or plain (told by content), bounded by `limits`.
pub fn json_text(bytes: &[u8], limits: &Limits) -> Result<String, ReadError> {
    let cap = limits.max_text as u64 + 1;
    let unpack = |reader: &mut dyn Read| {
        let mut out = Vec::new();
        reader.take(cap).read_to_end(&mut out).map(|_| Cow::Owned(out))
    };
    let plain = if bytes.starts_with(&[0x1f, 0x8b]) {
        unpack(&mut flate2::bufread::MultiGzDecoder::new(bytes)).map_err(ReadError::Gzip)?
    } else if bytes.starts_with(b"\xfd7zXZ\0") {
        unpack(&mut lzma_rust2::XzReader::new_mem_limit(bytes, true, DICTIONARY_KIB))
            .map_err(ReadError::Xz)?
    } else {
        Cow::Borrowed(bytes)
    };
    if plain.len() > limits.max_text {
        return Err(ReadError::TooLarge(limits.max_text));
    }
    String::from_utf8(plain.into_owned()).map_err(|error| ReadError::Utf8(error.utf8_error().valid_up_to()))
}

fn html_or(text: &str, error: serde_json::Error) -> ReadError {
    let head = text.trim_start().get(..5).unwrap_or_default().to_ascii_lowercase();
    if head == "<html" || head == "<!doc" { ReadError::Html } else { ReadError::Json(error) }
}

impl Symbols {
    fn get(&self, name: &str) -> Option<u64> {
        let at = self.entries.binary_search_by(|(span, _)| self.name(span).cmp(name)).ok()?;
        self.entries.get(at).map(|&(_, value)| value)
    }

    fn nth(&self, at: usize) -> Option<Symbol<'_>> {
        self.entries.get(at).map(|(span, value)| Symbol { name: self.name(span), value: *value })
    }

    fn iter(&self) -> impl Iterator<Item = Symbol<'_>> {
        self.entries.iter().map(|(span, value)| Symbol { name: self.name(span), value: *value })
    }

    fn name(&self, span: &Range<u32>) -> &str {
        self.names.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    fn sign_extend(&mut self) {
        for (_, value) in &mut self.entries {
            // Bit 47 set and nothing above it: a kernel address that lost its upper bits.
            if *value >> 47 == 1 {
                *value |= 0xffff << 48;
            }
        }
    }
}

impl<'de> Deserialize<'de> for Symbols {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SymbolsVisitor;
        impl<'de> Visitor<'de> for SymbolsVisitor {
            type Value = Symbols;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of symbol addresses")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Symbols, A::Error> {
                let mut symbols = Symbols::default();
                while let Some((Key(name), Address(value))) = map.next_entry()? {
                    let at =
                        |len: usize| u32::try_from(len).map_err(|_| A::Error::custom("too many symbols"));
                    let start = at(symbols.names.len())?;
                    symbols.names.push_str(&name);
                    let end = at(symbols.names.len())?;
                    symbols.entries.push((start..end, value));
                }
                let Symbols { names, mut entries } = symbols;
                let name =
                    |span: &Range<u32>| names.get(span.start as usize..span.end as usize).unwrap_or_default();
                if !entries.is_sorted_by(|(a, _), (b, _)| name(a) < name(b)) {
                    entries.sort_by(|(a, _), (b, _)| name(a).cmp(name(b)));
                    if let Some(twice) = entries.windows(2).find_map(|pair| match pair {
                        [(a, _), (b, _)] if name(a) == name(b) => Some(name(a)),
                        _ => None,
                    }) {
                        return Err(A::Error::custom(format!("symbol stands twice: {twice:?}")));
                    }
                }
                Ok(Symbols { names, entries })
            }
        }
        deserializer.deserialize_map(SymbolsVisitor)
    }
}

/// A symbol value: unsigned, or negative as old files spell kernel addresses.
struct Address(u64);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AddressVisitor;
        impl Visitor<'_> for AddressVisitor {
            type Value = Address;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a 64-bit address")
            }
            fn visit_u64<E>(self, value: u64) -> Result<Address, E> {
                Ok(Address(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Address, E> {
                Ok(Address(value.cast_unsigned()))
            }
        }
        deserializer.deserialize_any(AddressVisitor)
    }
}

/// An object key, borrowed from the text where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(KeyVisitor).map(Key)
    }
}

/// The members of an object with their values left as text, in file order; a key that stands twice is an error.
struct Entries<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries: Self::Value = Vec::new();
                while let Some((Key(key), raw)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    entries.push((key, raw));
                }
                let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_ref()).collect();
                keys.sort_unstable();
                if let Some(twice) = keys.windows(2).find_map(|pair| match pair {
                    [a, b] if a == b => Some(*a),
                    _ => None,
                }) {
                    return Err(A::Error::custom(format!("key stands twice: {twice:?}")));
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(EntriesVisitor).map(Entries)
    }
}
