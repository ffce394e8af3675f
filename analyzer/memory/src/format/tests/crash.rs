//! Crash dumps built here field by field (nothing on Linux writes them), read by us and by kdmp-parser, which
//! shares no code with us; and one real triage dump.

use super::*;
use crate::BugCheck;
use kdmp_parser::KernelDumpParser;

/// Physical pages of the dump.
const STORED: [u64; 6] = [0, 1, 2, 3, 16, 17];

/// A header with type and build, everything else as the system leaves it: filled with `PAGE`.
fn header(wide: bool, kind: u32) -> Vec<u8> {
    let mut bytes = b"PAGE".repeat(if wide { 0x800 } else { 0x400 });
    put(&mut bytes, 4, if wide { b"DU64" } else { b"DUMP" });
    put(&mut bytes, 8, &u32s(&[15, 19041]));
    if wide {
        put(&mut bytes, 0x10, &u64s(&[0x1a_d000, 0xffff_fa80_0000_0000, 0, 0xffff_f800_1234_5678]));
        put(&mut bytes, 0x30, &u32s(&[0x8664, 4, 0xd1]));
        put(&mut bytes, 0x40, &u64s(&[1, 2, 3, 4]));
        put(&mut bytes, 0x80, &u64s(&[0xffff_f800_0002_0000]));
        put(&mut bytes, 0xf98, &u32s(&[kind]));
        put(&mut bytes, 0xfa8, &u64s(&[133_000_000_000_000_000]));
    } else {
        put(&mut bytes, 0x10, &u32s(&[0x3_9000, 0x8100_0000, 0x8055_1234, 0x8055_5678, 0x14c, 1, 0xe2]));
        put(&mut bytes, 0x5c, &[1]);
        put(&mut bytes, 0x60, &u32s(&[0x8054_4d60]));
        put(&mut bytes, 0xf88, &u32s(&[kind]));
    }
    bytes
}

fn with_pages(mut bytes: Vec<u8>) -> Vec<u8> {
    STORED.iter().for_each(|number| bytes.extend(page(*number)));
    bytes
}

pub(super) fn full(wide: bool) -> Vec<u8> {
    let mut bytes = header(wide, 1);
    if wide {
        put(&mut bytes, 0x88, &u64s(&[2, 6, 0, 4, 16, 2]));
    } else {
        put(&mut bytes, 0x64, &u32s(&[2, 6, 0, 4, 16, 2]));
    }
    with_pages(bytes)
}

/// Windows 8 and later. The last byte of the bitmap has bits beyond the number of pages.
pub(super) fn bitmap(kind: u32) -> Vec<u8> {
    let mut bytes = header(true, kind);
    bytes.extend(if kind == 5 { b"FDMPDUMP" } else { b"SDMPDUMP" });
    bytes.extend([0; 0x18]);
    bytes.extend(u64s(&[0x3000, 6, 18]));
    bytes.extend([0x0f, 0, 0xf3]);
    bytes.resize(0x3000, 0);
    with_pages(bytes)
}

/// Before Windows 8.
pub(super) fn summary(wide: bool) -> Vec<u8> {
    let mut bytes = header(wide, 2);
    let first = bytes.len() as u32 + 0x1000;
    bytes.extend(b"SDMPDUMP");
    bytes.extend(u32s(&[0, first, 18, 6, 18, 0]));
    bytes.extend(if wide { vec![0; 8] } else { vec![] });
    bytes.extend([0x0f, 0, 0x03]);
    bytes.resize(first as usize, 0);
    with_pages(bytes)
}

/// What debuggers write. The list cannot name page 0, which ends it.
pub(super) fn ranges(kind: u32) -> Vec<u8> {
    let mut bytes = header(true, kind);
    bytes.extend(u32s(&[0x40]));
    bytes.extend(b"RDMPDUMP");
    bytes.extend(u32s(&[0]));
    bytes.extend(u64s(&[0x20 + 64, 0x2040 + 64, 2, 5, 1, 3, 16, 2, 0, 0, 0, 0]));
    bytes.resize(0x2080, 0);
    STORED[1..].iter().for_each(|number| bytes.extend(page(*number)));
    bytes
}

