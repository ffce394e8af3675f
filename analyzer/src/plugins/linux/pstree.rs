//! `pstree`: processes as a tree of parents and children.
//!
//! Processes are those on the list of processes and those on lists of children, so one that was taken off either is
//! still shown. Its place is under the process it names as parent (`real_parent`), as `ppid` in `/proc/PID/stat`.
//! Truth: `/proc/PID/stat` of real guests.

use crate::os::linux::tree::{Node, process_tree};
use crate::os::linux::{KernelFact, Task};
use crate::plugin::prelude::*;

/// The command.
pub struct Pstree;

row! {
    pub struct Row {
        /// Process id.
        pid as "Pid": Read<i32>,
        /// Process id of the parent; 0 for init and kthreadd.
        ppid as "Ppid": Read<i32>,
        /// Real user id, as in the initial user namespace.
        uid as "Uid": Read<u32>,
        /// Name of the executable or thread, at most 15 bytes (`comm`).
        name as "Name": Read<String>,
    }
}

impl Plugin for Pstree {
    const NAME: &'static str = "pstree";
    const SUMMARY: &'static str = "Show processes as a tree";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for Node { task, depth } in process_tree(&session.notes, &kernel)? {
            let task = Task::at(kernel.target(), task);
            let uid = task.creds().and_then(|creds| creds.uid());
            out.push_at(depth, Row { pid: task.pid(), ppid: task.ppid(), uid, name: task.name() })?;
        }
        Ok(())
    }
}
