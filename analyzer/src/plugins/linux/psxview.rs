//! `psxview`: which ways of finding processes find which process.
//!
//! Every live process and zombie is on the list of processes, in the table of pids and in the tree of children; one that
//! a way lacks was hidden from it, or changed while memory was copied. Dead processes are found by the scan only.
//! Truth: `/proc` of real guests has exactly the processes that are alive or zombies.

use std::collections::BTreeSet;

use crate::os::linux::task::sort_by_pid;
use crate::os::linux::task_scan::{Life, scan};
use crate::os::linux::views::Method;
use crate::os::linux::{KernelFact, Task};
use crate::plugin::prelude::*;

/// The command.
pub struct Psxview;

row! {
    pub struct Row {
        /// The process.
        task as "_TASK": ObjRef,
        /// `alive`, `zombie` (ended, its parent did not ask) or `dead` (released, remains in memory).
        life: Read<&'static str>,
        /// On the list of processes, `init_task.tasks`.
        init_task as "InitTask": Read<bool>,
        /// In the table of process ids: the IDR of the initial namespace, a hash table up to v4.14.
        pid_hash_table as "PidHashTable": Read<bool>,
        /// On its parent's list of children.
        children as "Children": Read<bool>,
        /// Found in physical memory by its content.
        ps_scan as "PsScan": Read<bool>,
    }
}

impl Plugin for Psxview {
    const NAME: &'static str = "psxview";
    const SUMMARY: &'static str = "Compare ways of finding processes";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let [list, table, tree] = Method::ALL.map(|method| method.tasks(&session.notes, &kernel));
        let scanned = scan(&session.notes, &kernel).map(BTreeSet::from_iter);
        let all: BTreeSet<u64> =
            [&list, &table, &tree, &scanned].into_iter().flatten().flatten().copied().collect();
        let mut tasks: Vec<Task<'_>> = all.into_iter().map(|addr| Task::at(kernel.target(), addr)).collect();
        sort_by_pid(&mut tasks);
        for task in tasks {
            let found = |method: &Read<BTreeSet<u64>>| match method {
                Ok(tasks) => Ok(tasks.contains(&task.addr())),
                Err(why) => Err(why.clone()),
            };
            out.push(Row {
                task: task.obj_ref(),
                life: Life::of(&task).map(Life::name),
                init_task: found(&list),
                pid_hash_table: found(&table),
                children: found(&tree),
                ps_scan: found(&scanned),
            })?;
        }
        Ok(())
    }
}
