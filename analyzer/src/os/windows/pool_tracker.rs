//! The kernel's own count of pool memory by tag: `PoolTrackTable`, and since Windows 7 one such table for each processor.
//!
//! Entries of tables that were full are in an expansion of the first. Source: `_POOL_TRACKER_TABLE` in the symbols of each kernel;
//! Windows Internals, "Monitoring pool usage".

use std::collections::{BTreeMap, BTreeSet};

use object::{Absent, Ptr, Read, Target, Uint, layout};

use super::scan::Tag;
use crate::notes::Notes;

/// Most entries of a table that are believed.
const MAX_ENTRIES: u64 = 1 << 16;
/// Most entries of all tables.
const MAX_ALL: u64 = 1 << 21;
/// Most processors.
const MAX_TABLES: u64 = 2048;
/// Set in the tags of allocations that only their maker may free.
const PROTECTED: u32 = 1 << 31;

layout! {
    struct Entry / EntryLayout = "_POOL_TRACKER_TABLE" {
        key: u32 = "Key",
        nonpaged_made: Uint = "NonPagedAllocs",
        nonpaged_freed: Uint = "NonPagedFrees",
        nonpaged_bytes: Uint = "NonPagedBytes",
        paged_made: Uint = "PagedAllocs",
        paged_freed: Uint = "PagedFrees",
        paged_bytes: Uint = "PagedBytes",
    }
}

/// What is allocated now with one tag, over all processors: each frees what others made, so only the sums mean something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Allocations of memory that stays resident, and their bytes.
    pub nonpaged: (u64, u64),
    /// Allocations of memory that may be paged out, and their bytes.
    pub paged: (u64, u64),
}

impl Usage {
    /// The same, with sums cut to the width that the kernel counts with.
    fn cut(self, mask: u64) -> Self {
        let cut = |(count, bytes): (u64, u64)| (count & 0xffff_ffff, bytes & mask);
        Self { nonpaged: cut(self.nonpaged), paged: cut(self.paged) }
    }
}

/// Use of pool memory by tag. What is missing is noted.
pub fn usage(notes: &Notes, target: &Target) -> Read<BTreeMap<Tag, Usage>> {
    let count = target.read_ptr(target.symbol("PoolTrackTableSize")?)?;
    let mut all = BTreeMap::new();
    let mut tables: BTreeSet<(u64, u64)> = BTreeSet::new();
    tables.insert((
        Ptr(target.read_ptr(target.symbol("PoolTrackTable")?)?).non_null("no table of tags")?,
        count,
    ));
    if let Ok(array) = target.symbol("ExPoolTagTables") {
        let width = u64::from(target.types().model().pointer_size());
        for index in 0..MAX_TABLES {
            match target.read_ptr(array.wrapping_add(index * width)) {
                Ok(0) => break,
                Ok(table) => drop(tables.insert((table, count))),
                Err(why) => {
                    notes.partial(format!("tables of tags of some processors are missing: {why}"));
                    break;
                }
            }
        }
    }
    let variable = |name: &'static str| target.read_ptr(target.symbol(name)?);
    match (variable("PoolTrackTableExpansion"), variable("PoolTrackTableExpansionSize")) {
        (Ok(0) | Err(Absent::NoProfile(_)), _) => {}
        (Ok(table), Ok(size)) => drop(tables.insert((table, size))),
        (Err(why), _) | (_, Err(why)) => {
            notes.partial(format!("the expansion of the table of tags is missing: {why}"));
        }
    }
    let mut left = MAX_ALL;
    for (table, count) in tables {
        if count > left.min(MAX_ENTRIES) {
            notes.partial(format!("table of tags at {table:#x} counts {count} entries, not believed"));
        }
        let count = count.min(left.min(MAX_ENTRIES));
        left -= count;
        add(notes, target, table, count, &mut all)?;
    }
    let mask = if target.types().model().pointer_size() == 4 { 0xffff_ffff } else { u64::MAX };
    Ok(all
        .into_iter()
        .map(|(tag, usage)| (tag, usage.cut(mask)))
        .filter(|(_, usage)| *usage != Usage::default())
        .collect())
}

/// Adds the entries of a table.
fn add(notes: &Notes, target: &Target, table: u64, count: u64, all: &mut BTreeMap<Tag, Usage>) -> Read<()> {
    let size = target.types().struct_size(Entry::STRUCT)?;
    let mut lost = 0u64;
    for index in 0..count {
        let entry = Entry::at(target, table.wrapping_add(index.wrapping_mul(size)));
        match read(&entry) {
            Ok(None) => {}
            Ok(Some((tag, more))) => {
                let usage: &mut Usage = all.entry(tag).or_default();
                let sum = |a: (u64, u64), b: (u64, u64)| (a.0.wrapping_add(b.0), a.1.wrapping_add(b.1));
                *usage = Usage {
                    nonpaged: sum(usage.nonpaged, more.nonpaged),
                    paged: sum(usage.paged, more.paged),
                };
            }
            Err(_) => lost += 1,
        }
    }
    if lost > 0 {
        notes.partial(format!("{lost} entries of the table of tags at {table:#x} cannot be read"));
    }
    Ok(())
}

/// An entry that is in use.
fn read(entry: &Entry<'_>) -> Read<Option<(Tag, Usage)>> {
    let key = entry.key()?;
    if key == 0 {
        return Ok(None);
    }
    let left = |made: Uint, freed: Uint| made.0.wrapping_sub(freed.0);
    let usage = Usage {
        nonpaged: (left(entry.nonpaged_made()?, entry.nonpaged_freed()?), entry.nonpaged_bytes()?.0),
        paged: (left(entry.paged_made()?, entry.paged_freed()?), entry.paged_bytes()?.0),
    };
    Ok(Some(((key & !PROTECTED).to_le_bytes(), usage)))
}
