//! Damaged and hostile documents: each is read or refused, without a panic and within the limits.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::BTreeMap;

use profile::{
    Document, Enum, Field, Kind, Limits, MAX_TYPE_NESTING, Profile, ReadError, Struct, Type, gzip,
};

const ROUNDS: u64 = 10_000;

/// xorshift64*: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(value).expect("31 bits") % bound.max(1)
    }

    /// One to three of: flip a bit, put a telling piece of JSON, cut, remove, repeat.
    fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        const PIECES: [&[u8]; 14] = [
            b"null",
            b"-1",
            b"1e999",
            b"18446744073709551616",
            b"99999999999999999999999999999999999999999",
            b"0.5",
            b"[]",
            b"{}",
            b"\"\"",
            b"[[[[",
            b"\"\\ud800\"",
            b",",
            b"true",
            b"\"$STRUCTS\"",
        ];
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(3) {
            if bytes.is_empty() {
                break;
            }
            let at = self.below(bytes.len());
            let length = self.below(24.min(bytes.len() - at)) + 1;
            match self.below(7) {
                0 | 1 => bytes[at] ^= 1 << self.below(8),
                2 | 3 => drop(
                    bytes.splice(at..at + length.min(3), PIECES[self.below(PIECES.len())].iter().copied()),
                ),
                4 => bytes.truncate(at),
                5 => drop(bytes.drain(at..at + length)),
                _ => {
                    let piece = bytes[at..at + length].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
        }
        bytes
    }
}

/// A small document with every section and every class of type.
fn sample() -> Document {
    let mut document = Document::default();
    document.set("Type", "Profile");
    document.set("ProfileClass", "Linux");
    document.set("arch", "AMD64");
    let unsigned = || Box::new(Type::named("unsigned int"));
    let types = [
        Type::pointer(Type::array(3, Type::named("list_head"))),
        Type::BitField { start: 3, end: 7, target: Some(unsigned()) },
        Type::Enumeration {
            name: Some("color".to_owned()),
            choices: BTreeMap::new(),
            target: Some(unsigned()),
        },
        Type::Enumeration { name: None, choices: BTreeMap::from([(-1, "LAST".to_owned())]), target: None },
        Type::Function(vec![Type::Void, Type::pointer(Type::named("char"))]),
        Type::Pointer32(Box::new(Type::Void)),
        Type::Array { count: None, size: Some(16), target: unsigned() },
    ];
    let fields = types.into_iter().enumerate().map(|(i, ty)| {
        let offset = i64::try_from(i).expect("small") * 8;
        (format!("field{i}"), Field { offset, ty })
    });
    document.structs.insert("task_struct".to_owned(), Struct { size: Some(64), fields: fields.collect() });
    let mut color = Enum::default();
    color.insert("RED", 0);
    color.insert("NONE", -1);
    document.enums.insert("color".to_owned(), color);
    document.constants.insert("init_task".to_owned(), 0xffff_8100_0000);
    document.functions.insert("schedule".to_owned(), 0xffff_ffff_8100_1000);
    document.constant_types.insert("init_task".to_owned(), Type::named("task_struct"));
    document.merge.push("Linux/common".to_owned());
    document.config.insert("CONFIG_HZ".to_owned(), "250".to_owned());
    document.other.insert("$INDEX".to_owned(), serde_json::json!({"a/b": [[1, ["00ff"]]]}));
    document
}

/// Uses everything a profile offers; what can be decoded as a whole must survive writing.
fn exercise(profile: &Profile, seed: u64) -> bool {
    let _ =
        (profile.kind(), profile.arch().map(str::len), profile.enums().is_ok(), profile.config("CONFIG_HZ"));
    for name in profile.struct_names() {
        if let Ok(definition) = profile.struct_def(name) {
            assert!(definition.is_some(), "seed {seed}: {name} is listed but not defined");
        }
    }
    for symbol in profile.symbols() {
        assert!(profile.symbol(symbol.name).is_some(), "seed {seed}: {} cannot be looked up", symbol.name);
        let below = profile.symbols_at_or_below(symbol.value);
        assert!(below.iter().any(|found| found.value == symbol.value), "seed {seed}: {}", symbol.name);
    }
    assert_eq!(profile.symbols().count(), profile.symbol_count(), "seed {seed}");
    let Ok(document) = profile.to_document() else { return false };
    let text = document.to_canonical_json();
    let again = Profile::parse_text(text.clone())
        .unwrap_or_else(|error| panic!("seed {seed}: what was read is not writable: {error}\n{text}"));
    let again = again.to_document().unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
    assert_eq!(again.to_canonical_json(), text, "seed {seed}: writing is not stable");
    true
}

