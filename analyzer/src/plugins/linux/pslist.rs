//! `pslist`: processes on the kernel's task list.
//!
//! Walks `init_task.tasks`, the list of thread-group leaders. A process taken off that list (a rootkit's trick) does
//! not appear here; compare with `psxview`. Truth: `/proc/PID/stat` and `/proc/PID/status` of real guests.

use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Pslist;

row! {
    pub struct Row {
        /// The process.
        proc: ObjRef,
        /// Process id of the parent; 0 for init and kthreadd.
        ppid: Read<i32>,
        /// Real user id, as in the initial user namespace.
        uid: Read<u32>,
        /// Real group id, as in the initial user namespace.
        gid: Read<u32>,
        /// Physical address of the page table root; absent for kernel threads and zombies.
        dtb: Read<Address>,
        /// When the process started, by the wall clock at the time of the dump.
        start_time: Read<Time>,
        /// Name of the executable or thread, at most 15 bytes (`comm`).
        binary: Read<String>,
    }
}

impl Plugin for Pslist {
    const NAME: &'static str = "pslist";
    const SUMMARY: &'static str = "List processes";
    const ACTIVE: Active = Active::Linux;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for task in args.tasks(session, &kernel)? {
            let creds = task.creds();
            out.push(Row {
                proc: task.obj_ref(),
                ppid: task.ppid(),
                uid: creds.clone().and_then(|creds| creds.uid()),
                gid: creds.and_then(|creds| creds.gid()),
                dtb: task.dtb().map(Address),
                start_time: task.start_time(&kernel),
                binary: task.name(),
            })?;
        }
        Ok(())
    }
}
