//! `tracepoints`: functions that are called at the kernel's tracepoints.
//!
//! Every listener of every tracepoint of the kernel and its listed modules (`tracepoint.funcs`, kernel/tracepoint.c). Nothing
//! listens unless tracing, eBPF or a module asked for it.
//!
//! Truth: no clean guest of 5.10, 6.1 and 6.12 has a finding; the guest 6.1-hostile has the function that our module registered.

use object::Ptr;

use crate::os::linux::KernelFact;
use crate::os::linux::code::Code;
use crate::os::linux::tracepoint::tracepoints;
use crate::plugin::prelude::*;

/// The command.
pub struct Tracepoints;

row! {
    pub struct Row {
        /// Name of the tracepoint.
        tracepoint: Read<String>,
        /// The function that is called.
        address: Read<Address>,
        /// The symbol there.
        symbol: Option<String>,
        /// The module that holds the code; `linux` is the kernel.
        module_name: Option<String>,
        /// What it is given.
        data as "probe_data": Read<Address>,
        /// Listeners of higher priority are called first.
        priority: Read<i32>,
        /// Whether neither the kernel nor a listed module holds the code.
        hooked: Read<bool>,
    }
}

impl Plugin for Tracepoints {
    const NAME: &'static str = "tracepoints";
    const SUMMARY: &'static str = "List functions called at tracepoints";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let code = Code::of(session)?;
        for tracepoint in tracepoints(&session.notes, kernel.target())? {
            let listeners = match tracepoint.listeners() {
                Ok(listeners) => listeners,
                Err(why) => {
                    session.notes.partial(format!("tracepoint at {:#x}: {why}", tracepoint.addr()));
                    continue;
                }
            };
            for probe in listeners {
                let address = probe.function().map(|Ptr(function)| function);
                let (symbol, module_name) = code.names_of(&address);
                out.push(Row {
                    tracepoint: tracepoint.label(),
                    hooked: address.clone().map(|address| code.is_nobodys(address)),
                    address: address.map(Address),
                    symbol,
                    module_name,
                    data: probe.data().map(|Ptr(data)| Address(data)),
                    priority: probe.priority(),
                })?;
            }
        }
        Ok(())
    }
}
