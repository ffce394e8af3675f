//! `find_kaslr`: by how much the kernel was moved, physically and virtually.
//!
//! Each hypothesis of the identification (VMCOREINFO, the idle task's name) is tested against the page tables it
//! implies. Truth: `/proc/kallsyms` and `/proc/iomem` of guests with and without KASLR.

use crate::os::linux::{KernelFact, located};
use crate::plugin::prelude::*;

/// The command.
pub struct FindKaslr;

row! {
    pub struct Row {
        /// Run-time minus link-time physical address of the kernel image.
        physical_shift: Address,
        /// Run-time minus link-time virtual address; absent where no page table maps the image.
        virtual_shift: Option<Address>,
        /// What to pass as `--kernel_slide`: the virtual shift.
        kernel_slide: Option<Address>,
        /// First address of the direct map of physical memory, for the kernel in use.
        page_offset: Read<Address>,
        /// Physical address of the page table root.
        dtb as "DTB": Read<Address>,
        /// Whether the tables map the kernel image back to itself.
        valid as "Valid": bool,
        /// Where the hypothesis comes from, and why it does not hold.
        comment: String,
    }
}

impl Plugin for FindKaslr {
    const NAME: &'static str = "find_kaslr";
    const SUMMARY: &'static str = "Find the physical and virtual shift of the kernel";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for found in located(&kernel) {
            let comment = found.comment();
            let slide = found.outcome.as_ref().ok().map(|layout| Address(layout.slide));
            out.push(Row {
                physical_shift: Address(found.hypothesis.physical_shift),
                virtual_shift: slide,
                kernel_slide: slide,
                page_offset: kernel.page_offset().map(Address),
                dtb: found.dtb.map(Address),
                valid: found.outcome.is_ok(),
                comment,
            })?;
        }
        Ok(())
    }
}
