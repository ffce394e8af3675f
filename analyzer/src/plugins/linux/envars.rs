//! `envars`: environment variables of processes.
//!
//! Read from the process's own memory (`mm_struct.env_start`), as `/proc/PID/environ` is: what the program was started
//! with, and what it wrote there since. Variables that a program sets later live in its heap and are not seen.
//!
//! Truth: `/proc/PID/environ` of guests of 5.10, 6.1 and 6.12, every process.

use crate::os::linux::command_line::environment;
use crate::os::linux::{KernelFact, ProcessFilter, task};
use crate::plugin::prelude::*;
use crate::table::text_of;

/// The command.
pub struct Envars;

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// Name of the variable; empty for an entry without `=`.
        key: String,
        /// Its value, or the whole entry where it has no `=`.
        value: String,
    }
}

impl Plugin for Envars {
    const NAME: &'static str = "envars";
    const SUMMARY: &'static str = "List environment variables of processes";
    const ACTIVE: Active = Active::Linux;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for task in args.tasks(session, &kernel)? {
            let environment = match environment(&kernel, &task) {
                Ok(environment) => environment,
                Err(Absent::NotApplicable(_)) => continue,
                Err(why) => {
                    let who = task::describe(&task);
                    session.notes.partial(format!("the environment of {who} is missing: {why}"));
                    continue;
                }
            };
            if let Some(why) = &environment.cut {
                session
                    .notes
                    .partial(format!("the environment of {} is cut off: {why}", task::describe(&task)));
            }
            // A process that overwrote it left NULs behind.
            for entry in environment.arguments().map(text_of).filter(|entry| !entry.is_empty()) {
                let (key, value) = entry.split_once('=').unwrap_or(("", &entry));
                out.push(Row { task: task.obj_ref(), key: key.to_owned(), value: value.to_owned() })?;
            }
        }
        Ok(())
    }
}
