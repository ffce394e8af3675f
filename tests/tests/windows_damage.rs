//! Damaged Windows memory: every command ends, says what is missing, and loses no healthy row.
//!
//! Truth: the description the image was made from; damage is done to it afterwards, on purpose.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use rekal_tests::rekal::{Output, Rekal};
use testkit::{Machine, Process, Snapshot, SpaceId, Thread, Vad, filetime, profiles};

/// Commands that must survive everything.
const COMMANDS: &[&[&str]] = &[
    &["pslist"],
    &["pstree"],
    &["psscan"],
    &["psxview"],
    &["vad"],
    &["modules"],
    &["dlllist"],
    &["handles"],
    &["threads"],
    &["imageinfo"],
    &["find_dtb"],
    &["memmap"],
    &["driverscan"],
    &["filescan"],
    &["mutantscan"],
    &["symlinkscan"],
    &["modscan"],
    &["thrdscan"],
    &["object_tree"],
    &["object_types"],
    &["driverirp"],
    &["devicetree"],
    &["ssdt"],
    &["unloaded_modules"],
    &["version_modules"],
    &["times"],
    &["phys_map"],
    &["kdbgscan"],
    &["kpcr"],
    &["privileges"],
    &["tokens"],
];

fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).expect("tests lie in PROFILE/deps");
    let program = profile.join("rekal");
    assert!(program.is_file(), "build it first: cargo build --bin rekal: {}", program.display());
    program
}

/// Five processes with some of everything; `None` without real test data.
fn machine() -> Option<Snapshot> {
    let mut machine = Machine::new(profiles::windows_7()?);
    for (pid, ppid, name) in [
        (4, 0, "System"),
        (200, 4, "smss.exe"),
        (300, 200, "csrss.exe"),
        (400, 300, "calc.exe"),
        (500, 300, "evil.exe"),
    ] {
        machine.process(&Process {
            created: filetime(1_329_909_000),
            session: (pid > 200).then_some(1),
            threads: vec![Thread::default(); 2],
            more_handles: 300,
            vads: (1..8).map(|n| Vad::private(n << 20, (n << 20) + 0xffff)).collect(),
            ..Process::new(pid, ppid, name)
        });
    }
    Some(machine.finish())
}

struct Image {
    _folder: tempfile::TempDir,
    rekal: Rekal,
}

fn write(snapshot: &Snapshot) -> Image {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("damaged.raw");
    snapshot.write_raw(&image).unwrap();
    let repository = profiles::data().map(|data| data.join("rekall"));
    Image { _folder: folder, rekal: Rekal { program: program(), image, repository } }
}

fn pids(output: &Output, column: &str) -> BTreeSet<u64> {
    output.rows.iter().map(|row| row.object(column, "pid").parse().unwrap()).collect()
}

fn notes(output: &Output) -> String {
    output.notes.iter().map(|note| note["text"].as_str().unwrap().to_owned() + "\n").collect()
}

/// Every command ends with a documented exit code.
fn survive(image: &Image) {
    for command in COMMANDS {
        if let Err(error) = image.rekal.run(command) {
            panic!("{error:#}");
        }
    }
}

/// Where in the process with this id the link of the list of processes is.
fn links(snapshot: &Snapshot, pid: u64) -> u64 {
    let system = &snapshot.machine.system;
    snapshot.process(pid).eprocess + system.layouts.offset("_EPROCESS", "ActiveProcessLinks")
}

const ALL: [u64; 5] = [4, 200, 300, 400, 500];

#[test]
fn an_unlinked_process_is_found_and_told_of() {
    let Some(mut snapshot) = machine() else { return };
    let (before, hidden) = (links(&snapshot, 400), links(&snapshot, 500));
    let next = snapshot.machine.read_pointer(SpaceId::SYSTEM, hidden);
    snapshot.machine.write_pointer(SpaceId::SYSTEM, before, next);
    snapshot.machine.write_pointer(SpaceId::SYSTEM, next + 8, before);
    let image = write(&snapshot);
    let output = image.rekal.run(&["pslist"]).unwrap();
    assert_eq!(pids(&output, "_EPROCESS"), BTreeSet::from(ALL));
    assert!(notes(&output).contains("process 500 (evil.exe)"), "{}", notes(&output));
    let list = image.rekal.run(&["pslist", "--method", "PsActiveProcessHead"]).unwrap();
    assert!(!pids(&list, "_EPROCESS").contains(&500));
    let view = image.rekal.run(&["psxview"]).unwrap();
    for row in &view.rows {
        let listed = (row.object("_EPROCESS", "pid") != "500").to_string();
        assert_eq!(row.text("PsActiveProcessHead"), listed);
        assert_eq!((row.text("PspCidTable").as_str(), row.text("PSScan").as_str()), ("true", "true"));
    }
    survive(&image);
}

