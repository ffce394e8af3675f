//! `pslist`: processes, by five independent ways to them.
//!
//! A process that ended may still be found while somebody refers to it. One that runs but is not on the kernel's list is
//! noted: a rootkit's trick, or a list that changed while memory was copied. Truth: the output of original Rekall for a Windows
//! 7 system (35 processes).

use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Pslist;

row! {
    pub struct Row {
        /// The process.
        process as "_EPROCESS": ObjRef,
        /// Process id of its creator, which may be gone and its id used again.
        ppid: Read<u64>,
        /// Threads that have not ended.
        thread_count: Read<u64>,
        /// Open handles.
        handle_count: Read<u64>,
        /// Session; absent for processes of none.
        session_id: Read<u64>,
        /// Whether it is a 32-bit process on a 64-bit system.
        wow64: Read<bool>,
        /// When it was created.
        process_create_time: Read<Time>,
        /// When it ended; absent while it runs.
        process_exit_time: Read<Time>,
    }
}

impl Plugin for Pslist {
    const NAME: &'static str = "pslist";
    const SUMMARY: &'static str = "List processes";
    const ACTIVE: Active = Active::Windows;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for process in args.processes(session, &kernel)? {
            out.push(Row {
                process: process.obj_ref(),
                ppid: process.ppid(),
                thread_count: process.thread_count(),
                handle_count: process.handle_count(),
                session_id: process.session_id(&kernel),
                wow64: process.is_wow64(),
                process_create_time: process.create_time(),
                process_exit_time: process.exit_time(),
            })?;
        }
        Ok(())
    }
}
