//! `kallsyms`: symbols of the kernel and its modules, as the running kernel has them.
//!
//! The kernel's own table is decoded from memory, whatever the profile knows; those of modules are their symbol tables, also of modules
//! that hide (`hidden`). Symbols of eBPF programs, kprobes and ftrace that `/proc/kallsyms` shows behind them are not listed.
//!
//! Truth: `/proc/kallsyms` of guests of 5.10, 6.1 and 6.12, every line. There the letter of a module's symbol is upper case where it is
//! exported, here it is as the kernel keeps it.

use crate::os::linux::module::modules;
use crate::os::linux::module_views::unlisted;
use crate::os::linux::{KernelFact, kallsyms, kernel_symbols};
use crate::plugin::prelude::*;

/// The command.
pub struct Kallsyms;

row! {
    pub struct Row {
        /// Address; of per-CPU symbols an offset.
        address: Address,
        /// Letter of `nm`: `t` code, `d` data, `r` constants, `b` zeros, `a` absolute, ...; upper case is global.
        kind as "symbol_type": Option<String>,
        /// Name.
        name: String,
        /// The module; `linux` is the kernel.
        module_name: Read<String>,
        /// Whether the list of modules lacks the module.
        hidden: bool,
    }
}

/// Most bytes of symbols of one module.
const MAX_BYTES: usize = 64 << 20;

impl Plugin for Kallsyms {
    const NAME: &'static str = "kallsyms";
    const SUMMARY: &'static str = "List symbols of the kernel and its modules";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let letter = |kind: u8| char::from(kind).to_string();
        let own = match kernel_symbols(kernel.physical().as_ref()) {
            Ok(own) => {
                if own.lost > 0 {
                    session.notes.partial(format!("{} symbols of the kernel cannot be read", own.lost));
                }
                own.symbols
            }
            // Those of modules are elsewhere and may be there still.
            Err(why) => {
                session.notes.partial(why.to_string());
                Vec::new()
            }
        };
        for symbol in own {
            out.push(Row {
                address: Address(symbol.address),
                kind: Some(letter(symbol.kind)),
                name: symbol.name,
                module_name: Ok("linux".to_owned()),
                hidden: false,
            })?;
        }
        let listed = modules(&session.notes, kernel.target())?;
        let unlisted = unlisted(kernel.target(), &listed);
        let all =
            listed.iter().map(|module| (module, false)).chain(unlisted.iter().map(|module| (module, true)));
        for (module, hidden) in all {
            let symbols = match kallsyms::symbols(module, MAX_BYTES) {
                Ok(symbols) => symbols,
                Err(why) => {
                    session.notes.partial(format!("symbols of the module at {:#x}: {why}", module.addr()));
                    continue;
                }
            };
            if symbols.missing > 0 {
                let missing = symbols.missing;
                session.notes.partial(format!(
                    "{missing} symbols of the module at {:#x} cannot be read",
                    module.addr()
                ));
            }
            for symbol in symbols.symbols {
                out.push(Row {
                    address: Address(symbol.address),
                    kind: symbol.kind.map(letter),
                    name: symbol.name,
                    module_name: module.label(),
                    hidden,
                })?;
            }
        }
        Ok(())
    }
}
