//! `hidden_modules`: modules in memory that the list behind `/proc/modules` does not have.
//!
//! The ways are those of `modxview`; what any of them finds and the list lacks is shown. A module that wiped its own
//! `struct module` is found by none of them, but what it hooked leads to code of nobody (`check_*`, `netfilter`, `ftrace`).
//!
//! Truth: clean guests of 5.10, 6.1 and 6.12 have none; the guest 6.1-hostile has exactly the module of our own.

use crate::os::linux::KernelFact;
use crate::os::linux::module::Module;
use crate::os::linux::module_views::{Views, has};
use crate::plugin::prelude::*;

/// The command.
pub struct HiddenModules;

row! {
    pub struct Row {
        /// Address of its `struct module`.
        module: Address,
        /// Name of the module.
        name: Read<String>,
        /// First address of its code.
        start: Read<Address>,
        /// Bytes of all its memory.
        size: Read<ByteSize>,
        /// `Live`, `Loading`, `Unloading` or `Unformed`.
        state: Read<&'static str>,
        /// Ways that find it: `sysfs`, `tree`, `scan`.
        found_by: ListOf<&'static str>,
        /// Letters of its taints, as `lsmod` shows them.
        taints: Read<String>,
    }
}

impl Plugin for HiddenModules {
    const NAME: &'static str = "hidden_modules";
    const SUMMARY: &'static str = "Find kernel modules that are in memory but not on the list";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let views = Views::of(&session.notes, &kernel)?;
        let ways = [("sysfs", &views.sysfs), ("tree", &views.tree), ("scan", &views.scanned)];
        for addr in views.all().difference(&views.listed) {
            let module = Module::at(kernel.target(), *addr);
            let found = ways.iter().filter(|(_, way)| has(way, *addr) == Ok(true));
            out.push(Row {
                module: Address(*addr),
                name: module.label(),
                start: module.base().map(Address),
                size: module.size().map(ByteSize),
                state: module.state(),
                found_by: ListOf(found.map(|(name, _)| *name).collect()),
                taints: module.taints(),
            })?;
        }
        Ok(())
    }
}
