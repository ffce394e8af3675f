//! Finding a heap, and the version of glibc that it belongs to.

use std::sync::Arc;

use memory::AddressSpace;

use super::arena::{self, Arena};
use super::chunk::{Chunk, Kind, Region};
use super::layout::Layout;
use super::lists::{Free, Known};
use super::{Heap, Process, Words};

/// Bytes at the start of an area that are searched for an arena: the data of a library, or the start of a heap.
const MAX_DATA: u64 = 16 << 20;
/// Units of what `malloc` takes from the system; larger pages are multiples.
const PAGE: u64 = 4096;

/// The heap of a process with words of so many bytes.
pub(super) fn heap(space: &Arc<dyn AddressSpace>, width: u64, process: &Process) -> Option<Heap> {
    let words = Words { space: &**space, width };
    // The main arena is in the data of a file; where that is not in memory, another arena leads to the same ring.
    for from_file in [true, false] {
        for (start, end, _) in process.data.iter().filter(|(.., file)| *file == from_file) {
            let len = end.saturating_sub(*start).min(MAX_DATA);
            if space.runs(*start, start.saturating_add(len)).next().is_none() {
                continue;
            }
            let mut bytes = vec![0; usize::try_from(len).ok()?];
            space.read_padded(*start, &mut bytes);
            let found = arena::signatures(*start, &bytes, width);
            if let Some(best) = found.into_iter().find_map(|bins| words.best(process, bins)) {
                return Some(best.into_heap(space, width));
            }
        }
    }
    None
}

/// A heap under one layout.
struct Candidate {
    arenas: Vec<Arena>,
    chunks: Vec<Chunk>,
    free: Free,
    losses: Vec<String>,
    /// How well it fits: whether fastbins make sense, free chunks in caches of threads, caches.
    score: (bool, usize, usize),
    releases: (&'static str, &'static str),
}

/// What a walk depends on.
type Shape = (u64, u64, u64, u64, bool);

impl Candidate {
    fn into_heap(self, space: &Arc<dyn AddressSpace>, width: u64) -> Heap {
        let Self { arenas, mut chunks, free, losses, releases, .. } = self;
        for chunk in &mut chunks {
            if let Some(kind) = free.get(&chunk.addr).filter(|_| chunk.kind != Kind::Top) {
                chunk.kind = *kind;
            }
        }
        Heap { space: Arc::clone(space), width, arenas, chunks, glibc: releases, losses }
    }
}

