//! `lsmod`: kernel modules on the kernel's list.
//!
//! Walks `modules`, newest first. A module taken off that list does not appear. Truth: `/proc/modules` of real guests.

use crate::os::linux::KernelFact;
use crate::os::linux::module::modules;
use crate::plugin::prelude::*;

/// The command.
pub struct Lsmod;

row! {
    pub struct Row {
        /// Address of its `struct module`.
        module as "virtual": Address,
        /// First address of its code.
        start: Read<Address>,
        /// Bytes of all its memory.
        size: Read<ByteSize>,
        /// Name.
        name: Read<String>,
        /// References to it.
        refcount: Read<i64>,
        /// `Live`, `Loading`, `Unloading` or `Unformed`.
        state: Read<&'static str>,
        /// Modules that need it; `[permanent]` where it cannot be unloaded.
        used_by: Read<ListOf<Read<String>>>,
        /// Letters of its taints (`P` proprietary, `O` out of tree, `E` unsigned, ...); empty for none.
        taints: Read<String>,
    }
}

impl Plugin for Lsmod {
    const NAME: &'static str = "lsmod";
    const SUMMARY: &'static str = "List kernel modules";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for module in modules(&session.notes, kernel.target())? {
            out.push(Row {
                module: Address(module.addr()),
                start: module.base().map(Address),
                size: module.size().map(ByteSize),
                name: module.label(),
                refcount: module.refcount(),
                state: module.state(),
                used_by: module.used_by(&session.notes).map(ListOf),
                taints: module.taints(),
            })?;
        }
        Ok(())
    }
}
