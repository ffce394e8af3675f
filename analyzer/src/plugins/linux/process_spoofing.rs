//! `process_spoofing`: processes whose name or first argument is not that of their executable.
//!
//! A process may change its name (prctl(2)) and write over its arguments; the executable that is mapped cannot be changed that way.
//! Scripts, login shells and programs with several names differ too, so a difference is a hint and no proof.
//!
//! Truth: `exe`, `cmdline` and `comm` in `/proc/PID` of guests of 5.10, 6.1 and 6.12, every process with memory.

use crate::os::linux::command_line::command_line;
use crate::os::linux::mm;
use crate::os::linux::path::Paths;
use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;
use crate::table::text_of;

/// The command.
pub struct ProcessSpoofing;

row! {
    pub struct Row {
        /// The process.
        proc: ObjRef,
        /// Process id of the parent.
        ppid: Read<i32>,
        /// Path of the executable.
        exe: Read<String>,
        /// First argument.
        argument as "argv0": Read<String>,
        /// Whether the last parts of executable and first argument differ.
        argument_differs as "argv0_differs": Read<bool>,
        /// Whether the name differs from the executable's, cut to 15 bytes.
        name_differs: Read<bool>,
    }
}

/// `TASK_COMM_LEN` without the NUL (include/linux/sched.h).
const COMM: usize = 15;

impl Plugin for ProcessSpoofing {
    const NAME: &'static str = "process_spoofing";
    const SUMMARY: &'static str = "Find processes that do not bear the name of their program";
    const ACTIVE: Active = Active::Linux;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let paths = Paths::of_init(session, &kernel)?;
        for task in args.tasks(session, &kernel)? {
            if task.is_kernel_thread() == Ok(true) {
                continue;
            }
            let exe = mm::of_task(&task).and_then(|mm| mm.executable()?.path(&paths));
            let argument = command_line(&kernel, &task)
                .map(|line| line.arguments().next().map(text_of).unwrap_or_default());
            let program = exe.as_deref().map(program_name).map_err(Absent::clone);
            let name = |program: &str| Ok(task.name()? != text_of(cut(program.as_bytes())));
            out.push(Row {
                proc: task.obj_ref(),
                ppid: task.ppid(),
                argument_differs: program.clone().and_then(|program| {
                    let argument = argument.clone()?;
                    Ok(last_part(argument.strip_prefix('-').unwrap_or(&argument)) != program)
                }),
                name_differs: program.and_then(name),
                exe: exe.clone(),
                argument,
            })?;
        }
        Ok(())
    }
}

/// Last part of the path of an executable that may have been deleted.
fn program_name(path: &str) -> &str {
    last_part(path.strip_suffix(" (deleted)").unwrap_or(path))
}

fn last_part(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn cut(name: &[u8]) -> &[u8] {
    name.get(..COMM).unwrap_or(name)
}
