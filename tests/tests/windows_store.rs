//! Pages in the compressed store of Windows 10 and 11.
//!
//! Truth: the content of the pages before the maker of the image compressed them. Where the structures of the store are comes from
//! public research; no real image was at hand.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod made;

use made::Image;
use rekal_tests::rekal::Output;
use testkit::scenario::{Built, Scenario};
use testkit::{PAGE, STORE_FILE, STORE_PID, SpaceId, Stored, System, profiles};

/// The process whose pages are in the store, and where.
const PID: &str = "1888";
const START: u64 = 0x100_0000;
/// Number of its pages there.
const PAGES: u64 = 66;

/// Pages of every kind: text, what does not compress, zeros, runs.
fn pages() -> Vec<Vec<u8>> {
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    (0..PAGES)
        .map(|number| match number % 4 {
            0 => format!("page {number} of the compressed store{:64}", ';')
                .into_bytes()
                .into_iter()
                .cycle()
                .take(4096)
                .collect(),
            1 => (0..512).flat_map(|_| random().to_le_bytes()).collect(),
            2 if number % 8 == 2 => vec![0; 4096],
            _ => (0..4096).map(|at: u64| u8::try_from(at / (number + 9) % 251).unwrap()).collect(),
        })
        .collect()
}

struct Made {
    built: Built,
    image: Image,
    stored: Stored,
}

fn made(system: System) -> Made {
    let scenario = Scenario::office(&system).with_compressed(system.version.2, 1888, START, &pages());
    let built = scenario.build(system);
    let image = Image::of(&built.snapshot);
    Made { built, image, stored: scenario.stored.unwrap() }
}

