//! `heapinfo`: heaps of processes that use glibc's `malloc`: a row for each process, and below it one for each arena.
//!
//! Programs with other allocators, and those that never allocated, have no row. The sizes of chunks include their headers.
//!
//! Truth: `malloc_info(3)` in programs with glibc 2.31, 2.36 and 2.41 on guests (seen too: 2.43 and 2.44).

use crate::os::linux::heap::{self, Chunk, Heap, Kind};
use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Heapinfo;

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// The arena; absent in the row of the process.
        arena: Option<Address>,
        /// Arenas.
        arenas: u64,
        /// Heaps of arenas that are not the main one.
        heap_infos: u64,
        /// Bytes taken from the system for arenas.
        system: ByteSize,
        /// Chunks in use, mapped ones not counted.
        used: u64,
        /// Bytes of those.
        used_size: ByteSize,
        /// Free chunks in caches of threads.
        tcache: u64,
        /// Bytes of those.
        tcache_size: ByteSize,
        /// Free chunks in fastbins.
        fast: u64,
        /// Bytes of those.
        fast_size: ByteSize,
        /// Free chunks in bins.
        bins: u64,
        /// Bytes of those.
        bins_size: ByteSize,
        /// Bytes that were never cut into chunks.
        top_size: ByteSize,
        /// Chunks that are mappings of their own.
        mmapped: u64,
        /// Bytes of those.
        mmapped_size: ByteSize,
        /// Versions of glibc with such a heap.
        glibc: String,
    }
}

impl Plugin for Heapinfo {
    const NAME: &'static str = "heapinfo";
    const SUMMARY: &'static str = "Summarise the heaps of processes";
    const ACTIVE: Active = Active::Linux;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        heap::each(session, &kernel, args, |task, heap| {
            out.push(row(heap, task.obj_ref(), None))?;
            (0..heap.arenas.len())
                .try_for_each(|arena| out.push_at(1, row(heap, task.obj_ref(), Some(arena))))
        })
    }
}

/// The row of an arena, or of the whole heap.
fn row(heap: &Heap, task: ObjRef, arena: Option<usize>) -> Row {
    let chosen =
        || heap.arenas.iter().enumerate().filter(|(number, _)| arena.is_none_or(|only| only == *number));
    let sum = |belongs: &dyn Fn(&Chunk) -> bool| {
        let chunks = heap.chunks.iter().filter(|chunk| arena.is_none() || chunk.arena == arena);
        chunks.filter(|chunk| belongs(chunk)).fold((0u64, ByteSize(0)), |(count, ByteSize(size)), chunk| {
            (count + 1, ByteSize(size.saturating_add(chunk.size)))
        })
    };
    let of = |kind: Kind| sum(&|chunk| chunk.kind == kind);
    let (used, used_size) = of(Kind::Allocated);
    let (tcache, tcache_size) = of(Kind::Tcache);
    let (fast, fast_size) = of(Kind::Fastbin);
    let (bins, bins_size) =
        sum(&|chunk| matches!(chunk.kind, Kind::Unsorted | Kind::SmallBin | Kind::LargeBin | Kind::Lost));
    let (mmapped, mmapped_size) = of(Kind::Mapped);
    let system = chosen().fold(0u64, |sum, (_, arena)| sum.saturating_add(arena.system_mem));
    let (first, last) = heap.glibc;
    Row {
        task,
        arena: arena.and_then(|number| heap.arenas.get(number)).map(|arena| Address(arena.addr)),
        arenas: chosen().count() as u64,
        heap_infos: chosen().map(|(_, arena)| arena.heaps.len() as u64).sum(),
        system: ByteSize(system),
        used,
        used_size,
        tcache,
        tcache_size,
        fast,
        fast_size,
        bins,
        bins_size,
        top_size: of(Kind::Top).1,
        mmapped,
        mmapped_size,
        glibc: if first == last { first.to_owned() } else { format!("{first} to {last}") },
    }
}
