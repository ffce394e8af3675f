//! Heaps against what programs say of themselves, and against damage.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use memory::{AddressSpace, FileSpace, Overlap, Run, RunSpace};
use proptest::prelude::*;

use super::layout::{self, Layout};
use super::*;

/// Kills the program when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Best effort: it may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Private memory of a process of this machine.
fn memory_of(pid: u32) -> (Arc<dyn AddressSpace>, Process) {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut mem = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let (mut bytes, mut runs) = (Vec::new(), Vec::new());
    let mut process = Process { data: Vec::new(), brk: (0, 0), stack: 0 };
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        if !words[1].starts_with("rw-p") {
            continue;
        }
        match words.get(5) {
            Some(&"[heap]") => process.brk = (start, end),
            Some(&"[stack]") => process.stack = start,
            _ => {}
        }
        process.data.push((start, end, words.get(5).is_some_and(|path| path.starts_with('/'))));
        let mut area = vec![0; usize::try_from(end - start).unwrap()];
        mem.seek(SeekFrom::Start(start)).unwrap();
        mem.read_exact(&mut area).unwrap();
        runs.push(Run { start, len: end - start, target: bytes.len() as u64 });
        bytes.append(&mut area);
    }
    let space = RunSpace::new("process", Arc::new(FileSpace::from_vec(bytes)), runs, Overlap::FirstWins);
    (Arc::new(space), process)
}

#[test]
fn a_program_of_this_machine_has_what_it_reports() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tools/guest-image/guest/heap.c");
    let folder = tempfile::tempdir().unwrap();
    let reports = format!("{}/", folder.path().display());
    let text = std::fs::read_to_string(source).unwrap().replace("/run/gt/", &reports);
    let (code, program) = (folder.path().join("heap.c"), folder.path().join("program"));
    std::fs::write(&code, text).unwrap();
    let built =
        Command::new("gcc").args(["-DHEAP_ALONE", "-pthread", "-o"]).arg(&program).arg(&code).status();
    if !built.is_ok_and(|status| status.success()) {
        println!("SKIPPED: no gcc");
        return;
    }
    let child = Command::new(&program).args(["-", "report"]).stdin(Stdio::null()).spawn().unwrap();
    let running = Running(child);
    let report = folder.path().join("report");
    let begun = Instant::now();
    while !report.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the program did not report");
        std::thread::sleep(Duration::from_millis(50));
    }
    let report = std::fs::read_to_string(report).unwrap();
    let (space, process) = memory_of(running.0.id());
    let width = u64::try_from(size_of::<usize>()).unwrap();
    let heap = find::heap(&space, width, &process).expect("a heap");
    assert_eq!(heap.losses, Vec::<String>::new());
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let known: BTreeMap<u64, &Chunk> = heap.chunks.iter().map(|chunk| (chunk.data, chunk)).collect();
    let mut used = 0;
    for line in report.lines() {
        match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["used", addr, usable, text] => {
                let chunk = known[&number(addr)];
                assert!(chunk.kind.is_used(), "{line}: {chunk:?}");
                assert_eq!(chunk.usable, usable.parse::<u64>().unwrap(), "{line}");
                assert!(heap.content(chunk, 64).starts_with(text.as_bytes()), "{line}");
                used += 1;
            }
            ["free", addr] => {
                let used = known.get(&number(addr)).is_some_and(|chunk| chunk.kind.is_used());
                assert!(!used, "{line}");
            }
            ["ref", addr, at, to] => {
                let found = heap.references(known[&number(addr)]);
                assert!(found.contains(&(number(at), number(to))), "{line}");
            }
            _ => {}
        }
    }
    assert!(used > 900, "{used}");
}

/// Runs a program of KeePassXC with these lines as its input.
fn keepassxc(arguments: &[&str], input: &str) -> Option<Child> {
    use std::io::Write as _;
    let mut command = Command::new("keepassxc-cli");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    child.stdin.as_mut().unwrap().write_all(input.as_bytes()).unwrap();
    Some(child)
}

