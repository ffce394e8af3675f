//! `psxview`: which ways of finding processes find which process.
//!
//! A live process is on every list but that of CSRSS, which has neither System, smss nor csrss itself, and that of sessions, which
//! has those with a session only. Processes that ended are found by scans, and where somebody still refers to them. Truth: the
//! original's list of a Windows 7 system; images with hidden processes made for the purpose.

use std::collections::BTreeSet;

use crate::os::windows::process::sort_by_pid;
use crate::os::windows::process_scan::scan;
use crate::os::windows::thread_scan::owners;
use crate::os::windows::views::Method;
use crate::os::windows::{KernelFact, Process};
use crate::plugin::prelude::*;

/// The command.
pub struct Psxview;

row! {
    pub struct Row {
        /// The process; its physical address where the kernel maps it nowhere.
        process as "_EPROCESS": ObjRef,
        /// On the kernel's list of running processes.
        active as "PsActiveProcessHead": Read<bool>,
        /// Known to the subsystem by a handle.
        csrss as "CSRSS": Read<bool>,
        /// In the kernel's table of ids.
        cid as "PspCidTable": Read<bool>,
        /// On the list of its session.
        sessions as "Sessions": Read<bool>,
        /// Owner of a handle table on the list of them.
        handles as "Handles": Read<bool>,
        /// Found in physical memory by its content.
        ps_scan as "PSScan": Read<bool>,
        /// Owner of a thread found in physical memory.
        thrdproc as "Thrdproc": Read<bool>,
        /// When it ended; absent while it runs.
        exit_time: Read<Time>,
    }
}

impl Plugin for Psxview {
    const NAME: &'static str = "psxview";
    const SUMMARY: &'static str = "Compare ways of finding processes";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let [active, csrss, cid, sessions, handles] =
            Method::ALL.map(|method| method.processes(session, &kernel));
        let scanned = scan(session, &kernel)?;
        let ps_scan: Read<BTreeSet<u64>> =
            Ok(scanned.iter().filter_map(|found| found.virtual_body).collect());
        let thrdproc: Read<BTreeSet<u64>> = Ok(owners(session, &kernel)?);
        let ways = [&active, &csrss, &cid, &sessions, &handles, &ps_scan, &thrdproc];
        let all: BTreeSet<u64> = ways.into_iter().flatten().flatten().copied().collect();
        let mut processes: Vec<Process<'_>> =
            all.into_iter().map(|addr| Process::at(kernel.target(), addr)).collect();
        let physical = crate::os::windows::pool::physical(&kernel);
        let unmapped = scanned.iter().filter(|found| found.virtual_body.is_none());
        processes.extend(unmapped.map(|found| found.process(&physical)));
        sort_by_pid(&mut processes);
        for process in processes {
            let by_scan_only = std::ptr::eq(process.target(), &raw const physical);
            let found = |way: &Read<BTreeSet<u64>>| match way {
                Ok(found) => Ok(!by_scan_only && found.contains(&process.addr())),
                Err(why) => Err(why.clone()),
            };
            out.push(Row {
                process: process.obj_ref(),
                active: found(&active),
                csrss: found(&csrss),
                cid: found(&cid),
                sessions: found(&sessions),
                handles: found(&handles),
                ps_scan: if by_scan_only { Ok(true) } else { found(&ps_scan) },
                thrdproc: found(&thrdproc),
                exit_time: process.exit_time(),
            })?;
        }
        Ok(())
    }
}
