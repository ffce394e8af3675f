//! Lists of free chunks: bins, fastbins, and the caches of threads.

use std::collections::HashMap;

use super::Words;
use super::arena::Arena;
use super::chunk::{Chunk, Kind, MAX_CHUNKS};
use super::layout::{BINS, Layout};

/// Bins of chunks of one size: the first is for unsorted ones, from the 64th on sizes differ.
const LARGE_BINS: u64 = 64;
/// Most chunks of a thread's cache in one list.
const MAX_CACHED: usize = 1 << 16;

/// Free chunks by address.
pub(super) type Free = HashMap<u64, Kind>;

/// Chunks sorted by address.
pub(super) struct Known<'c>(pub(super) &'c [Chunk]);

impl Known<'_> {
    fn size_at(&self, addr: u64) -> Option<u64> {
        let index = self.0.binary_search_by_key(&addr, |chunk| chunk.addr).ok()?;
        self.0.get(index).map(|chunk| chunk.size)
    }
}

impl Words<'_> {
    /// The next chunk of a list without back links: an address, or none at its end.
    fn link(&self, layout: &Layout, place: u64) -> Option<u64> {
        let value = self.get(place).ok()?;
        Some(if layout.version.protected { place >> 12 ^ value } else { value })
    }

    /// Free chunks of the bins of an arena; whether all lists were whole.
    pub(super) fn bins(&self, layout: &Layout, arena: &Arena, free: &mut Free) -> bool {
        let mut whole = true;
        for index in 1..=BINS {
            let header =
                arena.bins.wrapping_add((index - 1) * 2 * layout.width).wrapping_sub(2 * layout.width);
            let kind = match index {
                1 => Kind::Unsorted,
                _ if index < LARGE_BINS => Kind::SmallBin,
                _ => Kind::LargeBin,
            };
            let next = |chunk: u64| self.get(chunk.wrapping_add(2 * layout.width));
            let mut chunk = next(header);
            loop {
                match chunk {
                    Ok(addr) if addr == header => break,
                    Ok(addr) if free.len() < MAX_CHUNKS && free.insert(addr, kind).is_none() => {
                        chunk = next(addr);
                    }
                    _ => {
                        whole = false;
                        break;
                    }
                }
            }
        }
        whole
    }

    /// Free chunks of the fastbins of an arena; `None` where a link makes no sense in this layout.
    pub(super) fn fastbins(
        &self,
        layout: &Layout,
        arena: &Arena,
        known: &Known<'_>,
        free: &mut Free,
    ) -> Option<()> {
        let first = arena.addr.wrapping_add(layout.first_fastbin());
        for index in 0..layout.fastbins() {
            let mut addr = self.get(first.wrapping_add(index * layout.width)).ok()?;
            while addr != 0 {
                known.size_at(addr)?;
                if free.insert(addr, Kind::Fastbin).is_some() || free.len() > MAX_CHUNKS {
                    return None;
                }
                addr = self.link(layout, addr.wrapping_add(2 * layout.width))?;
            }
        }
        Some(())
    }

    /// Free chunks of the thread's cache that a chunk holds; `None` where it holds none in this layout.
    pub(super) fn tcache(&self, layout: &Layout, holder: &Chunk, known: &Known<'_>) -> Option<Free> {
        let tcache = layout.version.tcache?;
        let mut free = Free::new();
        let bins = tcache.small + tcache.large;
        let entries = holder.data.wrapping_add((bins * tcache.count).next_multiple_of(layout.width));
        let mut most = 0;
        for index in 0..bins {
            let place = holder.data.wrapping_add(index * tcache.count);
            let count = match tcache.count {
                1 => u64::from(self.space.read_u8(place).ok()?),
                _ => u64::from(self.space.read_u16(place).ok()?),
            };
            let mut data = self.get(entries.wrapping_add(index * layout.width)).ok()?;
            let wanted = layout.min_chunk() + index * layout.align;
            let mut len = 0u64;
            while data != 0 {
                let addr = data.wrapping_sub(layout.header());
                let size = known.size_at(addr)?;
                let fits = if index < tcache.small { size == wanted } else { size >= layout.min_chunk() };
                if !fits || free.insert(addr, Kind::Tcache).is_some() || free.len() > MAX_CACHED {
                    return None;
                }
                len += 1;
                data = self.link(layout, data)?;
            }
            match tcache.counts_free {
                // All lists may have equally many.
                true if index == 0 => most = count + len,
                true if count + len == most || index >= tcache.small => {}
                false if count == len => {}
                _ => return None,
            }
        }
        Some(free)
    }
}