#[test]
fn entries_of_an_open_database_are_those_that_the_program_shows() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.kdbx");
    let file = file.to_str().unwrap();
    let done = |arguments: &[&str], input: &str| {
        Some(keepassxc(arguments, input)?.wait_with_output().unwrap().status.success())
    };
    if done(&["db-create", "-p", file], "pw\npw\n").is_none() {
        println!("SKIPPED: no keepassxc-cli");
        return;
    }
    let add = [
        "add",
        "-q",
        "-u",
        "gt user",
        "--url",
        "https://gt.example/",
        "--notes",
        "GT ä",
        "-p",
        file,
        "GT title",
    ];
    assert_eq!(done(&add, "pw\nsecret-GT-1\n"), Some(true));
    let shown =
        keepassxc(&["show", "-q", "-s", file, "GT title"], "pw\n").unwrap().wait_with_output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    // It stays at its prompt while its input is open.
    let running = Running(keepassxc(&["open", file], "pw\n").unwrap());
    let begun = Instant::now();
    let entry = loop {
        assert!(begun.elapsed() < Duration::from_secs(60), "the entry is not found");
        std::thread::sleep(Duration::from_millis(200));
        let (space, process) = memory_of(running.0.id());
        let Some(heap) = find::heap(&space, 8, &process) else { continue };
        let mut entries = keepass::entries(&heap).into_iter();
        if let Some(entry) = entries.find(|entry| entry.attributes["Title"] == "GT title") {
            break entry;
        }
    };
    for name in ["Title", "UserName", "Password", "URL", "Notes"] {
        let wanted = format!("{name}: {}", entry.attributes[name]);
        assert!(shown.lines().any(|line| line == wanted), "{wanted} is not in {shown}");
    }
}

/// A small heap as glibc 2.36 has it, made here: an arena in the data of a file, three chunks, the second of which is free.
fn small_heap() -> (Vec<u8>, Process) {
    const DATA: u64 = 0x1000;
    const HEAP: u64 = 0x4000;
    let layout = Layout::all(8).find(|layout| layout.version.releases.1 == "2.41").unwrap();
    let mut bytes = vec![0; 0x6000];
    let mut put = |addr: u64, value: u64| {
        let at = usize::try_from(addr - DATA).unwrap();
        bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
    };
    let bins = DATA + layout.bins();
    for index in 0..layout::BINS {
        let links = bins + index * 16;
        put(links, links - 16);
        put(links + 8, links - 16);
    }
    put(bins - 16, HEAP + 0x400);
    put(bins + layout.next_from_bins(), DATA);
    put(bins + layout.system_mem_from_bins() - 8, 1);
    put(bins + layout.system_mem_from_bins(), 0x2000);
    put(bins + layout.system_mem_from_bins() + 8, 0x2000);
    for (at, size) in [(0, 0x101), (0x100, 0x201), (0x300, 0x100), (0x400, 0x1c01)] {
        put(HEAP + at + 8, size);
    }
    // The free chunk is unsorted.
    for (addr, value) in [(bins, HEAP + 0x100), (bins + 8, HEAP + 0x100)] {
        put(addr, value);
    }
    put(HEAP + 0x110, bins - 16);
    put(HEAP + 0x118, bins - 16);
    let data = vec![(DATA, DATA + 0x2000, true), (HEAP, HEAP + 0x2000, false)];
    (bytes, Process { data, brk: (HEAP, HEAP + 0x2000), stack: 0x9000 })
}

fn mapped(bytes: Vec<u8>) -> Arc<dyn AddressSpace> {
    let runs = vec![Run { start: 0x1000, len: bytes.len() as u64, target: 0 }];
    Arc::new(RunSpace::new("test", Arc::new(FileSpace::from_vec(bytes)), runs, Overlap::FirstWins))
}

#[test]
fn free_chunks_are_those_of_the_lists() {
    let (bytes, process) = small_heap();
    let heap = find::heap(&mapped(bytes), 8, &process).unwrap();
    let shown: Vec<_> = heap.chunks.iter().map(|chunk| (chunk.data, chunk.usable, chunk.kind)).collect();
    let expected = [
        (0x4010, 0xf8, Kind::Allocated),
        (0x4110, 0x1f8, Kind::Unsorted),
        (0x4310, 0xf8, Kind::Allocated),
        (0x4410, 0x1bf8, Kind::Top),
    ];
    assert_eq!(shown, expected);
    assert_eq!(heap.chunk_of(0x4308).map(|chunk| chunk.data), Some(0x4310));
    assert_eq!(heap.glibc, ("2.27", "2.42"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn damage_is_told_not_followed_for_ever(
        places in proptest::collection::vec((0usize..0x5000, any::<u8>()), 1..12),
        len in 0x1000usize..0x6000,
    ) {
        let (mut bytes, process) = small_heap();
        for (at, byte) in places {
            bytes[at] = byte;
        }
        bytes.truncate(len);
        let space = mapped(bytes);
        for width in [8, 4] {
            if let Some(heap) = find::heap(&space, width, &process) {
                let _ = zsh::history(&heap);
                let _ = keepass::entries(&heap);
                for chunk in &heap.chunks {
                    let _ = heap.references(chunk);
                }
            }
        }
    }
}
