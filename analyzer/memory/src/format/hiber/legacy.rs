//! Windows XP to 7: a chain of tables of page ranges, each followed by Xpress blocks with those pages in order.
//!
//! ```text
//! table   one page: page of the next table, number of ranges, ranges (first page, exclusive end)
//! block   "\x81\x81xpress", pages less one u8, (compressed size - 1) * 4 u24, up to 32 bytes; data, padded to 8
//! ```
//! Every version lays tables out in its own way and no header field says which it is: the layout is the one in
//! which the first table makes sense.

use super::{BLOCK_PAGES, PAGE, Pages, hints, processor};
use crate::bytes::{to_u64, to_usize, u32_at, u64_at};
use crate::codec::Codec;
use crate::format::Refused;
use crate::{AddressSpace, Hints};

const SIGNATURE: &[u8] = b"\x81\x81xpress";
/// Size of a block's header, in bytes.
const HEADER: u64 = 32;
/// Pages at the start of the file that are looked at for the first block.
const SEARCHED: u64 = 256;
/// Most tables: each is a page of the file.
const MAX_TABLES: usize = 1 << 22;
/// No x86 machine has more pages.
const MAX_PAGE: u64 = 1 << 40;

/// How a version lays out its tables.
struct Version {
    wide: bool,
    /// Page of the file with the state of the processor.
    processor: u64,
    /// Most ranges of a table.
    capacity: u32,
    /// Offsets of the next table's page, of the number of ranges, of the first range.
    next: usize,
    count: usize,
    ranges: usize,
    /// Offsets in a range of its first page and of its end, and its size.
    start: usize,
    end: usize,
    size: usize,
    /// Offsets in the file's header of the first table's page and of the time.
    first_table: usize,
    time: usize,
}

const fn version(
    (wide, processor, capacity): (bool, u64, u32),
    (next, count, ranges): (usize, usize, usize),
    (start, end, size): (usize, usize, usize),
    (first_table, time): (usize, usize),
) -> Version {
    Version { wide, processor, capacity, next, count, ranges, start, end, size, first_table, time }
}

const VERSIONS: &[Version] = &[
    version((false, 1, 0x1ff), (0, 4, 8), (0, 4, 8), (0x50, 0x18)), // 7 x86
    version((false, 1, 0x1fe), (4, 8, 0xc), (0, 4, 8), (0x50, 0x18)), // Vista SP2 x86
    version((false, 1, 0xff), (4, 0xc, 0x10), (4, 8, 0x10), (0x50, 0x18)), // Vista SP1 x86
    version((false, 4, 0xff), (4, 0xc, 0x10), (4, 8, 0x10), (0x50, 0x18)), // Vista x86
    version((false, 2, 0xff), (4, 0xc, 0x10), (4, 8, 0x10), (0x58, 0x20)), // XP, 2003 x86
    version((true, 1, 0xff), (0, 8, 0x10), (0, 8, 0x10), (0x60, 0x20)), // 7 x64, by its symbols
    version((true, 1, 0xfe), (8, 0x10, 0x18), (0, 8, 0x10), (0x68, 0x20)), // Vista SP2 x64
    version((true, 1, 0x7f), (8, 0x14, 0x20), (8, 0x10, 0x20), (0x68, 0x20)), // Vista SP1 x64
    version((true, 4, 0x7f), (8, 0x14, 0x20), (8, 0x10, 0x20), (0x68, 0x20)), // Vista x64
    version((true, 2, 0x7f), (8, 0x14, 0x20), (8, 0x10, 0x20), (0x68, 0x20)), // 2003 x64
];

/// A table: page of the next one, 0 for none, and the ranges.
struct Table {
    next: u64,
    ranges: Vec<(u64, u64)>,
}

impl Version {
    fn word(&self, bytes: &[u8], at: usize) -> Option<u64> {
        if self.wide { u64_at(bytes, at) } else { u32_at(bytes, at).map(u64::from) }
    }

