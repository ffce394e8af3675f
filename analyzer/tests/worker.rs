//! Conversion workers: whatever a source does to its worker, the parent gets a typed answer, and the worker is gone.
//!
//! Reads `rekall-golden/` below `REKAL_TEST_DATA`, or below the data folder beside the checkout; tests that need it say so
//! and pass without.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use profile_gen::LinuxOptions;
use profile_gen::pdb::{PdbOptions, convert_pdb};
use profile_gen::worker::{Conversion, Worker, WorkerError, WorkerLimits};

fn golden(name: &str) -> Option<PathBuf> {
    data(&format!("rekall-golden/inputs/{name}"))
}

fn data(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join("data");
    let root = std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from);
    let path = root.join(name);
    if !path.is_file() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no {}", path.display());
        return None;
    }
    Some(path)
}

fn worker(limits: WorkerLimits) -> Worker {
    Worker::new(env!("CARGO_BIN_EXE_rekal").into(), limits)
}

fn pdb() -> Conversion {
    Conversion::Pdb(PdbOptions { file_name: Some("types_x64.pdb".to_owned()), ..PdbOptions::default() })
}

#[test]
fn a_worker_makes_the_same_profile_as_the_library() {
    let Some(source) = golden("types_x64.pdb") else { return };
    let answer = worker(WorkerLimits::default()).convert(&source, &pdb()).unwrap();
    let options = PdbOptions { file_name: Some("types_x64.pdb".to_owned()), ..PdbOptions::default() };
    let here = convert_pdb(&fs::read(&source).unwrap(), &options).unwrap();
    assert_eq!(answer.json, here.document.to_canonical_json());
    assert_eq!(answer.pdb, Some(here.report));
    let Some(source) = golden("linux_x64_dwarf5.zip") else { return };
    let answer =
        worker(WorkerLimits::default()).convert(&source, &Conversion::Linux(LinuxOptions::default()));
    assert!(answer.unwrap().json.contains("\"$STRUCTS\""));
}

#[test]
fn malformed_missing_and_oversized_sources_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("page.pdb");
    fs::write(&page, "<html>captive portal</html>").unwrap();
    let convert = |limits, path: &Path| worker(limits).convert(path, &pdb()).unwrap_err();
    let error = convert(WorkerLimits::default(), &page);
    assert!(matches!(&error, WorkerError::Refused(why) if why.contains("not a PDB")), "{error}");
    let error = convert(WorkerLimits::default(), &directory.path().join("absent.pdb"));
    assert!(matches!(&error, WorkerError::Refused(why) if why.contains("cannot read")), "{error}");
    let error = convert(WorkerLimits { input: 10, ..WorkerLimits::default() }, &page);
    assert!(matches!(error, WorkerError::InputTooLarge(10)), "{error}");
    let Some(source) = golden("types_x64.pdb") else { return };
    let error = convert(WorkerLimits { output: 100, ..WorkerLimits::default() }, &source);
    assert!(matches!(error, WorkerError::OutputTooLarge(100)), "{error}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_source_that_needs_too_much_memory_ends_its_worker_only() {
    // More than what the allocator has at the start: it aborts.
    let Some(source) = data("pdb/dump_syms_regtest64.pdb") else { return };
    let limits = WorkerLimits { memory: 1 << 20, ..WorkerLimits::default() };
    let error = worker(limits).convert(&source, &pdb()).unwrap_err();
    assert!(matches!(error, WorkerError::Memory(_)), "{error}");
}

#[test]
fn a_worker_that_does_not_answer_is_killed() {
    let directory = tempfile::tempdir().unwrap();
    // Reading a pipe that nobody writes to takes forever.
    let pipe = directory.path().join("pipe.pdb");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if !made.is_ok_and(|status| status.success()) {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no mkfifo");
        return;
    }
    let wall = Duration::from_millis(300);
    let started = Instant::now();
    let error = worker(WorkerLimits { wall, ..WorkerLimits::default() }).convert(&pipe, &pdb()).unwrap_err();
    assert!(matches!(error, WorkerError::TimedOut(_)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(10));
}
