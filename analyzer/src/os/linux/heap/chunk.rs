//! Chunks: the walk over a heap, from each chunk to the next one by its size.

use super::Words;
use super::layout::Layout;

/// Most chunks of a process.
pub(super) const MAX_CHUNKS: usize = 1 << 24;
/// `PREV_INUSE`, `IS_MMAPPED` and `NON_MAIN_ARENA` of a chunk's size.
const PREV_INUSE: u64 = 1;
const IS_MMAPPED: u64 = 2;
const NON_MAIN_ARENA: u64 = 4;
/// Chunks that must follow each other for a walk to begin in the middle of a heap.
const SURE: usize = 16;
/// Bytes in which a place to begin is looked for.
const MAX_SEARCH: u64 = 4 << 20;

/// What a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// In use.
    Allocated,
    /// In use as a mapping of its own.
    Mapped,
    /// Free, in the cache of a thread.
    Tcache,
    /// Free, in a list of small chunks that are not merged.
    Fastbin,
    /// Free, not yet sorted.
    Unsorted,
    /// Free, in a list of chunks of one size.
    SmallBin,
    /// Free, in a list of chunks of similar sizes.
    LargeBin,
    /// Free, in no list.
    Lost,
    /// The rest of a heap.
    Top,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Allocated => "allocated",
            Self::Mapped => "mmapped",
            Self::Tcache => "tcache",
            Self::Fastbin => "fastbin",
            Self::Unsorted => "unsorted bin",
            Self::SmallBin => "small bin",
            Self::LargeBin => "large bin",
            Self::Lost => "free",
            Self::Top => "top",
        }
    }

    /// Whether it is in use.
    #[must_use]
    pub fn is_used(self) -> bool {
        matches!(self, Self::Allocated | Self::Mapped)
    }
}

/// A chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Address of its header.
    pub addr: u64,
    /// Its size in bytes, header included.
    pub size: u64,
    /// What it is.
    pub kind: Kind,
    /// Number of its arena; none for mappings of their own.
    pub arena: Option<usize>,
    /// Address that `malloc` gave for it.
    pub data: u64,
    /// Bytes from there that belong to the chunk.
    pub usable: u64,
}

/// Part of a heap that has chunks.
pub(super) struct Region {
    /// Where the first chunk may stand.
    pub(super) start: u64,
    /// End.
    pub(super) end: u64,
    /// The arena's topmost chunk, where it is here.
    pub(super) top: Option<u64>,
    /// Number of its arena.
    pub(super) arena: usize,
    /// Whether it is of the main arena.
    pub(super) main: bool,
}

/// What stands at an address.
enum Step {
    /// A chunk of this size, and the next is an ordinary one.
    Chunk(u64),
    /// The end of a heap.
    Fence(u64),
    /// No chunk.
    Bad,
}

