//! `psscan`: processes found in physical memory by what they look like, whether any list has them or not.
//!
//! Leaders of thread groups only; processes that ended are found until their memory is used again. `psxview` compares with the
//! kernel's own lists.
//!
//! Truth: `/proc` of guests of 5.10, 6.1 and 6.12 has exactly those that are alive or zombies. Volatility 3 finds single threads too.

use crate::os::linux::task::sort_by_pid;
use crate::os::linux::task_scan::{Life, scan};
use crate::os::linux::{KernelFact, Task};
use crate::plugin::prelude::*;

/// The command.
pub struct Psscan;

row! {
    pub struct Row {
        /// The process.
        proc: ObjRef,
        /// Its physical address.
        physical as "physical_offset": Read<Address>,
        /// Process id of the parent.
        ppid: Read<i32>,
        /// Real user id.
        uid: Read<u32>,
        /// `alive`, `zombie` (ended, its parent did not ask) or `dead` (released, remains in memory).
        life: Read<&'static str>,
        /// When it started.
        start_time: Read<Time>,
    }
}

impl Plugin for Psscan {
    const NAME: &'static str = "psscan";
    const SUMMARY: &'static str = "Scan physical memory for processes";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let target = kernel.target();
        let mut tasks: Vec<Task<'_>> =
            scan(&session.notes, &kernel)?.into_iter().map(|addr| Task::at(target, addr)).collect();
        sort_by_pid(&mut tasks);
        for task in tasks {
            let life = Life::of(&task);
            // What a dead process pointed to may be anything by now.
            let if_kept = || match life {
                Ok(Life::Dead) => Err(Absent::NotApplicable("the process was released")),
                _ => Ok(()),
            };
            let physical = target.space().translate(task.addr());
            out.push(Row {
                proc: task.obj_ref(),
                physical: physical
                    .map(Address)
                    .map_err(|fault| Absent::Unreadable { addr: task.addr(), fault }),
                ppid: if_kept().and_then(|()| task.ppid()),
                uid: if_kept().and_then(|()| task.creds()?.uid()),
                life: life.clone().map(Life::name),
                start_time: task.start_time(&kernel),
            })?;
        }
        Ok(())
    }
}
