//! Swap: where the pages are that were taken out of memory, and what is in them (mm/swapfile.c, mm/swap_state.c).
//!
//! ```text
//! entry of a page table ─► area and page ─┬► swap cache: still, or again, in memory
//!                                         ├► zero map: nothing but zeros (from v6.12)
//!                                         ├► zswap: compressed in memory, on its way to the area
//!                                         └► the area: zram, or a device or file, which --swap supplies
//! ```
//! Truth: guests whose processes filled memory with a pattern, were paged out, and report what their own `pagemap` says.

mod area;
mod compressed;
mod entry;
mod zram;
mod zsmalloc;
mod zswap;

use std::sync::{Arc, OnceLock};

use memory::{AddressSpace, Fault};
use object::{Absent, Addr, Read, Target, Uint, layout};

use self::area::Area;
pub use self::area::SwapFile;
use self::entry::Coding;
pub use self::entry::{Meaning, Slot};
use self::zsmalloc::Zsmalloc;
use self::zswap::Zswap;
use super::page_array::PageArray;
use super::{Kernel, xarray};
use crate::notes::Notes;
use crate::os::kept::KeptPages;

/// Bytes of a page, where there is compression; kernels with other pages are not read there.
const PAGE: usize = 4096;
/// `SWAP_ADDRESS_SPACE_SHIFT`: the swap cache has a tree for each 64 MiB of an area.
const SPACE_SHIFT: u32 = 14;
/// Most pages of a folio in the swap cache: 2 MiB.
const MAX_FOLIO: u64 = 512;
/// Numbers from here on are no swap areas, whatever the kernel is built with: `MAX_SWAPFILES` is 32 less at most 9.
const FIRST_SPECIAL: u64 = 23;

layout! {
    struct Cache / CacheLayout = "address_space" {
        pages: Addr = "i_pages | page_tree",
    }

    struct Page / PageLayout = "page" {
        /// Of a page in the swap cache: area and page, that of a folio's first page in each of its pages or only there.
        private: Uint = "private",
    }
}

/// Who has a page that was taken out of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// The swap cache, at this physical address.
    Memory(u64),
    /// Nobody: it has only zeros.
    Zeros,
    /// zswap, by the `zswap_entry` at this address.
    Zswap(u64),
    /// A zram device, with this compressor.
    Zram(Read<String>),
    /// A file of `--swap`.
    File(String),
    /// A device or file that was not given.
    NotGiven,
    /// Why it cannot be told.
    Unknown(Absent),
}

/// The swap areas of a kernel.
pub struct Swap {
    target: Target,
    physical: Arc<dyn AddressSpace>,
    coding: Coding,
    pages: Option<PageArray>,
    page_size: u64,
    areas: Vec<Area>,
    allocator: Option<Zsmalloc>,
    zswap: Vec<OnceLock<Zswap>>,
    kept: KeptPages<Slot>,
}

impl Swap {
    /// The areas of a kernel, with the files that the user gave for them.
    pub(super) fn of(kernel: &Kernel, files: Vec<SwapFile>, notes: &Notes) -> Self {
        let target = kernel.target().clone();
        let pages = PageArray::of(kernel).ok();
        let mut areas = area::areas(&target);
        let mut allocator = None;
        if areas.iter().any(|area| area.is_zram() || target.symbol("zswap_trees").is_ok()) {
            let types = if target.types().structure("zs_pool").is_ok() {
                Ok(target.clone())
            } else {
                kernel.module_types("zsmalloc").or_else(|_| area::old_types(&target))
            };
            allocator =
                types.ok().zip(pages).map(|(types, pages)| Zsmalloc { kernel: target.clone(), types, pages });
        }
        for area in areas.iter_mut().filter(|area| area.is_zram()) {
            let types = if target.types().structure("zram").is_ok() {
                Ok(target.clone())
            } else {
                kernel.module_types("zram").or_else(|_| area::old_types(&target))
            };
            area.open_zram(types, allocator.as_ref());
        }
        area::match_files(&mut areas, files, notes);
        Self {
            coding: Coding::of(&target, kernel.paging()),
            physical: Arc::clone(kernel.physical()),
            zswap: areas.iter().map(|_| OnceLock::new()).collect(),
            kept: KeptPages::new(),
            page_size: kernel.page_size(),
            target,
            pages,
            areas,
            allocator,
        }
    }