#[test]
fn looping_and_torn_lists_lose_nobody() {
    for target in [None, Some(0xffff_fa80_dead_0000u64), Some(0)] {
        let Some(mut snapshot) = machine() else { return };
        let link = links(&snapshot, 200);
        let to = target.unwrap_or(link);
        snapshot.machine.write_pointer(SpaceId::SYSTEM, link, to);
        let image = write(&snapshot);
        let output = image.rekal.run(&["pslist", "--method", "PsActiveProcessHead"]).unwrap();
        assert_eq!(pids(&output, "_EPROCESS"), BTreeSet::from(ALL), "link to {to:#x}");
        assert!(!output.complete);
        assert!(notes(&output).contains("list PsActiveProcessHead"), "{}", notes(&output));
        survive(&image);
    }
}

#[test]
fn a_zeroed_process_stays_as_a_row() {
    let Some(mut snapshot) = machine() else { return };
    // All but the links: what a page that changed while it was read looks like.
    let (start, link) = (snapshot.process(400).eprocess, links(&snapshot, 400));
    let length = usize::try_from(link - start).unwrap();
    snapshot.machine.write(SpaceId::SYSTEM, start, &vec![0; length]);
    let image = write(&snapshot);
    let output = image.rekal.run(&["pslist"]).unwrap();
    assert_eq!(output.rows.len(), ALL.len());
    survive(&image);
}

#[test]
fn hostile_handle_tables_end() {
    for code in [7u64, 0xffff_ffff_ffff_ffff, 0x1003, 0] {
        let Some(mut snapshot) = machine() else { return };
        let system = &snapshot.machine.system;
        let (table, field) = (
            system.layouts.offset("_EPROCESS", "ObjectTable"),
            system.layouts.offset("_HANDLE_TABLE", "TableCode"),
        );
        let table = snapshot.machine.read_pointer(SpaceId::SYSTEM, snapshot.process(400).eprocess + table);
        snapshot.machine.write_pointer(SpaceId::SYSTEM, table + field, code);
        let image = write(&snapshot);
        let output = image.rekal.run(&["handles", "300", "400"]).unwrap();
        assert_eq!(pids(&output, "_EPROCESS"), BTreeSet::from([300]), "code {code:#x}");
        survive(&image);
    }
}

#[test]
fn a_handle_table_of_itself_ends() {
    let Some(mut snapshot) = machine() else { return };
    let system = &snapshot.machine.system;
    let (table, field) = (
        system.layouts.offset("_EPROCESS", "ObjectTable"),
        system.layouts.offset("_HANDLE_TABLE", "TableCode"),
    );
    let table = snapshot.machine.read_pointer(SpaceId::SYSTEM, snapshot.process(400).eprocess + table);
    let code = snapshot.machine.read_pointer(SpaceId::SYSTEM, table + field);
    let page = code & !7;
    for slot in 0..512 {
        snapshot.machine.write_pointer(SpaceId::SYSTEM, page + slot * 8, page);
    }
    snapshot.machine.write_pointer(SpaceId::SYSTEM, table + field, page | 2);
    survive(&write(&snapshot));
}

#[test]
fn vads_in_a_circle_end() {
    let Some(mut snapshot) = machine() else { return };
    let system = &snapshot.machine.system;
    let root = snapshot.process(400).eprocess
        + system.layouts.offset("_EPROCESS", "VadRoot.BalancedRoot")
        + system.layouts.offset("_MMADDRESS_NODE", "RightChild");
    let (left, right) =
        (system.layouts.offset("_MMVAD", "LeftChild"), system.layouts.offset("_MMVAD", "RightChild"));
    let top = snapshot.machine.read_pointer(SpaceId::SYSTEM, root);
    let below = snapshot.machine.read_pointer(SpaceId::SYSTEM, top + left);
    snapshot.machine.write_pointer(SpaceId::SYSTEM, below + left, top);
    snapshot.machine.write_pointer(SpaceId::SYSTEM, below + right, 0xdead_0000_0000_0000);
    let image = write(&snapshot);
    let output = image.rekal.run(&["vad", "400", "500"]).unwrap();
    assert!(!output.complete);
    assert!(notes(&output).contains("400 (calc.exe): the tree of VADs leads back"), "{}", notes(&output));
    let healthy = output.rows.iter().filter(|row| row.object("_EPROCESS", "pid") == "500").count();
    assert_eq!(healthy, 7);
    survive(&image);
}

#[test]
fn an_image_cut_off_anywhere_fails_in_words() {
    let Some(snapshot) = machine() else { return };
    let image = write(&snapshot);
    let length = std::fs::metadata(&image.rekal.image).unwrap().len();
    for part in [1, 2, 4, 6, 7] {
        let file = std::fs::OpenOptions::new().write(true).open(&image.rekal.image).unwrap();
        file.set_len(length * part / 8).unwrap();
        for command in COMMANDS {
            let mut process = Command::new(&image.rekal.program);
            process.args(["--offline", "-f"]).arg(&image.rekal.image).env("HOME", "/nonexistent");
            process.arg("--repository_path").arg(image.rekal.repository.as_ref().unwrap());
            let output = process.args(*command).output().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(
                matches!(output.status.code(), Some(0 | 1 | 3 | 4)),
                "{command:?}: {}: {stderr}",
                output.status
            );
        }
        // Longer again: what was cut off reads as zeros.
        file.set_len(length).unwrap();
    }
}
