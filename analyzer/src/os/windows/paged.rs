//! Virtual memory as Windows keeps it: behind the page tables stand prototypes, pagefiles and pages not made yet.
//!
//! ```text
//! entry in the tables      valid or in transition ───────────────► physical page
//!                          prototype: its address in the entry ─┐
//!                          or by the VAD (prototype PTEs) ──────┴► the same again, or a mapped file
//!                          pagefile number and offset ───────────► --pagefile, or the compressed store
//!                          nothing ──────────────────────────────► demand zero, or no memory at all
//! ```
//! Where a page is not resident the fault says where it is. Source: `_MMPTE_SOFTWARE`, `_MMPTE_TRANSITION`,
//! `_MMPTE_PROTOTYPE` and `_MMPTE_SUBSECTION` in the symbols of each kernel; Russinovich, Windows Internals, "Invalid PTEs".

use std::sync::Arc;

use memory::{AddressSpace, Fault, FileSpace, Limits, Paging, Run, Step, Stored, VirtualSpace, read_by_page};
use object::{Target, Types};
use profile::Type;

use super::compressed_store::{CompressedStore, StoredPage};
use super::kernel::Layout;
use super::ranges::Ranges;
use crate::os::pages::{PAGED_OUT, Pages};
use crate::session::Session;

/// Bytes of a page.
const PAGE: u64 = 4096;
/// The entry is a prototype (bit 10 of an invalid entry in every mode).
const PROTOTYPE: u64 = 1 << 10;
/// The page is in transition (bit 11).
const TRANSITION: u64 = 1 << 11;
/// `_MMPTE_SOFTWARE.SwizzleBit`: the bits of `InvalidPteMask` are the entry's own.
const SWIZZLE: u64 = 1 << 4;
/// Why a page has no content yet.
pub const DEMAND_ZERO: &str = "is demand zero";
/// Why a page of a section has no content yet.
pub const DEMAND_ZERO_SHARED: &str = "is demand zero, by its prototype";
/// Why a page of a file is not in memory.
pub const IN_FILE: &str = "is in a mapped file";
/// Most pagefiles: `PageFileLow` has four bits.
const MAX_PAGEFILES: usize = 16;

/// A field of an entry: first bit, and the bit behind the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bits(u32, u32);

impl Bits {
    /// The field of a profile, else where it was when profiles did not say.
    fn of(types: &Types, structure: &str, field: &str, usual: Self) -> Self {
        match types.resolve(structure, field).map(|found| found.ty) {
            Ok(Type::BitField { start, end, .. }) if start < end && end <= 64 => Self(start, end),
            _ => usual,
        }
    }

    fn get(self, entry: u64) -> u64 {
        let width = self.1.wrapping_sub(self.0);
        (entry >> self.0) & u64::MAX.checked_shr(64 - width).unwrap_or(u64::MAX)
    }

    /// The field as a signed number.
    fn get_signed(self, entry: u64) -> u64 {
        let up = 64 - self.1;
        ((entry << up).cast_signed() >> up >> self.0).cast_unsigned()
    }

    /// Whether the field has all its bits set, but for the lowest `spare`.
    fn is_full(self, entry: u64, spare: u32) -> bool {
        let width = self.1.wrapping_sub(self.0);
        let ones = u64::MAX.checked_shr(64 - width).unwrap_or(u64::MAX);
        self.get(entry) >> spare == ones >> spare
    }
}

/// What all address spaces of an image share: the meaning of entries, the kernel's tables, the pagefiles.
#[derive(Clone)]
pub(super) struct Backing {
    file_low: Bits,
    file_high: Bits,
    prototype_address: Bits,
    /// Whether entries that are not valid are kept apart from real frames by `invalid_mask`.
    swizzled: bool,
    /// Bits set in entries that are not valid, so that processors cannot speculate past them (Windows 10 of 2018).
    invalid_mask: u64,
    /// The kernel's own tables; prototypes are read through them alone, which ends every recursion.
    kernel: Arc<VirtualSpace>,
    pagefiles: Arc<Vec<FileSpace>>,
    /// The pagefile that is in memory.
    store: Option<Arc<CompressedStore>>,
    /// Where the prototypes of 4-byte entries are counted from: `MmProtopteBase` (`MmPagedPoolStart` in XP).
    prototype_base: Option<u64>,
}

