//! `iomem`: the map of physical addresses.
//!
//! Walks the tree of `iomem_resource`. Truth: `/proc/iomem` of real guests, as root reads it.

use crate::os::linux::KernelFact;
use crate::os::linux::resource::{Resource, tree};
use crate::plugin::prelude::*;

/// The command.
pub struct Iomem;

row! {
    pub struct Row {
        /// The resource.
        resource: ObjRef,
        /// First physical address.
        start: Read<Address>,
        /// Last physical address, inclusive.
        end: Read<Address>,
        /// What is there.
        name: Read<String>,
    }
}

impl Plugin for Iomem {
    const NAME: &'static str = "iomem";
    const SUMMARY: &'static str = "Show the map of physical addresses";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for (depth, resource) in tree(&session.notes, kernel.target(), "iomem_resource")? {
            let row = Row {
                resource: ObjRef { type_name: Resource::STRUCT, addr: resource.addr(), tags: Vec::new() },
                start: resource.start().map(|start| Address(start.0)),
                end: resource.end().map(|end| Address(end.0)),
                name: resource.name(),
            };
            out.push_at(depth, row)?;
        }
        Ok(())
    }
}
