//! `heaprefs`: pointers in chunks of heaps of glibc's `malloc` that lead into other chunks.
//!
//! Every aligned word is taken for a pointer; what happens to look like one is shown too. Chunks that only point back and forth can
//! be followed so without knowing the types of a program.
//!
//! Truth: programs with glibc 2.31, 2.36 and 2.41 on guests that report where they keep which address.

use crate::os::linux::heap::{self, Chunk};
use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Heaprefs;

/// Which chunks.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    processes: ProcessFilter,
    /// Only the chunks that hold these addresses [default: all in use]
    #[arg(long, value_name = "ADDRESS", value_parser = crate::parse::address)]
    chunk: Vec<u64>,
}

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// The chunk that has the pointer: address that `malloc` gave.
        address: Address,
        /// Where in the chunk it is, in bytes.
        in_chunk: u64,
        /// The chunk it leads to: address that `malloc` gave.
        to as "to_chunk": Address,
        /// Where in that chunk it leads, in bytes; negative where to the header.
        to_offset: i64,
        /// Bytes that the user of that chunk may use.
        usable: ByteSize,
        /// In use (`allocated`, `mmapped`), or where that chunk is while free.
        state: String,
    }
}

impl Plugin for Heaprefs {
    const NAME: &'static str = "heaprefs";
    const SUMMARY: &'static str = "List pointers from chunk to chunk in heaps of processes";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        heap::each(session, &kernel, &args.processes, |task, heap| {
            let mut chunks: Vec<&Chunk> = Vec::new();
            if args.chunk.is_empty() {
                chunks.extend(heap.chunks.iter().filter(|chunk| chunk.kind.is_used()));
            } else {
                chunks.extend(args.chunk.iter().filter_map(|addr| heap.chunk_of(*addr)));
            }
            for chunk in chunks {
                for (at, value) in heap.references(chunk) {
                    let Some(to) = heap.chunk_of(value) else { continue };
                    out.push(Row {
                        task: task.obj_ref(),
                        address: Address(chunk.data),
                        in_chunk: at,
                        to: Address(to.data),
                        to_offset: value.wrapping_sub(to.data).cast_signed(),
                        usable: ByteSize(to.usable),
                        state: to.kind.name().to_owned(),
                    })?;
                }
            }
            Ok(())
        })
    }
}