impl Backing {
    /// Reads the meaning of entries from a profile, opens the pagefiles the user named and looks for the compressed store.
    pub(super) fn new(session: &Session, types: &Arc<Types>, kernel: VirtualSpace, layout: Layout) -> Self {
        let tables = VirtualSpace::new(Arc::clone(kernel.physical()), layout.paging, layout.dtb);
        let without_store = Arc::new(Self::without_store(session, types, kernel, layout.base));
        let space = PagedSpace::new(Arc::clone(&without_store), tables, None);
        let target = Target::new(Arc::clone(types), Arc::new(space), layout.base, 0);
        let store = CompressedStore::of(target, Arc::clone(&without_store)).map(Arc::new);
        Self { store, ..Self::clone(&without_store) }
    }

    /// The same without the compressed store.
    pub(super) fn without_store(session: &Session, types: &Types, kernel: VirtualSpace, base: u64) -> Self {
        let wide = kernel.paging().entry_bytes == 8;
        let bits = |structure: &str, field: &str, usual| Bits::of(types, structure, field, usual);
        let symbol = types.profile().symbol("MiState");
        let field = types.resolve("_MI_SYSTEM_INFORMATION", "Hardware.InvalidPteMask").ok();
        let mask = symbol.zip(field).and_then(|(symbol, field)| {
            kernel.read_u64(base.wrapping_add(symbol).wrapping_add(field.offset)).ok()
        });
        let mut pagefiles = Vec::new();
        for path in session.config.pagefiles.iter().take(MAX_PAGEFILES) {
            match FileSpace::open(path, &Limits::default()) {
                Ok(file) => pagefiles.push(file),
                Err(error) => {
                    session.notes.partial(format!("cannot open pagefile: {error}: {}", path.display()));
                    // The numbers of the others stay what they are.
                    pagefiles.push(FileSpace::from_vec(Vec::new()));
                }
            }
        }
        let variable = |name: &str| {
            let at = base.wrapping_add(types.profile().symbol(name)?);
            kernel.read_u32(at).ok().map(u64::from).filter(|value| *value != 0)
        };
        Self {
            prototype_base: variable("MmProtopteBase").or_else(|| variable("MmPagedPoolStart")),
            file_low: bits("_MMPTE_SOFTWARE", "PageFileLow", Bits(1, 5)),
            file_high: bits(
                "_MMPTE_SOFTWARE",
                "PageFileHigh",
                if wide { Bits(32, 64) } else { Bits(12, 32) },
            ),
            prototype_address: bits(
                "_MMPTE_PROTOTYPE",
                "ProtoAddress",
                if kernel.paging().bits == 32 { Bits(32, 64) } else { Bits(16, 64) },
            ),
            swizzled: types.has_field("_MMPTE_SOFTWARE", "SwizzleBit"),
            invalid_mask: mask.unwrap_or(0),
            kernel: Arc::new(kernel),
            pagefiles: Arc::new(pagefiles),
            store: None,
        }
    }

    /// The kernel's own tables.
    pub(super) fn kernel(&self) -> &VirtualSpace {
        &self.kernel
    }

