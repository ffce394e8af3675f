//! `pidhashtable`: processes in the table by which the kernel finds a task by its process id.
//!
//! An IDR of the initial pid namespace (`init_pid_ns.idr`, from v4.15), `pid_hash` before. A process that was taken off the list of
//! processes is still in it, or no signal could reach it; `psxview` compares the ways.
//!
//! Truth: `/proc` of guests of 5.10, 6.1 and 6.12, every process. Volatility 3 lists threads too.

use crate::os::linux::task::sort_by_pid;
use crate::os::linux::views::Method;
use crate::os::linux::{KernelFact, Task};
use crate::plugin::prelude::*;

/// The command.
pub struct Pidhashtable;

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
        /// Whether the list of processes has it as well.
        listed: bool,
    }
}

impl Plugin for Pidhashtable {
    const NAME: &'static str = "pidhashtable";
    const SUMMARY: &'static str = "List processes by the table of process ids";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let listed = Method::InitTask.tasks(&session.notes, &kernel)?;
        let found = Method::PidHashTable.tasks(&session.notes, &kernel)?;
        let mut tasks: Vec<Task<'_>> =
            found.into_iter().map(|addr| Task::at(kernel.target(), addr)).collect();
        sort_by_pid(&mut tasks);
        for task in tasks {
            let creds = task.creds();
            out.push(Row {
                proc: task.obj_ref(),
                ppid: task.ppid(),
                uid: creds.clone().and_then(|creds| creds.uid()),
                gid: creds.and_then(|creds| creds.gid()),
                dtb: task.dtb().map(Address),
                start_time: task.start_time(&kernel),
                listed: listed.contains(&task.addr()),
            })?;
        }
        Ok(())
    }
}
