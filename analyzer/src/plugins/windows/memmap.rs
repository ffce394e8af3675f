//! `memmap`: which virtual pages of processes are in which physical memory.
//!
//! Walks the page tables of each process: pages that are valid or in transition. Pages that only a prototype or a pagefile has do not
//! appear. Truth: none of a real system yet; see `vtop`.

use crate::os::translation::for_each_page;
use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Memmap;

/// Options.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Merge pages that are contiguous both virtually and physically
    #[arg(long)]
    pub coalesce: bool,
    /// Show the kernel's part of the address space as well
    #[arg(long)]
    pub all: bool,
    /// Which processes
    #[command(flatten)]
    pub processes: ProcessFilter,
}

row! {
    pub struct Row {
        /// The process.
        process as "_EPROCESS": ObjRef,
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
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let end = if args.all { u64::MAX } else { kernel.user_end() };
        for process in args.processes.processes(session, &kernel)? {
            let Some(space) = process.noted_space(&session.notes, &kernel) else { continue };
            let whose = process.describe();
            for_each_page(&session.notes, &whose, space.tables(), end, args.coalesce, |page| {
                out.push(Row {
                    process: process.obj_ref(),
                    start: Address(page.start),
                    physical: Address(page.target),
                    size: ByteSize(page.len),
                })
            })?;
        }
        Ok(())
    }
}
