//! `memmap`: which virtual pages of processes are in which physical memory.
//!
//! Walks the page tables of each process (`mm_struct.pgd`), not its areas: pages that were never touched or are
//! swapped out do not appear.
//!
//! Pages that the process may not touch (`PROT_NONE`) do not appear either; `vadmap` has them.
//!
//! Truth: page by page, the emulator's own walk of the page tables its processors used; for other processes the sum of pages
//! against `Rss` in `/proc/PID/smaps_rollup`, which does not count the page of zeros and those the kernel gives to everyone.

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
