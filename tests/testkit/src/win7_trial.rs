//! The memory of `win7_trial_64bit.raw` rebuilt from what original Rekall 1.4 printed of it: 35 processes and 4,581 VADs at
//! their addresses, with all values that the output has.
//!
//! The output is that of Rekall's JSON renderer: a list of statements, of which `["r", {column: value}]` is a row and
//! `["f", format, arguments]` a line of text. A value is a plain one, an encoded object with `epoch` (a time), `target` (a
//! pointer), `value` (an enumeration or bit-field) or `offset` (a struct), or an object with `reason`: nothing could be read.
//!
//! Where three of the trees had changed while the memory was read, the rebuilt trees hold the same nodes at the same levels.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use crate::image::Snapshot;
use crate::machine::Machine;
use crate::processes::{Parameters, Process, Thread, filetime};
use crate::profiles;
use crate::system::System;
use crate::vads::{Backing, Vad};

/// Everything above the 48 bits that Rekall printed.
const KERNEL: u64 = 0xFFFF_0000_0000_0000;

/// The rebuilt image; `None` without real test data.
pub fn snapshot() -> Option<Snapshot> {
    let folder = profiles::data()?.join("rekall/output");
    let processes = processes(
        &statements(&folder.join("win7_trial_64bit.pslist.json.gz")),
        &statements(&folder.join("win7_trial_64bit.vad.json.gz")),
    );
    Some(build(profiles::windows_7()?, &processes))
}

/// Builds a machine with these processes, the first of which is System.
fn build(system: System, processes: &[Process]) -> Snapshot {
    let mut machine = Machine::new(system);
    machine.symlink("\\GLOBAL??\\C:", "\\Device\\HarddiskVolume2", filetime(1_329_940_700));
    let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
    for at in processes.iter().flat_map(|process| &process.vads).filter_map(|vad| vad.at) {
        *seen.entry(at).or_default() += 1;
    }
    machine.shared_nodes.extend(seen.into_iter().filter(|&(_, times)| times > 1).map(|(at, _)| at));
    for process in processes {
        machine.process(process);
    }
    machine.finish()
}

fn statements(path: &Path) -> Vec<Value> {
    let file = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut text = String::new();
    flate2::read::GzDecoder::new(file.as_slice()).read_to_string(&mut text).expect("a whole gzip file");
    serde_json::from_str(&text).expect("a list of statements")
}

/// The description of all processes, from the two outputs.
fn processes(pslist: &[Value], vad: &[Value]) -> Vec<Process> {
    let mut areas: Vec<Vec<Vad>> = Vec::new();
    for statement in vad {
        match statement[0].as_str() {
            // "Pid: {0} {1}" starts the next process, in the order of pslist.
            Some("f") => areas.push(Vec::new()),
            Some("r") => areas.last_mut().expect("rows follow their process").push(area(&statement[1])),
            _ => {}
        }
    }
    let rows = pslist.iter().filter(|statement| statement[0] == "r").map(|statement| &statement[1]);
    rows.zip(areas).map(|(row, vads)| process(row, vads)).collect()
}

fn area(row: &Value) -> Vad {
    let number = |value: &Value| value.as_u64().or_else(|| value["target"].as_u64()).expect("an address");
    let node = &row["offset"];
    let tag = match node["type_name"].as_str().expect("a struct") {
        "_MMVAD_SHORT" => *b"VadS",
        "_MMVAD_LONG" => *b"Vadl",
        _ => *b"Vad ",
    };
    let private = row["type"] == "Private";
    let protection = row["protection"]["value"].as_u64().expect("five bits");
    let image = !private && protection == 7;
    let backing = match row["filename"].as_str().expect("text") {
        // The original prints this where a file object has no name.
        "Pagefile-backed section" => Backing::File(String::new()),
        "" if private || tag == *b"VadS" => Backing::Private,
        "" => Backing::Section,
        name if image => Backing::Image(name.to_owned()),
        name => Backing::File(name.to_owned()),
    };
    Vad {
        start: number(&row["start_pfn"]),
        end: number(&row["end_pfn"]),
        tag,
        private,
        protection: u8::try_from(protection).expect("five bits"),
        vad_type: if image { 2 } else { 0 },
        // -1 stands for all bits of the field.
        commit: row["com"]["value"].as_u64().unwrap_or(u64::MAX),
        backing,
        at: Some(KERNEL | node["offset"].as_u64().expect("an address")),
        level: Some(u32::try_from(row["level"].as_u64().expect("a level")).expect("a small level")),
        ..Vad::default()
    }
}

fn process(row: &Value, vads: Vec<Vad>) -> Process {
    let object = &row["_EPROCESS"];
    let facts = &object["Cybox"];
    let image = &facts["Image_Info"];
    let created = filetime(row["process_create_time"]["epoch"].as_u64().expect("a time"));
    let threads = row["thread_count"].as_u64().expect("a count");
    let session = row["session_id"].as_u64().map(|id| u32::try_from(id).expect("a small number"));
    let command_line = image["Command_Line"].as_str();
    // Nothing at a null pointer: the process had no PEB. Otherwise the PEB's page could not be read.
    let no_peb = image["Path"]["reason"].as_str().is_some_and(|reason| reason.starts_with("Pointer Pointer"));
    let small = |low: u64, vad: &&Vad| vad.private && vad.end - vad.start == 0xFFF && vad.start >= low;
    let peb = vads.iter().rfind(|vad| small(0x7FF_FF00_0000, vad)).map_or(0x7FF_FFFD_F000, |vad| vad.start);
    let peb32 = vads.iter().rfind(|vad| small(0x7EF0_0000, vad) && vad.start < 0x7FFE_0000);
    // The reserved low megabyte of csrss and smss looks like a heap, but is at a null pointer.
    let heap = vads
        .iter()
        .find(|vad| vad.start != 0 && vad.private && vad.protection == 4 && vad.end - vad.start >= 0x1_0000);
    let file = image["File_Name"].as_str();
    let program = |vad: &&Vad| match &vad.backing {
        Backing::Image(name) => file.is_some_and(|file| file.ends_with(name.as_str())),
        _ => false,
    };
    Process {
        pid: facts["PID"].as_u64().expect("a number"),
        ppid: row["ppid"].as_u64().expect("a number"),
        name: facts["Name"].as_str().expect("text").to_owned(),
        created,
        exited: filetime(row["process_exit_time"]["epoch"].as_u64().expect("a time")),
        session,
        wow64: row["wow64"].as_bool().expect("a truth value"),
        threads: vec![Thread::default(); usize::try_from(threads).expect("a count")],
        more_handles: row["handle_count"].as_u64().unwrap_or(0),
        torn_down: !row["handle_count"].is_u64(),
        image_file: file.map(str::to_owned),
        parameters: command_line.map(|command_line| Parameters {
            image_path: image["Path"].as_str().expect("text").to_owned(),
            command_line: command_line.to_owned(),
            // The original reads zeros where a page is missing, and so no text.
            paged_out: command_line.is_empty(),
            ..Parameters::default()
        }),
        peb: if no_peb { 0 } else { peb },
        peb32: peb32.map_or(0, |vad| vad.start),
        heap: heap.map_or(0, |vad| vad.start),
        section_base: vads.iter().find(program).map_or(0, |vad| vad.start),
        vads,
        at: Some(KERNEL | object["offset"].as_u64().expect("an address")),
        ..Process::default()
    }
}
