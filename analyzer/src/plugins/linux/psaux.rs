//! `psaux`: processes with their command lines.
//!
//! The command line is read from the process's own memory (`mm_struct.arg_start`), as `/proc/PID/cmdline` is; a process
//! may have written anything there. Tasks without user memory (kernel threads, zombies) show their name in brackets.
//!
//! Truth: `/proc/PID/cmdline` and `/proc/PID/status` of guests of 5.10, 6.1 and 6.12, every process.

use crate::os::linux::command_line::command_line;
use crate::os::linux::{Kernel, KernelFact, ProcessFilter, Task, task};
use crate::plugin::prelude::*;
use crate::table::text_of;

/// The command.
pub struct Psaux;

row! {
    pub struct Row {
        /// Process id.
        pid as "PID": Read<i32>,
        /// Real user id.
        uid as "UID": Read<u32>,
        /// Real group id.
        gid as "GID": Read<u32>,
        /// Arguments joined by spaces; the name in brackets for tasks without user memory.
        command as "Command": Read<String>,
        /// The arguments one by one.
        args: Read<ListOf<String>>,
    }
}

impl Plugin for Psaux {
    const NAME: &'static str = "psaux";
    const SUMMARY: &'static str = "List processes with their command lines";
    const ACTIVE: Active = Active::Linux;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for task in args.tasks(session, &kernel)? {
            out.push(row(session, &kernel, &task))?;
        }
        Ok(())
    }
}

fn row(session: &Session, kernel: &Kernel, task: &Task<'_>) -> Row {
    let args = command_line(kernel, task).map(|line| {
        if let Some(why) = &line.cut {
            session.notes.partial(format!("command line of {} is cut off: {why}", task::describe(task)));
        }
        line.arguments().map(text_of).collect::<Vec<_>>()
    });
    let command = match &args {
        Ok(args) => Ok(args.join(" ")),
        Err(Absent::NotApplicable(_)) => task.name().map(|name| format!("[{name}]")),
        Err(why) => Err(why.clone()),
    };
    let creds = task.creds();
    Row {
        pid: task.pid(),
        uid: creds.clone().and_then(|creds| creds.uid()),
        gid: creds.and_then(|creds| creds.gid()),
        command,
        args: args.map(ListOf),
    }
}
