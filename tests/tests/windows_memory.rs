//! The memory of processes: where its pages are, what is in them, and which code in it no loader put there.
//!
//! Truth: the description of the machine, and its memory as the maker of the image keeps it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod made;

use std::collections::BTreeMap;

use made::{Image, offices, sorted};
use rekal_tests::rekal::{Output, Row};
use testkit::scenario::{INJECTED, INJECTED_CODE, INJECTED_DLL, PAGED_OUT, PAGED_RWX, Scenario};

/// The process that has everything.
const PID: &str = "1888";

fn notes(output: &Output) -> String {
    output.notes.iter().map(|note| note["text"].as_str().unwrap().to_owned() + "\n").collect()
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.strip_prefix("0x").expect("an address"), 16).expect("hexadecimal")
}

/// What the image has at the physical address of a row.
fn content(image: &Image, row: &Row) -> Vec<u8> {
    let bytes = std::fs::read(&image.rekal.image).unwrap();
    let at = usize::try_from(hex(&row.text("PAddr"))).unwrap();
    bytes[at..at + 32].to_vec()
}

#[test]
fn pages_are_in_the_states_described() {
    for (name, _, _, image) in offices() {
        let map = |start: &str, end: &str| image.run(&["vadmap", PID, "--start", start, "--end", end]).rows;
        let states = |rows: &[Row]| -> Vec<String> {
            let columns = ["VAddr", "length", "type", "comment"];
            rows.iter().map(|row| columns.map(|column| row.text(column)).join(" ")).collect()
        };
        let private = map("0x300000", "0x310000");
        let offset = PAGED_OUT.0 * 4096;
        let expected = [
            "0x300000 4096 Valid ".to_owned(),
            "0x301000 4096 Transition ".to_owned(),
            format!("0x302000 4096 Pagefile pagefile 0 at {offset:#x}"),
            "0x303000 53248 Demand Zero ".to_owned(),
        ];
        assert_eq!(states(&private), expected, "{name}");
        assert!(content(&image, &private[0]).starts_with(b"resident page\0"), "{name}");
        assert!(content(&image, &private[1]).starts_with(b"page in transition\0"), "{name}");
        let mapped = map("0x400000", "0x408000");
        let file = "\\Windows\\System32\\locale.nls";
        // Two pages behind prototypes are one row where they happen to follow each other.
        let (first, rest) = (&mapped[0], &mapped[1..]);
        assert_eq!(states(std::slice::from_ref(first)), [format!("0x400000 4096 Valid {file}")], "{name}");
        assert!(content(&image, first).starts_with(b"shared page\0"), "{name}");
        assert!(content(&image, &rest[0]).starts_with(b"page behind a prototype\0"), "{name}");
        let behind: u64 = rest
            .iter()
            .filter(|row| row.text("type") == "Prototype")
            .map(|row| row.number("length").unwrap())
            .sum();
        assert_eq!(behind, 0x3000, "{name}: {:?}", states(&mapped));
        let last = states(&mapped).pop().unwrap();
        assert_eq!(last, format!("0x406000 8192 File Mapping {file}"), "{name}");
    }
}

#[test]
fn files_of_ranges_hold_their_pages() {
    for (name, _, built, image) in offices() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().to_str().unwrap();
        let output = image.run(&["vaddump", PID, "--offset", "0x300000", "--dump_dir", to]);
        assert!(!output.complete && notes(&output).contains("4096 bytes of the ranges"), "{name}");
        let row = &output.rows[0];
        let process = built.snapshot.process(1888).eprocess;
        assert_eq!(
            row.text("Filename"),
            format!("{to}/notepad.exe.{process:x}.00300000-0030ffff.dmp"),
            "{name}"
        );
        assert_eq!((row.number("in_memory"), row.number("missing")), (Some(0x2000), Some(0x1000)), "{name}");
        let page = |text: &[u8]| [text, &vec![0; 4096 - text.len()]].concat();
        let mut expected = [page(b"resident page"), page(b"page in transition"), vec![0; 0xe000]].concat();
        assert!(std::fs::read(row.text("Filename")).unwrap() == expected, "{name}");
        // With the page file nothing is missing.
        let pagefile = folder.path().join("pagefile.sys");
        built.snapshot.write_page_file(0, &pagefile).unwrap();
        let options = ["--pagefile", pagefile.to_str().unwrap(), "--overwrite"];
        image.text(&options, &["vaddump", PID, "--offset", "0x300000", "--dump_dir", to]);
        expected[0x2000..0x2000 + PAGED_OUT.1.len()].copy_from_slice(PAGED_OUT.1);
        assert!(std::fs::read(row.text("Filename")).unwrap() == expected, "{name}");
        let shared = image.run(&["vaddump", PID, "--offset", "0x400000", "--dump_dir", to]);
        let bytes = std::fs::read(shared.rows[0].text("Filename")).unwrap();
        assert_eq!(bytes.len(), 0x8000, "{name}");
        for (at, text) in [
            (0, &b"shared page\0"[..]),
            (0x1000, b"page behind a prototype\0"),
            (0x2000, b"page behind the area's prototype\0"),
            (0x3000, &[0; 64]),
        ] {
            assert!(bytes[at..].starts_with(text), "{name}: {at:#x}");
        }
    }
}

