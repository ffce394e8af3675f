//! `bash`: commands typed in bash, with the time of each.
//!
//! Searches the heaps of processes named `bash` for readline's history entries, whatever became of the history file. Rows
//! are in the order in which they were typed; commands deleted from the list come last and are not `listed`.
//!
//! Truth: what was typed on guests of 5.10, 6.1 and 6.12, in order.

use regex::Regex;

use crate::os::linux::{KernelFact, ProcessFilter, bash, task};
use crate::plugin::prelude::*;

/// The command.
pub struct Bash;

/// Which processes.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    processes: ProcessFilter,
    /// Look into every process, not only those named bash
    #[arg(long)]
    all_processes: bool,
}

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// When the command was typed.
        timestamp: Time,
        /// The command.
        command: Read<String>,
        /// Whether bash's list still has it.
        listed: bool,
    }
}

impl Plugin for Bash {
    const NAME: &'static str = "bash";
    const SUMMARY: &'static str = "List commands typed in bash";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let name = Regex::new("^-?bash$").map_err(|error| Error::analysis(error.to_string()))?;
        // Who names processes means these, whatever they are called.
        let any = args.all_processes || !args.processes.is_all();
        for task in args.processes.tasks(session, &kernel)? {
            if !any && !task.name().is_ok_and(|of| name.is_match(&of)) {
                continue;
            }
            match bash::history(&session.notes, &kernel, &task) {
                Ok(entries) => {
                    for bash::Entry { time, command, listed, .. } in entries {
                        out.push(Row { task: task.obj_ref(), timestamp: time, command, listed })?;
                    }
                }
                Err(Absent::NotApplicable(_)) => {}
                Err(why) => {
                    let who = task::describe(&task);
                    session.notes.partial(format!("the history of {who} is missing: {why}"));
                }
            }
        }
        Ok(())
    }
}
