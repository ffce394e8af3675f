//! `find_dtb`: page table roots the kernel could have.
//!
//! The root follows from where the kernel image stands in physical memory; every hypothesis for that (see
//! `find_kaslr`) gives one candidate. Truth: `init_top_pgt` of the System.map, moved
//! as `/proc/kallsyms` and `/proc/iomem` of the guest say.

use crate::os::linux::{KernelFact, located};
use crate::plugin::prelude::*;

/// The command.
pub struct FindDtb;

row! {
    pub struct Row {
        /// Physical address of the page table root.
        dtb as "DTB": Read<Address>,
        /// Whether the tables map the kernel image back to itself.
        valid as "Valid": bool,
        /// Where the candidate comes from, and why it is not valid.
        comment: String,
    }
}

impl Plugin for FindDtb {
    const NAME: &'static str = "find_dtb";
    const SUMMARY: &'static str = "Find page table roots of the kernel";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for found in located(&kernel) {
            let comment = found.comment();
            out.push(Row { dtb: found.dtb.map(Address), valid: found.outcome.is_ok(), comment })?;
        }
        Ok(())
    }
}
