//! Windows: what `rekal` prints of rebuilt memory equals what original Rekall 1.4 printed of the real system.
//!
//! Truth: the original's JSON of `win7_trial_64bit.raw`, 35 processes and 4,581 VADs with all their values. The image is rebuilt
//! by the crate `testkit`, which shares no decoding code with the program.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use flate2::read::GzDecoder;
use rekal_tests::rekal::{Output, Rekal, program};
use serde_json::Value;
use testkit::{CrashDump, Snapshot};

/// Everything above the 48 bits that the original printed.
const KERNEL: u64 = 0xffff_0000_0000_0000;

/// The rebuilt image, once for all tests of this process; `None` without real test data.
fn trial() -> Option<Rekal> {
    static IMAGE: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let image = IMAGE.get_or_init(|| {
        let snapshot = testkit::win7_trial::snapshot()?;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("win7_trial_64bit.raw");
        snapshot.write_raw(&path).unwrap();
        Some((folder, path))
    });
    let (_, image) = image.as_ref()?;
    Some(over(image))
}

/// The program over an image, with the original's profiles as its only repository.
fn over(image: &Path) -> Rekal {
    let repository = testkit::profiles::data().unwrap().join("rekall");
    Rekal { program: program().unwrap(), image: image.to_owned(), repository: Some(repository) }
}

/// Both lists of the original, from the rebuilt image in a format.
fn check_format(name: &str, write: impl FnOnce(&Snapshot, &Path) -> std::io::Result<()>) {
    let Some(snapshot) = testkit::win7_trial::snapshot() else { return };
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join(name);
    write(&snapshot, &image).unwrap();
    check_pslist(&over(&image));
    check_vad(&over(&image));
}

#[test]
fn a_crash_dump_gives_the_rows_of_the_original() {
    check_format("MEMORY.DMP", |snapshot, path| snapshot.write_crash_dump(path, CrashDump::Full));
}

#[test]
fn a_bitmap_dump_gives_the_rows_of_the_original() {
    check_format("MEMORY.DMP", |snapshot, path| snapshot.write_crash_dump(path, CrashDump::Bitmap));
}

#[test]
fn an_elf_core_gives_the_rows_of_the_original() {
    check_format("guest.elf", Snapshot::write_elf_core);
}

#[test]
fn memory_of_vmware_gives_the_rows_of_the_original() {
    check_format("guest.vmem", |snapshot, path| snapshot.write_vmware(path, &path.with_extension("vmss")));
}

#[test]
fn a_hibernation_file_gives_the_rows_of_the_original() {
    check_format("hiberfil.sys", Snapshot::write_hiberfil);
}

fn run(rekal: &Rekal, command: &[&str]) -> Output {
    rekal.run(command).unwrap()
}

/// The statements of an output of the original.
fn original(name: &str) -> Vec<Value> {
    let path = testkit::profiles::data().unwrap().join("rekall/output").join(name);
    let file = std::fs::File::open(Path::new(&path)).unwrap();
    serde_json::from_reader(GzDecoder::new(file)).unwrap()
}

/// One row as a text for each column.
type Cells = Vec<(&'static str, String)>;

/// An address or number of the original, whichever way it is encoded.
fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value["target"].as_u64()).expect("a number")
}

fn time(value: &Value) -> String {
    match value["epoch"].as_u64().unwrap() {
        0 => String::new(),
        _ => value["string_value"].as_str().unwrap().replace(' ', "T").replace("+0000", "Z"),
    }
}

fn original_processes() -> Vec<Cells> {
    let rows = original("win7_trial_64bit.pslist.json.gz");
    rows.iter()
        .filter(|statement| statement[0] == "r")
        .map(|statement| {
            let row = &statement[1];
            let facts = &row["_EPROCESS"]["Cybox"];
            // An object with a reason stands for what could not be read.
            let count = |name: &str| row[name].as_u64().map_or(String::new(), |count| count.to_string());
            vec![
                ("address", format!("{:#x}", KERNEL | row["_EPROCESS"]["offset"].as_u64().unwrap())),
                ("pid", facts["PID"].to_string()),
                ("name", facts["Name"].as_str().unwrap().to_owned()),
                ("ppid", count("ppid")),
                ("thread_count", count("thread_count")),
                ("handle_count", count("handle_count")),
                ("session_id", count("session_id")),
                ("wow64", row["wow64"].to_string()),
                ("process_create_time", time(&row["process_create_time"])),
                ("process_exit_time", time(&row["process_exit_time"])),
            ]
        })
        .collect()
}