impl Words<'_> {
    /// The heap under the newest layout that fits best.
    fn best(&self, process: &Process, bins: u64) -> Option<Candidate> {
        let mut walks: Vec<(Shape, Walked)> = Vec::new();
        let mut best: Option<Candidate> = None;
        for layout in Layout::all(self.width) {
            let Some(fit) = self.arenas(&layout, bins) else { continue };
            let shape = (
                layout.bins(),
                layout.system_mem_from_bins(),
                layout.align,
                layout.heap_info(),
                layout.version.mapped_without_header,
            );
            let walked = match walks.iter().find(|(known, _)| *known == shape) {
                Some((_, walked)) => walked.clone(),
                None => {
                    let walked = self.walk_all(&layout, process, &fit.arenas);
                    walks.push((shape, walked.clone()));
                    walked
                }
            };
            let mut losses = walked.losses;
            if let Some(why) = fit.torn {
                losses.push(format!("arenas are missing: {why}"));
            }
            let candidate = self.candidate(&layout, fit.arenas, walked.chunks, losses);
            best = match best {
                Some(known) if known.score > candidate.score => Some(known),
                Some(known) if known.score == candidate.score => {
                    let releases = (known.releases.0, candidate.releases.1);
                    Some(Candidate { releases, ..candidate })
                }
                _ => Some(candidate),
            };
        }
        best
    }

    fn candidate(
        &self,
        layout: &Layout,
        arenas: Vec<Arena>,
        chunks: Vec<Chunk>,
        mut losses: Vec<String>,
    ) -> Candidate {
        let known = Known(&chunks);
        let (mut free, mut fast, mut whole) = (Free::new(), true, true);
        for arena in &arenas {
            whole &= self.bins(layout, arena, &mut free);
            fast &= self.fastbins(layout, arena, &known, &mut free).is_some();
        }
        if !whole {
            losses.push("a list of free chunks is torn".to_owned());
        }
        if !fast {
            losses.push("a list of small free chunks is torn".to_owned());
        }
        let (mut cached, mut caches) = (0, 0);
        if let Some(size) = layout.tcache_chunk() {
            // A rest that is too small for a chunk of its own is left to the one before it.
            let sizes = size..size + layout.min_chunk();
            let holders = chunks.iter().filter(|c| sizes.contains(&c.size) && c.kind == Kind::Allocated);
            for cache in holders.filter_map(|chunk| self.tcache(layout, chunk, &known)) {
                (cached, caches) = (cached + cache.len(), caches + 1);
                free.extend(cache);
            }
        }
        let releases = layout.version.releases;
        Candidate { arenas, chunks, free, losses, score: (fast, cached, caches), releases }
    }

    /// All chunks of all arenas and mappings, and what is missing.
    fn walk_all(&self, layout: &Layout, process: &Process, arenas: &[Arena]) -> Walked {
        let mut chunks = Vec::new();
        let mut losses = Vec::new();
        let mut counted = None;
        for (number, arena) in arenas.iter().enumerate() {
            let regions = match arena.main {
                true => {
                    let parameters = self.parameters(layout, process, arena, number);
                    counted = parameters.map(|(_, mapped)| mapped);
                    main_regions(layout, process, arena, number, parameters.map(|(base, _)| base))
                }
                false => other_regions(layout, arena, number),
            };
            for region in &regions {
                let lost = self.walk(layout, region, &mut chunks);
                if lost > 0 {
                    losses.push(format!("{lost} bytes from {:#x} on cannot be walked", region.start));
                }
            }
        }
        let before = chunks.len();
        self.mapped_chunks(layout, process, arenas, &mut chunks);
        let mapped = (chunks.len() - before) as u64;
        if let Some(counted) = counted.filter(|counted| *counted != mapped) {
            losses.push(format!("{mapped} mapped chunks were found where malloc counts {counted}"));
        }
        chunks.sort_by_key(|chunk| chunk.addr);
        chunks.dedup_by_key(|chunk| chunk.addr);
        Walked { chunks, losses }
    }

    /// From `malloc_par`, which stands in the same data as the main arena: where its heap begins (`sbrk_base`), and how many
    /// chunks are mapped (`n_mmaps`). Recognised by the numbers around them.
    fn parameters(
        &self,
        layout: &Layout,
        process: &Process,
        arena: &Arena,
        number: usize,
    ) -> Option<(u64, u64)> {
        let inside = |(start, end, _): &&(u64, u64, bool)| (*start..*end).contains(&arena.addr);
        let (start, end, _) = process.data.iter().find(inside)?;
        let len = end.saturating_sub(*start).min(MAX_DATA);
        let (brk_start, brk) = process.brk;
        let step = usize::try_from(self.width).ok()?;
        let own = arena.addr..arena.addr.saturating_add(layout.state());
        let places = (*start..start.saturating_add(len)).step_by(step).filter(|place| !own.contains(place));
        let found = places.filter_map(|place| {
            let base = self.get(place).ok().filter(|base| (brk_start..brk).contains(base))?;
            let back = |words: u64| self.get(place.wrapping_sub(words * self.width)).ok();
            // Most bytes ever mapped stand before it, and before v2.24 another maximum that is not kept.
            let (most, at) = [1, 2]
                .into_iter()
                .find_map(|words| Some((back(words).filter(|most| *most > 0)?, words)))
                .unwrap_or((0, 1));
            let now = back(at + 1)?;
            let counts = place.wrapping_sub((at + 1) * self.width);
            // Four counters stand before it, behind them padding where there are five.
            let mapped = [4u64, 5, 6].into_iter().find_map(|ints| {
                let int = |index: u64| self.space.read_u32(counts.wrapping_sub((ints - index) * 4)).ok();
                let (mapped, highest, fixed) = (int(0)?, int(2)?, int(3)?);
                (mapped <= highest && fixed <= 1 && (mapped == 0) == (now == 0)).then_some(u64::from(mapped))
            })?;
            let fits = now <= most && now.is_multiple_of(PAGE) && most.is_multiple_of(PAGE);
            let region = Region { start: base, end: brk, top: Some(arena.top), arena: number, main: true };
            (fits && self.begins(layout, &region, base)).then_some((base, mapped))
        });
        // Other pointers into the heap lead to later chunks.
        found.min_by_key(|(base, _)| *base)
    }

    /// Chunks that are mappings of their own.
    fn mapped_chunks(&self, layout: &Layout, process: &Process, arenas: &[Arena], out: &mut Vec<Chunk>) {
        let heaps: Vec<_> = arenas.iter().flat_map(|arena| &arena.heaps).collect();
        for &(start, end, file) in &process.data {
            let has = |address: u64| (start..end).contains(&address);
            if file || has(process.stack) || has(process.brk.0) {
                continue;
            }
            let mut next = start;
            for run in self.space.runs(start, end) {
                let mut page = run.start.max(next).next_multiple_of(PAGE);
                while page < run.start.saturating_add(run.len) {
                    let in_heap = |heap: &&&super::HeapInfo| {
                        (heap.addr..heap.addr.saturating_add(heap.size)).contains(&page)
                    };
                    if let Some(heap) = heaps.iter().find(in_heap) {
                        next = heap.addr.saturating_add(heap.size.max(PAGE)).max(page + PAGE);
                    } else if let Some((addr, size, whole)) = self.mapped(layout, page, end, PAGE) {
                        let data = addr.wrapping_add(layout.header());
                        let usable = layout.usable(size, true);
                        out.push(Chunk { addr, size, kind: Kind::Mapped, arena: None, data, usable });
                        next = page.saturating_add(whole);
                    } else {
                        next = page.saturating_add(PAGE);
                    }
                    page = next;
                }
            }
        }
    }
}

