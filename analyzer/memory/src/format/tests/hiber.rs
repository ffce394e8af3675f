//! Hibernation files of both generations, built here field by field: no real one was at hand. The Huffman-coded
//! block is what wimlib's encoder (`wimlib-imagex capture --compress=XPRESS --chunk-size=65536`) made of pages
//! 0 to 15 of the test memory; plain blocks consist of literals only.

use super::*;
use crate::WindowsHints;

const HUFFMAN: &[u8] = include_bytes!("hiber/pages.xpress-huffman");

/// Plain Xpress without a match: every 32 literals follow 32 zero flags.
fn literals(bytes: &[u8]) -> Vec<u8> {
    bytes.chunks(32).flat_map(|part| [&[0; 4], part].concat()).collect()
}

/// A saved processor state: CR0, CR2, CR3, CR4 where x86 and x64 have them.
fn processor(wide: bool) -> Vec<u8> {
    let mut bytes = vec![0; PAGE];
    if wide {
        put(&mut bytes, 0, &u64s(&[0x8005_0033, 0, 0x1a_b000, 0x6f8]));
    } else {
        put(&mut bytes, 0x2cc, &u32s(&[0x8001_003b, 0, 0x3_9000, 0x6f9]));
    }
    bytes
}

/// A table of a version of XP to 7: where its fields are.
struct Table {
    wide: bool,
    processor: usize,
    next: usize,
    count: usize,
    ranges: usize,
    start: usize,
    end: usize,
    size: usize,
    first: usize,
}

/// The ten layouts, from the published list.
const TABLES: [[usize; 9]; 10] = [
    [0, 2, 4, 0xc, 0x10, 4, 8, 0x10, 0x58],
    [0, 4, 4, 0xc, 0x10, 4, 8, 0x10, 0x50],
    [0, 1, 4, 0xc, 0x10, 4, 8, 0x10, 0x50],
    [0, 1, 4, 8, 0xc, 0, 4, 8, 0x50],
    [0, 1, 0, 4, 8, 0, 4, 8, 0x50],
    [1, 2, 8, 0x14, 0x20, 8, 0x10, 0x20, 0x68],
    [1, 4, 8, 0x14, 0x20, 8, 0x10, 0x20, 0x68],
    [1, 1, 8, 0x14, 0x20, 8, 0x10, 0x20, 0x68],
    [1, 1, 8, 0x10, 0x18, 0, 8, 0x10, 0x68],
    [1, 1, 0, 8, 0x10, 0, 8, 0x10, 0x60],
];

impl Table {
    fn of([wide, processor, next, count, ranges, start, end, size, first]: [usize; 9]) -> Self {
        Self { wide: wide == 1, processor, next, count, ranges, start, end, size, first }
    }

    fn word(&self, value: u64) -> Vec<u8> {
        if self.wide { u64s(&[value]) } else { u32s(&[value as u32]) }
    }

    fn page(&self, next: u64, ranges: &[(u64, u64)]) -> Vec<u8> {
        let mut bytes = vec![0; PAGE];
        put(&mut bytes, self.next, &self.word(next));
        put(&mut bytes, self.count, &u32s(&[ranges.len() as u32]));
        for (index, (start, end)) in ranges.iter().enumerate() {
            let at = self.ranges + self.size * index;
            put(&mut bytes, at + self.start, &self.word(*start));
            put(&mut bytes, at + self.end, &self.word(*end));
        }
        bytes
    }

    /// Pages 0 to 3 and 16 in one table, page 17 in a second.
    fn file(&self) -> Vec<u8> {
        let mut bytes = b"hibr".to_vec();
        put(&mut bytes, self.first, &self.word(6));
        put(&mut bytes, PAGE * self.processor, &processor(self.wide));
        bytes.resize(6 * PAGE, 0);
        let blocks = |bytes: &mut Vec<u8>, numbers: &[u64]| {
            let content: Vec<u8> = numbers.iter().flat_map(|n| page(*n)).collect();
            let stored = literals(&content);
            // A block may not be longer than what is in it: cut what literals cost too much, as stored pages.
            let stored = if stored.len() > content.len() { content } else { stored };
            let size = stored.len() as u32;
            let at = bytes.len();
            bytes.extend(b"\x81\x81xpress");
            bytes.extend(u32s(&[(size - 1) << 10 | (numbers.len() as u32 - 1)]));
            bytes.resize(at + 32, 0);
            bytes.extend(stored);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        };
        let mut first = vec![];
        blocks(&mut first, &[0, 1, 2, 3, 16]);
        let next = (7 * PAGE + first.len()).div_ceil(PAGE);
        bytes.extend(self.page(next as u64, &[(0, 4), (16, 17)]));
        bytes.extend(first);
        bytes.resize(next * PAGE, 0);
        bytes.extend(self.page(0, &[(17, 18)]));
        blocks(&mut bytes, &[17]);
        bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
        bytes
    }
}

fn memory_of(image: &Image) -> Vec<(u64, Vec<u8>)> {
    let pages = image.space.runs(0, u64::MAX).flat_map(|run| (run.start..run.end()).step_by(PAGE));
    pages.map(|at| (at / PAGE as u64, image.space.read_vec(at, PAGE as u64, PAGE).unwrap())).collect()
}

