//! Where each page of a process is: in memory, in a swap area, in its file, or nowhere yet.

use memory::Fault;
use object::Uint;

use super::ProcessSpace;
use super::mm::Vma;
use super::process_space::Place;
use super::swap::Slot;

/// Where a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In memory, at a physical address.
    Resident(u64),
    /// In memory at a physical address, but the process may not touch it.
    NoAccess(u64),
    /// In a swap area.
    Swapped(Slot),
    /// Entry of a page that migrates, is poisoned or belongs to a device.
    Special(u64),
    /// Not read from the mapped file yet, at this place of it.
    InFile(u64),
    /// Never touched: zeros when it will be.
    Untouched,
    /// The page table cannot be read.
    Unknown(Fault),
}

impl State {
    /// Short name, for a column.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resident(_) => "Valid",
            Self::NoAccess(_) => "No access",
            Self::Swapped(_) => "Swapped",
            Self::Special(_) => "Special",
            Self::InFile(_) => "File",
            Self::Untouched => "Demand zero",
            Self::Unknown(_) => "Unreadable",
        }
    }

    /// What the page `len` bytes further would be if it continued this one; `page` is the size of one.
    fn following(self, len: u64, page: u64) -> Self {
        match self {
            Self::Resident(phys) => Self::Resident(phys.wrapping_add(len)),
            Self::NoAccess(phys) => Self::NoAccess(phys.wrapping_add(len)),
            Self::Swapped(slot) => Self::Swapped(Slot { page: slot.page.wrapping_add(len / page), ..slot }),
            Self::InFile(place) => Self::InFile(place.wrapping_add(len)),
            other => other,
        }
    }
}

/// Neighbouring pages in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// First address.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// Where the first page is; the others follow it.
    pub state: State,
}

/// Gives the pages of an area inside `start..end` to `each`, neighbours that continue each other as one.
pub fn each_stretch<E>(
    space: &ProcessSpace,
    area: &Vma<'_>,
    (start, end): (u64, u64),
    mut each: impl FnMut(Stretch) -> Result<(), E>,
) -> Result<(), E> {
    let Ok((first, last)) = area.range() else { return Ok(()) };
    let page = space.paging().levels.last().map_or(4096, |level| 1 << level.shift);
    let mut at = first.max(start) & !(page - 1);
    let end = last.min(end);
    let mut pending: Option<Stretch> = None;
    while at < end {
        let (state, len) = look(space, area, at, page);
        let len = len.min(end - at);
        pending = match pending {
            Some(before) if before.state.following(before.len, page) == state => {
                Some(Stretch { len: before.len.saturating_add(len), ..before })
            }
            before => {
                if let Some(before) = before {
                    each(before)?;
                }
                Some(Stretch { start: at, len, state })
            }
        };
        at = at.saturating_add(len.max(page));
    }
    pending.map_or(Ok(()), each)
}

/// The state of the page at an address, and for how many bytes nothing changes.
fn look(space: &ProcessSpace, area: &Vma<'_>, at: u64, page: u64) -> (State, u64) {
    match space.place(at) {
        Ok(Place::Memory(phys)) => (State::Resident(phys), page),
        Ok(Place::NoAccess(phys)) => (State::NoAccess(phys), page),
        Ok(Place::Swapped(slot)) => (State::Swapped(slot), page),
        Err(Fault::NotPresent { level, entry, .. }) => {
            let shift = space.paging().levels.iter().find(|of| of.number == level).map_or(12, |of| of.shift);
            let span = 1u64 << shift;
            let rest = span - (at & (span - 1));
            match entry {
                0 => (absent(area, at), rest),
                entry => (State::Special(entry), rest),
            }
        }
        Err(fault) => (State::Unknown(fault), page),
    }
}

/// A page without an entry.
fn absent(area: &Vma<'_>, at: u64) -> State {
    match (area.file_offset(), area.vm_start()) {
        (Ok(offset), Ok(Uint(start))) => State::InFile(offset.wrapping_add(at.wrapping_sub(start))),
        _ => State::Untouched,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use memory::{FileSpace, VirtualSpace, paging};

    use super::*;
    use crate::os::linux::swap::Swap;
    use crate::os::linux::testkit::Memory;

    /// Tables at 0x1000 to 0x4000; the last one maps 0, 1, nothing, a swapped page, a page without access.
    fn space() -> ProcessSpace {
        let mut bytes = vec![0; 0x5000];
        let mut put = |at: usize, value: u64| bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
        for (table, next) in [(0x1000, 0x2000), (0x2000, 0x3000), (0x3000, 0x4000)] {
            put(table, next | 7);
        }
        // What __swp_entry(2, 0x35) makes: the type on top, the offset inverted.
        let swapped = (!0x35u64 << 14 >> 5) | 2 << 59;
        for (index, entry) in [0x7000 | 7, 0x8000 | 7, 0, swapped, (!0x9000 & 0x000f_ffff_ffff_f000) | 1 << 8]
            .iter()
            .enumerate()
        {
            put(0x4000 + 8 * index, *entry);
        }
        let tables = VirtualSpace::new(Arc::new(FileSpace::from_vec(bytes)), &paging::X64, 0x1000);
        ProcessSpace::new(tables, Arc::new(Swap::with_area(2, 64)))
    }

    #[test]
    fn every_page_of_an_area_has_its_state() {
        const STRUCTS: &str = r#"{"vm_area_struct": [32, {
            "vm_start": [0, ["long unsigned int"]], "vm_end": [8, ["long unsigned int"]],
            "vm_file": [16, ["Pointer", {"target": "Void"}]], "vm_pgoff": [24, ["long unsigned int"]]}]}"#;
        let mut memory = Memory::default();
        memory.words(0x1000, &[0, 0x20_3000, 0, 0]).words(0x2000, &[0x2000, 0x3000, 0x9999, 5]);
        let target = memory.target(STRUCTS, &[]);
        let stretches = |at, range| {
            let mut found = Vec::new();
            let done: Result<(), ()> = each_stretch(&space(), &Vma::at(&target, at), range, |stretch| {
                found.push((stretch.start, stretch.len, stretch.state));
                Ok(())
            });
            done.map(|()| found)
        };
        let expected = vec![
            (0, 0x2000, State::Resident(0x7000)),
            (0x2000, 0x1000, State::Untouched),
            (0x3000, 0x1000, State::Swapped(Slot { area: 2, page: 0x35 })),
            (0x4000, 0x1000, State::NoAccess(0x9000)),
            // The rest of this table, and the next one that is not there.
            (0x5000, 0x1f_e000, State::Untouched),
        ];
        assert_eq!(stretches(0x1000, (0, u64::MAX)), Ok(expected));
        assert_eq!(stretches(0x2000, (0, u64::MAX)), Ok(vec![(0x2000, 0x1000, State::InFile(0x5000))]));
    }
}
