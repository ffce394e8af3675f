//! `manage_repo` on a small repository: what can be built is, what cannot is remembered, and a second run does nothing.
//!
//! Reads `rekall-golden/` below `REKAL_TEST_DATA`, or below the data folder beside the checkout; without it the test says so
//! and passes.

#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may panic")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use profile::{Limits, Profile};
use profile_gen::pdb::identify;
use serde_json::Value;

/// An identity that no store has.
const ABSENT: &str = "0123456789ABCDEF0123456789ABCDEF1";
/// An identity whose PDB is damaged.
const DAMAGED: &str = "0123456789ABCDEF0123456789ABCDEF2";

fn golden(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join("data");
    let root = std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from);
    let path = root.join("rekall-golden/inputs").join(name);
    if !path.is_file() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no {}", path.display());
        return None;
    }
    Some(path)
}

fn write(path: PathBuf, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Runs the command below `home` and returns its exit code and rows as `item comment`.
fn run(home: &Path, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekal"));
    command.env_clear().env("HOME", home).current_dir(home).args([
        "--format",
        "json",
        "--symbol_path",
        "store",
    ]);
    let output =
        command.args(["manage_repo", "--path_to_repository", "repo"]).args(arguments).output().unwrap();
    let table: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = table["rows"].as_array().unwrap().iter();
    (
        output.status.code(),
        rows.map(|row| format!("{} {}", text(row, "item"), text(row, "comment"))).collect(),
    )
}

#[test]
fn what_is_missing_is_built_once_and_what_cannot_be_is_remembered() {
    let (Some(pdb), Some(zip)) = (golden("types_x64.pdb"), golden("linux_x64_dwarf5.zip")) else { return };
    let scratch = tempfile::tempdir().unwrap();
    let home = scratch.path();
    let names = home.join("repo/v1.0");
    let bytes = fs::read(pdb).unwrap();
    let id = identify(&bytes).unwrap().id.to_string();
    write(home.join(format!("store/types_x64.pdb/{id}/types_x64.pdb")), &bytes);
    write(names.join("src/pdb").join(format!("{DAMAGED}.pdb")), "Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0");
    write(names.join("src/Linux/Test/1.0.zip"), fs::read(zip).unwrap());
    write(
        names.join("config.yaml"),
        "nt/GUID:\n  type: WindowsGUIDProfile\n  guids: src/nt/guids.yaml\n  profile_class: Nt\n  transforms:\n    merge:\n    - nt/undocumented\n\
         nt/undocumented:\n  type: CopyAndTransform\n  source: src/nt/undocumented.yaml\n\
         Linux:\n  type: LinuxProfile\n",
    );
    let zeros = "0".repeat(33);
    write(
        names.join("src/nt/guids.yaml"),
        format!("types_x64.pdb:\n- {}\n- {ABSENT}\n- {DAMAGED}\n- '{zeros}'\n", id.to_lowercase()),
    );
    write(
        names.join("src/nt/undocumented.yaml"),
        "$METADATA:\n  type: Profile\n  ProfileClass: Nt\n$STRUCTS:\n  _X: [4, {a: [0, [long]]}]\n",
    );

    let (code, rows) = run(home, &["--processes", "2"]);
    assert_eq!(code, Some(3), "{rows:?}");
    let is = |start: &str, part: &str| rows.iter().any(|row| row.starts_with(start) && row.contains(part));
    assert!(is("built ", &id) && is("built ", "undocumented"), "{rows:?}");
    assert!(is("rejected ", ABSENT) && is("rejected ", DAMAGED), "{rows:?}");
    assert!(is("rejected ", "Linux/Test/1.0: of no use"), "{rows:?}");
    assert!(is("inventory ", "inventory.gz"), "{rows:?}");
    let stored = fs::read(names.join(format!("nt/GUID/{id}.gz"))).unwrap();
    let profile = Profile::parse(&stored, &Limits::default()).unwrap();
    assert_eq!(profile.metadata_str("GUID_AGE"), Some(id.as_str()));
    assert_eq!(profile.metadata_str("ProfileClass"), Some("Nt"));
    assert_eq!(profile.to_document().unwrap().merge, ["nt/undocumented"]);
    let rejects = fs::read_to_string(names.join("src/nt/guids.yaml.rejects")).unwrap();
    assert_eq!(rejects.lines().count(), 2, "{rejects}");

    let (_, again) = run(home, &["nt/GUID"]);
    assert_eq!(again.len(), 1, "only the inventory: {again:?}");
    // What is named is tried again; a new identity is listed once it is built.
    let (_, retried) = run(home, &["nt/GUID", "build", ABSENT]);
    assert!(retried.iter().any(|row| row.starts_with("rejected ")), "{retried:?}");
    fs::remove_file(names.join(format!("nt/GUID/{id}.gz"))).unwrap();
    write(names.join("src/nt/guids.yaml"), "types_x64.pdb: []\n");
    let (code, added) = run(home, &["nt/GUID", "add_guid", &id]);
    assert_eq!(code, Some(0), "{added:?}");
    assert!(fs::read_to_string(names.join("src/nt/guids.yaml")).unwrap().contains(&id));
    let (code, _) = (run(home, &["Linux"]).0, ());
    assert_eq!(code, Some(3));
}
