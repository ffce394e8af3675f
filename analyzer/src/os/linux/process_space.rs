//! The memory of a process: what its page tables map, what they keep from it, and what was paged out.

use std::sync::Arc;

use memory::{AddressSpace, Fault, Paging, Run, VirtualSpace, read_by_page};

use super::swap::{Meaning, Slot, Swap};
use crate::os::pages::{PAGED_OUT, Pages};

/// Where a page of a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In memory, at a physical address.
    Memory(u64),
    /// In memory at a physical address, but the process may not touch it.
    NoAccess(u64),
    /// In a swap area.
    Swapped(Slot),
}

/// The address space of a process.
pub struct ProcessSpace {
    tables: VirtualSpace,
    swap: Arc<Swap>,
    page: u64,
}

impl ProcessSpace {
    pub(super) fn new(tables: VirtualSpace, swap: Arc<Swap>) -> Self {
        let page = tables.paging().levels.last().map_or(4096, |level| 1 << level.shift);
        Self { tables, swap, page }
    }

    /// The page tables alone.
    #[must_use]
    pub fn tables(&self) -> &VirtualSpace {
        &self.tables
    }

    /// The swap areas.
    #[must_use]
    pub fn swap(&self) -> &Swap {
        &self.swap
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_size(&self) -> u64 {
        self.page
    }

    /// The paging mode.
    #[must_use]
    pub fn paging(&self) -> &'static Paging {
        self.tables.paging()
    }

    /// Where the byte at `addr` is.
    pub fn place(&self, addr: u64) -> Result<Place, Fault> {
        match self.tables.translate(addr) {
            Ok(physical) => Ok(Place::Memory(physical)),
            Err(fault @ Fault::NotPresent { level: 1, entry, .. }) if entry != 0 => {
                self.absent(entry, addr).ok_or(fault)
            }
            Err(fault) => Err(fault),
        }
    }

    /// What an entry that is not present says of the byte at `addr`.
    fn absent(&self, entry: u64, addr: u64) -> Option<Place> {
        Some(match self.swap.decode(entry)? {
            Meaning::NoAccess(frame) => Place::NoAccess(frame.wrapping_add(addr % self.page)),
            Meaning::Swapped(slot) => Place::Swapped(slot),
        })
    }

    /// The pages inside `start..end`, those that were paged out too.
    #[must_use]
    pub fn pages(&self, start: u64, end: u64) -> Pages<'_> {
        let elsewhere = |addr, entry| match self.absent(entry, addr)? {
            Place::Memory(at) | Place::NoAccess(at) => Some(at),
            Place::Swapped(slot) => Some(PAGED_OUT | slot.page.wrapping_mul(self.page)),
        };
        Pages::new(&self.tables, (start, end), end, Box::new(elsewhere))
    }

    fn read_page(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        match self.place(addr)? {
            Place::Memory(physical) | Place::NoAccess(physical) => {
                self.tables.physical().read_at(physical, buf)
            }
            Place::Swapped(slot) => self.swap.read(addr, slot, addr % self.page, buf),
        }
    }
}

impl AddressSpace for ProcessSpace {
    fn name(&self) -> String {
        self.tables.name()
    }

    fn read_at(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        // Nearly all reads are of pages that are there.
        if self.tables.read_at(addr, buf).is_ok() {
            return Ok(());
        }
        let addr = self.paging().pointer(addr);
        read_by_page(addr, self.page, buf, |at, piece| self.read_page(at, piece))
    }

    fn translate(&self, addr: u64) -> Result<u64, Fault> {
        match self.place(addr)? {
            Place::Memory(physical) | Place::NoAccess(physical) => Ok(physical),
            Place::Swapped(slot) => {
                Err(Fault::Elsewhere { addr, why: "is in a swap area, at the page shown", entry: slot.page })
            }
        }
    }

    /// Targets of pages that were paged out are no physical addresses; they have the highest bit set.
    fn runs(&self, start: u64, end: u64) -> Box<dyn Iterator<Item = Run> + '_> {
        Box::new(self.pages(start, end))
    }

    fn end(&self) -> u64 {
        self.tables.end()
    }

    fn bits(&self) -> u8 {
        self.tables.bits()
    }

    fn base(&self) -> Option<&dyn AddressSpace> {
        self.tables.base()
    }

    fn borrow(&self, addr: u64, len: usize) -> Option<&[u8]> {
        self.tables.borrow(addr, len)
    }
}
