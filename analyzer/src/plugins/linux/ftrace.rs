//! `ftrace`: functions that are called when functions of the kernel are entered.
//!
//! Everyone on `ftrace_ops_list` (kernel/trace/ftrace.c) with the functions it is called from: a row for each, or one where it is
//! called from all. Tracing, live patches, kprobes and eBPF use it, and so do rootkits. The call is made at the function's start, see
//! `check_inline_kernel`.
//!
//! Truth: nothing traces in clean guests of 5.10, 6.1 and 6.12, and none is found; the guest 6.1-hostile has the
//! function that our module registered.

use object::{Ptr, Uint};

use crate::os::linux::KernelFact;
use crate::os::linux::code::Code;
use crate::os::linux::ftrace::hooks;
use crate::plugin::prelude::*;

/// The command.
pub struct Ftrace;

row! {
    pub struct Row {
        /// Address of the `ftrace_ops`.
        ops as "ftrace_ops": Address,
        /// The function that is called.
        address: Read<Address>,
        /// The symbol there.
        symbol: Option<String>,
        /// The module that holds the code; `linux` is the kernel.
        module_name: Option<String>,
        /// Function it is called from; absent where it is called from all.
        function: Read<String>,
        /// `FTRACE_OPS_FL_*` bits (include/linux/ftrace.h).
        flags as "ftrace_flags": Read<Address>,
        /// Whether neither the kernel nor a listed module holds the code.
        hooked: Read<bool>,
    }
}

impl Plugin for Ftrace {
    const NAME: &'static str = "ftrace";
    const SUMMARY: &'static str = "List functions called when others are entered";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let code = Code::of(session)?;
        for ops in hooks(&session.notes, kernel.target())? {
            let address = ops.func().map(|Ptr(func)| func);
            let names = code.names_of(&address);
            let functions = match ops.functions(&session.notes) {
                Ok(functions) => functions.into_iter().map(Ok).collect(),
                Err(why) => vec![Err(why)],
            };
            for function in functions {
                let (symbol, module_name) = names.clone();
                out.push(Row {
                    ops: Address(ops.addr()),
                    address: address.clone().map(Address),
                    symbol,
                    module_name,
                    function: function.map(|function| {
                        code.judge(function).symbol.unwrap_or_else(|| format!("{function:#x}"))
                    }),
                    flags: ops.flags().map(|Uint(flags)| Address(flags)),
                    hooked: address.clone().map(|address| code.is_nobodys(address)),
                })?;
            }
        }
        Ok(())
    }
}
