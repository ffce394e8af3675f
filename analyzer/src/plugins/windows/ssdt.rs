//! `ssdt`: system services and the functions that serve them.
//!
//! A function outside of the kernel and win32k is a hook. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::symbols::symbols;
use crate::os::windows::KernelFact;
use crate::os::windows::service_table::tables;
use crate::plugin::prelude::*;

/// The command.
pub struct Ssdt;

row! {
    pub struct Row {
        /// Whose table it is.
        table: &'static str,
        /// Number of the service, as programs give it.
        entry: Address,
        /// Address of the function.
        target: Read<Address>,
        /// Symbol there.
        symbol: Option<String>,
    }
}

impl Plugin for Ssdt {
    const NAME: &'static str = "ssdt";
    const SUMMARY: &'static str = "List system services and the functions that serve them";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let symbols = symbols(session)?;
        for table in tables(session, &kernel)? {
            for (index, target) in (0u64..).zip(table.services) {
                out.push(Row {
                    table: table.name,
                    entry: Address(table.number << 12 | index),
                    symbol: target.as_ref().ok().and_then(|target| symbols.describe(*target)),
                    target: target.map(Address),
                })?;
            }
        }
        symbols.report(&session.notes);
        Ok(())
    }
}
