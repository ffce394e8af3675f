//! `heapdump`: what is in chunks of heaps of glibc's `malloc`, one file for each process, and an index beside it.
//!
//! The index (`.idx`) is text: a line for each run of chunks, with its place in the file, its length and its virtual address, in
//! hexadecimal. Chunks are those that `heapobjects` shows as in use, or free ones too.

use crate::dump_file::{DumpArgs, IndexedDump};
use crate::os::linux::heap::{self, Chunk};
use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Heapdump;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    processes: ProcessFilter,
    /// Only the chunk that holds this address
    #[arg(long, value_name = "ADDRESS", value_parser = crate::parse::address)]
    chunk: Vec<u64>,
    /// Free chunks too
    #[arg(long)]
    freed: bool,
    #[command(flatten)]
    dump: DumpArgs,
}

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// Chunks that were written.
        chunks: u64,
        /// Bytes that were written.
        size: ByteSize,
        /// The file that was written.
        dump_name: String,
        /// Its index.
        index_name: String,
    }
}

impl Plugin for Heapdump {
    const NAME: &'static str = "heapdump";
    const SUMMARY: &'static str = "Write the chunks of heaps of processes to files";
    const ACTIVE: Active = Active::Linux;
    const WRITES: bool = true;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        heap::each(session, &kernel, &args.processes, |task, heap| {
            let mut chunks: Vec<&Chunk> = Vec::new();
            if args.chunk.is_empty() {
                chunks.extend(heap.chunks.iter().filter(|chunk| args.freed || chunk.kind.is_used()));
            } else {
                chunks.extend(args.chunk.iter().filter_map(|addr| heap.chunk_of(*addr)));
            }
            if chunks.is_empty() {
                return Ok(());
            }
            let mut file = IndexedDump::create(&args.dump, session, &format!("{}.heap", task.file_label()))?;
            for chunk in &chunks {
                file.copy(&*heap.space, chunk.data, chunk.usable)?;
            }
            let written = file.commit(session)?;
            out.push(Row {
                task: task.obj_ref(),
                chunks: chunks.len() as u64,
                size: ByteSize(written.size),
                dump_name: written.dump_name,
                index_name: written.index_name,
            })
        })
    }
}
