//! `dtbscan`: page table roots, by their entries in the page frame database.
//!
//! Windows lets the top table of each process map itself, so its entry in the database names the table itself, and in older systems the
//! process. A table of no process on the lists belongs to one that hides, or that is gone. With PAE the page that maps itself is
//! the last of the four that the root names; the root is told by its process. Truth: the description of the machine that the maker of
//! test images lays out, which has a hidden process; `vtop` of the table's own address.

use std::collections::{BTreeMap, BTreeSet};

use crate::os::windows::page_frame::{climb, own_map, process_at, top_tables};
use crate::os::windows::views::Method;
use crate::os::windows::{KernelFact, Process, ProcessFilter, processes};
use crate::plugin::prelude::*;

/// The command.
pub struct Dtbscan;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Most tables to show
    #[arg(long, value_name = "N", default_value_t = 1 << 16)]
    pub limit: usize,
    /// Which processes count as known
    #[command(flatten)]
    pub processes: ProcessFilter,
}

row! {
    pub struct Row {
        /// Physical address of the root; with PAE not known without a process.
        dtb as "DTB": Read<Address>,
        /// Where the table is in the virtual memory that it makes.
        own as "VA": Read<Address>,
        /// The process: the one its entry names, else the one that uses the table; absent where there is none.
        process as "Owner": Option<ObjRef>,
        /// Whether that process is on the kernel's list of processes, or among those that were asked for.
        known as "Known": bool,
    }
}

impl Plugin for Dtbscan {
    const NAME: &'static str = "dtbscan";
    const SUMMARY: &'static str = "Find page table roots in the page frame database";
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let mut filter = args.processes.clone();
        if filter.is_all() {
            filter.method = vec![Method::PsActiveProcessHead];
        }
        let known = filter.processes(session, &kernel)?;
        let known: BTreeSet<u64> = known.iter().map(Process::addr).collect();
        let mut users: BTreeMap<u64, Process<'_>> = BTreeMap::new();
        for process in processes(session, &kernel)? {
            // The idle process shares the tables of System.
            if let Ok(table) = own_map(&kernel, &process)
                && process.pid() != Ok(0)
            {
                users.entry(table).or_insert(process);
            }
        }
        let small_roots = kernel.paging().levels.first().is_some_and(|top| top.bits < 9);
        for table in top_tables(session, &kernel, args.limit)? {
            let named = process_at(&kernel, table.owner);
            let process = named.or_else(|| users.get(&table.at).copied());
            let dtb = match process {
                Some(process) if small_roots => process.dtb(),
                None if small_roots => Err(Absent::NotApplicable("no process that tells the root")),
                _ => Ok(table.at),
            };
            out.push(Row {
                dtb: dtb.map(Address),
                own: climb(kernel.target(), kernel.paging(), table.at)
                    .and_then(|found| found.virtual_address)
                    .map(Address),
                process: process.map(|process| process.obj_ref()),
                known: process.is_some_and(|process| known.contains(&process.addr())),
            })?;
        }
        Ok(())
    }
}
