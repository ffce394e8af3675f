//! `unloaded_modules`: kernel modules that were unloaded, oldest first.
//!
//! The kernel remembers the last 50. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::KernelFact;
use crate::os::windows::unloaded::unloaded;
use crate::plugin::prelude::*;

/// The command.
pub struct UnloadedModules;

row! {
    pub struct Row {
        /// File name.
        name: Read<String>,
        /// Where it was mapped.
        start: Read<Address>,
        /// Behind its last byte.
        end: Read<Address>,
        /// When it was unloaded.
        time: Read<Time>,
    }
}

impl Plugin for UnloadedModules {
    const NAME: &'static str = "unloaded_modules";
    const SUMMARY: &'static str = "List kernel modules that were unloaded";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let found = match unloaded(&session.notes, kernel.target()) {
            Err(Absent::NotApplicable(_)) => return Ok(()),
            found => found?,
        };
        for module in found {
            out.push(Row {
                name: module.name(),
                start: module.start().map(Address),
                end: module.end().map(Address),
                time: module.time(),
            })?;
        }
        Ok(())
    }
}
