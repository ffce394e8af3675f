//! `check_modules`: modules that sysfs knows, and whether the list of modules knows them too.
//!
//! Every loaded module has an entry in the set behind `/sys/module` (`module_kset`, kernel/module/sysfs.c). One that is not on
//! the list `modules` was taken off it. Parts of the kernel itself that have parameters are in the set without a module
//! and left out. `modxview` compares more ways.
//!
//! Truth: the modules of the guests of 5.10, 6.1 and 6.12 (`/proc/modules`) are in both; the module of our own that hides itself
//! in the guest 6.1-hostile is in the set only.

use std::collections::HashSet;

use object::{Ptr, Text};

use crate::os::linux::KernelFact;
use crate::os::linux::module::{Module, modules};
use crate::os::linux::module_views::sys_entries;
use crate::plugin::prelude::*;
use crate::table::text_of;

/// The command.
pub struct CheckModules;

row! {
    pub struct Row {
        /// Address of its `struct module`.
        module: Address,
        /// Name by the set.
        mod_name: Read<String>,
        /// References to the entry of the set.
        ref_count: Read<i64>,
        /// Whether the list of modules has it; a hidden module is not known.
        known: bool,
    }
}

impl Plugin for CheckModules {
    const NAME: &'static str = "check_modules";
    const SUMMARY: &'static str = "Find kernel modules that are hidden from the list";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let target = kernel.target();
        let listed: HashSet<u64> = modules(&session.notes, target)?.iter().map(Module::addr).collect();
        for entry in sys_entries(&session.notes, target)? {
            let Ptr(module) = entry.module()?;
            let own_name = || Module::at(target, module).name().map(|Text(bytes)| text_of(&bytes));
            out.push(Row {
                module: Address(module),
                mod_name: entry.label().or_else(|_| own_name()),
                ref_count: entry.references().map(i64::from),
                known: listed.contains(&module),
            })?;
        }
        Ok(())
    }
}