/// The systems that have a store, and the same as if they were other builds, whose structures differ.
fn systems() -> Vec<(u32, System)> {
    let as_build = |build: u32, system: Option<System>| {
        let system = system?;
        Some((build, System { version: (10, 0, build), ..system }))
    };
    [
        as_build(19041, profiles::windows_10()),
        as_build(22000, profiles::windows_11()),
        as_build(22621, profiles::windows_11()),
        as_build(26100, profiles::windows_11()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn notes(output: &Output) -> String {
    output.notes.iter().map(|note| note["text"].as_str().unwrap().to_owned() + "\n").collect()
}

/// The area of the process as `vaddump` writes it.
fn dumped(made: &Made, options: &[&str]) -> (Vec<u8>, u64) {
    let folder = tempfile::tempdir().unwrap();
    let start = format!("{START:#x}");
    let mut command = vec!["vaddump", PID, "--offset", &start, "--dump_dir", folder.path().to_str().unwrap()];
    command.extend(options);
    let output = made.image.run(&command);
    let row = &output.rows[0];
    (std::fs::read(row.text("Filename")).unwrap(), row.number("missing").unwrap())
}

#[test]
fn pages_are_read_as_they_were_before() {
    for (build, system) in systems() {
        let made = made(system);
        let expected = pages();
        // Those whose bytes are themselves in a pagefile are missing without it.
        let needs: Vec<bool> = made.stored.pages.iter().map(|page| page.1).collect();
        assert!(needs.contains(&true) && needs.contains(&false));
        let (bytes, missing) = dumped(&made, &[]);
        assert_eq!(missing, needs.iter().filter(|needs| **needs).count() as u64 * PAGE, "{build}");
        for ((found, truth), needs) in bytes.chunks(4096).zip(&expected).zip(&needs) {
            assert!(*needs || found == truth, "{build}");
        }
        let pagefile = made.image.folder.path().join("pagefile.sys");
        made.built.snapshot.write_page_file(0, &pagefile).unwrap();
        let options = ["--pagefile", pagefile.to_str().unwrap()];
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().to_str().unwrap();
        made.image.text(&options, &["vaddump", PID, "--offset", &format!("{START:#x}"), "--dump_dir", to]);
        let file = std::fs::read_dir(to).unwrap().next().unwrap().unwrap().path();
        assert!(std::fs::read(file).unwrap() == expected.concat(), "{build}");
    }
}

#[test]
fn the_way_to_a_page_is_told() {
    for (build, system) in systems() {
        let made = made(system);
        let start = format!("{START:#x}");
        let steps = made.image.run(&["vtop", &start, PID]);
        assert!(steps.complete, "{build}: {}", notes(&steps));
        let row = |name: &str| {
            let found = steps.rows.iter().find(|row| row.text("step") == name);
            found.unwrap_or_else(|| panic!("{build}: no {name}: {:?}", steps.rows))
        };
        assert_eq!(row("compressed store").text("address"), format!("{:#x}", 0x100 * PAGE), "{build}");
        let store = row("store 3");
        assert_eq!(store.text("address"), "0x210000000", "{build}");
        let (key, codec) = if build < 26100 { ("0x20000100", "Xpress") } else { ("0x100", "LZ4") };
        let comment = store.text("comment");
        assert!(
            comment.contains(&format!("page key {key}, region 0")) && comment.contains(codec),
            "{comment}"
        );
        // The first byte of the first region.
        let space = made.built.snapshot.process(STORE_PID).space;
        let physical = made.built.snapshot.physical_of(space, 0x2_1000_0000).unwrap();
        assert_eq!(row("physical").text("address"), format!("{physical:#x}"), "{build}");
        let output = made.image.run(&["inspect_vaddr", &start, "--address_space", &format!("pid@{PID}")]);
        assert_eq!(output.rows[0].text("Base AS Offset"), format!("{physical:#x}"), "{build}");
        assert!(output.rows[0].number("Compressed").is_some_and(|len| len > 0 && len < 4096), "{build}");
        let map = made.image.run(&["vadmap", PID, "--start", &start, "--end", "0x1002000"]);
        let cells = |row: &rekal_tests::rekal::Row| {
            ["VAddr", "length", "type", "comment"].map(|column| row.text(column)).join(" ")
        };
        assert_eq!(
            map.rows.iter().map(cells).collect::<Vec<_>>(),
            [
                "0x1000000 4096 Compressed compressed store at 0x100000",
                "0x1001000 4096 Compressed compressed store at 0x103000"
            ],
            "{build}"
        );
        let files = made.image.cells(&["pagefiles"], &["number", "filename"]);
        assert_eq!(files[..2], ["0 | \\??\\C:\\pagefile.sys", "1 | \\??\\C:\\pagefile1.sys"], "{build}");
        assert!(files[2].starts_with(&STORE_FILE.to_string()), "{build}: {files:?}");
    }
}

#[test]
fn dumps_and_searches_of_the_process_have_its_pages() {
    let Some(system) = profiles::windows_11() else { return };
    let made = made(system);
    let folder = tempfile::tempdir().unwrap();
    let output = made.image.run(&["memdump", PID, "--dump_dir", folder.path().to_str().unwrap()]);
    let row = &output.rows[0];
    let dump = std::fs::read(row.text("dump_name")).unwrap();
    let index = std::fs::read_to_string(row.text("index_name")).unwrap();
    let number = |text: &str| usize::from_str_radix(text.strip_prefix("0x").unwrap(), 16).unwrap();
    let mut seen = 0;
    for line in index.lines().skip(1) {
        let [at, len, start] = line.split('\t').map(number).collect::<Vec<_>>()[..] else { panic!("{line}") };
        let first = usize::try_from(START).unwrap();
        let pages = pages();
        for page in (0..pages.len()).filter(|page| (start..start + len).contains(&(first + page * 4096))) {
            let from = at + first + page * 4096 - start;
            assert!(made.stored.pages[page].1 || dump[from..from + 4096] == pages[page], "page {page}");
            seen += 1;
        }
    }
    assert_eq!(seen, PAGES, "every page is in the dump");
    // Text that no other page has; it repeats after 64 bytes more than its length.
    let number = (4..).step_by(4).find(|&number: &usize| !made.stored.pages[number].1).unwrap();
    let text = format!("page {number} of the compressed store");
    let found = made.image.run(&["grep", &text, "--address_space", &format!("pid@{PID}")]);
    assert_eq!(found.rows.len(), 1 + (4096 - text.len()) / (text.len() + 64), "{:?}", found.rows.first());
}

#[test]
fn a_damaged_store_loses_its_pages_only() {
    let Some(system) = profiles::windows_10() else { return };
    let scenario = Scenario::office(&system).with_compressed(19041, 1888, START, &pages());
    let mut built = scenario.build(system);
    // The root of the global tree becomes its own first child; the rest of the machine is whole.
    let machine = &mut built.snapshot.machine;
    let globals =
        machine.symbol_if("SmGlobals").unwrap_or_else(|| machine.symbol("?SmGlobals@@3U_SM_GLOBALS@@A"));
    let root = machine.read_pointer(SpaceId::SYSTEM, globals + 0x1C0);
    machine.write(SpaceId::SYSTEM, root, &[1, 0, 1, 0]);
    machine.write_pointer(SpaceId::SYSTEM, root + 8, root);
    machine.write_pointer(SpaceId::SYSTEM, root + 24, root);
    let image = Image::of(&built.snapshot);
    let map = image.run(&["vadmap", PID, "--start", &format!("{START:#x}"), "--end", "0x1042000"]);
    assert_eq!(map.rows.len(), 1, "{:?}", map.rows);
    assert!(map.rows[0].text("comment").contains("whose tree does not end"), "{:?}", map.rows[0]);
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().to_str().unwrap();
    let output = image.run(&["vaddump", PID, "--offset", &format!("{START:#x}"), "--dump_dir", to]);
    assert!(!output.complete);
    assert_eq!(output.rows[0].number("missing"), Some(PAGES * PAGE));
    let processes = image.run(&["pslist"]);
    assert_eq!(processes.rows.len(), scenario.processes.iter().filter(|process| process.pid != 0).count());
}

#[test]
fn pages_that_cannot_be_read_say_why() {
    let Some(system) = profiles::windows_10() else { return };
    let Made { image, .. } = made(System { version: (10, 0, 21000), ..system });
    let steps = image.run(&["vtop", &format!("{START:#x}"), PID]);
    let last = steps.rows.last().unwrap().text("comment");
    assert_eq!(last, "page is in the compressed store of a build whose layout is not known");
    let map = image.run(&["vadmap", PID, "--start", &format!("{START:#x}"), "--end", "0x1002000"]);
    assert!(map.rows[0].text("comment").contains("whose layout is not known"), "{:?}", map.rows[0]);
}