    fn paging(&self) -> &'static Paging {
        self.kernel.paging()
    }

    /// An entry that is not valid, without the bits that keep processors from using it.
    fn plain(&self, entry: u64) -> u64 {
        match (self.swizzled, entry & SWIZZLE) {
            (false, _) => entry,
            (true, 0) => entry & !self.invalid_mask,
            (true, _) => entry & !SWIZZLE,
        }
    }

    /// The frame that a valid or transition entry names.
    fn frame(&self, entry: u64) -> Option<u64> {
        let mask = if self.paging().entry_bytes == 4 { 0xffff_f000 } else { 0x000f_ffff_ffff_f000 };
        if entry & 1 == 1 {
            return Some(entry & mask);
        }
        (entry & (PROTOTYPE | TRANSITION) == TRANSITION).then(|| self.plain(entry) & mask)
    }

    /// Address of the prototype that an entry names; `None` where the VAD must tell.
    fn prototype(&self, entry: u64) -> Option<u64> {
        if self.paging().entry_bytes == 4 {
            // ProtoAddressLow and ProtoAddressHigh: an offset of words into the memory where prototypes of small tables are.
            let offset = ((entry & 0xfe) << 1) | ((entry & 0xffff_f800) >> 2);
            return Some(self.prototype_base?.wrapping_add(offset));
        }
        let full = self.prototype_address.is_full(entry, if self.paging().bits == 32 { 0 } else { 16 });
        let address = if self.paging().bits == 32 {
            self.prototype_address.get(entry)
        } else {
            self.prototype_address.get_signed(self.plain(entry))
        };
        (!full).then_some(address)
    }

    /// Reads an entry of the kernel's virtual memory.
    fn entry_at(&self, addr: u64) -> Result<u64, Fault> {
        if self.paging().entry_bytes == 4 {
            self.kernel.read_u32(addr).map(u64::from)
        } else {
            self.kernel.read_u64(addr)
        }
    }

    /// Where the bytes are that a prototype stands for.
    fn by_prototype(&self, addr: u64, at: u64) -> Result<Place, Fault> {
        let entry = self.entry_at(at).map_err(|_| Fault::Elsewhere {
            addr,
            why: "has a prototype that cannot be read, whose address is shown",
            entry: at,
        })?;
        if let Some(frame) = self.frame(entry) {
            return Ok(Place::Memory(frame | (addr % PAGE)));
        }
        let plain = self.plain(entry);
        if plain & PROTOTYPE != 0 {
            return Err(Fault::Elsewhere { addr, why: IN_FILE, entry });
        }
        self.in_pagefile(addr, entry).ok_or(Fault::Elsewhere { addr, why: DEMAND_ZERO_SHARED, entry })
    }

    /// The place in a pagefile, where the entry names one. Whether the user has that file is for reading to find out.
    fn in_pagefile(&self, addr: u64, entry: u64) -> Option<Place> {
        let plain = self.plain(entry);
        let (number, page) = (self.file_low.get(plain), self.file_high.get(plain));
        let offset = page.wrapping_mul(PAGE).wrapping_add(addr % PAGE);
        let place = if self.store.as_ref().is_some_and(|store| store.number() == number) {
            Place::Compressed { offset }
        } else {
            Place::File { number: usize::try_from(number).unwrap_or(usize::MAX), offset }
        };
        (page != 0).then_some(place)
    }

    /// Whether pages that are not in memory can be had at all.
    fn has_elsewhere(&self) -> bool {
        self.store.is_some() || !self.pagefiles.is_empty()
    }

    /// Where a page is by its own entry, as the target of a run; `None` where it is in no given pagefile.
    fn elsewhere(&self, addr: u64, entry: u64) -> Option<u64> {
        if self.plain(entry) & PROTOTYPE != 0 {
            return None;
        }
        match self.in_pagefile(addr, entry)? {
            Place::Compressed { offset } => Some(PAGED_OUT | offset),
            Place::File { number, offset } => {
                self.pagefiles.get(number)?;
                // Pages of two files never follow each other.
                Some(PAGED_OUT | (number as u64).wrapping_shl(56) | offset)
            }
            Place::Memory(_) => None,
        }
    }

    /// Reads inside one page, wherever it is. `why` is told where the user has not given the pagefile it is in.
    fn read(&self, place: Place, addr: u64, why: &'static str, buf: &mut [u8]) -> Result<(), Fault> {
        match place {
            Place::Memory(phys) => self.kernel.physical().read_at(phys, buf),
            Place::File { number, offset } => {
                let file = self.pagefiles.get(number);
                file.ok_or(Fault::Elsewhere { addr, why, entry: offset })?.read_at(offset, buf)
            }
            Place::Compressed { offset } => {
                let fault = |why| Fault::Elsewhere { addr, why, entry: offset };
                let store = self.store.as_ref().ok_or_else(|| fault(why))?;
                let page = store.read(offset / PAGE).map_err(fault)?;
                let start = usize::try_from(offset % PAGE).unwrap_or(0);
                let bytes = start.checked_add(buf.len()).and_then(|end| page.get(start..end));
                buf.copy_from_slice(bytes.ok_or(Fault::OutOfRange { addr })?);
                Ok(())
            }
        }
    }
}

/// Where the bytes of a page are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// At this physical address.
    Memory(u64),
    /// In a pagefile.
    File {
        /// Its number, from 0, in the order of `--pagefile`.
        number: usize,
        /// Offset in bytes.
        offset: u64,
    },
    /// In the compressed store.
    Compressed {
        /// Offset in bytes in the pagefile that stands for it.
        offset: u64,
    },
}

