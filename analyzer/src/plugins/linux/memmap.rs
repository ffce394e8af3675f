//! `memmap`: which virtual pages of processes are in which physical memory.
//!
//! Walks the page tables of each process (`mm_struct.pgd`), not its areas: pages that were never touched or are
//! swapped out do not appear.
//!
//! Truth: the sum of pages against `Rss` in `/proc/PID/smaps_rollup`, which differs by a page or two where special or
//! inaccessible pages are mapped; page by page there is no independent list.

use crate::os::linux::mm::space_of;
use crate::os::linux::{KernelFact, ProcessFilter, task};
use crate::os::translation::for_each_page;
use crate::plugin::prelude::*;

/// The command.
pub struct Memmap;

/// Options.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Merge pages that are contiguous both virtually and physically
    #[arg(long)]
    pub coalesce: bool,
    /// Show the kernel's half of the address space as well
    #[arg(long)]
    pub all: bool,
    /// Which processes
    #[command(flatten)]
    pub processes: ProcessFilter,
}

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// First virtual address.
        start as "Virtual": Address,
        /// Physical address that holds it.
        physical as "Physical": Address,
        /// Length in bytes.
        size as "Size": ByteSize,
    }
}

impl Plugin for Memmap {
    const NAME: &'static str = "memmap";
    const SUMMARY: &'static str = "Show the physical memory behind the pages of processes";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let end = if args.all { u64::MAX } else { kernel.user_end() };
        for task in args.processes.tasks(session, &kernel)? {
            let Some(space) = space_of(&session.notes, &kernel, &task) else { continue };
            for_each_page(
                &session.notes,
                &task::describe(&task),
                space.tables(),
                end,
                args.coalesce,
                |page| {
                    out.push(Row {
                        task: task.obj_ref(),
                        start: Address(page.start),
                        physical: Address(page.target),
                        size: ByteSize(page.len),
                    })
                },
            )?;
        }
        Ok(())
    }
}
