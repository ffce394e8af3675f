//! `memdump`: all memory of processes that can be addressed, one file for each, and an index beside it.
//!
//! The pages follow each other in the file without gaps, ascending by virtual address. The index (`.idx`) is text: one line
//! for each contiguous piece, with its place in the file, its length and its virtual address, in hexadecimal. Pages that were paged
//! out to zram, zswap or a swap area of `--swap` are written too.
//!
//! Truth: as for `vaddump`, and memory that guests fill with a pattern and page out.

use crate::dump_file::{DumpArgs, IndexedDump};
use crate::os::linux::mm::space_of;
use crate::os::linux::{KernelFact, ProcessFilter, task};
use crate::os::translation::note_gaps;
use crate::plugin::prelude::*;

/// The command.
pub struct Memdump;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    processes: ProcessFilter,
    /// Also the kernel's half of the address space
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    dump: DumpArgs,
}

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// Bytes that were written.
        size: ByteSize,
        /// The file that was written.
        dump_name: String,
        /// Its index.
        index_name: String,
    }
}

impl Plugin for Memdump {
    const NAME: &'static str = "memdump";
    const SUMMARY: &'static str = "Write the memory of processes to files";
    const ACTIVE: Active = Active::Linux;
    const WRITES: bool = true;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let end = if args.all { u64::MAX } else { kernel.user_end() };
        for task in args.processes.tasks(session, &kernel)? {
            let Some(space) = space_of(&session.notes, &kernel, &task) else { continue };
            let mut file = IndexedDump::create(&args.dump, session, &task.file_label())?;
            let mut pages = space.pages(0, end);
            for run in &mut pages {
                file.copy(&*space, run.start, run.len)?;
            }
            note_gaps(&session.notes, &task::describe(&task), pages.mappings());
            let written = file.commit(session)?;
            out.push(Row {
                task: task.obj_ref(),
                size: ByteSize(written.size),
                dump_name: written.dump_name,
                index_name: written.index_name,
            })?;
        }
        Ok(())
    }
}
