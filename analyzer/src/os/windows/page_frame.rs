//! The page frame database: what the kernel knows of each page of physical memory, and from there the way back to virtual addresses.
//!
//! ```text
//! frame ─► its entry (PteAddress, PteFrame) ─► page table ─► its entry ─► ... ─► top table, whose own entry is itself
//!          index of the page table entry       next index                       u1.Flink: the process
//! ```
//! The indexes on the way are the virtual address. Pages of sections have the prototype entry of the section instead, and there the
//! way ends. Source: `_MMPFN` in the symbols of each kernel; `_MMLISTS` in the same for the states of pages.

use memory::Paging;
use object::{Absent, Ptr, Read, Target, Uint, layout};

use super::{Kernel, Process};
use crate::session::Session;

/// Bytes of a page as a shift.
const PAGE_SHIFT: u32 = 12;
/// Most entries that are looked at: those of 1 TiB.
const MAX_STEPS: u64 = 1 << 28;

layout! {
    /// `_MMPFN`: one page frame.
    pub struct PageFrame / PageFrameLayout = "_MMPFN" {
        /// Address of the page table entry, or of the prototype entry; the lowest bits are none of it.
        pte: Ptr = "PteAddress",
        /// Frame of the page that holds that entry.
        pte_frame: Uint = "u4.PteFrame",
        /// Whether the entry is a prototype.
        is_prototype: Uint = "u4.PrototypePte | u3.e1.PrototypePte",
        /// Which list the page is on.
        location: Uint = "u3.e1.PageLocation",
        /// Whether it was written to since it was read from its file.
        modified: Uint = "u3.e1.Modified",
        /// References of the kernel.
        reference_count: Uint = "u3.ReferenceCount | u3.e2.ReferenceCount",
        /// Page table entries that map it.
        share_count: Uint = "u2.ShareCount",
        /// Next of a list; of a top table its process.
        flink: Uint = "u1.Flink",
        /// What the entry held before the page was in memory.
        original: Uint = "OriginalPte.u.Long",
    }
}

/// Names of `_MMLISTS`.
const LOCATIONS: [&str; 8] = [
    "ZeroedPageList",
    "FreePageList",
    "StandbyPageList",
    "ModifiedPageList",
    "ModifiedNoWritePageList",
    "BadPageList",
    "ActiveAndValid",
    "TransitionPage",
];

impl PageFrame<'_> {
    /// Name of the list the page is on.
    pub fn location_name(&self) -> Read<&'static str> {
        let Uint(location) = self.location()?;
        let name = LOCATIONS.get(usize::try_from(location).unwrap_or(usize::MAX));
        name.copied().ok_or(Absent::Malformed("PageLocation"))
    }

    /// Physical address of the entry that maps the page.
    fn entry(&self, paging: &Paging) -> Read<u64> {
        let (Ptr(pte), Uint(frame)) = (self.pte()?, self.pte_frame()?);
        let width = u64::from(paging.entry_bytes).max(1);
        Ok((frame << PAGE_SHIFT) | (pte & 0xfff & !(width - 1)))
    }
}

/// The entries of a kernel's database.
#[derive(Clone, Copy)]
pub struct Database<'k> {
    target: &'k Target,
    first: u64,
    size: u64,
}

impl<'k> Database<'k> {
    /// The database of the kernel that `target` is.
    pub fn of(target: &'k Target) -> Read<Self> {
        let first = Ptr(target.read_ptr(target.symbol("MmPfnDatabase")?)?).non_null("no database")?;
        let size = target.types().struct_size(PageFrame::STRUCT).map_err(Absent::from)?;
        Ok(Self { target, first, size: size.max(1) })
    }

    /// The entry of a frame.
    #[must_use]
    pub fn frame(&self, number: u64) -> PageFrame<'k> {
        PageFrame::at(self.target, self.first.wrapping_add(number.wrapping_mul(self.size)))
    }

    /// The first frame whose entry begins in a later page of the database than that of `number`.
    fn behind_page_of(&self, number: u64) -> u64 {
        let at = number.saturating_mul(self.size).saturating_add(self.first & 0xfff);
        let next = (at | 0xfff).saturating_add(1).saturating_sub(self.first & 0xfff);
        next.div_ceil(self.size).max(number.saturating_add(1))
    }
}

/// An entry on the way from a page to the top table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Climbed {
    /// Kind of entry: `PTE`, `PDE`, ...
    pub name: &'static str,
    /// Its physical address.
    pub at: u64,
}

/// Where a physical address is in virtual memory.
#[derive(Debug, Clone)]
pub struct Reversed {
    /// The entries on the way, from the page up.
    pub steps: Vec<Climbed>,
    /// Physical address of the page that the way ends in: the one that maps itself.
    pub top: Option<u64>,
    /// The virtual address; why there is none.
    pub virtual_address: Read<u64>,
    /// Virtual address of the prototype entry, for a page of a section.
    pub prototype: Option<u64>,
    /// `_EPROCESS` whose memory it is, as the top table's entry says.
    pub owner: Option<u64>,
}

