//! `psscan`: processes in physical memory, whether any list has them or not.
//!
//! Looks for pool allocations of processes; finds those that ended as long as their memory is not used again, and those that were
//! hidden. Processes that share a page with nothing else allocated have a pool header, so none is missed by size. Truth: the addresses in the
//! output of original Rekall for a Windows 7 system.

use std::collections::BTreeSet;

use crate::os::windows::KernelFact;
use crate::os::windows::process_scan::scan;
use crate::os::windows::scan_range::ScanArgs;
use crate::os::windows::views::Method;
use crate::plugin::prelude::*;

/// The command.
pub struct Psscan;

row! {
    pub struct Row {
        /// `F` where the memory was given back.
        free as "a": &'static str,
        /// The process: its physical address, name and id.
        offset_p: ObjRef,
        /// Its virtual address; absent where the kernel maps that memory nowhere.
        offset_v: Option<Address>,
        /// Process id of its creator.
        ppid: Read<u64>,
        /// Physical address of the root of its page tables.
        pdb: Read<Address>,
        /// `E` where it ended, `P` where the kernel's list of processes has it.
        stat: String,
        /// When it was created.
        create_time: Read<Time>,
        /// When it ended; absent while it runs.
        exit_time: Read<Time>,
    }
}

impl Plugin for Psscan {
    const NAME: &'static str = "psscan";
    const SUMMARY: &'static str = "Scan physical memory for processes";
    const ACTIVE: Active = Active::Windows;
    type Args = ScanArgs;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ScanArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let listed = match Method::PsActiveProcessHead.processes(session, &kernel) {
            Ok(listed) => listed,
            Err(why) => {
                session.notes.partial(format!("list PsActiveProcessHead cannot be read: {why}"));
                BTreeSet::new()
            }
        };
        let physical = crate::os::windows::pool::physical(&kernel);
        let wanted = args.range(session, &kernel)?;
        for found in scan(session, &kernel)?.into_iter().filter(|found| wanted.has(found.body)) {
            let process = found.process(&physical);
            let mut stat = String::new();
            if process.exit_time().is_ok() {
                stat.push('E');
            }
            if found.virtual_body.is_some_and(|addr| listed.contains(&addr)) {
                stat.push('P');
            }
            out.push(Row {
                free: if found.is_free { "F" } else { "" },
                offset_p: process.obj_ref(),
                offset_v: found.virtual_body.map(Address),
                ppid: process.ppid(),
                pdb: process.dtb().map(Address),
                stat,
                create_time: process.create_time(),
                exit_time: process.exit_time(),
            })?;
        }
        Ok(())
    }
}
