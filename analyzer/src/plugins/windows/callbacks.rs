//! `callbacks`: routines that the kernel calls when something happens.
//!
//! Processes, threads, images, registry, handles, bug checks, shutdown, file systems, plug and play, debug output. Drivers that
//! protect and drivers that hide use the same ones: what matters is whose routine it is. Not seen: callbacks that drivers
//! other than the kernel keep (minifilters, network filters). Truth: the description of the machine that the maker of test
//! images lays out, and Volatility for the kinds it reads.

use crate::os::symbols::symbols;
use crate::os::windows::KernelFact;
use crate::os::windows::callback::callbacks;
use crate::plugin::prelude::*;

/// The command.
pub struct Callbacks;

row! {
    pub struct Row {
        /// The kernel's variable that leads to the routine.
        kind as "type": &'static str,
        /// Address of the record that names it.
        offset: Address,
        /// Address of the routine.
        callback: Read<Address>,
        /// Symbol there; absent for memory of no module.
        symbol: Option<String>,
        /// What the record says besides: a component, a driver, an altitude.
        details: Read<String>,
    }
}

impl Plugin for Callbacks {
    const NAME: &'static str = "callbacks";
    const SUMMARY: &'static str = "List routines that the kernel calls when something happens";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let symbols = symbols(session)?;
        for found in callbacks(&session.notes, kernel.target()) {
            out.push(Row {
                kind: found.kind,
                offset: Address(found.record),
                symbol: found.routine.as_ref().ok().and_then(|routine| symbols.describe(*routine)),
                callback: found.routine.map(Address),
                details: found.details,
            })?;
        }
        symbols.report(&session.notes);
        Ok(())
    }
}
