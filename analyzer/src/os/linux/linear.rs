//! The kernel's memory where its page tables are damaged: the kernel's image and the direct map of physical memory are each in
//! one piece, so an address in them tells the physical one without any table.
//!
//! Only what the tables do not map, or what cannot be read through them, is looked up this way; on a sound image both agree
//! (arch/x86/include/asm/page_64.h, `__phys_addr`).

use std::sync::Arc;

use memory::{AddressSpace, Fault, Run, VirtualSpace, read_by_page};

/// A range of virtual addresses that is one range of physical ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    /// First virtual address.
    pub(super) start: u64,
    /// End, exclusive.
    pub(super) end: u64,
    /// Physical address of the first.
    pub(super) physical: u64,
}

/// Page tables, and behind them the pieces that need none.
pub(super) struct Linear {
    tables: Arc<VirtualSpace>,
    pieces: Vec<Piece>,
    page: u64,
}

impl Linear {
    pub(super) fn new(tables: Arc<VirtualSpace>, pieces: Vec<Piece>) -> Self {
        let page = tables.paging().levels.last().map_or(4096, |level| 1 << level.shift);
        Self { tables, pieces, page }
    }

    /// The physical address, and the last virtual address of the piece; `None` for all other memory.
    fn piece(&self, addr: u64) -> Option<u64> {
        let piece = self.pieces.iter().find(|piece| (piece.start..piece.end).contains(&addr))?;
        Some(piece.physical.wrapping_add(addr.wrapping_sub(piece.start)))
    }
}

impl AddressSpace for Linear {
    fn name(&self) -> String {
        self.tables.name()
    }

    fn read_at(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let Err(fault) = self.tables.read_at(addr, buf) else { return Ok(()) };
        read_by_page(addr, self.page, buf, |at, now| {
            if self.tables.read_at(at, now).is_err() {
                let physical = self.piece(at).ok_or(fault)?;
                self.tables.physical().read_at(physical, now)?;
            }
            Ok(())
        })
    }

    fn translate(&self, addr: u64) -> Result<u64, Fault> {
        self.tables.translate(addr).or_else(|fault| self.piece(addr).ok_or(fault))
    }

    fn runs(&self, start: u64, end: u64) -> Box<dyn Iterator<Item = Run> + '_> {
        self.tables.runs(start, end)
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

#[cfg(test)]
mod tests {
    use memory::{FileSpace, paging};

    use super::*;

    #[test]
    fn pieces_are_read_where_tables_are_missing() {
        let mut bytes = vec![0; 0x3000];
        bytes[0x2ff8..].copy_from_slice(b"evidence");
        // The root at 0x1000 is empty.
        let tables = VirtualSpace::new(Arc::new(FileSpace::from_vec(bytes)), &paging::X64, 0x1000);
        let start = 0xffff_8880_0000_0000;
        let piece = Piece { start, end: start + 0x10_0000, physical: 0 };
        let space = Linear::new(Arc::new(tables), vec![piece]);
        assert_eq!(space.read_vec(start + 0x2ff8, 8, 8).as_deref(), Ok(b"evidence".as_slice()));
        assert_eq!(space.translate(start + 0x2ff8), Ok(0x2ff8));
        assert!(space.read_vec(start + 0x2ff9, 8, 8).is_err(), "behind the memory there is");
        assert!(space.read_vec(start - 8, 8, 8).is_err(), "not in the piece");
    }
}
