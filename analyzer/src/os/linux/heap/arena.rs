//! Arenas: found by their bins, most of which are empty and so point at themselves.

use std::collections::HashSet;

use object::{Absent, Read, little_endian};

use super::Words;
use super::layout::{BINS, Layout};

/// Most arenas of a process; glibc makes eight for each processor.
const MAX_ARENAS: usize = 1 << 12;
/// Most heaps of an arena.
const MAX_HEAPS: usize = 1 << 14;
/// Bins of an arena that must be empty for it to be recognised.
const MIN_EMPTY: usize = 32;
/// Least that `malloc` takes from the system. Whole pages, but for the first of a static program, which has used `brk` before.
const PAGE: u64 = 4096;
/// Most threads of one arena; less than the least that `malloc` takes from the system for one.
const MAX_THREADS: u64 = 32 << 10;

/// A `malloc_state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arena {
    /// Its address.
    pub addr: u64,
    /// Address of its first pair of links.
    pub(super) bins: u64,
    /// Whether it is the main arena, whose heap grows by `brk`.
    pub main: bool,
    /// Its topmost chunk.
    pub top: u64,
    /// Bytes that it got from the system.
    pub system_mem: u64,
    /// Heaps of an arena that is not the main one, newest first.
    pub heaps: Vec<HeapInfo>,
}

/// A `heap_info`: memory of an arena that is not the main one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeapInfo {
    /// Its address.
    pub addr: u64,
    /// Bytes in use, this structure included.
    pub size: u64,
}

/// Where bins of arenas stand in memory that was read from `start`: addresses of their first links.
pub(super) fn signatures(start: u64, bytes: &[u8], width: u64) -> Vec<u64> {
    let Ok(step) = usize::try_from(width) else { return Vec::new() };
    // Pairs of equal words that point two words before themselves.
    let words: Vec<u64> = bytes.chunks_exact(step).map(little_endian).collect();
    let empty: Vec<u64> = (start..)
        .step_by(step)
        .zip(words.windows(2))
        .filter(|(at, pair)| matches!(pair, [fd, bk] if fd == bk && *fd == at.wrapping_sub(2 * width)))
        .map(|(at, _)| at)
        .collect();
    let span = (BINS - 1) * 2 * width;
    let mut found = Vec::new();
    let mut rest = empty.as_slice();
    while let [first, ..] = rest {
        let len = rest.iter().take_while(|at| at.wrapping_sub(*first) <= span).count();
        let (group, later) = rest.split_at(len);
        if let Some(last) = group.last().filter(|_| len >= MIN_EMPTY) {
            // The last bin is for the largest chunks, and nearly always empty; where it is not, an earlier one is the last.
            let lowest = last.saturating_sub(span);
            found.extend((lowest..=*first).step_by(2 * step));
        }
        rest = later;
    }
    found
}

/// How well a layout fits the arenas that `bins` belong to.
pub(super) struct Fit {
    /// The arenas, the main one first.
    pub(super) arenas: Vec<Arena>,
    /// Why the list of arenas is not complete.
    pub(super) torn: Option<Absent>,
}

impl Words<'_> {
    /// The arenas of a process, one of which has its first links at `bins`, if they are laid out so.
    pub(super) fn arenas(&self, layout: &Layout, bins: u64) -> Option<Fit> {
        let first = bins.wrapping_sub(layout.bins());
        let mut arenas = vec![self.arena(layout, first).ok()??];
        let mut seen = HashSet::from([first]);
        let mut torn = None;
        let mut next = self.get(bins.wrapping_add(layout.next_from_bins()));
        loop {
            let addr = match next {
                Ok(addr) if addr == first => break,
                Ok(addr) if arenas.len() < MAX_ARENAS && seen.insert(addr) => addr,
                Ok(_) => return None,
                Err(why) => {
                    torn = Some(why);
                    break;
                }
            };
            match self.arena(layout, addr) {
                Ok(arena) => arenas.push(arena?),
                Err(why) => {
                    torn = Some(why);
                    break;
                }
            }
            next = self.get(addr.wrapping_add(layout.bins()).wrapping_add(layout.next_from_bins()));
        }
        arenas.sort_by_key(|arena| !arena.main);
        (arenas.iter().filter(|arena| arena.main).count() <= 1).then_some(Fit { arenas, torn })
    }

    /// The arena at an address; `None` where there is none of that layout.
    fn arena(&self, layout: &Layout, addr: u64) -> Read<Option<Arena>> {
        let bins = addr.wrapping_add(layout.bins());
        let links = |index: u64| bins.wrapping_add(index.wrapping_mul(2 * layout.width));
        let mut empty = 0usize;
        for index in 0..BINS {
            let header = links(index).wrapping_sub(2 * layout.width);
            if self.get(links(index))? == header {
                empty += 1;
            }
        }
        let system_mem = self.get(bins.wrapping_add(layout.system_mem_from_bins()))?;
        let most = self.get(bins.wrapping_add(layout.system_mem_from_bins() + layout.width))?;
        let threads = match layout.version.attached_threads {
            true => self.get(bins.wrapping_add(layout.system_mem_from_bins() - layout.width))?,
            false => 0,
        };
        let fits = empty >= MIN_EMPTY
            && (system_mem == 0 || system_mem >= PAGE)
            && system_mem <= most
            && most < 1 << 48
            && threads <= MAX_THREADS;
        if !fits {
            return Ok(None);
        }
        let top = self.get(bins.wrapping_sub(2 * layout.width))?;
        // Before anything was allocated, a bin stands for the topmost chunk.
        if top == 0 || (top == bins.wrapping_sub(2 * layout.width)) != (system_mem == 0) {
            return Ok(None);
        }
        let base = addr & !(layout.heap_max() - 1);
        // Other arenas than the main one stand at the start of their first heap, whose first word is their address.
        let main = self.get(base) != Ok(addr) || addr.wrapping_sub(base) > 128;
        if !main && addr.wrapping_sub(base) != layout.heap_info() {
            return Ok(None);
        }
        let heaps = if main { Vec::new() } else { self.heaps(layout, addr, top)? };
        Ok(Some(Arena { addr, bins, main, top, system_mem, heaps }))
    }

    /// The heaps of an arena, from that with its top on.
    fn heaps(&self, layout: &Layout, arena: u64, top: u64) -> Read<Vec<HeapInfo>> {
        let mut heaps: Vec<HeapInfo> = Vec::new();
        let mut addr = top & !(layout.heap_max() - 1);
        while addr != 0 && heaps.len() < MAX_HEAPS && heaps.iter().all(|heap| heap.addr != addr) {
            if self.get(addr)? != arena {
                return Err(Absent::Malformed("heap of another arena"));
            }
            let size = self.get(addr.wrapping_add(2 * layout.width))?.min(layout.heap_max());
            heaps.push(HeapInfo { addr, size });
            addr = self.get(addr.wrapping_add(layout.width))?;
        }
        Ok(heaps)
    }
}
