//! `ptrace`: threads that trace others, and those that are traced.
//!
//! `task_struct.ptrace` is not zero while a thread is traced, and `parent` is then its tracer (kernel/ptrace.c). Threads of
//! all processes are looked at.
//!
//! Truth: `TracerPid` in `/proc/PID/task/TID/status` of guests of 5.10, 6.1 and 6.12.

use object::{Ptr, Uint, layout};

use crate::os::linux::views::threads;
use crate::os::linux::{KernelFact, ProcessFilter, Task};
use crate::plugin::prelude::*;

/// The command.
pub struct Ptrace;

row! {
    pub struct Row {
        /// The traced thread.
        task: ObjRef,
        /// Process it belongs to.
        tgid: Read<i32>,
        /// The thread that traces it.
        tracer: Read<ObjRef>,
        /// Bits of `PT_*` (include/linux/ptrace.h).
        ptrace_flags: Read<Address>,
    }
}

layout! {
    struct Traced / TracedLayout = "task_struct" {
        /// `PT_*` flags; 0 when not traced.
        flags: Uint = "ptrace",
        /// Tracer, or real parent.
        parent: Ptr = "parent",
    }
}

impl Plugin for Ptrace {
    const NAME: &'static str = "ptrace";
    const SUMMARY: &'static str = "List traced threads and their tracers";
    const ACTIVE: Active = Active::Linux;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for leader in args.tasks(session, &kernel)? {
            for addr in threads(&session.notes, &leader) {
                let (task, traced) = (Task::at(kernel.target(), addr), Traced::at(kernel.target(), addr));
                let flags = traced.flags();
                if flags == Ok(Uint(0)) {
                    continue;
                }
                out.push(Row {
                    task: task.obj_ref(),
                    tgid: task.tgid(),
                    tracer: traced.parent().map(|Ptr(tracer)| Task::at(kernel.target(), tracer).obj_ref()),
                    ptrace_flags: flags.map(|Uint(flags)| Address(flags)),
                })?;
            }
        }
        Ok(())
    }
}
