//! `pas2vas`: which processes map physical addresses, and where.
//!
//! Walks the page tables of every selected process once and looks all addresses up in them. Truth: pages of libraries
//! that a dump has once, where guests' `/proc/PID/maps` show them, and the emulator's own walk of the page tables.

use crate::os::linux::mm::space_of;
use crate::os::linux::{KernelFact, ProcessFilter, task};
use crate::os::translation::{Sought, for_each_page};
use crate::plugin::prelude::*;

/// The command.
pub struct Pas2vas;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Physical addresses
    #[arg(required = true, value_name = "ADDRESS", value_parser = crate::parse::address)]
    offsets: Vec<u64>,
    /// Also the kernel's half of each address space
    #[arg(long)]
    all: bool,
    /// Only processes with these ids
    #[arg(long = "pid", value_name = "PID")]
    pids: Vec<i32>,
}

row! {
    pub struct Row {
        /// Physical address.
        physical as "Physical": Address,
        /// Virtual address that is there.
        virtual_address as "Virtual": Address,
        /// Process id.
        pid as "Pid": Read<i32>,
        /// Name of the process.
        name as "Name": Read<String>,
    }
}

impl Plugin for Pas2vas {
    const NAME: &'static str = "pas2vas";
    const SUMMARY: &'static str = "Find the processes that map physical addresses";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let end = if args.all { u64::MAX } else { kernel.user_end() };
        let sought = Sought::new(&args.offsets);
        let processes = ProcessFilter { pids: args.pids.clone(), ..ProcessFilter::default() };
        for task in processes.tasks(session, &kernel)? {
            let Some(space) = space_of(&session.notes, &kernel, &task) else { continue };
            for_each_page(&session.notes, &task::describe(&task), space.tables(), end, true, |run| {
                for (physical, address) in sought.inside(run) {
                    out.push(Row {
                        physical: Address(physical),
                        virtual_address: Address(address),
                        pid: task.pid(),
                        name: task.name(),
                    })?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}