/// Page addresses and contents as kdmp-parser reads them.
fn oracle(bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let parser = KernelDumpParser::with_reader(std::io::Cursor::new(bytes.to_vec())).unwrap();
    let read = |gpa| {
        let mut page = vec![0; PAGE];
        parser.phys_read_exact(gpa, &mut page).unwrap();
        (u64::from(gpa), page)
    };
    parser.physmem().map(|(gpa, _)| read(gpa)).collect()
}

fn pages_of(image: &Image) -> Vec<(u64, Vec<u8>)> {
    let starts = |run: Run| (run.start..run.end()).step_by(PAGE);
    let read = |at| (at, image.space.read_vec(at, PAGE as u64, PAGE).unwrap());
    image.space.runs(0, u64::MAX).flat_map(starts).map(read).collect()
}

#[test]
fn every_type_with_physical_pages_gives_the_same_memory_as_to_kdmp_parser() {
    for bytes in [full(true), bitmap(5), bitmap(6), ranges(8), ranges(9), ranges(10)] {
        let image = opened(bytes.clone());
        assert_eq!(image.warnings, [""; 0], "{:?}", image.layers);
        assert_eq!(pages_of(&image), oracle(&bytes), "{:?}", image.layers);
    }
    for bytes in [full(true), full(false), bitmap(5), bitmap(6), bitmap(7), summary(true), summary(false)] {
        assert_test_memory(&opened(bytes));
    }
}

#[test]
fn the_header_becomes_hints_and_what_was_never_set_is_absent() {
    let wide = opened(full(true)).hints;
    assert_eq!(wide.dtb, [0x1a_d000]);
    let windows = wide.windows.unwrap();
    assert_eq!((windows.machine, windows.build, windows.processors), (Some(0x8664), Some(19041), Some(4)));
    assert_eq!(windows.bug_check, Some(BugCheck { code: 0xd1, parameters: [1, 2, 3, 4] }));
    assert_eq!((windows.loaded_modules, windows.active_processes), (None, Some(0xffff_f800_1234_5678)));
    assert_eq!((windows.system_time, windows.up_time), (Some(133_000_000_000_000_000), None));
    assert_eq!(windows.pae, None);
    let narrow = opened(full(false)).hints.windows.unwrap();
    assert_eq!((narrow.pae, narrow.kdbg), (Some(true), Some(0x8054_4d60)));
    assert_eq!((narrow.loaded_modules, narrow.system_time), (Some(0x8055_1234), None));
}

#[test]
fn counts_that_cannot_be_are_refused_and_those_that_differ_are_reported() {
    let mut bytes = full(true);
    put(&mut bytes, 0x88, &u32s(&[44]));
    let Err(Failure::Refused { reason, .. }) = open_bytes(bytes) else { panic!("opened") };
    assert_eq!(reason, "the header has no valid list of memory runs");
    let mut bytes = full(true);
    put(&mut bytes, 0x90, &u64s(&[7]));
    assert_eq!(opened(bytes).warnings, ["Windows crash dump: the header claims 7 pages, its runs hold: 6"]);
    let mut bytes = bitmap(5);
    put(&mut bytes, 0x2028, &u64s(&[9]));
    assert_eq!(opened(bytes).warnings.len(), 1);
    let mut bytes = bitmap(5);
    bytes.truncate(bytes.len() - 100);
    assert_eq!(opened(bytes).warnings, ["Windows crash dump: the file is cut off, bytes missing: 100"]);
}

