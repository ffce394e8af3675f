//! `virt_map`: what the ranges of the kernel's virtual memory are for.
//!
//! From the kernel's table of regions (Windows 10 and later), its map of types (32-bit systems from Vista on) or its variables. Truth: the description of the machine that the maker of
//! test images lays out.

use crate::os::windows::KernelFact;
use crate::os::windows::regions::regions;
use crate::plugin::prelude::*;

/// The command.
pub struct VirtMap;

row! {
    pub struct Row {
        /// What the range is for.
        region: String,
        /// The structure or variables that say so.
        source as "type": &'static str,
        /// First address.
        virt_start: Read<Address>,
        /// Length in bytes.
        length: Read<ByteSize>,
        /// Address behind the last byte.
        virt_end: Read<Address>,
    }
}

impl Plugin for VirtMap {
    const NAME: &'static str = "virt_map";
    const SUMMARY: &'static str = "List the ranges of the kernel's virtual memory";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for region in regions(kernel.target(), kernel.paging())? {
            let length = region.start.clone().and_then(|start| {
                let end = region.end.clone()?;
                end.checked_sub(start)
                    .map(ByteSize)
                    .ok_or(Absent::Malformed("range that ends before it starts"))
            });
            out.push(Row {
                region: region.name,
                source: region.source,
                virt_start: region.start.map(Address),
                length,
                virt_end: region.end.map(Address),
            })?;
        }
        Ok(())
    }
}
