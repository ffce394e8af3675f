//! `check_task_fops`: functions of the files that processes have open.
//!
//! Looks at the `file_operations` of every open file. A table of the kernel must lead into the kernel's code; one of a module
//! into that or into a module that is listed. Without `--all` only what does not is shown.
//!
//! Truth: no clean guest of 5.10, 6.1 and 6.12 has a finding, and every open file of `/proc/PID/fd` is looked at.

use crate::os::linux::code::Code;
use crate::os::linux::file::files_of;
use crate::os::linux::operations::{Judge, Operation, ShowAll};
use crate::os::linux::{KernelFact, ProcessFilter, task};
use crate::plugin::prelude::*;
use object::Ptr;

/// The command.
pub struct CheckTaskFops;

/// Whose files, and which pointers.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    filter: ProcessFilter,
    #[command(flatten)]
    show: ShowAll,
}

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// File descriptor.
        fd: u32,
        /// Address of the table.
        table as "f_op": Address,
        /// Member of `file_operations`.
        member: String,
        /// Where the pointer leads.
        address: Read<Address>,
        /// The symbol there.
        symbol: Option<String>,
        /// The module that holds the code; `linux` is the kernel.
        module_name: Option<String>,
        /// Whether it leads where it must not.
        hooked: Read<bool>,
    }
}

impl Plugin for CheckTaskFops {
    const NAME: &'static str = "check_task_fops";
    const SUMMARY: &'static str = "Find replaced functions of open files";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let mut judge = Judge::new(kernel.target(), Code::of(session)?, args.show);
        for task in args.filter.tasks(session, &kernel)? {
            let (descriptors, end) = files_of(&task);
            session.notes.walk(&format!("open files of {}", task::describe(&task)), &end);
            for descriptor in descriptors {
                let table = match descriptor.file.f_op() {
                    Ok(Ptr(table)) => table,
                    Err(why) => {
                        let who = task::describe(&task);
                        session
                            .notes
                            .partial(format!("file {} of {who} cannot be read: {why}", descriptor.fd));
                        continue;
                    }
                };
                for told in judge.table("file_operations", table)?.iter().cloned() {
                    let Operation { member, address, symbol, module, hooked } = told;
                    out.push(Row {
                        task: task.obj_ref(),
                        fd: descriptor.fd,
                        table: Address(table),
                        member,
                        address: address.map(Address),
                        symbol,
                        module_name: module,
                        hooked,
                    })?;
                }
            }
        }
        Ok(())
    }
}
