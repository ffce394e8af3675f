//! `check_syscall`: the system call tables, and where their entries lead.
//!
//! Reads `sys_call_table` and, where there is one, `ia32_sys_call_table` up to the next symbol. An entry of the kernel's own
//! table leads into the kernel's code; one that leads elsewhere was replaced. Kernels since v6.9 (and those with the
//! same fix) dispatch x86 calls by a `switch`; their tables are still there, but replacing entries has no effect.
//!
//! Truth: `/proc/kallsyms` of guests of 5.10, 6.1 and 6.12: every entry is a system call of the kernel.

use object::Read;

use crate::os::linux::KernelFact;
use crate::os::linux::code::Code;
use crate::plugin::prelude::*;

/// The command.
pub struct CheckSyscall;

row! {
    pub struct Row {
        /// Name of the table.
        table: &'static str,
        /// Number of the system call.
        index: u64,
        /// Where the call leads.
        address: Read<Address>,
        /// The symbol there.
        symbol: Option<String>,
        /// The module that holds the code; `linux` is the kernel.
        module_name: Option<String>,
        /// Whether the entry does not lead into the kernel's code.
        hooked: Read<bool>,
    }
}

/// Tables by symbol.
const TABLES: [&str; 3] = ["sys_call_table", "ia32_sys_call_table", "x32_sys_call_table"];
/// Most bytes of a table; there are less than 600 calls.
const MAX_BYTES: u64 = 8 * 1024;

impl Plugin for CheckSyscall {
    const NAME: &'static str = "check_syscall";
    const SUMMARY: &'static str = "List system calls and find replaced ones";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let (target, code) = (kernel.target(), Code::of(session)?);
        let width = u64::from(target.types().model().pointer_size());
        for table in TABLES {
            let Ok(start) = target.symbol(table) else { continue };
            let end = code.next_symbol(start, MAX_BYTES);
            for index in 0..(end - start) / width {
                let address = target.read_ptr(start + index * width);
                // Padding up to the next symbol.
                if address == Ok(0) {
                    continue;
                }
                let judged = address.clone().map(|address| code.judge(address));
                let (symbol, module_name, hooked): (_, _, Read<bool>) = match judged {
                    Ok(judged) => (judged.symbol, judged.module, Ok(!judged.own)),
                    Err(why) => (None, None, Err(why)),
                };
                let address = address.map(Address);
                out.push(Row { table, index, address, symbol, module_name, hooked })?;
            }
        }
        Ok(())
    }
}
