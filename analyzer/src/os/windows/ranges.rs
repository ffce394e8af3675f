//! The ranges of a process as translation needs them: which prototype PTE stands behind a page.
//!
//! A section has one or more parts (`_SUBSECTION`), each with an array of prototype PTEs. A VAD names the first part it
//! maps and the PTEs of it that follow each other; those of later parts are found along `NextSubsection`. Source: the types
//! in the symbols of each kernel; Russinovich, Windows Internals, "Section objects".

use std::sync::OnceLock;

use object::{Ptr, Target};

use super::process::Process;
use super::vad::{Node, Subsection, Vad, tree};

/// Bytes of a page as a shift.
const PAGE_SHIFT: u32 = 12;
/// Most parts of one section that are followed; files extended again and again have hundreds.
const MAX_PARTS: usize = 1 << 12;

/// Consecutive prototype PTEs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Part {
    /// Page of the range whose PTE is the first.
    page: u64,
    /// Number of PTEs.
    count: u64,
    /// Address of the first; 0 where the part has none at present.
    first: u64,
}

/// One range.
#[derive(Debug, Clone)]
pub(super) struct Range {
    start: u64,
    last: u64,
    /// Ascending; empty for private memory.
    parts: Vec<Part>,
}

impl Range {
    /// The last address of those from `addr` on that have no prototype PTE; `None` where `addr` has one.
    pub(super) fn last_without_prototype(&self, addr: u64) -> Option<u64> {
        let page = addr.wrapping_sub(self.start) >> PAGE_SHIFT;
        let end = self.parts.partition_point(|part| part.page <= page);
        let before = |page: u64| self.start.wrapping_add(page << PAGE_SHIFT).wrapping_sub(1);
        let next = self.parts.get(end).map_or(self.last, |part| before(part.page));
        let Some(part) = end.checked_sub(1).and_then(|index| self.parts.get(index)) else {
            return Some(next);
        };
        let last = before(part.page.saturating_add(part.count));
        match (page - part.page < part.count, part.first) {
            (false, _) => Some(next),
            (true, 0) => Some(last.min(self.last)),
            (true, _) => None,
        }
    }

    /// Address of the prototype PTE of `addr`; `None` for private memory, a reason where it is not known.
    pub(super) fn prototype(&self, addr: u64, entry_size: u64) -> Option<Result<u64, &'static str>> {
        let page = addr.wrapping_sub(self.start) >> PAGE_SHIFT;
        let end = self.parts.partition_point(|part| part.page <= page);
        let part = self.parts.get(end.checked_sub(1)?)?;
        let index = page - part.page;
        Some(if index >= part.count {
            Err("is of a section whose later parts cannot be followed")
        } else if part.first == 0 {
            Err("is in a part of a mapped file that has no prototypes at present")
        } else {
            Ok(part.first.wrapping_add(index.wrapping_mul(entry_size)))
        })
    }
}

/// The ranges of a process, read when first asked for.
pub(super) struct Ranges {
    kernel: Target,
    process: u64,
    entry_size: u64,
    ranges: OnceLock<Vec<Range>>,
}

impl Ranges {
    /// Those of the process at an address of the kernel's memory. Entries of page tables have `entry_size` bytes.
    pub(super) fn new(kernel: Target, process: u64, entry_size: u8) -> Self {
        Self { kernel, process, entry_size: u64::from(entry_size.max(1)), ranges: OnceLock::new() }
    }

    /// The range that holds an address.
    pub(super) fn find(&self, addr: u64) -> Option<&Range> {
        let ranges = self.ranges.get_or_init(|| self.read());
        let end = ranges.partition_point(|range| range.start <= addr);
        ranges.get(end.checked_sub(1)?).filter(|range| range.last >= addr)
    }

    fn read(&self) -> Vec<Range> {
        let process = Process::at(&self.kernel, self.process);
        let nodes = tree(&process).map(|tree| tree.nodes).unwrap_or_default();
        let range = |node: &Node| {
            let vad = Vad::at(&self.kernel, node.addr);
            let (start, last) = (vad.start().ok()?, vad.last().ok()?);
            let pages = (last.checked_sub(start)? >> PAGE_SHIFT) + 1;
            Some(Range { start, last, parts: self.parts(&vad, pages) })
        };
        let mut ranges: Vec<Range> = nodes.iter().filter_map(range).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges
    }

    /// The prototype PTEs of the pages of a VAD; none for private memory.
    fn parts(&self, vad: &Vad<'_>, pages: u64) -> Vec<Part> {
        if vad.is_short() == Ok(true) || vad.is_private() == Ok(true) {
            return Vec::new();
        }
        let (Ok(Ptr(first)), Ok(Ptr(last))) = (vad.first_prototype(), vad.last_prototype()) else {
            return Vec::new();
        };
        if first == 0 {
            return Vec::new();
        }
        // Where the last one lies before the first, nothing bounds the array but the range.
        let count = last.checked_sub(first).map_or(pages, |bytes| bytes / self.entry_size + 1);
        let mut parts = vec![Part { page: 0, count: count.min(pages), first }];
        let mut page = count;
        let mut next = self.first_part(vad, first);
        while page < pages && parts.len() < MAX_PARTS {
            let Some(part) = next else { break };
            let part = Subsection::at(&self.kernel, part);
            let (Ok(Ptr(first)), Ok(count)) = (part.base(), part.ptes()) else { break };
            parts.push(Part { page, count: u64::from(count).min(pages - page), first });
            // A part without pages would let the walk stand still, but the number of parts ends it.
            page += u64::from(count);
            next = part.next().ok().map(|Ptr(next)| next).filter(|&next| next != 0);
        }
        parts.retain(|part| part.count > 0);
        parts
    }

    /// The part behind the one that holds a prototype PTE.
    fn first_part(&self, vad: &Vad<'_>, first: u64) -> Option<u64> {
        let mut at = match vad.subsection() {
            Ok(Ptr(part)) => part,
            // XP and 2003: parts follow their control area.
            Err(_) => {
                let area = vad.control_area().ok()?;
                area.addr().wrapping_add(self.kernel.types().struct_size("_CONTROL_AREA").ok()?)
            }
        };
        for _ in 0..MAX_PARTS {
            let part = Subsection::at(&self.kernel, at);
            let (Ptr(base), count) = (part.base().ok()?, u64::from(part.ptes().ok()?));
            let next = part.next().ok().map(|Ptr(next)| next).filter(|&next| next != 0);
            if first.wrapping_sub(base) < count.wrapping_mul(self.entry_size) {
                return next;
            }
            at = next?;
        }
        None
    }
}
