//! What is written is read back as the same document: generated documents, and those that the original wrote.
//!
//! The original's files are `rekall/` and `rekall-golden/` below `REKAL_TEST_DATA`, or below the data folder beside the
//! checkout; without them those tests say so and pass.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use profile::{Document, Enum, Field, Limits, Profile, Struct, Type, gzip, json_text};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// Every `.gz` and `.json` below a folder of the test data, sorted; empty, with a message that the test harness does
/// not swallow, where it is absent.
fn originals(folder: &str) -> Vec<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join("data");
    let root = std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from).join(folder);
    let mut files = Vec::new();
    let mut pending = vec![root.clone()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "gz" || extension == "json") {
                files.push(path);
            }
        }
    }
    if files.is_empty() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no original profiles at {}", root.display());
    }
    files.sort();
    files
}

/// Reads, decodes everything, writes, reads again: the same document, and from then on the same bytes.
fn check_round_trip(profile: &Profile, what: &str) -> Document {
    let document = profile.to_document().unwrap_or_else(|error| panic!("{what}: {error}"));
    let text = document.to_canonical_json();
    let again = Profile::parse_text(text.clone()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let again = again.to_document().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(again == document, "{what}: another document was read back");
    assert!(again.to_canonical_json() == text, "{what}: writing is not stable");
    assert_eq!(again.content_hash(), document.content_hash(), "{what}");
    document
}

/// Compares a document with a plain JSON reading of the same text, which knows nothing of our types.
fn check_against_json(document: &Document, json: &Value, what: &str) {
    let object = |key: &str| json.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
    let structs = object("$STRUCTS");
    assert_eq!(document.structs.len(), structs.len(), "{what}");
    for (name, value) in &structs {
        let ours = &document.structs[name];
        assert_eq!(ours.size, value[0].as_u64(), "{what}: {name}");
        let fields = value[1].as_object().cloned().unwrap_or_default();
        assert_eq!(ours.fields.len(), fields.len(), "{what}: {name}");
        for (field, value) in &fields {
            assert_eq!(Some(ours.fields[field].offset), value[0].as_i64(), "{what}: {name}.{field}");
        }
    }
    for (name, values) in &object("$ENUMS") {
        let ours = &document.enums[name].names;
        let values = values.as_object().cloned().unwrap_or_default();
        assert_eq!(ours.len(), values.len(), "{what}: {name}");
        for (value, enumerator) in &values {
            let value = value.parse().expect("a number");
            assert_eq!(ours.get(&value).map(String::as_str), enumerator.as_str(), "{what}: {name} {value}");
        }
    }
    for (name, values) in &object("$REVENUMS") {
        let ours = &document.enums[name].values;
        let values = values.as_object().cloned().unwrap_or_default();
        for (enumerator, value) in &values {
            let ours = ours.get(enumerator).copied();
            assert_eq!(ours, value.as_i64().map(i128::from), "{what}: {name} {enumerator}");
        }
    }
    for (section, ours) in [("$CONSTANTS", &document.constants), ("$FUNCTIONS", &document.functions)] {
        let values = object(section);
        assert_eq!(ours.len(), values.len(), "{what}: {section}");
        for (name, value) in &values {
            let stored =
                value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned)).expect("an integer");
            let same_low_bits = ours[name] & 0xffff_ffff_ffff == stored & 0xffff_ffff_ffff;
            assert!(same_low_bits, "{what}: {name}: {:#x} for {stored:#x}", ours[name]);
        }
    }
    assert_eq!(document.metadata, object("$METADATA").into_iter().collect::<BTreeMap<_, _>>(), "{what}");
}

fn check_originals(folder: &str, expected: usize) {
    let files = originals(folder);
    if files.is_empty() {
        return;
    }
    let mut profiles = 0;
    for path in files {
        let what = path.display().to_string();
        let text = json_text(&fs::read(&path).expect("a file"), &Limits::default()).expect(&what);
        let json: Value = serde_json::from_str(&text).expect(&what);
        // Beside profiles there are the rows of plugins.
        if json.get("$METADATA").is_none() {
            continue;
        }
        profiles += 1;
        let profile = Profile::parse_text(text).expect(&what);
        check_against_json(&check_round_trip(&profile, &what), &json, &what);
    }
    assert_eq!(profiles, expected, "{folder}");
}

#[test]
fn profiles_of_the_public_repository_survive() {
    check_originals("rekall", 9);
}

#[test]
fn profiles_the_original_generated_survive() {
    check_originals("rekall-golden", 5);
}

fn linux(arch: &str, class: &str, value: &str) -> Profile {
    Profile::parse_text(format!(
        r#"{{"$METADATA": {{"ProfileClass": "{class}", "arch": "{arch}"}}, "$CONSTANTS": {{"x": {value}}}}}"#
    ))
    .expect("a profile")
}

#[test]
fn kernel_addresses_masked_to_48_bits_get_their_upper_bits_back() {
    let read = |arch, class, value: u64| linux(arch, class, &value.to_string()).symbol("x");
    for class in ["Linux", "Linux64", "Darwin64"] {
        assert_eq!(read("AMD64", class, 0xffff_8100_0000), Some(0xffff_ffff_8100_0000), "{class}");
        assert_eq!(read("AMD64", class, 0x8000_0000_0000), Some(0xffff_8000_0000_0000), "{class}");
    }
    // Per-CPU offsets, user addresses and whole addresses stay.
    for value in [0, 0x1_9c40, 0x7fff_ffff_ffff, 0xffff_ffff_8100_0000, 0x1_8000_0000_0000] {
        assert_eq!(read("AMD64", "Linux", value), Some(value));
    }
    // 32-bit kernels and PDB offsets are not masked.
    assert_eq!(read("I386", "Linux", 0xffff_8100_0000), Some(0xffff_8100_0000));
    assert_eq!(read("AMD64", "Nt", 0xffff_8100_0000), Some(0xffff_8100_0000));
    // Old files spell whole addresses as negative numbers.
    assert_eq!(linux("AMD64", "Linux", "-2130706432").symbol("x"), Some(0xffff_ffff_8100_0000));
}

