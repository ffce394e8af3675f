//! `load_as`: the address spaces of an image: layers of the file, runs of physical memory, the kernel's page tables.
//!
//! Shows what every other command works on, and every decision of the identification. Truth: the memory map the
//! emulator reports of the guest, its CR3, and the guest's `/proc/iomem`.

use crate::os::Kernel;
use crate::plugin::prelude::*;

/// The command.
pub struct LoadAs;

row! {
    pub struct Row {
        /// What the row is about: `layer`, `run`, `kernel`, `dtb`, `kernel_slide`, `kernel_base`, `profile` or `decision`.
        item: &'static str,
        /// First physical address of a run; value of `dtb`, `kernel_slide` and `kernel_base`.
        start: Option<Address>,
        /// Address behind the last byte of a run.
        end: Option<Address>,
        /// Bytes of a run.
        size: Option<ByteSize>,
        /// Name of a layer, profile or paging mode, or the text of a decision; where the bytes of a run are.
        comment: String,
    }
}

impl Row {
    fn text(item: &'static str, comment: impl Into<String>) -> Self {
        Self { item, start: None, end: None, size: None, comment: comment.into() }
    }

    fn value(item: &'static str, value: u64, comment: &str) -> Self {
        Self { start: Some(Address(value)), ..Self::text(item, comment) }
    }
}

impl Plugin for LoadAs {
    const NAME: &'static str = "load_as";
    const SUMMARY: &'static str = "Show the address spaces of the image and how its kernel was identified";
    const ACTIVE: Active = Active::Image;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let image = session.image()?;
        for layer in &image.layers {
            out.push(Row::text("layer", layer))?;
        }
        for run in image.space.runs(0, u64::MAX) {
            out.push(Row {
                item: "run",
                start: Some(Address(run.start)),
                end: Some(Address(run.end())),
                size: Some(ByteSize(run.len)),
                comment: format!("at {:#x} of the layer below", run.target),
            })?;
        }
        let kernel = Kernel::of(session)?;
        out.push(Row::text("kernel", kernel.paging_name()))?;
        out.push(Row::value("dtb", kernel.dtb(), "physical address of the page table root"))?;
        out.push(match &kernel {
            Kernel::Linux(kernel) => {
                Row::value("kernel_slide", kernel.layout().slide, "run-time minus link-time virtual address")
            }
            Kernel::Windows(kernel) => {
                Row::value("kernel_base", kernel.base(), "virtual address of the image nt")
            }
        })?;
        let (name, source) = kernel.profile();
        out.push(Row::text("profile", format!("{name} from {source}")))?;
        for decision in kernel.decisions() {
            out.push(Row::text("decision", decision))?;
        }
        Ok(())
    }
}
