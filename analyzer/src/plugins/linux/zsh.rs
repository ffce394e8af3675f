//! `zsh`: commands typed in zsh, with the time of each.
//!
//! Looks for history entries in the heaps of processes named `zsh`, whatever became of the history file. Lines that were deleted or
//! that a setting keeps out of the history are not there.
//!
//! Truth: the history file that zsh itself wrote on guests, with the times at which commands began and ended.

use crate::os::linux::heap::{self, zsh};
use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Zsh;

/// Which processes.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    processes: ProcessFilter,
    /// Look into every process, not only those named zsh
    #[arg(long)]
    all_processes: bool,
}

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// Number of the command.
        counter: u64,
        /// When it began.
        started: Time,
        /// When it ended.
        ended: Read<Time>,
        /// The command.
        command: Read<String>,
    }
}

impl Plugin for Zsh {
    const NAME: &'static str = "zsh";
    const SUMMARY: &'static str = "List commands typed in zsh";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let processes = args.processes.or_named(args.all_processes, "^-?zsh");
        heap::each(session, &kernel, &processes, |task, heap| {
            for zsh::Line { number, started, ended, command, .. } in zsh::history(heap) {
                out.push(Row { task: task.obj_ref(), counter: number, started, ended, command })?;
            }
            Ok(())
        })
    }
}
