//! `heapsearch`: text, expressions or addresses in chunks of heaps of glibc's `malloc`.
//!
//! A chunk is searched as a whole, so what stands in it is found wherever its pages are; what stands across two chunks is not.
//!
//! Truth: programs with glibc 2.31, 2.36 and 2.41 on guests that report what they wrote into each block.

use regex::bytes::Regex;

use crate::hexdump;
use crate::os::linux::heap::{self, Chunk, Heap};
use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Heapsearch;

/// Most hits in one chunk.
const MAX_HITS: usize = 1 << 16;

/// What is looked for, and where.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    processes: ProcessFilter,
    /// Text to look for
    #[arg(long, value_name = "TEXT", required_unless_present_any = ["regex", "pointers"])]
    string: Vec<String>,
    /// Regular expressions over bytes to look for
    #[arg(long, value_name = "REGEX")]
    regex: Vec<String>,
    /// Addresses to look for: pointers to them, or to the chunk that they are in
    #[arg(long, value_name = "ADDRESS", value_parser = crate::parse::address)]
    pointers: Vec<u64>,
    /// Free chunks too
    #[arg(long)]
    freed: bool,
}

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// The chunk: address that `malloc` gave.
        address: Address,
        /// Where in the chunk it is, in bytes.
        in_chunk: u64,
        /// Bytes that match.
        length: ByteSize,
        /// In use (`allocated`, `mmapped`), or where the chunk is while free.
        state: String,
        /// Memory there, in hexadecimal and as text.
        hexdump: String,
    }
}

impl Plugin for Heapsearch {
    const NAME: &'static str = "heapsearch";
    const SUMMARY: &'static str = "Search the chunks of heaps of processes";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let texts = args.string.iter().map(|text| regex::escape(text));
        let expressions: Vec<Regex> = texts
            .chain(args.regex.iter().cloned())
            .map(|text| Regex::new(&format!("(?s-u){text}")))
            .collect::<Result<_, _>>()
            .map_err(|error| Error::usage(format!("bad pattern: {error}")))?;
        heap::each(session, &kernel, &args.processes, |task, heap| {
            for chunk in heap.chunks.iter().filter(|chunk| args.freed || chunk.kind.is_used()) {
                let mut hits: Vec<(u64, u64)> = Vec::new();
                if !expressions.is_empty() {
                    let content = heap.content(chunk, heap::MAX_CONTENT);
                    for expression in &expressions {
                        let found = expression.find_iter(&content).take(MAX_HITS);
                        hits.extend(found.map(|hit| (hit.start() as u64, hit.len() as u64)));
                    }
                }
                if !args.pointers.is_empty() {
                    hits.extend(pointers(heap, chunk, &args.pointers).map(|at| (at, heap.width)));
                }
                hits.sort_unstable();
                for (at, len) in hits {
                    let shown = u16::try_from(chunk.usable.saturating_sub(at).min(32)).unwrap_or(0);
                    out.push(Row {
                        task: task.obj_ref(),
                        address: Address(chunk.data),
                        in_chunk: at,
                        length: ByteSize(len),
                        state: chunk.kind.name().to_owned(),
                        hexdump: hexdump::cell(&*heap.space, chunk.data.saturating_add(at), shown),
                    })?;
                }
            }
            Ok(())
        })
    }
}

/// Where in a chunk pointers to the addresses, or into their chunks, stand.
fn pointers<'h>(heap: &'h Heap, chunk: &Chunk, wanted: &'h [u64]) -> impl Iterator<Item = u64> + 'h {
    heap.references(chunk).into_iter().filter_map(move |(at, value)| {
        let into = heap.chunk_of(value).map(|chunk| chunk.addr);
        let hit =
            |addr: &u64| *addr == value || into.is_some() && heap.chunk_of(*addr).map(|of| of.addr) == into;
        wanted.iter().any(hit).then_some(at)
    })
}