/// Climbs from a physical address to the top table that maps it. `target` is the kernel, `paging` the kind of its tables.
pub fn climb(target: &Target, paging: &Paging, physical: u64) -> Read<Reversed> {
    let database = Database::of(target)?;
    let mut found = Reversed {
        steps: Vec::new(),
        top: None,
        virtual_address: Err(Absent::Malformed("the page tables above the page have no top")),
        prototype: None,
        owner: None,
    };
    let mut number = physical >> PAGE_SHIFT;
    let page = database.frame(number);
    let width = u64::from(paging.entry_bytes).max(1);
    match (page.is_prototype()?.0, page.location()?.0) {
        (0, 0 | 1 | 5) => {
            found.virtual_address = Err(Absent::NotApplicable("a page that nobody uses"));
            return Ok(found);
        }
        (0, _) => {}
        (_, _) => {
            found.prototype = Some(page.pte()?.0 & !(width - 1));
            found.virtual_address = Err(Absent::NotApplicable("a page of a section, mapped anywhere"));
            return Ok(found);
        }
    }
    let mut address = physical & 0xfff;
    for level in paging.levels.iter().rev() {
        let entry = match database.frame(number).entry(paging) {
            Ok(entry) => entry,
            Err(why) => {
                found.virtual_address = Err(why);
                return Ok(found);
            }
        };
        let mask = 1u64.checked_shl(level.bits.into()).unwrap_or(0).wrapping_sub(1);
        // The entry of the smallest table (PAE) is seen through the map that the tables make of themselves, one level below.
        if mask.wrapping_mul(width) > 0x7ff {
            found.steps.push(Climbed { name: level.name, at: entry });
        }
        address |= ((entry / width) & mask).checked_shl(level.shift.into()).unwrap_or(0);
        number = entry >> PAGE_SHIFT;
    }
    let top = database.frame(number);
    if top.pte_frame() != Ok(Uint(number)) {
        return Ok(found);
    }
    found.top = Some(number << PAGE_SHIFT);
    found.owner = top.flink().ok().map(|owner| owner.0).filter(|owner| *owner != 0);
    found.virtual_address = Ok(paging.canonical(address));
    Ok(found)
}

/// Physical address of the page of a process's tables that maps itself: the top table, or with PAE the last of the four below it.
pub fn own_map(kernel: &Kernel, process: &Process<'_>) -> Read<u64> {
    let dtb = process.dtb()?;
    let levels = kernel.paging().levels;
    if levels.first().is_none_or(|top| top.bits >= 9) {
        return Ok(dtb & !0xfff);
    }
    let at = dtb.wrapping_add(3 * 8);
    let entry = kernel.physical().read_u64(at).map_err(|fault| Absent::Unreadable { addr: at, fault })?;
    Ok(entry & 0x000f_ffff_ffff_f000)
}

/// A page of page tables that maps itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopTable {
    /// Physical address of the page.
    pub at: u64,
    /// What its entry says is the process; less than an address in systems that keep something else there.
    pub owner: u64,
}

/// All pages that map themselves, at most `limit`. What cannot be read is noted.
pub fn top_tables(session: &Session, kernel: &Kernel, limit: usize) -> Read<Vec<TopTable>> {
    let database = Database::of(kernel.target())?;
    let physical = kernel.physical();
    let progress = session.progress("looking through the page frame database", physical.end() >> PAGE_SHIFT);
    let (mut found, mut missing, mut steps) = (Vec::new(), 0u64, 0u64);
    for run in physical.runs(0, u64::MAX) {
        let (mut number, end) = (run.start >> PAGE_SHIFT, run.start.saturating_add(run.len) >> PAGE_SHIFT);
        progress.add(end.saturating_sub(number));
        while number < end {
            steps += 1;
            if steps > MAX_STEPS {
                session.notes.partial(format!("no entries are looked at from page {number:#x} on"));
                return Ok(found);
            }
            let frame = database.frame(number);
            let next = match frame.pte_frame() {
                // Page 0 is never a table; entries of zeros name it.
                Ok(Uint(table)) if table == number && number != 0 => {
                    if found.len() == limit {
                        session.notes.partial(format!("more than {limit} tables; see --limit"));
                        return Ok(found);
                    }
                    let owner = frame.flink().map_or(0, |owner| owner.0);
                    found.push(TopTable { at: number << PAGE_SHIFT, owner });
                    number.saturating_add(1)
                }
                Ok(_) => number.saturating_add(1),
                Err(_) => {
                    let next = database.behind_page_of(number);
                    missing = missing.saturating_add(next.min(end).saturating_sub(number));
                    next
                }
            };
            number = next;
        }
    }
    if missing > 0 {
        session.notes.partial(format!("the page frame database lacks the entries of {missing} pages"));
    }
    Ok(found)
}

/// The process at an address, where there is one.
#[must_use]
pub fn process_at(kernel: &Kernel, address: u64) -> Option<Process<'_>> {
    Some(Process::at(kernel.target(), address)).filter(Process::is_plausible)
}