#[test]
fn mutated_profiles_are_read_or_refused() {
    let limits = Limits { max_text: 1 << 20 };
    let plain = sample().to_canonical_json().into_bytes();
    let compressed = gzip(&plain);
    let (mut read, mut whole) = (0, 0);
    for seed in 0..ROUNDS {
        let original = if seed % 8 == 0 { &compressed } else { &plain };
        let bytes = Random::new(seed).mutate(original);
        if let Ok(profile) = Profile::parse(&bytes, &limits) {
            read += 1;
            whole += usize::from(exercise(&profile, seed));
        }
    }
    assert!(read > 500 && whole > 200, "the mutations are too harsh to test anything: {read}, {whole}");
}

#[test]
fn mutated_types_are_read_or_refused() {
    let mut read = 0;
    let types: Vec<String> =
        sample().structs["task_struct"].fields.values().map(|field| field.ty.to_json().to_string()).collect();
    for seed in 0..ROUNDS {
        let mut random = Random::new(seed);
        let original = &types[random.below(types.len())];
        let text = random.mutate(original.as_bytes());
        let Ok(json) = serde_json::from_slice(&text) else { continue };
        if let Ok(ty) = Type::from_json(&json) {
            read += 1;
            assert_eq!(Type::from_json(&ty.to_json()).as_ref(), Ok(&ty), "seed {seed}: {json}");
        }
    }
    assert!(read > 500, "the mutations are too harsh to test anything: {read}");
}

#[test]
fn text_beyond_the_limit_is_never_decompressed() {
    let limits = Limits { max_text: 1 << 20 };
    // 50 MB of blanks, and the same in many gzip members.
    let bomb = gzip(&vec![b' '; 50 << 20]);
    let members = gzip(&vec![b' '; 1 << 20]).repeat(50);
    for bytes in [bomb, members, vec![b' '; (1 << 20) + 1]] {
        let error = Profile::parse(&bytes, &limits).expect_err("too large");
        assert!(matches!(error, ReadError::TooLarge(max) if max == 1 << 20), "{error}");
    }
}

#[test]
fn nesting_is_bounded_everywhere() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    for section in ["$METADATA", "$STRUCTS", "$CONSTANTS", "$ENUMS", "$MERGE", "$INDEX"] {
        for value in [deep("[", "]"), deep("{\"a\":", "}"), deep("[", "")] {
            let text = format!(r#"{{"{section}": {value}}}"#);
            if let Ok(profile) = Profile::parse_text(text) {
                assert!(profile.to_document().is_err(), "{section}");
            }
        }
    }
    let mut ty = String::from(r#""x""#);
    for _ in 0..=MAX_TYPE_NESTING {
        ty = format!(r#"["pointer", {ty}]"#);
    }
    let text = format!(r#"{{"$STRUCTS": {{"s": [8, {{"f": [0, {ty}]}}]}}}}"#);
    let profile = Profile::parse_text(text).expect("structs are decoded later");
    assert!(matches!(profile.struct_def("s"), Err(ReadError::Struct { .. })));
}

#[test]
fn what_is_no_profile_is_told_by_name() {
    let error = |bytes: &[u8]| Profile::parse(bytes, &Limits::default()).expect_err("no profile");
    assert!(matches!(error(b"  <!DOCTYPE HTML><html></html>"), ReadError::Html));
    assert!(matches!(error(b"<html>"), ReadError::Html));
    assert!(matches!(error(b""), ReadError::Json(_)));
    assert!(matches!(error(b"[1, 2]"), ReadError::Json(_)));
    assert!(matches!(error(b"{} {}"), ReadError::Json(_)));
    assert!(matches!(error(b"{\"a\": \xff}"), ReadError::Utf8(6)));
    assert!(matches!(error(b"\x1f\x8bxyz"), ReadError::Gzip(_)));
    let whole = gzip(sample().to_canonical_json().as_bytes());
    assert!(matches!(error(&whole[..whole.len() - 9]), ReadError::Gzip(_)));
    assert!(matches!(error(br#"{"$CONSTANTS": {"a": 1, "a": 2}}"#), ReadError::Section { .. }));
    assert!(matches!(error(br#"{"$ENUM": {}, "$ENUMS": {}}"#), ReadError::Section { .. }));
    assert!(matches!(error(br#"{"$CONSTANTS": {"a": 18446744073709551616}}"#), ReadError::Section { .. }));
}

#[test]
fn a_symlink_without_target_has_an_empty_one() {
    let profile =
        Profile::parse_text(r#"{"$METADATA": {"Type": "Symlink"}}"#.to_owned()).expect("a document");
    assert_eq!(profile.kind(), Kind::Symlink { target: String::new() });
}
