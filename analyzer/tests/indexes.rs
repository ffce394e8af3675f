//! `guess_guid`, `build_index` and `symlinks` as users run them, on the real repository of the test data.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests may panic")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use profile::Profile;
use repository::index::{DataIndex, Point};
use serde_json::Value;

const KERNEL: &str = "nt/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942";

fn repository() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join("data");
    let root = std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from).join("rekall");
    if root.is_dir() {
        return Some(root);
    }
    let _ = writeln!(std::io::stderr(), "SKIPPED: no real repository in the test data");
    None
}

fn rekal(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekal"));
    command.env_clear().env("HOME", home.path()).args(arguments).output().unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["rows"].as_array().unwrap().clone()
}

/// The points of the kernel's entry in the real index.
fn points(root: &Path) -> Vec<Point> {
    let bytes = fs::read(root.join("v1.0/nt/index.gz")).unwrap();
    let index = DataIndex::read(&Profile::parse(&bytes, &profile::Limits::default()).unwrap()).unwrap();
    let entry = index.profiles.into_iter().find(|(name, _)| name.as_str() == KERNEL);
    entry.unwrap().1
}

#[test]
fn a_module_without_a_header_is_guessed_by_the_real_index() {
    let Some(root) = repository() else { return };
    const BASE: usize = 0x10_0000;
    let mut image = vec![0; 8 << 20];
    for point in points(&root) {
        let at = BASE + usize::try_from(point.offset).unwrap();
        image[at..at + point.data[0].len()].copy_from_slice(&point.data[0]);
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.raw");
    fs::write(&path, image).unwrap();
    let arguments = [
        "--format",
        "json",
        "--offline",
        "--repository_path",
        root.to_str().unwrap(),
        "-f",
        path.to_str().unwrap(),
        "guess_guid",
        "nt",
        "0x100000",
        "--address_space",
        "P",
    ];
    let output = rekal(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let found = rows(&output);
    assert_eq!(found[0]["profile"], KERNEL);
    assert_eq!((&found[0]["method"], &found[0]["available"]), (&"index".into(), &true.into()));
    assert_eq!((found[0]["matched"].as_u64(), found[0]["unmatched"].as_u64()), (Some(10), Some(0)));
    // Other kernels share a padding byte or two at best.
    assert!(found.iter().skip(1).all(|row| row["unmatched"].as_u64() > Some(0)));
    let strict = rekal(&[&arguments[..], &["--minimal_match", "10"]].concat());
    assert_eq!(rows(&strict).len(), 1);
}

#[test]
fn an_index_is_written_out_or_stored() {
    let Some(root) = repository() else { return };
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("index.yaml");
    fs::write(&spec, "path: nt/\ntype: struct\nimplementation: EProcessIndex\nmembers:\n  _EPROCESS: [ImageFileName, Pcb]\n  _KPROCESS: [DirectoryTableBase]\n").unwrap();
    let (spec, root) = (spec.to_str().unwrap(), root.to_str().unwrap());
    let output = rekal(&["build_index", spec, "--root", root]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["$INDEX"][KERNEL]["offsets"]["_EPROCESS.ImageFileName"], 736);
    let copy = folder.path().join("repository/v1.0/nt/GUID");
    fs::create_dir_all(&copy).unwrap();
    let source = Path::new(root).join(format!("v1.0/{KERNEL}.gz"));
    fs::copy(source, copy.join("F8E2A8B5C9B74BF4A6E4A48F180099942.gz")).unwrap();
    let copy = folder.path().join("repository");
    let store = ["build_index", spec, "--root", copy.to_str().unwrap(), "--store", "nt/eprocess_index"];
    assert_eq!(rekal(&store).status.code(), Some(0));
    assert!(copy.join("v1.0/nt/eprocess_index.gz").is_file());
    let elsewhere = ["build_index", spec, "--root", folder.path().to_str().unwrap()];
    assert_eq!(rekal(&elsewhere).status.code(), Some(1));
}

#[test]
fn symlinks_are_listed_with_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    fs::create_dir_all(folder.path().join("v1.0/ntoskrnl.exe/AMD64/6.1.7600.17273")).unwrap();
    let target = "ntoskrnl.exe/AMD64/6.1.7600.17273/2C39F687423840E793308F28C4FDE0CD2";
    fs::write(folder.path().join("v1.0").join(target), "{\"$METADATA\": {\"Type\": \"Profile\"}}").unwrap();
    let link = ["make_symlink", "Win7SP1x64", target, "--repository", root];
    assert_eq!(rekal(&link).status.code(), Some(0));
    let list = ["--format", "json", "--repository_path", root, "symlinks"];
    let output = rekal(&list);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(rows(&output)[0]["profile"], target);
    let dangling = ["make_symlink", "WinXPSP1x86", "nt/GUID/none", "--repository", root];
    assert_eq!(rekal(&dangling).status.code(), Some(0));
    let output = rekal(&list);
    assert_eq!(output.status.code(), Some(3), "partial");
    assert_eq!(rows(&output)[1]["state"], "dangling");
}
