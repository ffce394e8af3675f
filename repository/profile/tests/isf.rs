//! Round trips of Volatility 3 symbol tables made from real Microsoft PDBs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

use std::path::{Path, PathBuf};

use profile::isf::{document_from_isf, document_to_isf, is_isf};
use serde_json::Value;

/// Symbol tables in the folder of real test data, which is not part of the project.
fn real_tables() -> Vec<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join("data");
    let root = std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from).join("isf");
    let folders = std::fs::read_dir(&root).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = folders
        .flat_map(|folder| std::fs::read_dir(folder.path()).into_iter().flatten().flatten())
        .map(|file| file.path())
        .collect();
    files.sort();
    if files.is_empty() {
        eprintln!("skipped: no real symbol tables in {}", root.display());
    }
    files
}

fn unpack(path: &Path) -> String {
    use std::io::Read as _;
    let file = std::fs::File::open(path).expect("the file was listed");
    let mut text = String::new();
    lzma_rust2::XzReader::new(file, true).read_to_string(&mut text).expect("a whole xz file");
    text
}

/// Everything both formats can say, in a form that can be compared.
fn facts(isf: &Value) -> Vec<String> {
    let mut facts = Vec::new();
    for (name, user) in isf["user_types"].as_object().expect("user types") {
        facts.push(format!("{name}: {}", user["size"]));
        for (field, definition) in user["fields"].as_object().expect("fields") {
            let mut ty = definition["type"].clone();
            neutral(&mut ty);
            facts.push(format!("{name}.{field}: {} {ty}", definition["offset"]));
        }
    }
    for (name, table) in isf["enums"].as_object().expect("enums") {
        facts.push(format!("enum {name}: {} {}", table["size"], table["constants"]));
    }
    for (name, symbol) in isf["symbols"].as_object().expect("symbols") {
        facts.push(format!("symbol {name}: {}", symbol["address"]));
    }
    facts.push(format!("windows: {}", isf["metadata"]["windows"]));
    facts.sort();
    facts
}

/// A profile does not tell a union from a struct.
fn neutral(ty: &mut Value) {
    if matches!(ty["kind"].as_str(), Some("union" | "class")) {
        ty["kind"] = Value::from("struct");
    }
    for key in ["subtype", "type"] {
        if !ty[key].is_null() {
            neutral(&mut ty[key]);
        } else if let Some(object) = ty.as_object_mut() {
            object.remove(key);
        }
    }
}

#[test]
fn real_tables_survive_a_round_trip() {
    for path in real_tables() {
        let text = unpack(&path);
        assert!(is_isf(&text));
        let document = document_from_isf(&text).expect("a real table");
        // Through the profile's own text form as well.
        let profile = profile::Profile::parse_text(document.to_canonical_json()).expect("our own profile");
        let again = document_to_isf(&profile.to_document().expect("our own profile"));
        let (before, after): (Value, Value) =
            (serde_json::from_str(&text).expect("JSON"), serde_json::from_str(&again).expect("JSON"));
        let (before, after) = (facts(&before), facts(&after));
        let lost: Vec<&String> = before.iter().filter(|fact| after.binary_search(fact).is_err()).collect();
        assert!(
            lost.is_empty(),
            "{}: {} of {} lost: {:?}",
            path.display(),
            lost.len(),
            before.len(),
            &lost[..lost.len().min(10)]
        );
        assert_eq!(before.len(), after.len());
        println!("{}: {} facts kept", path.display(), before.len());
    }
}

#[test]
fn a_linux_profile_names_its_banner_for_volatility() {
    let mut document = profile::Document::default();
    document.set("ProfileClass", "Linux");
    document.set("arch", "AMD64");
    document.set("Banner", "Linux version 6.1.0 (a@b) #1 SMP");
    document.constants.insert("linux_banner".to_owned(), 0xffff_ffff_8200_0000);
    document.constants.insert("_text".to_owned(), 0xffff_ffff_8100_0000);
    let isf: Value = serde_json::from_str(&document_to_isf(&document)).expect("JSON");
    assert_eq!(
        isf["symbols"]["linux_banner"]["constant_data"],
        "TGludXggdmVyc2lvbiA2LjEuMCAoYUBiKSAjMSBTTVAKAA=="
    );
    // Volatility cannot take an object at a symbol without a type.
    assert_eq!(isf["symbols"]["_text"]["type"], serde_json::json!({"kind": "base", "name": "void"}));
    let back = document_from_isf(&isf.to_string()).expect("our own table");
    assert!(back.constant_types.keys().eq(["linux_banner"]));
    assert_eq!(back.metadata["Banner"], "Linux version 6.1.0 (a@b) #1 SMP");
    assert_eq!(back.metadata["Release"], "6.1.0");
}

#[test]
fn anonymous_members_are_reachable() {
    let isf = r#"{"metadata": {"producer": {}}, "base_types": {"int": {"size": 4}}, "user_types": {
        "outer": {"size": 16, "kind": "struct", "fields": {
            "unnamed_field_8": {"offset": 8, "anonymous": true, "type": {"kind": "union", "name": "inner"}}}},
        "inner": {"size": 8, "kind": "union", "fields": {"x": {"offset": 4, "type": {"kind": "base", "name": "int"}}}}}}"#;
    let document = document_from_isf(isf).expect("well formed");
    assert_eq!(document.structs["outer"].fields["x"].offset, 12);
}

#[test]
fn endless_types_and_wrong_shapes_are_errors() {
    let deep = (0..100).fold(r#"{"kind": "base", "name": "int"}"#.to_owned(), |inner, _| {
        format!(r#"{{"kind": "pointer", "subtype": {inner}}}"#)
    });
    for ty in [
        deep.as_str(),
        r#"{"kind": "array"}"#,
        r#"{"kind": "magic"}"#,
        r#"{"kind": "bitfield", "bit_position": 4294967295, "bit_length": 9, "type": {"kind": "base", "name": "int"}}"#,
    ] {
        let isf = format!(
            r#"{{"metadata": {{}}, "user_types": {{"s": {{"size": 8, "fields": {{"f": {{"offset": 0, "type": {ty}}}}}}}}}}}"#
        );
        assert!(document_from_isf(&isf).is_err(), "{ty}");
    }
}
