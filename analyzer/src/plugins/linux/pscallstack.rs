//! `pscallstack`: what threads were doing in the kernel, by their stacks.
//!
//! Every address on the stack of a sleeping thread that follows a call, innermost first (x86). What is shown includes leftovers of
//! earlier calls; a thread that runs has an old stack pointer.
//!
//! Truth: `/proc/PID/stack` of guests of 5.10, 6.1 and 6.12, every frame of every process.

use crate::os::linux::code::Code;
use crate::os::linux::stack::frames;
use crate::os::linux::views::threads;
use crate::os::linux::{KernelFact, ProcessFilter, Task, task};
use crate::plugin::prelude::*;

/// The command.
pub struct Pscallstack;

row! {
    pub struct Row {
        /// The thread.
        task: ObjRef,
        /// Place among the addresses, from 0, the innermost.
        index: u64,
        /// Where on the stack it stands.
        place as "stack_address": Address,
        /// The address to return to.
        address: Address,
        /// The symbol there.
        symbol: Option<String>,
        /// The module that holds the code; `linux` is the kernel.
        module_name: Option<String>,
    }
}

impl Plugin for Pscallstack {
    const NAME: &'static str = "pscallstack";
    const SUMMARY: &'static str = "Show what threads were doing in the kernel";
    const ACTIVE: Active = Active::Linux;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let code = Code::of(session)?;
        if !kernel.is_x86() {
            return Err(Error::not_applicable("only stacks of x86 are known to this command"));
        }
        for leader in args.tasks(session, &kernel)? {
            for thread in threads(&session.notes, &leader) {
                let task = Task::at(kernel.target(), thread);
                let frames = match frames(&code, &task) {
                    Ok(frames) => frames,
                    Err(Absent::NotApplicable(_)) => continue,
                    Err(why) => {
                        session.notes.partial(format!("stack of {}: {why}", task::describe(&task)));
                        continue;
                    }
                };
                for (index, frame) in (0..).zip(frames) {
                    let judged = code.judge(frame.address);
                    out.push(Row {
                        task: task.obj_ref(),
                        index,
                        place: Address(frame.place),
                        address: Address(frame.address),
                        symbol: judged.symbol,
                        module_name: judged.module,
                    })?;
                }
            }
        }
        Ok(())
    }
}
