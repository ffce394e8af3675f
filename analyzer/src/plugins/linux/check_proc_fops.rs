//! `check_proc_fops`: functions of the files that the kernel and its modules have below `/proc`.
//!
//! Looks at the operations, the sequence operations and the single functions of every entry, those of `/proc/net` of each network
//! namespace included (`proc_dir_entry`, fs/proc/). A table of the kernel must lead into the kernel's code; other pointers
//! into that or into a module that is listed. Without `--all` only what does not is shown.
//!
//! Truth: no clean guest of 5.10, 6.1 and 6.12 has a finding, and all files of `/proc/net` are found; the guest 6.1-hostile has
//! the function that our module replaced.

use crate::os::linux::KernelFact;
use crate::os::linux::code::Code;
use crate::os::linux::operations::{Judge, Operation, ShowAll};
use crate::os::linux::proc::{Functions, files};
use crate::plugin::prelude::*;

/// The command.
pub struct CheckProcFops;

row! {
    pub struct Row {
        /// Address of the `proc_dir_entry`.
        entry as "dir_entry": Address,
        /// Path of the file.
        path: String,
        /// Network namespace whose `/proc/net` it is in.
        net_ns: Option<u32>,
        /// Table and member, or the member of the entry itself.
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

impl Plugin for CheckProcFops {
    const NAME: &'static str = "check_proc_fops";
    const SUMMARY: &'static str = "Find replaced functions of files below /proc";
    const ACTIVE: Active = Active::Linux;
    type Args = ShowAll;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ShowAll, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let target = kernel.target();
        let mut judge = Judge::new(target, Code::of(session)?, *args);
        for file in files(&session.notes, target)? {
            let functions = match file.entry.functions() {
                Ok(functions) => functions,
                Err(why) => {
                    session.notes.partial(format!("functions of {} cannot be read: {why}", file.path));
                    continue;
                }
            };
            for function in functions {
                let (prefix, told): (&str, Vec<Operation>) = match function {
                    Functions::Table(structure, table) => {
                        (structure, judge.table(structure, table)?.to_vec())
                    }
                    Functions::Pointer(member, place, address) => {
                        ("", judge.pointer(member, place, address).into_iter().collect())
                    }
                };
                for told in told {
                    let Operation { member, address, symbol, module, hooked } = told;
                    out.push(Row {
                        entry: Address(file.entry.addr()),
                        path: file.path.clone(),
                        net_ns: file.net_ns,
                        member: if prefix.is_empty() { member } else { format!("{prefix}.{member}") },
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
