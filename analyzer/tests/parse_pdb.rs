//! `parse_pdb` as users type it: the forms of the original's documentation, and where the profile goes.
//!
//! Reads `rekall-golden/` and `pdb/` below `REKAL_TEST_DATA`, or below the data folder beside the checkout; without them
//! the tests say so and pass.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may panic")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn data(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join("data");
    let path = std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from).join(name);
    if !path.is_file() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no {}", path.display());
        return None;
    }
    Some(path.canonicalize().unwrap())
}

/// Runs `rekal` in a scratch directory that is also the home directory.
fn rekal(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekal"));
    command.env_clear().env("HOME", directory).current_dir(directory).args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn without_a_file_the_profile_goes_to_standard_output() {
    let Some(pdb) = data("rekall-golden/inputs/types_x64.pdb") else { return };
    let directory = tempfile::tempdir().unwrap();
    let pdb = pdb.to_str().unwrap();
    let output = rekal(directory.path(), &["--format", "csv", "parse_pdb", pdb]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let profile: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(profile["$METADATA"]["PDBFile"], "types_x64.pdb");
    assert_eq!(profile["$METADATA"]["arch"], "AMD64");
    // The global option takes the same document to a file.
    let written = rekal(directory.path(), &["--output", "out.json", "parse_pdb", pdb]);
    assert_eq!(written.status.code(), Some(0), "{}", stderr(&written));
    assert_eq!(fs::read(directory.path().join("out.json")).unwrap(), output.stdout);
}

#[test]
fn the_compressed_form_of_stores_is_expanded() {
    let Some(packed) = data("pdb/basic32.pd_") else { return };
    let directory = tempfile::tempdir().unwrap();
    let expanded = profile_gen::expand_cabinet(&fs::read(&packed).unwrap(), "basic32.pdb", 1 << 30).unwrap();
    fs::write(directory.path().join("basic32.pdb"), expanded).unwrap();
    let of_packed = rekal(directory.path(), &["parse_pdb", packed.to_str().unwrap()]);
    let of_expanded = rekal(directory.path(), &["parse_pdb", "basic32.pdb"]);
    assert_eq!(of_packed.status.code(), Some(0), "{}", stderr(&of_packed));
    assert!(of_packed.stdout == of_expanded.stdout && of_packed.stdout.len() > 1000);
}

#[test]
fn the_forms_of_the_original_work() {
    let Some(pdb) = data("rekall-golden/inputs/types_x64.pdb") else { return };
    let directory = tempfile::tempdir().unwrap();
    let pdb = pdb.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let output = rekal(directory.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    };
    // As in its tutorial, and as its command line really was.
    run(&["parse_pdb", "-f", pdb, "--output", "ntkrnlmp.json", "--profile_class", "Win7x64"]);
    run(&[
        "parse_pdb",
        pdb,
        "--output_filename",
        "a.json.gz",
        "--dump_dir",
        ".",
        "--windows_version",
        "6.1.7600",
    ]);
    run(&["parse_pdb", pdb, "-D", ".", "--concise"]);
    let json = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(directory.path().join(name)).unwrap()).unwrap()
    };
    let named = json("ntkrnlmp.json");
    assert_eq!(named["$METADATA"]["ProfileClass"], "Win7x64");
    assert!(named["$FUNCTIONS"].is_object());
    let concise = json("types_x64.json");
    assert!(concise["$FUNCTIONS"].is_null() && concise["$CONSTANTS"].is_null());
    assert_eq!(concise["$STRUCTS"], named["$STRUCTS"]);
    let mut text = String::new();
    let compressed = fs::File::open(directory.path().join("a.json.gz")).unwrap();
    flate2::read::GzDecoder::new(compressed).read_to_string(&mut text).unwrap();
    let versioned: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(versioned["$METADATA"]["major"], "6");
    assert_eq!(versioned["$METADATA"]["rev"], "7600");
    // And the profile is one that other commands take.
    run(&["-p", "ntkrnlmp.json", "dt", "list_node"]);
}

#[test]
fn what_a_file_lacks_is_said() {
    let Some(pdb) = data("pdb/omap_reorder_bbs.pdb") else { return };
    let directory = tempfile::tempdir().unwrap();
    let output = rekal(directory.path(), &["parse_pdb", pdb.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("public symbols are left out"), "{}", stderr(&output));
    let page = directory.path().join("page.pdb");
    fs::write(&page, "<html>").unwrap();
    let output = rekal(directory.path(), &["parse_pdb", "page.pdb", "--output", "page.json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("not a PDB file"), "{}", stderr(&output));
    assert!(!directory.path().join("page.json").exists() && output.stdout.is_empty());
    let output = rekal(directory.path(), &["parse_pdb", "page.pdb", "--windows_version", "six"]);
    assert_eq!(output.status.code(), Some(2));
}
