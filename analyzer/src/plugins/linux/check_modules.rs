//! `check_modules`: modules that sysfs knows, and whether the list of modules knows them too.
//!
//! Every loaded module has an entry in the set behind `/sys/module` (`module_kset`, kernel/module/sysfs.c). One that is not on
//! the list `modules` was taken off it. Parts of the kernel itself that have parameters are in the set without a module
//! and left out.
//!
//! Truth: the modules of the guests of 5.10, 6.1 and 6.12 (`/proc/modules`) are in both.

use std::collections::HashSet;

use object::{Ptr, Text, layout, walk};

use crate::os::linux::KernelFact;
use crate::os::linux::module::{Module, modules};
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

layout! {
    struct Entry / EntryLayout = "module_kobject" {
        module: Ptr = "mod",
        name: Ptr = "kobj.name",
        references: i32 = "kobj.kref.refcount.refs.counter | kobj.kref.refcount.counter",
    }
}

/// Most entries of the set.
const MAX_ENTRIES: usize = 1 << 16;

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
        let set = target.read_ptr(target.symbol("module_kset")?)?;
        let head = set.wrapping_add(target.offset_of("kset", "list")?);
        let link = target.offset_of(Entry::STRUCT, "kobj.entry")?;
        let walked = walk::list_capped(target, head, MAX_ENTRIES);
        session.notes.walk("module_kset", &walked.end);
        for addr in walked.containers(link) {
            let entry = Entry::at(target, addr);
            let module = match entry.module() {
                Ok(Ptr(0)) => continue,
                Ok(Ptr(module)) => module,
                Err(why) => {
                    session.notes.partial(format!("entry of module_kset at {addr:#x} has no module: {why}"));
                    continue;
                }
            };
            let own_name = || Module::at(target, module).name().map(|Text(bytes)| text_of(&bytes));
            let name = entry.name().and_then(|Ptr(name)| Ok(text_of(&target.read_cstr(name, 64)?)));
            out.push(Row {
                module: Address(module),
                mod_name: name.or_else(|_| own_name()),
                ref_count: entry.references().map(i64::from),
                known: listed.contains(&module),
            })?;
        }
        Ok(())
    }
}