/// The virtual memory of the kernel or of a process. Addresses are canonical 64-bit ones, 32-bit ones on x86.
pub struct PagedSpace {
    backing: Arc<Backing>,
    tables: VirtualSpace,
    /// What the process maps, for pages whose table entries do not tell.
    ranges: Option<Ranges>,
}

impl PagedSpace {
    /// Page tables with what stands behind them. `ranges` are those of the process whose tables they are.
    pub(super) fn new(backing: Arc<Backing>, tables: VirtualSpace, ranges: Option<Ranges>) -> Self {
        Self { backing, tables, ranges }
    }

    /// The page tables alone.
    #[must_use]
    pub fn tables(&self) -> &VirtualSpace {
        &self.tables
    }

    /// The runs that the page tables have in physical memory.
    pub fn resident(&self, start: u64, end: u64) -> impl Iterator<Item = Run> + '_ {
        let fixed = |run: Run| Run { target: self.unswizzled(run.target), ..run };
        self.tables.mappings(start, end).map(fixed)
    }

    /// The pages inside `start..end`; of the process's own also those in a given pagefile or the compressed store.
    #[must_use]
    pub fn pages(&self, start: u64, end: u64) -> Pages<'_> {
        let half = 1u64.checked_shl(u32::from(self.backing.paging().bits).wrapping_sub(1)).unwrap_or(0);
        let absent_end = if self.ranges.is_some() { half } else { 0 };
        let elsewhere = |addr, entry| self.backing.elsewhere(addr, entry);
        Pages::new(&self.tables, (start, end), absent_end, Box::new(elsewhere))
    }

    /// Every step of the translation of `addr` through the page tables.
    #[must_use]
    pub fn explain(&self, addr: u64) -> Vec<Step> {
        self.tables.explain(addr)
    }

    /// Where the byte at `addr` is kept, or why nowhere in the image or a pagefile.
    pub fn place(&self, addr: u64) -> Result<Place, Fault> {
        match self.tables.translate(addr) {
            Ok(phys) => Ok(Place::Memory(self.unswizzled(phys))),
            Err(Fault::NotPresent { level: 1, entry, .. }) => self.behind(addr, entry),
            Err(Fault::NotPresent { level, entry, .. }) => self.behind_table(addr, level, entry),
            Err(fault) => Err(fault),
        }
    }

    /// Bytes from `addr` to `last` that share the state of its page for sure: one page, or all that an absent table would map
    /// where no prototypes tell more.
    pub(super) fn stretch(&self, addr: u64, last: u64) -> u64 {
        let left = last.wrapping_sub(addr).saturating_add(1);
        let page = (PAGE - addr % PAGE).min(left);
        let Err(Fault::NotPresent { level, entry: 0, .. }) = self.tables.translate(addr) else { return page };
        let Some(level) = self.backing.paging().levels.iter().find(|known| known.number == level) else {
            return page;
        };
        let range = self.ranges.as_ref().and_then(|ranges| ranges.find(addr));
        let Some(end) = range.and_then(|range| range.last_without_prototype(addr)) else { return page };
        let size = 1u64.checked_shl(level.shift.into()).unwrap_or(PAGE);
        (size - addr % size).min(left).min(end.wrapping_sub(addr).saturating_add(1)).max(page)
    }

    /// A frame in transition may come with the bits that keep it from being used.
    fn unswizzled(&self, phys: u64) -> u64 {
        let mask = self.backing.invalid_mask;
        if phys & mask != 0 && phys >= self.tables.physical().end() { phys & !mask } else { phys }
    }

    /// What an entry of the last table, neither valid nor in transition, says.
    fn behind(&self, addr: u64, entry: u64) -> Result<Place, Fault> {
        if self.backing.plain(entry) & PROTOTYPE != 0 {
            return match self.backing.prototype(entry) {
                Some(at) => self.backing.by_prototype(addr, at),
                None => self.by_range(addr, entry),
            };
        }
        self.backing.in_pagefile(addr, entry).map_or_else(|| self.by_range(addr, entry), Ok)
    }

    /// What an entry that should lead to a table says. A table in a pagefile is read there.
    fn behind_table(&self, addr: u64, level: u8, entry: u64) -> Result<Place, Fault> {
        if level != 2 || entry == 0 {
            return self.by_range(addr, entry);
        }
        let width = u64::from(self.backing.paging().entry_bytes);
        let index = addr / PAGE % (PAGE / width);
        let Some(place) = self.backing.in_pagefile(index.wrapping_mul(width), entry) else {
            return self.by_range(addr, entry);
        };
        let why = "has its page table in a pagefile (see --pagefile)";
        let mut bytes = [0; 8];
        if let Some(wanted) = bytes.get_mut(..usize::from(self.backing.paging().entry_bytes)) {
            self.backing.read(place, addr, why, wanted)?;
        }
        let entry = u64::from_le_bytes(bytes);
        match self.backing.frame(entry) {
            Some(frame) => Ok(Place::Memory(frame | (addr % PAGE))),
            None => self.behind(addr, entry),
        }
    }

    /// What the VAD says of a page that the tables know nothing of.
    fn by_range(&self, addr: u64, entry: u64) -> Result<Place, Fault> {
        let unknown = Fault::NotPresent { addr, level: 1, entry };
        let Some(ranges) = &self.ranges else {
            // Kernel memory has no VADs: an entry with a protection is memory that was never touched.
            return Err(if entry == 0 {
                unknown
            } else {
                Fault::Elsewhere { addr, why: DEMAND_ZERO, entry }
            });
        };
        let Some(range) = ranges.find(addr) else { return Err(unknown) };
        match range.prototype(addr, u64::from(self.backing.paging().entry_bytes)) {
            Some(Ok(at)) => self.backing.by_prototype(addr, at),
            Some(Err(why)) => Err(Fault::Elsewhere { addr, why, entry }),
            None => Err(Fault::Elsewhere { addr, why: DEMAND_ZERO, entry }),
        }
    }

    /// Reads inside one page.
    fn read_page(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let why = "is in a pagefile (see --pagefile), at the offset shown";
        self.backing.read(self.place(addr)?, addr, why, buf)
    }

    /// What the compressed store has at an offset of its pagefile, or why it has nothing there.
    pub fn compressed(&self, offset: u64) -> Result<StoredPage, &'static str> {
        let store = self.backing.store.as_ref().ok_or("is in a compressed store that is not there")?;
        store.locate(offset / PAGE)
    }
}

