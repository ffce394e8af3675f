//! Damaged Windows memory: every command ends, says what is missing, and loses no healthy row.
//!
//! Truth: the description the image was made from, and for all commands at once what they say of the machine before the damage,
//! which other tests hold against its description. Damage is done to a finished machine, on purpose.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod made;

use std::collections::{BTreeMap, BTreeSet};

use made::Image;
use rekal_tests::rekal::Output;
use serde_json::Value;
use testkit::scenario::Scenario;
use testkit::{Damage, Machine, Process, Snapshot, SpaceId, System, Thread, Vad, filetime, profiles};

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

fn pids(output: &Output, column: &str) -> BTreeSet<u64> {
    output.rows.iter().map(|row| row.object(column, "pid").parse().unwrap()).collect()
}

fn notes(output: &Output) -> String {
    output.notes.iter().map(|note| note["text"].as_str().unwrap().to_owned() + "\n").collect()
}

/// Every command ends with a documented exit code.
fn survive(image: &Image) {
    for (name, (code, _)) in all_commands(image) {
        // Those for other versions of Windows refuse.
        assert!(matches!(code, 0 | 2 | 3), "{name}: exit code {code}");
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
    let image = Image::of(&snapshot);
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
        let image = Image::of(&snapshot);
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
    let image = Image::of(&snapshot);
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
        let image = Image::of(&snapshot);
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
    survive(&Image::of(&snapshot));
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
    let image = Image::of(&snapshot);
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
    let image = Image::of(&snapshot);
    let length = std::fs::metadata(&image.rekal.image).unwrap().len();
    for part in [1, 2, 4, 6, 7] {
        let file = std::fs::OpenOptions::new().write(true).open(&image.rekal.image).unwrap();
        file.set_len(length * part / 8).unwrap();
        // Where the kernel is cut off, nothing can be told of it.
        let mut process = image.command(&["--output_dir"]);
        let output = process.arg(image.folder.path()).arg("batch").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0..=4)), "{part}/8: {}: {stderr}", output.status);
        // Longer again: what was cut off reads as zeros.
        file.set_len(length).unwrap();
    }
}

/// The process that is damaged, and its name.
const VICTIM: (u64, &str) = (1888, "notepad.exe");
/// A process listed before it.
const BEFORE: u64 = 1524;

/// Exit code and rows of each command, as `rekal batch` runs all that need no arguments, and some that do.
fn all_commands(image: &Image) -> BTreeMap<String, (i32, Vec<Value>)> {
    let mut found = batch(image, &[]);
    // Addresses and pages of every kind, mapped and not; the numbers are the same before and after the damage.
    let pages = (0..6).map(|n| format!("{:#x}", 0x200_0000 + n * 0x12_3000)).collect::<Vec<_>>();
    let mut commands = vec![format!("pas2vas {}", pages.join(" "))];
    commands.push("vtop 0x300000 604 1524 1888".to_owned());
    found.extend(batch(image, &commands.iter().map(String::as_str).collect::<Vec<_>>()));
    for page in &pages {
        for (name, result) in
            batch(image, &[&format!("ptov {page}"), &format!("pfn {}", &page[..page.len() - 3])])
        {
            found.insert(format!("{name} {page}"), result);
        }
    }
    found
}

/// Exit code and rows of some commands, or of all that need no arguments.
fn batch(image: &Image, commands: &[&str]) -> BTreeMap<String, (i32, Vec<Value>)> {
    let output_dir = tempfile::tempdir().unwrap();
    let mut process = image.command(&["--format", "json", "--output_dir"]);
    let output = process.arg(output_dir.path()).arg("batch").args(commands).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(0..=4)), "{}: {stderr}", output.status);
    let mut found = BTreeMap::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(code)) = (words.next(), words.next()) else { continue };
        let code: i32 = code.parse().unwrap_or_else(|_| panic!("{line}"));
        let text = std::fs::read(output_dir.path().join(format!("{name}.json"))).unwrap_or_default();
        let document: Value = serde_json::from_slice(&text).unwrap_or_default();
        let rows = document["rows"].as_array().cloned().unwrap_or_default();
        found.insert(name.to_owned(), (code, rows));
    }
    found
}

