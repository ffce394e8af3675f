//! `find_dtb`: page table roots of the kernel, and what speaks for them.
//!
//! The one in use, those the container and low memory name, and every page of physical memory that maps itself as Windows does: the
//! roots of all processes, and decoys. Truth: the roots of the images of the maker of test images.

use crate::os::windows::{KernelFact, root_candidates};
use crate::plugin::prelude::*;

/// The command.
pub struct FindDtb;

row! {
    pub struct Row {
        /// Physical address of the page table root.
        dtb as "DTB": Read<Address>,
        /// Whether the tables map the kernel image where the kernel's own do.
        valid as "Valid": bool,
        /// Where the candidate comes from, and what a test found.
        comment: String,
    }
}

impl Plugin for FindDtb {
    const NAME: &'static str = "find_dtb";
    const SUMMARY: &'static str = "Find page table roots of the kernel";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for (dtb, valid, comment) in root_candidates(session.image()?, &kernel) {
            out.push(Row { dtb: Ok(Address(dtb)), valid, comment })?;
        }
        Ok(())
    }
}
