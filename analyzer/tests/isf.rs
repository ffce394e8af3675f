//! Symbol tables of Volatility 3 (ISF) as commands take and write them, and Volatility 3 itself as the judge of what is
//! written: it must load and validate our tables and see every size, offset, enum value and address that is in the profile.
//!
//! Reads `isf/` and `rekall-golden/` below `REKAL_TEST_DATA`, or below the data folder beside the checkout. Tests say so and
//! pass without them, or without Python's `volatility3` and `jsonschema`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may panic")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use profile::{Document, Limits, Profile};
use serde_json::Value;

fn data(name: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join("data");
    std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from).join(name)
}

fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// The real symbol tables; empty, with a message, where they are absent.
fn tables() -> Vec<PathBuf> {
    let folders = fs::read_dir(data("isf")).into_iter().flatten().flatten();
    let files = folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten());
    let mut files: Vec<PathBuf> = files.map(|file| file.path().canonicalize().unwrap()).collect();
    files.sort();
    if files.is_empty() {
        skipped("no real symbol tables");
    }
    files
}

/// Runs `rekal` in a scratch directory that is also the home directory; it must succeed.
fn rekal(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekal"));
    let output =
        command.env_clear().env("HOME", directory).current_dir(directory).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn document(path: &Path) -> Document {
    Profile::parse(&fs::read(path).unwrap(), &Limits::default()).unwrap().to_document().unwrap()
}

/// What Volatility 3 sees in a table; `None`, with a message, where it is not installed.
fn volatility(directory: &Path, table: &Path) -> Option<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/volatility.py");
    let python = |arguments: &[&std::ffi::OsStr]| {
        Command::new("python3").env("HOME", directory).args(arguments).output()
    };
    let installed = python(&["-c".as_ref(), "import volatility3, jsonschema".as_ref()]);
    if !installed.is_ok_and(|output| output.status.success()) {
        skipped("Python has no volatility3 and jsonschema");
        return None;
    }
    let output = python(&[script.as_os_str(), table.as_os_str()]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Every fact of the document is one of Volatility's, and there are no others.
fn compare(document: &Document, seen: &Value, what: &str) {
    let count = |key: &str| seen[key].as_object().unwrap().len();
    assert_eq!(count("types"), document.structs.len(), "{what}");
    for (name, structure) in &document.structs {
        let theirs = &seen["types"][name];
        assert_eq!(theirs["size"].as_u64(), structure.size, "{what}: {name}");
        assert_eq!(theirs["members"].as_object().unwrap().len(), structure.fields.len(), "{what}: {name}");
        for (field, definition) in &structure.fields {
            assert_eq!(theirs["members"][field].as_i64(), Some(definition.offset), "{what}: {name}.{field}");
        }
    }
    assert_eq!(count("enums"), document.enums.len(), "{what}");
    for (name, table) in &document.enums {
        let theirs = seen["enums"][name].as_object().unwrap();
        assert_eq!(theirs.len(), table.values.len(), "{what}: {name}");
        for (label, value) in &table.values {
            assert_eq!(theirs[label].as_i64().map(i128::from), Some(*value), "{what}: {name} {label}");
        }
    }
    assert_eq!(count("symbols"), document.constants.len() + document.functions.len(), "{what}");
    for (name, address) in document.constants.iter().chain(&document.functions) {
        assert_eq!(seen["symbols"][name].as_u64(), Some(*address), "{what}: {name}");
    }
}

#[test]
fn real_tables_are_profiles_and_volatility_reads_them_back() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for table in tables() {
        let source = table.to_str().unwrap();
        rekal(directory.path(), &["--overwrite", "convert_profile", source, "p.json"]);
        rekal(directory.path(), &["--overwrite", "convert_profile", "p.json", "t.json", "--to", "isf"]);
        rekal(directory.path(), &["--overwrite", "convert_profile", "t.json", "again.json.gz"]);
        let profile = document(&at("p.json"));
        assert!(profile.constants.len() > 1000, "{source}");
        assert!(document(&at("again.json.gz")) == profile, "{source}: another profile after the round trip");
        let Some(original) = volatility(directory.path(), &table) else { return };
        compare(&profile, &original, source);
        let Some(ours) = volatility(directory.path(), &at("t.json")) else { return };
        assert!(original == ours, "{source}: Volatility sees something else in our table");
    }
}

#[test]
fn a_table_serves_as_a_profile_directly() {
    let directory = tempfile::tempdir().unwrap();
    let Some(table) = tables().into_iter().find(|path| path.to_string_lossy().contains("ntkrnlmp")) else {
        return;
    };
    let output =
        rekal(directory.path(), &["--format", "json", "-p", table.to_str().unwrap(), "dt", "_EPROCESS"]);
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(rows["rows"].as_array().unwrap().iter().any(|row| row["Field"] == "ActiveProcessLinks"));
}

#[test]
fn volatility_reads_the_table_of_a_pdb() {
    let pdb = data("rekall-golden/inputs/types_x64.pdb");
    if !pdb.is_file() {
        return skipped("no PDB of the original's");
    }
    let directory = tempfile::tempdir().unwrap();
    let pdb = pdb.canonicalize().unwrap();
    rekal(directory.path(), &["parse_pdb", pdb.to_str().unwrap(), "--output", "p.json"]);
    rekal(directory.path(), &["convert_profile", "p.json", "t.json", "--to", "isf"]);
    let Some(seen) = volatility(directory.path(), &directory.path().join("t.json")) else { return };
    compare(&document(&directory.path().join("p.json")), &seen, "types_x64");
}