#[derive(Clone)]
struct Walked {
    chunks: Vec<Chunk>,
    losses: Vec<String>,
}

/// Where the main arena has chunks: what `brk` gave, and the mapping that has the topmost chunk where `brk` gave no more.
fn main_regions(
    layout: &Layout,
    process: &Process,
    arena: &Arena,
    number: usize,
    base: Option<u64>,
) -> Vec<Region> {
    // Before anything was allocated, a bin stands for the topmost chunk.
    if arena.top == arena.bins.wrapping_sub(layout.header()) {
        return Vec::new();
    }
    let (start, end) = process.brk;
    let region = |start, end, top| Region { start, end, top, arena: number, main: true };
    let start = base.unwrap_or(start);
    if (start..end).contains(&arena.top) {
        return vec![region(start, end, Some(arena.top))];
    }
    let mapping = process.data.iter().find(|(start, end, _)| (*start..*end).contains(&arena.top));
    let mapping = mapping.map(|&(start, end, _)| region(start, end, Some(arena.top)));
    base.map(|base| region(base, end, None)).into_iter().chain(mapping).collect()
}

/// Where another arena has chunks.
fn other_regions(layout: &Layout, arena: &Arena, number: usize) -> Vec<Region> {
    let regions = arena.heaps.iter().map(|heap| {
        let end = heap.addr.saturating_add(heap.size);
        let own = (heap.addr..end).contains(&arena.addr);
        let start = match own {
            true => arena.addr.saturating_add(layout.state()),
            false => heap.addr.saturating_add(layout.heap_info()),
        };
        let top = Some(arena.top).filter(|top| (start..end).contains(top));
        Region { start, end, top, arena: number, main: false }
    });
    regions.collect()
}
