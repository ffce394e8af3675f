//! `peinfo` and `version_scan` as users run them.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::fixture::made;

fn rekal(arguments: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekal"));
    command.env_clear().env("HOME", home.path()).args(arguments).output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let output = rekal(&[&["--format", "json"], arguments].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn value<'v>(answer: &'v Value, part: &str, name: &str) -> &'v Value {
    let rows = answer["rows"].as_array().unwrap();
    rows.iter().find(|row| row["part"] == part && row["name"] == name).unwrap_or(&Value::Null)
}

#[test]
fn all_forms_of_peinfo_say_the_same() {
    for path in made() {
        let path = path.to_str().unwrap();
        let forms: [&[&str]; 5] = [
            &["peinfo", "--filename", path],
            &["peinfo", "0", path],
            &["peinfo", path],
            &["-f", path, "peinfo"],
            &["--filename", path, "peinfo", "0"],
        ];
        let answers = forms.map(json);
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        let answer = &answers[0];
        assert_eq!(value(answer, "attribute", "TimeDateStamp")["value"], "2013-03-19T03:32:06Z");
        assert_eq!(value(answer, "attribute", "PDB")["value"], "C:\\out\\sample.pdb");
        assert_eq!(value(answer, "version", "LegalCopyright")["value"], "© Example");
        assert!(value(answer, "export", "Away")["value"].as_str().unwrap().ends_with("NTDLL.RtlAway"));
        assert_eq!(value(answer, "import", "now.dll!Alpha")["ord"], 0);
        assert_eq!(value(answer, "import", "now.dll!#7")["ord"], 7);
        assert_eq!(value(answer, "delay import", "late.dll!Late")["ord"], 0);
        assert_eq!(value(answer, "section", ".text")["perm"], "xr-");
    }
}

#[test]
fn what_is_no_executable_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    std::fs::write(&path, "MZ but nothing else".repeat(10)).unwrap();
    let path = path.to_str().unwrap();
    for arguments in [["peinfo", "0", path], ["peinfo", "--filename", path], ["-f", path, "peinfo"]] {
        let output = rekal(&arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("cannot show the executable"), "{errors}");
    }
    assert_eq!(rekal(&["peinfo"]).status.code(), Some(2));
}

/// Offsets of the records in a file, by a regular expression of Python.
fn python(path: &Path) -> Option<Vec<u64>> {
    let program = "import re, sys
data = open(sys.argv[1], 'rb').read()
for hit in re.finditer(rb'RSDS.{20}[ -~]{0,1020}\\.pdb\\0', data, re.S): print(hit.start())";
    let output = Command::new("python3").args(["-c", program]).arg(path).output().ok()?;
    let text = String::from_utf8(output.stdout).unwrap();
    Some(text.lines().map(|line| line.parse().unwrap()).collect())
}

#[test]
fn version_scan_finds_the_record_peinfo_shows() {
    let folder = tempfile::tempdir().unwrap();
    for path in made() {
        let file = std::fs::read(path).unwrap();
        // A raw image of whole pages, with the module at two places that are no page boundaries.
        let mut image = vec![0; 3 << 20];
        for at in [12_345, (2 << 20) - 1_700] {
            image[at..at + file.len()].copy_from_slice(&file);
        }
        let image_path = folder.path().join("image.raw");
        std::fs::write(&image_path, &image).unwrap();
        let name = image_path.to_str().unwrap();
        let from_image = json(&["-f", name, "version_scan"]);
        assert_eq!(from_image["rows"], json(&["version_scan", "--scan_filename", name])["rows"]);
        let rows = from_image["rows"].as_array().unwrap();
        let offsets: Vec<u64> = rows
            .iter()
            .map(|row| u64::from_str_radix(&row["offset"].as_str().unwrap()[2..], 16).unwrap())
            .collect();
        assert_eq!(offsets.len(), 2);
        if let Some(theirs) = python(&image_path) {
            assert_eq!(offsets, theirs);
        }
        let info = json(&["peinfo", "0", path.to_str().unwrap()]);
        for row in rows {
            assert_eq!(row["guid"], value(&info, "attribute", "GUID/Age")["value"]);
            assert_eq!(row["pdb"], "C:\\out\\sample.pdb");
        }
        let count = |regex: &str| {
            let answer = json(&["-f", name, "version_scan", "--name_regex", regex]);
            answer["rows"].as_array().unwrap().len()
        };
        assert_eq!((count("SAMPLE"), count("^ntkrnl")), (2, 0));
    }
}
