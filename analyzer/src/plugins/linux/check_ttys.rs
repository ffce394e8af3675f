//! `check_ttys`: functions of the terminals.
//!
//! Keys typed at a terminal go through `receive_buf` of its line discipline, which key loggers replace. Looks at all
//! functions of the disciplines and drivers of the open terminals: those in the tables of the drivers (`tty_drivers`) and those
//! that control processes. Without `--all` only what leads out of kernel and modules is shown.
//!
//! Truth: no clean guest of 5.10, 6.1 and 6.12 has a finding. Volatility 3 shows `receive_buf` only.

use object::Ptr;

use crate::os::linux::code::Code;
use crate::os::linux::operations::{Judge, Operation, ShowAll};
use crate::os::linux::tty::ttys;
use crate::os::linux::{KernelFact, processes};
use crate::plugin::prelude::*;

/// The command.
pub struct CheckTtys;

row! {
    pub struct Row {
        /// Name of the terminal.
        name: Read<String>,
        /// Address of its `tty_struct`.
        tty: Address,
        /// Table and member.
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

impl Plugin for CheckTtys {
    const NAME: &'static str = "check_ttys";
    const SUMMARY: &'static str = "Find replaced functions of terminals";
    const ACTIVE: Active = Active::Linux;
    type Args = ShowAll;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ShowAll, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let mut judge = Judge::new(kernel.target(), Code::of(session)?, *args);
        let tasks = processes(session, &kernel)?;
        for tty in ttys(&session.notes, kernel.target(), &tasks)? {
            let tables = [
                ("tty_ldisc_ops", tty.discipline_operations()),
                ("tty_operations", tty.operations().map(|Ptr(table)| table)),
            ];
            for (structure, table) in tables {
                let table = match table {
                    Ok(table) => table,
                    Err(why) => {
                        session
                            .notes
                            .partial(format!("{structure} of the terminal at {:#x}: {why}", tty.addr()));
                        continue;
                    }
                };
                for told in judge.table(structure, table)?.iter().cloned() {
                    let Operation { member, address, symbol, module, hooked } = told;
                    out.push(Row {
                        name: tty.label(),
                        tty: Address(tty.addr()),
                        member: format!("{structure}.{member}"),
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
