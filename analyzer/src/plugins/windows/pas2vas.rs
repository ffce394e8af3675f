//! `pas2vas`: which processes map physical addresses, and where.
//!
//! Walks the page tables of every selected process once and looks all addresses up in them. Truth: the description of the machine
//! that the maker of test images lays out; `memmap`, `vtop`.

use crate::os::translation::{Sought, for_each_page};
use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Pas2vas;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Physical addresses
    #[arg(required = true, value_name = "ADDRESS", value_parser = crate::parse::address)]
    pub offsets: Vec<u64>,
    /// Also the kernel's part of each address space
    #[arg(long)]
    pub all: bool,
    /// Only processes with these ids
    #[arg(long = "pid", value_name = "PID")]
    pub pids: Vec<u64>,
}

row! {
    pub struct Row {
        /// Physical address.
        physical as "Physical": Address,
        /// Virtual address that is there.
        virtual_address as "Virtual": Address,
        /// Process id.
        pid as "Pid": Read<u64>,
        /// Name of the process.
        name as "Name": Read<String>,
    }
}

impl Plugin for Pas2vas {
    const NAME: &'static str = "pas2vas";
    const SUMMARY: &'static str = "Find the processes that map physical addresses";
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let end = if args.all { u64::MAX } else { kernel.user_end() };
        let sought = Sought::new(&args.offsets);
        let filter = ProcessFilter { pids: args.pids.clone(), ..ProcessFilter::default() };
        for process in filter.processes(session, &kernel)? {
            let whose = process.describe();
            let Some(space) = process.noted_space(&session.notes, &kernel) else { continue };
            for_each_page(&session.notes, &whose, space.tables(), end, true, |run| {
                for (physical, address) in sought.inside(run) {
                    out.push(Row {
                        physical: Address(physical),
                        virtual_address: Address(address),
                        pid: process.pid(),
                        name: process.name(),
                    })?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
