//! `phys_map`: the ranges of physical memory that the kernel uses.
//!
//! As firmware told it at start; what is missing from an image but not from this was not acquired. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::KernelFact;
use crate::os::windows::physical_runs::runs;
use crate::plugin::prelude::*;

/// The command.
pub struct PhysMap;

row! {
    pub struct Row {
        /// First address.
        phys_start: Read<Address>,
        /// Behind the last byte.
        phys_end: Read<Address>,
        /// Number of pages.
        pages: Read<u64>,
    }
}

impl Plugin for PhysMap {
    const NAME: &'static str = "phys_map";
    const SUMMARY: &'static str = "List the ranges of physical memory the kernel uses";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for run in runs(&session.notes, kernel.target())? {
            let (first, pages) = (run.first().map(|first| first.0), run.pages().map(|pages| pages.0));
            let bytes = |pages: u64| Address(pages.wrapping_mul(0x1000));
            let end = first.clone().and_then(|first| Ok(bytes(first.wrapping_add(pages.clone()?))));
            out.push(Row { phys_start: first.map(bytes), phys_end: end, pages })?;
        }
        Ok(())
    }
}
