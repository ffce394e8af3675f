//! `coredump`: processes as ELF core files for debuggers.
//!
//! See `os::linux::core_dump` for what a core holds. Truth: `gdb` opens the core of every process of guests of 5.10, 6.1 and
//! 6.12 and shows the stack pointer and program counter of `/proc/PID/syscall`, the auxiliary vector and the arguments.

use crate::dump_file::DumpArgs;
use crate::os::linux::mm::{areas_of, space_of};
use crate::os::linux::path::Paths;
use crate::os::linux::{KernelFact, ProcessFilter, core_dump};
use crate::plugin::prelude::*;

/// The command.
pub struct Coredump;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    processes: ProcessFilter,
    #[command(flatten)]
    dump: DumpArgs,
}

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// Threads whose registers are in the core.
        core_threads as "Threads": u64,
        /// Bytes of memory in the core.
        in_memory: ByteSize,
        /// The file that was written.
        dump_name: String,
    }
}

impl Plugin for Coredump {
    const NAME: &'static str = "coredump";
    const SUMMARY: &'static str = "Write processes as core files for debuggers";
    const ACTIVE: Active = Active::Linux;
    const WRITES: bool = true;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let paths = Paths::of_init(session, &kernel)?;
        for task in args.processes.tasks(session, &kernel)? {
            let Some((mm, areas)) = areas_of(&session.notes, &task) else { continue };
            let Some(space) = space_of(&session.notes, &kernel, &task) else { continue };
            let mut file = args.dump.create(session, &format!("core.{}", task.file_label()))?;
            let context = (&session.notes, &*kernel);
            let core_dump::Written { threads, memory } =
                core_dump::write(context, &paths, &task, (&mm, &areas), &space, &mut file)?;
            out.push(Row {
                task: task.obj_ref(),
                core_threads: threads,
                in_memory: ByteSize(memory),
                dump_name: file.commit(session)?,
            })?;
        }
        Ok(())
    }
}