#[test]
fn compression_is_reproducible() {
    let text = "x".repeat(100_000);
    let first = gzip(text.as_bytes());
    // RFC 1952: no flags, time 0, unknown system.
    assert_eq!(first.get(..10), Some([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255].as_slice()));
    let others: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| gzip(text.as_bytes()))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread")).collect()
    });
    assert!(others.iter().all(|other| *other == first));
    assert_eq!(json_text(&first, &Limits::default()).expect("our own"), text);
}

#[test]
fn canonical_text_is_that_of_the_original() {
    let mut document = Document::default();
    document.set("Type", "Profile");
    document.set("Version", 1);
    document.constants.insert("b".to_owned(), 2);
    document.constants.insert("a".to_owned(), 1);
    let fields =
        BTreeMap::from([("next".to_owned(), Field { offset: 0, ty: Type::pointer(Type::named("T")) })]);
    document.structs.insert("T".to_owned(), Struct { size: Some(8), fields });
    let expected = "{\n \"$CONSTANTS\": {\n  \"a\": 1, \n  \"b\": 2\n }, \n \"$METADATA\": {\n  \"Type\": \"Profile\", \n  \"Version\": 1\n }, \n \"$STRUCTS\": {\n  \"T\": [8, {\n   \"next\": [0, [\"Pointer\", {\n    \"target\": \"T\"\n   }]]\n  }]\n }\n}";
    assert_eq!(document.to_canonical_json(), expected);
}

/// Names as kernels have them, and some that need escapes; none is that of a class.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-z_][a-z0-9_]{0,12}x", 1 => "[ -~]{1,8}x", 1 => "\\PC{1,4}x"]
}

fn ty() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![name().prop_map(Type::Named), Just(Type::Void)];
    leaf.prop_recursive(4, 16, 3, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            boxed.clone().prop_map(Type::Pointer),
            boxed.clone().prop_map(Type::Pointer32),
            (any::<Option<u64>>(), any::<Option<u64>>(), boxed.clone())
                .prop_map(|(count, size, target)| Type::Array { count, size, target }),
            (0u32..=128, 0u32..=128, proptest::option::of(boxed.clone()))
                .prop_map(|(start, end, target)| Type::BitField { start, end, target }),
            (
                proptest::option::of(name()),
                btree_map(any::<i64>().prop_map(i128::from), name(), 0..3),
                proptest::option::of(boxed)
            )
                .prop_map(|(name, choices, target)| Type::Enumeration { name, choices, target }),
            vec(inner, 0..3).prop_map(Type::Function),
            (name(), any::<u32>()).prop_map(|(class, length)| {
                let args = Map::from_iter([("length".to_owned(), Value::from(length))]);
                Type::Other { class, args }
            }),
        ]
    })
}

fn structure() -> impl Strategy<Value = Struct> {
    let field = (-8i64..=64, ty()).prop_map(|(offset, ty)| Field { offset, ty });
    (proptest::option::of(64u64..4096), btree_map(name(), field, 0..5))
        .prop_map(|(size, fields)| Struct { size, fields })
}

fn enumeration() -> impl Strategy<Value = Enum> {
    vec((name(), any::<i64>()), 1..6).prop_map(|list| {
        let mut table = Enum::default();
        let mut seen = std::collections::BTreeSet::new();
        for (name, value) in list {
            if seen.insert(name.clone()) {
                table.insert(name, i128::from(value));
            }
        }
        table
    })
}

prop_compose! {
    fn document()(
        structs in btree_map(name(), structure(), 0..5),
        enums in btree_map(name(), enumeration(), 0..4),
        constants in btree_map(name(), any::<u64>(), 0..6),
        functions in btree_map(name(), any::<u64>(), 0..6),
        constant_types in btree_map(name(), ty(), 0..3),
        merge in vec(name(), 0..3),
        config in btree_map(name(), "\\PC{0,20}", 0..4),
        version in any::<u32>(),
        build in name(),
    ) -> Document {
        let mut document = Document {
            structs, enums, constants, functions, constant_types, merge, config, ..Document::default()
        };
        document.set("Type", "Profile");
        document.set("Version", version);
        document.set("Build", build);
        document.other.insert("$INDEX".to_owned(), serde_json::json!({"a/b": [[1, ["00ff"]], [-2, "x"]]}));
        document
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_documents_survive(document in document()) {
        let text = document.to_canonical_json();
        let plain = Profile::parse(text.as_bytes(), &Limits::default()).expect("our own text");
        prop_assert_eq!(&plain.to_document().expect("decodes"), &document);
        let compressed = Profile::parse(&gzip(text.as_bytes()), &Limits::default()).expect("our own gzip");
        prop_assert_eq!(compressed.to_document().expect("decodes").to_canonical_json(), text);
        for (name, value) in &document.constants {
            prop_assert_eq!(plain.symbol(name), Some(*value));
        }
    }
}