/// The real dump of a Windows 10 19041 system. Truth: the offsets of its System process (pid 4) and page
/// table root in the notes that came with the file, and that copies of a structure agree with each other.
#[test]
fn a_real_triage_dump_shows_kernel_memory_by_virtual_address() {
    let Some(path) = shared("dumps/triage_x64.dmp") else { return };
    let image = crate::open(&path, &Limits::default()).unwrap();
    assert_eq!(image.layers, ["file", "crash dump (triage)"]);
    assert_eq!(image.space.runs(0, u64::MAX).count(), 0);
    let windows = image.hints.windows.unwrap();
    assert_eq!(image.hints.dtb, [0x1a_d000]);
    assert_eq!(windows.bug_check.unwrap().code, 0x1000_007e);
    let memory = image.virtual_space.unwrap();
    // `_EPROCESS` lies at file offset 0xd0b8; its page table root is where it is in every x64 kernel.
    let process = windows.process.unwrap();
    assert_eq!(memory.translate(process).unwrap(), 0xe7714, "an explicit data block wins over a copy");
    assert_eq!(memory.read_u64(process + 0x28).unwrap(), 0x1a_d000);
    let file = std::fs::read(&path).unwrap();
    assert_eq!(memory.read_vec(process, 0xa40, 0xa40).unwrap(), file[0xd0b8..][..0xa40]);
    assert_eq!(memory.read_u64(process + 0x440).unwrap(), 4, "UniqueProcessId");
    assert_eq!(memory.read_cstr(process + 0x5a8, 15).unwrap(), b"System");
    // KPRCB.CurrentThread is the thread.
    assert_eq!(memory.read_u64(windows.prcb.unwrap() + 8).ok(), windows.thread);
    // The debugger data names the kernel's base, as the driver list does.
    assert_eq!(memory.read_vec(windows.kdbg.unwrap() + 0x10, 4, 4).unwrap(), b"KDBG");
    assert_eq!(memory.read_u64(windows.kdbg.unwrap() + 0x18).unwrap(), windows.drivers[0].base);
    assert_eq!(windows.drivers[0].name, "\\SystemRoot\\system32\\ntoskrnl.exe");
    assert_eq!(windows.drivers.len(), 0x97);
}

#[test]
fn mutated_crash_dumps_are_survived() {
    survive_mutations(&full(true));
    survive_mutations(&full(false));
    survive_mutations(&bitmap(5));
}

#[test]
fn mutated_summary_and_range_dumps_are_survived() {
    survive_mutations(&summary(true));
    survive_mutations(&summary(false));
    survive_mutations(&ranges(10));
}

#[test]
fn mutated_triage_dumps_are_survived() {
    // A small one: a process, one data block, one driver.
    let mut bytes = header(true, 4);
    let mut words = [0u32; 18];
    (words[2], words[8], words[9]) = (0x2600, 0x2100, 0x2200);
    (words[12], words[13], words[14], words[15]) = (0x2300, 1, 0x2400, 0x40);
    bytes.extend(u32s(&words));
    put(&mut bytes, 0x2070, &u32s(&[0x2500, 0x80, 0x2580, 1]));
    put(&mut bytes, 0x2108, &u64s(&[0xffff_8000_0000_1008, 0xffff_8000_0000_1008]));
    put(&mut bytes, 0x2300, &u32s(&[0x2400]));
    put(&mut bytes, 0x2400, &u32s(&[3, 0x0061_0062, 0x63]));
    put(&mut bytes, 0x2580, &u64s(&[0xffff_8000_0000_2000]));
    put(&mut bytes, 0x2588, &u32s(&[0x2000, 0x100]));
    put(&mut bytes, 0x2600, b"TRGD");
    let image = opened(bytes.clone());
    assert_eq!(image.hints.windows.unwrap().drivers[0].name, "bac");
    assert_eq!(image.virtual_space.unwrap().read_u64(0xffff_8000_0000_1010).unwrap(), 0xffff_8000_0000_1008);
    survive_mutations(&bytes);
}
