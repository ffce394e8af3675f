//! `memdump`: all memory of processes that can be addressed, one file for each, and an index beside it.
//!
//! The pages that `memmap` lists follow each other in the file without gaps, ascending by virtual address, and with them those that
//! are in the compressed store or a given pagefile; the index (`.idx`) says which piece is where. Pages behind prototypes are in the
//! files of `vaddump`. Truth: the description of the machine that the maker of test images lays out; not compared with another
//! program yet.

use crate::dump_file::{DumpArgs, IndexedDump};
use crate::os::translation::note_gaps;
use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Memdump;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Also the kernel's part of the address space
    #[arg(long)]
    pub all: bool,
    /// Where to
    #[command(flatten)]
    pub to: DumpArgs,
    /// Which processes
    #[command(flatten)]
    pub processes: ProcessFilter,
}

row! {
    pub struct Row {
        /// The process.
        process as "_EPROCESS": ObjRef,
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
    const ACTIVE: Active = Active::Windows;
    const WRITES: bool = true;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let end = if args.all { u64::MAX } else { kernel.user_end() };
        for process in args.processes.processes(session, &kernel)? {
            let whose = process.describe();
            let Some(space) = process.noted_space(&session.notes, &kernel) else { continue };
            let pid = process.pid_label();
            let name = format!("{}_{pid}", process.name().unwrap_or_default());
            let mut file = IndexedDump::create(&args.to, session, &name)?;
            let mut pages = space.pages(0, end);
            for run in &mut pages {
                file.copy(&space, run.start, run.len)?;
            }
            note_gaps(&session.notes, &whose, pages.mappings());
            let written = file.commit(session)?;
            out.push(Row {
                process: process.obj_ref(),
                size: ByteSize(written.size),
                dump_name: written.dump_name,
                index_name: written.index_name,
            })?;
        }
        Ok(())
    }
}