impl AddressSpace for PagedSpace {
    fn name(&self) -> String {
        format!("Windows {}", self.tables.name())
    }

    fn read_at(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        // Nearly all reads are of pages that are there.
        if self.tables.read_at(addr, buf).is_ok() {
            return Ok(());
        }
        read_by_page(addr, PAGE, buf, |at, piece| self.read_page(at, piece))
    }

    fn translate(&self, addr: u64) -> Result<u64, Fault> {
        match self.place(addr)? {
            Place::Memory(phys) => Ok(phys),
            Place::File { offset, .. } => {
                Err(Fault::Elsewhere { addr, why: "is in a pagefile, at the offset shown", entry: offset })
            }
            Place::Compressed { offset } => Err(Fault::Elsewhere {
                addr,
                why: "is in the compressed store, at the offset shown of its pagefile",
                entry: offset,
            }),
        }
    }

    fn stored(&self, addr: u64) -> Result<Stored, Fault> {
        let Place::Compressed { offset } = self.place(addr)? else {
            return self.translate(addr).map(Stored::Plain);
        };
        let page = self.compressed(offset).map_err(|why| Fault::Elsewhere { addr, why, entry: offset })?;
        let store = self.backing.store.as_ref().ok_or(Fault::OutOfRange { addr })?;
        Ok(Stored::Compressed { block: store.physical(&page)?, len: page.len.into() })
    }

    /// The runs of the page tables, and of processes the pages whose entries lead to a given pagefile or the compressed store: their
    /// targets are no physical addresses and have the highest bit set. Pages that only a prototype has, and those of the kernel in
    /// pagefiles, are read but not enumerated.
    fn runs(&self, start: u64, end: u64) -> Box<dyn Iterator<Item = Run> + '_> {
        if self.ranges.is_none() || !self.backing.has_elsewhere() {
            return Box::new(self.resident(start, end));
        }
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
