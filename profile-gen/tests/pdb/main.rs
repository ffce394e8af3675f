//! PDB conversion against `llvm-pdbutil`, against the original's output, and against damaged files.
//!
//! Reads `pdb/` and `rekall-golden/` below `REKAL_TEST_DATA`, or below the data folder beside the checkout; without
//! them, or without `llvm-pdbutil`, the tests say so and pass.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod damage;
mod golden;
mod llvm;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use profile::Type;
use profile_gen::pdb::{ConvertedPdb, PdbOptions, convert_pdb, convert_pdb_file};

fn data(folder: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join("data");
    std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from).join(folder)
}

fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
}

/// All PDBs of the test data that are meant to be read; empty, with a message, where they are absent.
fn samples() -> Vec<PathBuf> {
    let folders = [data("pdb"), data("rekall-golden").join("inputs")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let mut files: Vec<PathBuf> = files
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pdb"))
        .filter(|path| path.file_name().is_some_and(|name| name != "fuzzed.pdb"))
        .collect();
    if files.is_empty() {
        skipped("no PDBs in the test data");
    }
    files.sort();
    files
}

fn converted(path: &Path) -> ConvertedPdb {
    let bytes = fs::read(path).expect("test data is readable");
    let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let options = PdbOptions { file_name, ..PdbOptions::default() };
    convert_pdb(&bytes, &options).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// First bit and one past the last, where the type is a bit-field.
fn bits(ty: &Type) -> Option<(u32, u32)> {
    match ty {
        Type::BitField { start, end, .. } => Some((*start, *end)),
        Type::Enumeration { target: Some(target), .. } => bits(target),
        _ => None,
    }
}

#[test]
fn text_and_document_are_the_same() {
    for path in samples() {
        let bytes = fs::read(&path).expect("test data is readable");
        let options = PdbOptions::default();
        let (text, whole) = (convert_pdb_file(&path, &options), convert_pdb(&bytes, &options));
        let (text, whole) = (text.expect("a whole PDB"), whole.expect("a whole PDB"));
        assert!(text.json == whole.document.to_canonical_json(), "{}", path.display());
        assert_eq!(text.report, whole.report, "{}", path.display());
        assert_eq!(text.metadata, whole.document.metadata, "{}", path.display());
    }
}