impl Words<'_> {
    fn step(&self, layout: &Layout, region: &Region, addr: u64) -> Step {
        let Ok(word) = self.get(addr.wrapping_add(layout.width)) else { return Step::Bad };
        let size = word & !7;
        let mapped = word & IS_MMAPPED != 0;
        if mapped || region.main && word & NON_MAIN_ARENA != 0 {
            return Step::Bad;
        }
        // A heap that could not grow ends with chunks that are nothing but headers.
        if size == layout.header() || size == 0 && word & PREV_INUSE != 0 {
            return Step::Fence(size.max(layout.header()));
        }
        let fits = size >= layout.min_chunk()
            && size.is_multiple_of(layout.align)
            && addr.checked_add(size).is_some_and(|end| end <= region.end);
        if fits { Step::Chunk(size) } else { Step::Bad }
    }

    /// The first address from `from` on where enough chunks follow each other, or all up to the topmost one.
    fn resume(&self, layout: &Layout, region: &Region, from: u64) -> Option<u64> {
        let last = region.top.unwrap_or(region.end).min(from.saturating_add(MAX_SEARCH));
        let step = usize::try_from(layout.align).ok()?;
        (layout.chunk_at_or_after(from)..=last).step_by(step).find(|&start| {
            let (mut addr, mut count) = (start, 0);
            loop {
                if count >= SURE || count > 0 && (Some(addr) == region.top || addr == region.end) {
                    return true;
                }
                if Some(addr) == region.top {
                    return addr == start;
                }
                match self.step(layout, region, addr) {
                    Step::Chunk(size) => addr = addr.wrapping_add(size),
                    Step::Fence(_) => return count > 1,
                    Step::Bad => return false,
                }
                count += 1;
            }
        })
    }

    /// Walks a region; all chunks that are not the topmost one are called allocated or lost. How many bytes could not be walked.
    pub(super) fn walk(&self, layout: &Layout, region: &Region, out: &mut Vec<Chunk>) -> u64 {
        let mut lost = 0u64;
        let mut addr = layout.chunk_at_or_after(region.start);
        let chunk = |addr: u64, size, kind| Chunk {
            addr,
            size,
            kind,
            arena: Some(region.arena),
            data: addr.wrapping_add(layout.header()),
            usable: layout.usable(size, false),
        };
        // Whether the chunk before the last one is in use is known from the last one only.
        let mut last: Option<usize> = None;
        while addr < region.end && out.len() < MAX_CHUNKS {
            let before = last.take().and_then(|index| out.get_mut(index));
            let flags = self.get(addr.wrapping_add(layout.width));
            if let (Some(before), Ok(flags)) = (before, flags)
                && flags & PREV_INUSE == 0
            {
                before.kind = Kind::Lost;
            }
            if region.top == Some(addr) {
                let size = self.get(addr.wrapping_add(layout.width)).unwrap_or(0) & !7;
                out.push(chunk(addr, size, Kind::Top));
                return lost;
            }
            let from = match self.step(layout, region, addr) {
                Step::Chunk(size) => {
                    last = Some(out.len());
                    out.push(chunk(addr, size, Kind::Allocated));
                    addr = addr.wrapping_add(size);
                    continue;
                }
                // Heaps of other arenas end so; the main one may go on behind what others took by `brk`.
                Step::Fence(_) if !region.main => return lost,
                Step::Fence(size) => addr.wrapping_add(size),
                Step::Bad => addr.wrapping_add(layout.align),
            };
            match self.resume(layout, region, from) {
                Some(next) => {
                    lost = lost.saturating_add(next.wrapping_sub(from));
                    addr = next;
                }
                None => return lost.saturating_add(region.end.saturating_sub(from)),
            }
        }
        lost
    }

    /// Whether a walk can begin at an address.
    pub(super) fn begins(&self, layout: &Layout, region: &Region, addr: u64) -> bool {
        self.resume(layout, &Region { end: region.end, ..*region }, addr)
            == Some(layout.chunk_at_or_after(addr))
    }

    /// The mapped chunk that begins with the page at `base` and ends by `end`: its address and size, and the whole mapping's.
    pub(super) fn mapped(&self, layout: &Layout, base: u64, end: u64, page: u64) -> Option<(u64, u64, u64)> {
        let excluded = if layout.version.mapped_without_header { layout.header() } else { 0 };
        let at = |lead: u64| {
            let addr = base.checked_add(lead)?;
            let word = self.get(addr.checked_add(layout.width)?).ok()?;
            let whole = (word & !7).checked_add(lead)?.checked_add(excluded)?;
            let fits = word & 7 == IS_MMAPPED
                && self.get(addr).ok()? & !1 == lead
                && whole.is_multiple_of(page)
                && whole > 0
                && base.checked_add(whole)? <= end;
            fits.then_some((addr, word & !7, whole))
        };
        let first = layout.chunk_at_or_after(base).wrapping_sub(base);
        let plain = at(first)?;
        // `memalign` moves the chunk to the aligned address and leaves the first header as it was.
        let aligned = (5..40u32).find_map(|bits| {
            let header = layout.header();
            let align = 1u64.checked_shl(bits)?;
            let mut data = base.checked_add(first)?.checked_add(header)?.checked_next_multiple_of(align)?;
            if data.wrapping_sub(header).wrapping_sub(base).wrapping_sub(first) < layout.min_chunk() {
                data = data.checked_add(align)?;
            }
            let lead = data.wrapping_sub(header).wrapping_sub(base);
            if lead >= plain.2 { None } else { at(lead).filter(|(.., whole)| *whole == plain.2) }
        });
        Some(aligned.unwrap_or(plain))
    }
}