    /// One area of so many pages, of a kernel of which nothing else is known.
    #[cfg(test)]
    pub(super) fn with_area(number: u64, pages: u64) -> Self {
        let target =
            super::testkit::Memory::default().target("{}", &[("swap_info", 1), ("l1tf_mitigation", 1)]);
        Self {
            coding: Coding::of(&target, &memory::paging::X64),
            physical: Arc::clone(target.shared_space()),
            zswap: vec![OnceLock::new()],
            kept: KeptPages::new(),
            page_size: PAGE as u64,
            areas: vec![Area::plain(number, pages)],
            allocator: None,
            pages: None,
            target,
        }
    }

    /// What an entry of a page table says that is neither present nor zero; `None` for pages that migrate, are poisoned or belong to
    /// devices, as no area has their number.
    #[must_use]
    pub fn decode(&self, entry: u64) -> Option<Meaning> {
        match self.coding.decode(entry) {
            Meaning::Swapped(slot) => {
                let known = match self.target.symbol("swap_info") {
                    Ok(_) => self.area(slot.area).is_some_and(|area| slot.page < area.pages),
                    Err(_) => slot.area < FIRST_SPECIAL,
                };
                known.then_some(Meaning::Swapped(slot))
            }
            meaning @ Meaning::NoAccess(_) => Some(meaning),
        }
    }

    /// Name of an area, as `/proc/swaps` has it.
    #[must_use]
    pub fn area_name(&self, number: u64) -> Option<&str> {
        self.area(number).map(|area| area.name.as_str())
    }

    fn area(&self, number: u64) -> Option<&Area> {
        self.areas.iter().find(|area| area.number == number)
    }

    /// Who has a page.
    #[must_use]
    pub fn holder(&self, slot: Slot) -> Holder {
        self.find(slot).unwrap_or_else(Holder::Unknown)
    }

    fn find(&self, slot: Slot) -> Read<Holder> {
        let area = self.area(slot.area).ok_or(match self.target.symbol("swap_info") {
            Ok(_) => Absent::Malformed("is in no known swap area"),
            Err(_) => Absent::NotApplicable(
                "is in a swap area, but the profile lacks the kernel's list of them (swap_info)",
            ),
        })?;
        if let Some(physical) = self.cached(slot)? {
            return Ok(Holder::Memory(physical));
        }
        if area.is_zero(&self.target, slot.page)? {
            return Ok(Holder::Zeros);
        }
        if let Some(entry) = self.zswap(area).find(slot.page)? {
            return Ok(Holder::Zswap(entry));
        }
        Ok(match (&area.zram, &area.file) {
            (Some(zram), _) => {
                Holder::Zram(zram.as_ref().map_err(Clone::clone).and_then(zram::Zram::algorithm))
            }
            (None, Some(file)) => Holder::File(file.name.clone()),
            (None, None) => Holder::NotGiven,
        })
    }

    /// The physical address of a page in the swap cache.
    fn cached(&self, slot: Slot) -> Read<Option<u64>> {
        let target = &self.target;
        let (Ok(spaces), Some(pages)) = (target.symbol("swapper_spaces"), self.pages) else {
            return Ok(None);
        };
        let width = u64::from(target.types().model().pointer_size());
        let space = target.read_ptr(spaces.wrapping_add(slot.area.wrapping_mul(width)))?;
        if space == 0 {
            return Ok(None);
        }
        let size = target.types().struct_size(Cache::STRUCT)?;
        let space = space.wrapping_add((slot.page >> SPACE_SHIFT).wrapping_mul(size));
        let Addr(root) = Cache::at(target, space).pages()?;
        // The whole number up to v6.11, what is below the tree's first since.
        let inside = slot.page & ((1 << SPACE_SHIFT) - 1);
        let entry = match xarray::find(target, root, slot.page)? {
            None if inside != slot.page => xarray::find(target, root, inside)?,
            found => found,
        };
        // Values are shadows of pages that left.
        let Some(page) = entry.filter(|entry| entry & 1 == 0) else { return Ok(None) };
        let Uint(private) = Page::at(target, page).private()?;
        let shift = if width == 8 { 58 } else { 26 };
        let (area, first) = (private >> shift, private & ((1u64 << shift) - 1));
        let number = slot.page.wrapping_sub(first);
        if area != slot.area || number >= MAX_FOLIO {
            return Err(Absent::Malformed("is in the swap cache, in a page of another place"));
        }
        let start =
            pages.physical(page).ok_or(Absent::Malformed("is in the swap cache, where no page is"))?;
        Ok(Some(start.wrapping_add(number.wrapping_mul(self.page_size))))
    }

