//! `lsmod_sections`: sections of kernel modules and where they were loaded.
//!
//! As `/sys/module/NAME/sections` shows them (`module.sect_attrs`, kernel/module/sysfs.c): also those that were freed after
//! initialisation. Truth: that folder of guests of 5.10, 6.1 and 6.12, every file.

use crate::os::linux::KernelFact;
use crate::os::linux::module::{modules, sections};
use crate::plugin::prelude::*;

/// The command.
pub struct LsmodSections;

row! {
    pub struct Row {
        /// The module.
        name: Read<String>,
        /// Name of the section.
        section: Read<String>,
        /// Where it was loaded.
        address: Read<Address>,
    }
}

impl Plugin for LsmodSections {
    const NAME: &'static str = "lsmod_sections";
    const SUMMARY: &'static str = "List sections of kernel modules";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for module in modules(&session.notes, kernel.target())? {
            match sections(&module) {
                Ok(sections) => {
                    for (section, address) in sections {
                        out.push(Row { name: module.label(), section, address: address.map(Address) })?;
                    }
                }
                Err(why) => {
                    out.push(Row { name: module.label(), section: Err(why.clone()), address: Err(why) })?;
                }
            }
        }
        Ok(())
    }
}
