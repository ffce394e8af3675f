//! [`VirtualSpace`]: an address space behind page tables, with a translation cache.

use crate::bytes::{to_u64, to_usize};
use crate::paging::explain::{self, Step};
use crate::paging::walk::{Absentees, Mappings, read_entry};
use crate::paging::{Decoded, HighBits, Level, Paging};
use crate::{AddressSpace, Fault, Run};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Regions remembered per space; a region is what one level-2 entry covers (2 or 4 MiB).
const SLOTS: usize = 512;

/// A virtual address space: page tables of one root over a physical space.
///
/// Addresses are canonical 64-bit ones (`0xffff8880...`), anything else is [`Fault::OutOfRange`].
pub struct VirtualSpace {
    base: Arc<dyn AddressSpace>,
    paging: &'static Paging,
    /// Root of the lower and of the upper half of addresses; the same one but on ARM64.
    roots: [Option<u64>; 2],
    cache: Vec<Slot>,
}

/// How far a walk needs not look at the upper levels again. Negative results are kept as well.
#[derive(Clone, Copy)]
enum Upper {
    /// Physical address of the level-1 table of the region.
    Table(u64),
    /// A large page: physical address of the region's first byte.
    Page(u64),
    /// An upper entry is not present: level and raw entry.
    NotPresent(u8, u64),
}

/// One cache line, guarded by a sequence number: odd while written. Readers that see it change take a miss.
#[derive(Default)]
struct Slot {
    sequence: AtomicU64,
    /// Region number plus 1; 0 is empty.
    key: AtomicU64,
    /// 0 table, 1 page, else 2 + level of the absent entry.
    kind: AtomicU64,
    value: AtomicU64,
}

impl Slot {
    fn get(&self, key: u64) -> Option<Upper> {
        let before = self.sequence.load(Ordering::Acquire);
        let found = self.key.load(Ordering::Acquire);
        let kind = self.kind.load(Ordering::Acquire);
        let value = self.value.load(Ordering::Acquire);
        if found != key || !before.is_multiple_of(2) || self.sequence.load(Ordering::Acquire) != before {
            return None;
        }
        Some(match kind {
            0 => Upper::Table(value),
            1 => Upper::Page(value),
            level => Upper::NotPresent(u8::try_from(level.wrapping_sub(2)).ok()?, value),
        })
    }

    fn put(&self, key: u64, upper: Upper) {
        let (kind, value) = match upper {
            Upper::Table(table) => (0, table),
            Upper::Page(page) => (1, page),
            Upper::NotPresent(level, entry) => (u64::from(level).wrapping_add(2), entry),
        };
        let before = self.sequence.load(Ordering::Relaxed);
        let claim = (before, before.wrapping_add(1));
        if !before.is_multiple_of(2)
            || self.sequence.compare_exchange(claim.0, claim.1, Ordering::SeqCst, Ordering::Relaxed).is_err()
        {
            return; // Somebody else writes this slot; a cache may forget.
        }
        self.key.store(key, Ordering::SeqCst);
        self.kind.store(kind, Ordering::SeqCst);
        self.value.store(value, Ordering::SeqCst);
        self.sequence.store(before.wrapping_add(2), Ordering::SeqCst);
    }
}

impl VirtualSpace {
    /// Puts page tables on a physical space. `dtb` is the root register (CR3) with any flag or PCID bits; on ARM64 it is
    /// TTBR1, and the lower half is empty.
    #[must_use]
    pub fn new(base: Arc<dyn AddressSpace>, paging: &'static Paging, dtb: u64) -> Self {
        let root = Some(dtb & paging.root);
        let low = if paging.high_bits == HighBits::Halves { None } else { root };
        Self::with_roots(base, paging, [low, root])
    }

    /// The address space of a process: `dtb` is its root register (CR3, TTBR0). `kernel` is the root of the kernel's half
    /// on ARM64 (TTBR1); elsewhere the process's own tables have that half too.
    #[must_use]
    pub fn of_process(base: Arc<dyn AddressSpace>, paging: &'static Paging, dtb: u64, kernel: u64) -> Self {
        let high = if paging.high_bits == HighBits::Halves { kernel } else { dtb };
        Self::with_roots(base, paging, [Some(dtb & paging.root), Some(high & paging.root)])
    }

    fn with_roots(base: Arc<dyn AddressSpace>, paging: &'static Paging, roots: [Option<u64>; 2]) -> Self {
        let cache = std::iter::repeat_with(Slot::default).take(SLOTS).collect();
        Self { base, paging, roots, cache }
    }

    /// Physical address of the first table; of a process with two that of its own half.
    #[must_use]
    pub fn dtb(&self) -> u64 {
        let [low, high] = self.roots;
        low.or(high).unwrap_or_default()
    }

    /// The root of the tables for a canonical address.
    fn root_of(&self, addr: u64) -> Option<u64> {
        let [low, high] = self.roots;
        if addr >> 63 == 0 { low } else { high }
    }