/// Whether a row is of the damaged process.
fn is_of_victim(row: &Value, eprocess: &str) -> bool {
    match row {
        Value::String(text) => text.contains(VICTIM.1) || text == eprocess,
        Value::Number(number) => number.as_u64() == Some(VICTIM.0),
        Value::Array(values) => values.iter().any(|value| is_of_victim(value, eprocess)),
        Value::Object(values) => values.values().any(|value| is_of_victim(value, eprocess)),
        Value::Null | Value::Bool(_) => false,
    }
}

/// What identifies a row: all of it but what it is missing.
fn key(row: &Value) -> String {
    let mut row = row.clone();
    row.as_object_mut().unwrap().remove("_absent");
    row.to_string()
}

fn office(system: fn() -> Option<System>) -> Option<Snapshot> {
    let system = system()?;
    Some(Scenario::office(&system).build(system).snapshot)
}

/// Compares a damaged machine with itself before. `told`: commands whose result the damage makes partial.
fn check(system: fn() -> Option<System>, damage: Damage, told: &[&str]) {
    let Some(mut snapshot) = office(system) else { return };
    let before = all_commands(&Image::of(&snapshot));
    assert!(before.len() > 35, "{:?}", before.keys());
    for (name, (code, _)) in &before {
        // Those of other versions of Windows refuse; a process that has ended has no modules any more.
        assert!(matches!(code, 0 | 2 | 3), "{name}: exit code {code} without damage");
    }
    let eprocess = format!("{:#x}", snapshot.process(VICTIM.0).eprocess);
    snapshot.damage(damage);
    let after = all_commands(&Image::of(&snapshot));
    let mut missing = Vec::new();
    for (name, (code, rows)) in &before {
        let (now, found) = after.get(name).unwrap_or_else(|| panic!("{damage:?}: {name} did not run"));
        assert!(now == code || *now == 3, "{damage:?}: {name}: exit code {now}");
        let found: Vec<String> = found.iter().map(key).collect();
        let healthy = rows.iter().filter(|row| !is_of_victim(row, &eprocess)).map(key);
        // Where the profile was is another folder each time.
        let healthy = healthy.filter(|row| !row.contains("/repository/v1.0/"));
        missing.extend(healthy.filter(|row| !found.contains(row)).map(|row| format!("{name} lost {row}")));
    }
    assert!(missing.is_empty(), "{damage:?}: {}", missing[..missing.len().min(20)].join("\n"));
    for name in told {
        assert_eq!(after[*name].0, 3, "{damage:?}: {name} does not say that something is missing");
    }
}

fn windows_xp() -> Option<System> {
    Some(profiles::windows_xp_pae())
}

/// The same on every system.
fn everywhere(damage: Damage, told: &[&str]) {
    for system in [windows_xp, profiles::windows_7, profiles::windows_10, profiles::windows_11] {
        check(system, damage, told);
    }
}

#[test]
fn lists_of_processes_lose_nobody() {
    everywhere(Damage::UnlinkProcess(VICTIM.0), &[]);
    everywhere(Damage::LoopProcessList(BEFORE, 4), &["pslist", "psxview"]);
    everywhere(Damage::TearProcessList(BEFORE), &["pslist", "psxview"]);
}

#[test]
fn trees_of_areas_lose_nothing_of_others() {
    everywhere(Damage::VadCycle(VICTIM.0), &["vad"]);
    everywhere(Damage::VadTorn(VICTIM.0), &["vad"]);
}

#[test]
fn tables_of_handles_lose_nothing_of_others() {
    everywhere(Damage::HandleLevel(VICTIM.0, 3), &["handles"]);
    everywhere(Damage::HandleCycle(VICTIM.0), &["handles"]);
}

#[test]
fn wrong_counts_and_missing_pages_lose_nothing_of_others() {
    everywhere(Damage::WrongCounts(VICTIM.0), &[]);
    everywhere(Damage::UnmapPeb(VICTIM.0), &[]);
    everywhere(Damage::TearThreads(VICTIM.0), &["threads"]);
    everywhere(Damage::LoopModules, &["modules"]);
}