#[test]
fn all_ten_layouts_of_xp_to_7_are_told_apart() {
    for layout in TABLES {
        let table = Table::of(layout);
        let mut bytes = table.file();
        let image = opened(bytes.clone());
        assert_eq!(image.layers, ["buffer", "hibernation file (XP-7)"], "{layout:?}");
        assert_eq!(image.warnings, [""; 0], "{layout:?}");
        let expected: Vec<_> = [0, 1, 2, 3, 16, 17].iter().map(|n| (*n, page(*n))).collect();
        assert!(memory_of(&image) == expected, "{layout:?}");
        assert_eq!(image.hints.dtb, [if table.wide { 0x1a_b000 } else { 0x3_9000 }], "{layout:?}");
        assert_eq!(image.hints.cpus[0].paging().unwrap().name, if table.wide { "x64" } else { "x86 PAE" });
        // A resumed system has wiped the first page.
        bytes[..PAGE].fill(0);
        let image = opened(bytes);
        assert_eq!(image.warnings.len(), 1);
        assert_eq!(image.space.read_u64(0x11000), Ok(17), "{layout:?}");
    }
}

/// One set of 16 pages by wimlib in the boot chain, one plain and one stored set in the kernel's.
fn modern(wide: bool) -> Vec<u8> {
    let mut bytes = b"HIBR".to_vec();
    let (size, page_size, boot, kernel, loader, processed, time) = match wide {
        true => (0x3e0u32, 0x18, 0x68, 0x70, 0x58, 0x230, 0x20),
        false => (0x340, 0x14, 0x50, 0x54, 0x48, 0x210, 0x18),
    };
    put(&mut bytes, 0xc, &u32s(&[size]));
    put(&mut bytes, page_size, &u32s(&[0x1000]));
    put(&mut bytes, time, &u64s(&[133_000_000_000_000_000]));
    let word = |value: u64| if wide { u64s(&[value]) } else { u32s(&[value as u32]) };
    let set = |descriptors: &[(u64, u64)], flags: u32, stored: &[u8]| {
        let mut bytes = u32s(&[flags << 30 | (stored.len() as u32) << 8 | descriptors.len() as u32]);
        descriptors.iter().for_each(|(page, count)| bytes.extend(word(page << 4 | (count - 1))));
        [bytes.as_slice(), stored].concat()
    };
    put(&mut bytes, PAGE, &processor(wide));
    // Pages 0 to 15 of the stream lie in memory as 100 to 107 and 40 to 47.
    let chain = set(&[(100, 8), (40, 8)], 1, HUFFMAN);
    put(&mut bytes, 4 * PAGE, &chain);
    let at = bytes.len().div_ceil(PAGE);
    // One literal zero, then a match of offset 1 that fills the pages: flags, byte, u16, nibble, 255, u16 length.
    let mut plain = u32s(&[0x7fff_ffff]);
    plain.extend([0, 7, 0, 15, 255]);
    plain.extend((2 * PAGE as u16 - 4).to_le_bytes());
    let chain =
        [set(&[(7, 2)], 0, &plain), set(&[(17, 1), (3, 1)], 2, &[page(17), page(3)].concat())].concat();
    put(&mut bytes, at * PAGE, &chain);
    put(&mut bytes, boot, &word(4));
    put(&mut bytes, kernel, &word(at as u64));
    put(&mut bytes, loader, &u64s(&[16]));
    put(&mut bytes, processed, &u64s(&[4]));
    bytes.resize(bytes.len().next_multiple_of(PAGE), 0);
    bytes
}

#[test]
fn windows_8_to_11_opens_with_every_kind_of_set() {
    for wide in [true, false] {
        let image = opened(modern(wide));
        assert_eq!(image.layers, ["buffer", "hibernation file (8-11)"]);
        assert_eq!(image.warnings, [""; 0]);
        let mut expected: Vec<(u64, Vec<u8>)> = (0..8).map(|n| (100 + n, page(n))).collect();
        expected.extend((8..16).map(|n| (40 + n - 8, page(n))));
        expected.extend([(7, vec![0; PAGE]), (8, vec![0; PAGE]), (17, page(17)), (3, page(3))]);
        expected.sort();
        assert!(memory_of(&image) == expected, "{wide}");
        let hints = image.hints;
        assert_eq!(hints.dtb, [if wide { 0x1a_b000 } else { 0x3_9000 }]);
        let machine = Some(if wide { 0x8664 } else { 0x14c });
        let system_time = Some(133_000_000_000_000_000);
        let windows = WindowsHints { machine, system_time, ..WindowsHints::default() };
        assert_eq!(hints.windows, Some(windows));
    }
}

#[test]
fn what_is_missing_or_damaged_is_said() {
    let mut bytes = modern(true);
    put(&mut bytes, 0x230, &u64s(&[9]));
    put(&mut bytes, 0, b"WAKE");
    let warnings = opened(bytes.clone()).warnings;
    assert_eq!(warnings.len(), 2);
    assert_eq!(warnings[1], "hibernation file: pages of the kernel chain that are missing: 5");
    put(&mut bytes, 0xc, &u32s(&[0x500]));
    assert!(opened(bytes.clone()).warnings[1].contains("unknown build"));
    // A damaged block costs its pages only.
    let at = bytes.windows(8).position(|window| window == &HUFFMAN[600..608]).unwrap();
    bytes[at - 400..at].fill(0xee);
    let image = opened(bytes);
    assert!(matches!(image.space.read_u64(100 * PAGE as u64), Err(Fault::Corrupt { .. })));
    assert_eq!(image.space.read_u64(17 * PAGE as u64), Ok(17));
    let Err(Failure::Refused { reason, .. }) = open_bytes([b"hibr".as_slice(), &[0; 8192]].concat()) else {
        panic!("opened")
    };
    assert!(reason.starts_with("no table of pages is where"), "{reason}");
}

#[test]
fn mutated_hibernation_files_are_survived() {
    survive_mutations(&modern(true));
    survive_mutations(&modern(false));
}

#[test]
fn mutated_old_hibernation_files_are_survived() {
    survive_mutations(&Table::of(TABLES[0]).file());
    survive_mutations(&Table::of(TABLES[9]).file());
}