/// Every difference between two tables, whose first column identifies a row.
fn differences(truth: Vec<Cells>, found: Vec<Cells>) -> Vec<String> {
    let keyed = |rows: Vec<Cells>| {
        let mut table: BTreeMap<String, Vec<Cells>> = BTreeMap::new();
        for row in rows {
            table.entry(row[0].1.clone()).or_default().push(row);
        }
        table
    };
    let (truth, mut found) = (keyed(truth), keyed(found));
    let mut lines = Vec::new();
    for (key, rows) in truth {
        let others = found.remove(&key).unwrap_or_default();
        if rows.len() != others.len() {
            lines.push(format!("{key}: {} rows in truth, {} found", rows.len(), others.len()));
        }
        for (row, other) in rows.iter().zip(&others) {
            for ((column, truth), (_, found)) in row.iter().zip(other).filter(|(a, b)| a != b) {
                lines.push(format!("{key}: {column}: truth {truth:?}, rekal {found:?}"));
            }
        }
    }
    lines.extend(found.into_keys().map(|key| format!("{key}: not in truth")));
    lines
}

#[test]
fn pslist_equals_the_original_in_every_column() {
    let Some(rekal) = trial() else { return };
    check_pslist(&rekal);
}

fn check_pslist(rekal: &Rekal) {
    let found: Vec<Cells> = run(rekal, &["pslist"])
        .rows
        .iter()
        .map(|row| {
            let text = |column: &'static str| (column, row.text_or_empty(column));
            vec![
                ("address", row.object("_EPROCESS", "address")),
                ("pid", row.object("_EPROCESS", "pid")),
                ("name", row.object("_EPROCESS", "name")),
                text("ppid"),
                text("thread_count"),
                text("handle_count"),
                text("session_id"),
                text("wow64"),
                text("process_create_time"),
                text("process_exit_time"),
            ]
        })
        .collect();
    assert_eq!(found.len(), 35);
    let lines = differences(original_processes(), found);
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn pstree_equals_the_original_in_paths_and_command_lines() {
    let Some(rekal) = trial() else { return };
    let truth = original("win7_trial_64bit.pslist.json.gz")
        .iter()
        .filter(|statement| statement[0] == "r")
        .map(|statement| {
            let object = &statement[1]["_EPROCESS"];
            let image = &object["Cybox"]["Image_Info"];
            let text = |name: &str| image[name].as_str().unwrap_or_default().to_owned();
            vec![
                ("address", format!("{:#x}", KERNEL | object["offset"].as_u64().unwrap())),
                ("cmd", text("Command_Line")),
                ("path", text("Path")),
                ("audit", text("File_Name")),
            ]
        })
        .collect();
    let found = run(&rekal, &["pstree"])
        .rows
        .iter()
        .map(|row| {
            // The original prints nothing where a page is missing.
            let text = |column: &'static str| {
                let text = row.text(column);
                (column, if text.starts_with("<absent") { String::new() } else { text })
            };
            vec![("address", row.object("_EPROCESS", "address")), text("cmd"), text("path"), text("audit")]
        })
        .collect();
    let lines = differences(truth, found);
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn vad_equals_the_original_in_every_column() {
    let Some(rekal) = trial() else { return };
    check_vad(&rekal);
}

fn check_vad(rekal: &Rekal) {
    let mut process = String::new();
    let mut truth: Vec<Cells> = Vec::new();
    for statement in original("win7_trial_64bit.vad.json.gz") {
        match statement[0].as_str() {
            // "Pid: {0} {1}" begins the next process.
            Some("f") => process = format!("{} {}", statement[2], statement[3].as_str().unwrap()),
            Some("r") => {
                let row = &statement[1];
                let commit = match row["com"]["value"].as_u64() {
                    Some(pages) => pages.to_string(),
                    // -1: all bits of the field are set.
                    None => String::new(),
                };
                truth.push(vec![
                    ("key", format!("{process} {:#x}", KERNEL | row["offset"]["offset"].as_u64().unwrap())),
                    ("start", format!("{:#x}", number(&row["start_pfn"]))),
                    ("struct", row["offset"]["type_name"].as_str().unwrap().to_owned()),
                    ("lev", row["level"].to_string()),
                    ("end", format!("{:#x}", number(&row["end_pfn"]))),
                    ("com", commit),
                    ("type", row["type"].as_str().unwrap().to_owned()),
                    ("exe", row["executable"].as_str().unwrap().to_owned()),
                    ("protect", row["protection"]["enum"].as_str().unwrap().to_owned()),
                    // The original's words for a file object without a name.
                    ("filename", row["filename"].as_str().unwrap().replace("Pagefile-backed section", "")),
                ]);
            }
            _ => {}
        }
    }
    let output = run(rekal, &["vad"]);
    let found: Vec<Cells> = output
        .rows
        .iter()
        .map(|row| {
            let text = |column: &'static str| (column, row.text_or_empty(column));
            let process = format!("{} {}", row.object("_EPROCESS", "pid"), row.object("_EPROCESS", "name"));
            vec![
                ("key", format!("{process} {}", row.object("VAD", "address"))),
                text("start"),
                ("struct", row.object("VAD", "type")),
                text("lev"),
                text("end"),
                text("com"),
                text("type"),
                text("exe"),
                text("protect"),
                text("filename"),
            ]
        })
        .collect();
    assert_eq!(found.len(), 4581);
    let lines = differences(truth, found);
    assert!(lines.is_empty(), "{} differences\n{}", lines.len(), lines[..lines.len().min(20)].join("\n"));
}

#[test]
fn counts_of_threads_and_handles_equal_the_lists() {
    let Some(rekal) = trial() else { return };
    let mut threads: BTreeMap<String, u64> = BTreeMap::new();
    for row in run(&rekal, &["threads"]).rows {
        *threads.entry(format!("{} {}", row.text("pid"), row.text("Process"))).or_default() += 1;
    }
    let mut handles: BTreeMap<String, u64> = BTreeMap::new();
    for row in run(&rekal, &["handles"]).rows {
        *handles.entry(row.object("_EPROCESS", "address")).or_default() += 1;
    }
    for row in original_processes() {
        let cell = |name: &str| row.iter().find(|(column, _)| *column == name).unwrap().1.clone();
        let key = format!("{} {}", cell("pid"), cell("name"));
        let count =
            |table: &BTreeMap<String, u64>, key: &str| table.get(key).copied().unwrap_or(0).to_string();
        assert_eq!(count(&threads, &key), cell("thread_count"), "threads of {key}");
        let truth = cell("handle_count");
        let truth = if truth.is_empty() { "0".to_owned() } else { truth };
        assert_eq!(count(&handles, &cell("address")), truth, "handles of {key}");
    }
}

#[test]
fn scans_and_views_find_what_the_lists_have() {
    let Some(rekal) = trial() else { return };
    let truth: Vec<String> = original_processes().into_iter().map(|row| row[0].1.clone()).collect();
    let scanned: Vec<String> = run(&rekal, &["psscan"]).rows.iter().map(|row| row.text("offset_v")).collect();
    // The process of which nothing but its address was readable has no content to be found by.
    let missing: Vec<&String> = truth.iter().filter(|address| !scanned.contains(address)).collect();
    assert_eq!(missing, ["0xfffffa8000ecb790"]);
    let view = run(&rekal, &["psxview"]);
    assert_eq!(view.rows.len(), 35);
    for row in &view.rows {
        assert_eq!(row.text("PsActiveProcessHead"), "true", "{}", row.object("_EPROCESS", "address"));
    }
}

#[test]
fn one_thread_and_many_print_the_same_bytes() {
    let Some(rekal) = trial() else { return };
    for command in ["psscan", "psxview", "find_dtb"] {
        let one = rekal.run_with(&[command], &[("RAYON_NUM_THREADS", "1")]).unwrap();
        let many = rekal.run_with(&[command], &[("RAYON_NUM_THREADS", "4")]).unwrap();
        assert!(one.bytes == many.bytes, "{command} differs");
    }
}