    /// The table in a page, if it makes sense in this layout.
    fn table(&self, page: &[u8]) -> Option<Table> {
        let next = self.word(page, self.next)?;
        let count = u32_at(page, self.count).filter(|count| (1..=self.capacity).contains(count))?;
        let list = page.get(self.ranges..)?.chunks_exact(self.size).take(usize::try_from(count).ok()?);
        let range = |entry: &[u8]| {
            let (start, end) = (self.word(entry, self.start)?, self.word(entry, self.end)?);
            (start < end && end <= MAX_PAGE).then_some((start, end))
        };
        let ranges = list.map(range).collect::<Option<Vec<_>>>()?;
        let ascending = ranges.is_sorted_by(|a, b| a.1 <= b.0);
        (ascending && next <= MAX_PAGE && to_u64(ranges.len()) == u64::from(count))
            .then_some(Table { next, ranges })
    }
}

/// The page of the file where the first block begins, right behind the first table.
pub(super) fn first_block(base: &dyn AddressSpace) -> Option<u64> {
    let is_block = |page: &u64| {
        let mut start = [0; 8];
        base.read_at(page.saturating_mul(PAGE), &mut start).is_ok() && start == *SIGNATURE
    };
    (2..SEARCHED).find(is_block)
}

pub(super) fn read(head: &[u8], pages: &mut Pages<'_>, warnings: &mut Vec<String>) -> Result<Hints, Refused> {
    let read_page = |page: u64| pages.base.read_vec(page.saturating_mul(PAGE), PAGE, to_usize(PAGE)).ok();
    let found = first_block(pages.base).and_then(|page| page.checked_sub(1));
    let fits = |version: &&Version| {
        let told = version.word(head, version.first_table).filter(|page| *page > 0);
        // The first block tells best: where the header keeps the page differs even between service packs.
        let mut places = [found, told].into_iter().flatten();
        let page = places.find(|page| read_page(*page).and_then(|bytes| version.table(&bytes)).is_some())?;
        // A layout is only told apart from the next one by where it keeps the state of the processor.
        Some((page, processor(pages.base, version.processor, version.wide).is_some()))
    };
    let candidates = || VERSIONS.iter().filter_map(|version| Some((version, fits(&version)?)));
    let chosen = candidates().find(|(_, (_, sure))| *sure).or_else(|| candidates().next());
    let (version, (mut page, _)) = chosen
        .ok_or("no table of pages is where this file should have one: empty, or of an unknown version")?;
    for _ in 0..MAX_TABLES {
        let table = read_page_of(pages.base, page).and_then(|bytes| version.table(&bytes));
        let Some(table) = table else {
            warnings.push(format!("the tables end early, damaged at page of the file: {page:#x}"));
            break;
        };
        let complete = blocks(pages, page.saturating_add(1).saturating_mul(PAGE), &table)?;
        if !complete {
            warnings.push(format!("blocks are missing behind the table at page of the file: {page:#x}"));
        }
        if table.next <= page {
            break;
        }
        page = table.next;
    }
    let cpu = processor(pages.base, version.processor, version.wide);
    Ok(hints(cpu, u64_at(head, version.time), version.wide))
}

fn read_page_of(base: &dyn AddressSpace, page: u64) -> Option<Vec<u8>> {
    base.read_vec(page.checked_mul(PAGE)?, PAGE, to_usize(PAGE)).ok()
}

/// Adds the pages of a table, whose blocks begin at `at`; `false` when some are missing.
fn blocks(pages: &mut Pages<'_>, mut at: u64, table: &Table) -> Result<bool, Refused> {
    let total: u64 = table.ranges.iter().map(|(start, end)| end.saturating_sub(*start)).sum();
    let first = pages.end();
    let mut left = total;
    while left > 0 {
        let mut header = [0; 12];
        if pages.base.read_at(at, &mut header).is_err() || !header.starts_with(SIGNATURE) {
            break;
        }
        let word = u32_at(&header, 8).unwrap_or(0);
        let stored = u64::from(word >> 10).saturating_add(1);
        let count = BLOCK_PAGES.min(left);
        let data = at.saturating_add(HEADER);
        if stored > BLOCK_PAGES * PAGE || data.saturating_add(stored) > pages.base.end() {
            break;
        }
        pages.block(data, stored, count, Codec::Xpress);
        left = left.saturating_sub(count);
        at = data.saturating_add(stored.next_multiple_of(8));
    }
    let (mut target, end) = (first, pages.end());
    for (start, stop) in &table.ranges {
        let count = stop.saturating_sub(*start).min(end.saturating_sub(target) / PAGE);
        if count > 0 {
            pages.map(*start, count, target)?;
        }
        target = target.saturating_add(count.saturating_mul(PAGE));
    }
    Ok(left == 0)
}