    fn zswap(&self, area: &Area) -> &Zswap {
        let index = self.areas.iter().position(|known| known.number == area.number).unwrap_or(0);
        let of = || Zswap::of(&self.target, area.number, area.pages);
        match self.zswap.get(index) {
            Some(zswap) => zswap.get_or_init(of),
            None => unreachable!("there is one for each area"),
        }
    }

    /// Fills `buf` from `inside` a page on; `addr` is the virtual address it is for.
    pub fn read(&self, addr: u64, slot: Slot, inside: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let holder = match self.find(slot) {
            Ok(holder) => holder,
            Err(why) => return Err(fault(addr, slot, &why)),
        };
        match holder {
            Holder::Memory(physical) => self.physical.read_at(physical.wrapping_add(inside), buf),
            Holder::Zeros => {
                buf.fill(0);
                Ok(())
            }
            Holder::File(_) => {
                let file = self.area(slot.area).and_then(|area| area.file.as_ref());
                let file = file.ok_or(Fault::OutOfRange { addr })?;
                file.space.read_at(slot.page.wrapping_mul(self.page_size).wrapping_add(inside), buf)
            }
            Holder::NotGiven => Err(Fault::Elsewhere {
                addr,
                why: "is in a swap area that was not given (see --swap), at the page shown",
                entry: slot.page,
            }),
            Holder::Zswap(_) | Holder::Zram(_) | Holder::Unknown(_) => {
                let page = self.decompressed(slot, &holder).map_err(|why| fault(addr, slot, &why))?;
                let start = usize::try_from(inside).unwrap_or(usize::MAX);
                let bytes = start.checked_add(buf.len()).and_then(|end| page.get(start..end));
                buf.copy_from_slice(bytes.ok_or(Fault::OutOfRange { addr })?);
                Ok(())
            }
        }
    }

    /// A page from zram or zswap, kept for the next reads of it.
    fn decompressed(&self, slot: Slot, holder: &Holder) -> Read<Arc<Vec<u8>>> {
        if self.page_size != PAGE as u64 {
            return Err(Absent::NotApplicable(
                "is compressed in memory, in pages of a size that is not read",
            ));
        }
        self.kept.page(slot, slot.page, || {
            let area = self.area(slot.area).ok_or(Absent::Malformed("is in no known swap area"))?;
            let physical = &*self.physical;
            match (holder, &area.zram) {
                (Holder::Zswap(entry), _) => {
                    self.zswap(area).page(physical, self.allocator.as_ref(), slot, *entry)
                }
                (_, Some(zram)) => zram.as_ref().map_err(Clone::clone)?.page(physical, slot.page),
                (_, None) => Err(Absent::Malformed("is in no known swap area")),
            }
        })
    }
}

/// Why a page cannot be had, for readers.
fn fault(addr: u64, slot: Slot, why: &Absent) -> Fault {
    match why {
        Absent::Unreadable { fault, .. } => *fault,
        Absent::Malformed(why) | Absent::NotApplicable(why) => {
            Fault::Elsewhere { addr, why, entry: slot.page }
        }
        Absent::NoProfile(_) => Fault::Elsewhere {
            addr,
            why: "is compressed in memory, in a layout that no profile tells",
            entry: slot.page,
        },
    }
}
