//! `heapobjects`: the chunks of heaps of glibc's `malloc`, in use and free.
//!
//! Truth: programs with glibc 2.31, 2.36 and 2.41 on guests that report each block they have and gave back, and
//! `malloc_usable_size(3)` of each (seen too: 2.43 and 2.44).

use crate::hexdump;
use crate::os::linux::heap;
use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Heapobjects;

/// Bytes shown of each chunk.
const SHOWN: u64 = 16;

/// Which chunks.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    processes: ProcessFilter,
    /// Only chunks in use
    #[arg(long, conflicts_with = "freed")]
    allocated: bool,
    /// Only free chunks
    #[arg(long)]
    freed: bool,
}

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// The arena; absent for mappings of their own.
        arena: Option<Address>,
        /// Address that `malloc` gave.
        address: Address,
        /// Bytes of the chunk, header included.
        size: ByteSize,
        /// Bytes that its user may use.
        usable: ByteSize,
        /// In use (`allocated`, `mmapped`), or where it is while free.
        state: String,
        /// Its first bytes, in hexadecimal and as text.
        hexdump: String,
    }
}

impl Plugin for Heapobjects {
    const NAME: &'static str = "heapobjects";
    const SUMMARY: &'static str = "List the chunks of heaps of processes";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        heap::each(session, &kernel, &args.processes, |task, heap| {
            let wanted = |used: bool| if used { !args.freed } else { !args.allocated };
            for chunk in heap.chunks.iter().filter(|chunk| wanted(chunk.kind.is_used())) {
                let len = u16::try_from(chunk.usable.min(SHOWN)).unwrap_or(0);
                let arena = chunk.arena.and_then(|number| heap.arenas.get(number));
                out.push(Row {
                    task: task.obj_ref(),
                    arena: arena.map(|arena| Address(arena.addr)),
                    address: Address(chunk.data),
                    size: ByteSize(chunk.size),
                    usable: ByteSize(chunk.usable),
                    state: chunk.kind.name().to_owned(),
                    hexdump: hexdump::cell(&*heap.space, chunk.data, len),
                })?;
            }
            Ok(())
        })
    }
}
