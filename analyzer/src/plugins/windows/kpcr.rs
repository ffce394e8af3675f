//! `kpcr`: the control region of each processor.
//!
//! From the kernel's table of processors. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::KernelFact;
use crate::os::windows::processor::{facts, regions};
use crate::plugin::prelude::*;
use crate::table::Value;

/// The command.
pub struct Kpcr;

row! {
    pub struct Row {
        /// Name of the property.
        property as "Property": &'static str,
        /// The property.
        value as "Value": Value,
    }
}

impl Plugin for Kpcr {
    const NAME: &'static str = "kpcr";
    const SUMMARY: &'static str = "Show the control regions of processors";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for region in regions(kernel.target())? {
            for (property, value) in facts(kernel.target(), region) {
                out.push(Row { property, value })?;
            }
        }
        Ok(())
    }
}
