//! `modxview`: which ways of finding modules find which module.
//!
//! Every loaded module is on the list behind `/proc/modules`, in the set behind `/sys/module`, in the tree by which the kernel
//! finds the module of an address (there is none before v4.2), and in the memory for modules. A module that a way lacks was
//! hidden from it.
//!
//! Truth: `/proc/modules` of guests of 5.10, 6.1 and 6.12 has exactly the modules that all ways find; the module of our own in
//! the guest 6.1-hostile is not on the list.

use crate::os::linux::KernelFact;
use crate::os::linux::module::Module;
use crate::os::linux::module_views::{Views, has};
use crate::plugin::prelude::*;

/// The command.
pub struct Modxview;

row! {
    pub struct Row {
        /// Name of the module.
        name: Read<String>,
        /// Address of its `struct module`.
        module: Address,
        /// On the list behind `/proc/modules`.
        procfs as "in_procfs": bool,
        /// In the set behind `/sys/module`.
        sysfs as "in_sysfs": Read<bool>,
        /// In the tree of addresses of modules.
        tree as "in_tree": Read<bool>,
        /// Found in memory by what it looks like.
        scan as "in_scan": Read<bool>,
        /// Letters of its taints, as `lsmod` shows them.
        taints: Read<String>,
    }
}

impl Plugin for Modxview {
    const NAME: &'static str = "modxview";
    const SUMMARY: &'static str = "Compare ways of finding kernel modules";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let views = Views::of(&session.notes, &kernel)?;
        for addr in views.all() {
            let module = Module::at(kernel.target(), addr);
            out.push(Row {
                name: module.label(),
                module: Address(addr),
                procfs: views.listed.contains(&addr),
                sysfs: has(&views.sysfs, addr),
                tree: has(&views.tree, addr),
                scan: has(&views.scanned, addr),
                taints: module.taints(),
            })?;
        }
        Ok(())
    }
}