#[test]
fn a_dump_of_a_process_has_its_pages_where_the_index_says() {
    for (name, _, built, image) in offices() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().to_str().unwrap();
        let output = image.run(&["memdump", PID, "--dump_dir", to]);
        assert!(output.complete, "{name}: {}", notes(&output));
        let row = &output.rows[0];
        assert_eq!(row.text("dump_name"), format!("{to}/notepad.exe_1888.dmp"), "{name}");
        let dump = std::fs::read(row.text("dump_name")).unwrap();
        let index = std::fs::read_to_string(row.text("index_name")).unwrap();
        let space = built.snapshot.process(1888).space;
        let mut pieces: BTreeMap<u64, u64> = BTreeMap::new();
        let mut next = 0;
        for line in index.lines().skip(1) {
            let [at, len, start] = line.split('\t').map(hex).collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            assert_eq!(at, next, "{name}: pieces follow each other");
            next = at + len;
            let range = usize::try_from(at).unwrap()..usize::try_from(next).unwrap();
            let truth = built.snapshot.machine.read(space, start, usize::try_from(len).unwrap());
            assert!(dump[range] == truth, "{name}: {start:#x}");
            pieces.insert(start, start + len);
        }
        assert_eq!(dump.len() as u64, next, "{name}");
        let has = |address: u64| pieces.range(..=address).next_back().is_some_and(|(_, end)| address < *end);
        for address in [0x30_0000, 0x30_1000, 0x40_0000, INJECTED_CODE, INJECTED_DLL, 0x7ffd_f000] {
            assert!(has(address), "{name}: {address:#x}");
        }
        // Behind a prototype, in the page file, never touched.
        for address in [0x40_1000, 0x30_2000, 0x30_3000] {
            assert!(!has(address), "{name}: {address:#x}");
        }
        // The same pages as memmap lists.
        let listed: u64 =
            image.run(&["memmap", PID]).rows.iter().map(|row| row.number("Size").unwrap()).sum();
        assert_eq!(listed, next, "{name}");
    }
}

#[test]
fn injected_code_is_found() {
    for (name, _, built, image) in offices() {
        let output = image.run(&["malfind"]);
        let found: Vec<String> = output
            .rows
            .iter()
            .map(|row| {
                let columns = ["start", "end", "tag", "protect", "shown_from"];
                format!(
                    "{} {}",
                    row.object("_EPROCESS", "pid"),
                    columns.map(|column| row.text(column)).join(" ")
                )
            })
            .collect();
        let area =
            |start: u64, end: u64| format!("1888 {start:#x} {end:#x} VadS EXECUTE_READWRITE {start:#x}");
        let expected =
            [area(INJECTED_CODE, INJECTED_CODE + 0xfff), area(INJECTED_DLL, INJECTED_DLL + 0xffff)];
        assert_eq!(found, expected, "{name}");
        let bytes: Vec<String> = INJECTED.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(output.rows[0].text("hexdump").starts_with(&bytes.join(" ")), "{name}");
        // As llvm-mc reads it: cld; call 0x500088.
        let code = output.rows[0].list("disassembly");
        assert_eq!(code[..2], ["0x500000 cld", "0x500001 call 0x500088"], "{name}");
        let accumulator = if built.snapshot.machine.system.is_64() { "(bad)" } else { "pushad" };
        assert_eq!(code[2], format!("0x500006 {accumulator}"), "{name}");
        assert!(output.rows[1].text("hexdump").starts_with("4d 5a "), "{name}");
        // The one whose page is in the page file cannot be judged; the one that was never touched is empty.
        assert!(!output.complete, "{name}");
        let told = format!("4096 bytes of the range at {PAGED_RWX:#x} of 1888 (notepad.exe) cannot be read");
        assert_eq!(notes(&output).matches("cannot be read").count(), 1, "{name}: {}", notes(&output));
        assert!(notes(&output).contains(&told), "{name}: {}", notes(&output));
    }
}

/// What `ldrmodules` must show: of each process the address, whether each list has it, and the mapped file.
fn loaded(scenario: &Scenario) -> Vec<String> {
    let mut rows = Vec::new();
    for process in scenario.processes.iter().filter(|process| process.parameters.is_some()) {
        for loader in [false, true] {
            let modules = process.modules.iter().filter(|module| module.wow64 == loader);
            for (index, module) in modules.enumerate() {
                let vad = process.vads.iter().find(|vad| vad.start == module.base).expect("its range");
                let testkit::Backing::Image(file) = &vad.backing else { panic!("an image") };
                let listed = !module.unlinked;
                let path = if listed { &module.path } else { "" };
                rows.push(format!(
                    "{} {:#x} {listed} {} {listed} {path} {file}",
                    process.pid,
                    module.base,
                    listed && index > 0
                ));
            }
        }
    }
    rows
}

#[test]
fn modules_outside_the_lists_are_told() {
    for (name, scenario, _, image) in offices() {
        let output = image.run(&["ldrmodules"]);
        assert!(output.complete, "{name}: {}", notes(&output));
        let found = output.rows.iter().map(|row| {
            let columns = ["base", "in_load", "in_init", "in_mem", "in_load_path", "mapped"];
            format!(
                "{} {}",
                row.object("_EPROCESS", "pid"),
                columns.map(|column| row.text_or_empty(column)).join(" ")
            )
        });
        assert_eq!(sorted(found.collect()), sorted(loaded(&scenario)), "{name}");
    }
}
