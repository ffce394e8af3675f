//! The walker: one address down the tree, or a whole range of it table by table.

use crate::bytes::to_usize;
use crate::paging::{Decoded, HighBits, Level, Paging};
use crate::{AddressSpace, Fault, Run};

/// Most table pages one enumeration reads. 2^20 tables of 4 KiB pages cover 2 TiB; a tree that refers to
/// itself (Windows maps its own tables; an attacker maps anything) stops here.
const MAX_TABLES: u32 = 1 << 20;

/// Where a walk stands: the entry read last.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    /// Physical address of the entry.
    pub(super) at: u64,
    /// Its value, zero extended.
    pub(super) value: u64,
}

/// Reads the entry for `addr` in the table at physical address `table`.
pub(super) fn read_entry(
    base: &dyn AddressSpace,
    paging: &Paging,
    level: &Level,
    table: u64,
    addr: u64,
) -> Result<Entry, (u64, Fault)> {
    let at = table.wrapping_add(level.index(addr).wrapping_mul(u64::from(paging.entry_bytes)));
    let value = match paging.entry_bytes {
        4 => base.read_u32(at).map(u64::from),
        _ => base.read_u64(at),
    };
    value.map(|value| Entry { at, value }).map_err(|fault| (at, fault))
}

/// Ascending, merged runs of a virtual range. Reads each table page once as a whole.
pub struct Mappings<'s> {
    base: &'s dyn AddressSpace,
    paging: &'static Paging,
    /// Tables being read, the root first; never deeper than the levels of the mode.
    stack: Vec<Table>,
    /// Root of the upper half, while it is not yet entered.
    upper: Option<u64>,
    start: u64,
    end: u64,
    /// The run found last, still growing.
    pending: Option<Run>,
    tables_left: u32,
    unreadable: Vec<(u64, Fault)>,
}

/// Entries of the last tables that are not present, though not zero: first virtual address and entry, ascending. What they mean the
/// operating system knows (swapped pages).
pub struct Absentees<'s>(Mappings<'s>);

impl<'s> Absentees<'s> {
    pub(super) fn new(mappings: Mappings<'s>) -> Self {
        Self(mappings)
    }
}

impl Iterator for Absentees<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let walk = &mut self.0;
        while let Some((level, first, value)) = walk.next_entry() {
            match level.decode(value, walk.paging.kept) {
                Decoded::NotPresent if value != 0 && level.number == 1 => {
                    return Some((walk.paging.canonical(first), value));
                }
                Decoded::Table(table) => walk.enter(table, first),
                Decoded::NotPresent | Decoded::Page(_) => {}
            }
        }
        None
    }
}

/// One table on the way.
struct Table {
    /// First address the table covers, not sign extended.
    first: u64,
    /// Its entries, read ahead.
    entries: Vec<u8>,
    next: u64,
    /// One past the last index that concerns the range.
    end: u64,
}

/// Most unreadable tables that are remembered.
const MAX_UNREADABLE: usize = 16;

impl<'s> Mappings<'s> {
    pub(super) fn new(
        base: &'s dyn AddressSpace,
        paging: &'static Paging,
        roots: [Option<u64>; 2],
        start: u64,
        end: u64,
    ) -> Self {
        let mut mappings = Self {
            base,
            paging,
            stack: Vec::with_capacity(paging.levels.len()),
            upper: None,
            start,
            end,
            pending: None,
            tables_left: MAX_TABLES,
            unreadable: Vec::new(),
        };
        let [low, high] = roots;
        if let Some(root) = low {
            mappings.enter(root, 0);
        }
        match high {
            // Without a lower half the upper one is the whole.
            Some(root) if paging.high_bits == HighBits::Halves && mappings.stack.is_empty() => {
                mappings.enter(root, paging.first_upper());
            }
            Some(root) if paging.high_bits == HighBits::Halves => mappings.upper = Some(root),
            _ => {}
        }
        mappings
    }

    /// Whether the enumeration stopped at its bound of table pages before the end of the range; meaningful
    /// once the iterator has ended.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.tables_left == 0
    }

    /// Tables that could not be read, so that what they map is missing: first virtual address and reason; the
    /// first 16 of them.
    #[must_use]
    pub fn unreadable(&self) -> &[(u64, Fault)] {
        &self.unreadable
    }

    /// Puts the table at physical address `table`, which covers addresses from `first`, on the stack.
    fn enter(&mut self, table: u64, first: u64) {
        let Some(level) = self.paging.levels.get(self.stack.len()) else { return };
        let Some(left) = self.tables_left.checked_sub(1) else { return };
        self.tables_left = left;
        // Indexes that concern the range: compare canonical addresses, whose order is that of the indexes.
        let entry_of =
            |index: u64| self.paging.canonical(first.wrapping_add(index.wrapping_mul(level.span())));
        let (mut low, mut high) = (0, level.entries());
        while low < high && entry_of(low).saturating_add(level.span().wrapping_sub(1)) < self.start {
            low = low.wrapping_add(1);
        }
        while self.end != u64::MAX && low < high && entry_of(high.wrapping_sub(1)) >= self.end {
            high = high.wrapping_sub(1);
        }
        if low >= high {
            return;
        }
        let size = level.entries().wrapping_mul(u64::from(self.paging.entry_bytes));
        match self.base.read_vec(table, size, to_usize(size)) {
            Ok(entries) => self.stack.push(Table { first, entries, next: low, end: high }),
            Err(fault) if self.unreadable.len() < MAX_UNREADABLE => {
                self.unreadable.push((self.paging.canonical(first), fault));
            }
            Err(_) => {}
        }
    }

    /// The next entry to look at: its level, first address and value; `None` when the tree is done.
    fn next_entry(&mut self) -> Option<(&'static Level, u64, u64)> {
        loop {
            if self.stack.is_empty() {
                let root = self.upper.take()?;
                self.enter(root, self.paging.first_upper());
            }
            let depth = self.stack.len().checked_sub(1)?;
            let level = self.paging.levels.get(depth)?;
            let table = self.stack.last_mut()?;
            if table.next >= table.end {
                self.stack.pop();
                continue;
            }
            let index = table.next;
            table.next = index.wrapping_add(1);
            let width = usize::from(self.paging.entry_bytes);
            let at = usize::try_from(index).ok()?.checked_mul(width)?;
            let mut value = [0; 8];
            value.get_mut(..width)?.copy_from_slice(table.entries.get(at..at.checked_add(width)?)?);
            return Some((
                level,
                table.first.wrapping_add(index.wrapping_mul(level.span())),
                u64::from_le_bytes(value),
            ));
        }
    }
}

impl Iterator for Mappings<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        while let Some((level, first, value)) = self.next_entry() {
            let page = match level.decode(value, self.paging.kept) {
                Decoded::NotPresent => continue,
                Decoded::Table(table) => {
                    self.enter(table, first);
                    continue;
                }
                Decoded::Page(page) => page,
            };
            let run = Run { start: self.paging.canonical(first), len: level.span(), target: page };
            let Some(run) = run.clipped(self.start, self.end) else { continue };
            match &mut self.pending {
                Some(pending) if pending.joins(&run) => pending.len = pending.len.saturating_add(run.len),
                pending => {
                    if let Some(done) = pending.replace(run) {
                        return Some(done);
                    }
                }
            }
        }
        self.pending.take()
    }
}