    /// The paging mode.
    #[must_use]
    pub fn paging(&self) -> &'static Paging {
        self.paging
    }

    /// The physical space below, to share.
    #[must_use]
    pub fn physical(&self) -> &Arc<dyn AddressSpace> {
        &self.base
    }

    /// Every step of the translation of `addr`, ending in a page or in the reason why there is none.
    #[must_use]
    pub fn explain(&self, addr: u64) -> Vec<Step> {
        let addr = self.paging.pointer(addr);
        explain::explain(&*self.base, self.paging, self.root_of(addr), addr)
    }

    /// As [`AddressSpace::runs`], but the iterator also tells what it could not enumerate.
    #[must_use]
    pub fn mappings(&self, start: u64, end: u64) -> Mappings<'_> {
        Mappings::new(&*self.base, self.paging, self.roots, start, end)
    }

    /// The pages inside `start..end` whose entry is not present but not zero: address and entry, ascending. Bounded and silent about
    /// unreadable tables as [`VirtualSpace::mappings`], which tells of them.
    pub fn absentees(&self, start: u64, end: u64) -> Absentees<'_> {
        Absentees::new(self.mappings(start, end))
    }

    /// Physical address of `addr` and the number of contiguous bytes known from there.
    fn locate(&self, addr: u64) -> Result<(u64, u64), Fault> {
        let addr = self.paging.pointer(addr);
        if self.paging.canonical(addr) != addr {
            return Err(Fault::OutOfRange { addr });
        }
        let Some((last, upper_levels)) = self.paging.levels.split_last() else {
            return Err(Fault::OutOfRange { addr });
        };
        let region_shift = last.shift.saturating_add(last.bits);
        let key = (addr >> region_shift).wrapping_add(1);
        let slot = self.cache.get(to_usize(key) % SLOTS);
        let upper = match slot.and_then(|slot| slot.get(key)) {
            Some(upper) => upper,
            None => {
                let upper = self.walk_upper(upper_levels, region_shift, addr)?;
                if let Some(slot) = slot {
                    slot.put(key, upper);
                }
                upper
            }
        };
        match upper {
            Upper::Page(page) => Ok(offset_into(page, region_shift, addr)),
            Upper::NotPresent(level, entry) => Err(Fault::NotPresent { addr, level, entry }),
            Upper::Table(table) => {
                let entry =
                    read_entry(&*self.base, self.paging, last, table, addr).map_err(|(_, fault)| fault)?;
                match last.decode(entry.value, self.paging.kept) {
                    Decoded::Page(page) => Ok(offset_into(page, last.shift, addr)),
                    Decoded::NotPresent | Decoded::Table(_) => {
                        Err(Fault::NotPresent { addr, level: last.number, entry: entry.value })
                    }
                }
            }
        }
    }

    /// Walks all levels but the last. A page larger than a region is reported as the part that is the region.
    fn walk_upper(&self, levels: &'static [Level], region_shift: u8, addr: u64) -> Result<Upper, Fault> {
        let Some(mut table) = self.root_of(addr) else { return Ok(Upper::NotPresent(0, 0)) };
        for level in levels {
            let entry =
                read_entry(&*self.base, self.paging, level, table, addr).map_err(|(_, fault)| fault)?;
            match level.decode(entry.value, self.paging.kept) {
                Decoded::NotPresent => return Ok(Upper::NotPresent(level.number, entry.value)),
                Decoded::Page(page) => {
                    let region = addr & !(1u64 << region_shift).wrapping_sub(1);
                    return Ok(Upper::Page(offset_into(page, level.shift, region).0));
                }
                Decoded::Table(next) => table = next,
            }
        }
        Ok(Upper::Table(table))
    }
}

/// Address of `addr` inside the page at `page` of `1 << shift` bytes, and the bytes left in the page.
fn offset_into(page: u64, shift: u8, addr: u64) -> (u64, u64) {
    let size = 1u64 << shift;
    let offset = addr & size.wrapping_sub(1);
    (page.wrapping_add(offset), size.wrapping_sub(offset))
}

impl AddressSpace for VirtualSpace {
    fn name(&self) -> String {
        format!("{} DTB {:#x}", self.paging.name, self.dtb())
    }

    fn read_at(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let mut at = addr;
        let mut rest = buf;
        while !rest.is_empty() {
            let (phys, left) = self.locate(at)?;
            let (now, later) = rest.split_at_mut(to_usize(left).min(rest.len()));
            self.base.read_at(phys, now)?;
            // Past the top of the address space is not canonical or page 0 again: neither continues this read.
            at = match at.checked_add(to_u64(now.len())) {
                Some(next) => next,
                None if later.is_empty() => return Ok(()),
                None => return Err(Fault::OutOfRange { addr }),
            };
            rest = later;
        }
        Ok(())
    }

    fn translate(&self, addr: u64) -> Result<u64, Fault> {
        self.locate(addr).map(|(phys, _)| phys)
    }

    /// See [`VirtualSpace::mappings`] for how to learn what could not be enumerated.
    fn runs(&self, start: u64, end: u64) -> Box<dyn Iterator<Item = Run> + '_> {
        Box::new(self.mappings(start, end))
    }

    fn end(&self) -> u64 {
        if self.paging.high_bits == HighBits::Zeros { 1 << self.paging.bits } else { u64::MAX }
    }

    fn bits(&self) -> u8 {
        self.paging.bits
    }

    fn base(&self) -> Option<&dyn AddressSpace> {
        Some(&*self.base)
    }

    fn borrow(&self, addr: u64, len: usize) -> Option<&[u8]> {
        let (phys, left) = self.locate(addr).ok()?;
        if to_u64(len) > left {
            return None;
        }
        self.base.borrow(phys, len)
    }
}
