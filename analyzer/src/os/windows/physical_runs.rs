//! Which physical memory the kernel uses: `MmPhysicalMemoryBlock`.

use object::{Absent, Addr, Ptr, Read, Target, Uint, layout};

use crate::notes::Notes;

/// Most runs that are believed; firmware tells a few dozen.
const MAX_RUNS: u64 = 4096;

layout! {
    struct Descriptor / DescriptorLayout = "_PHYSICAL_MEMORY_DESCRIPTOR" {
        count: u32 = "NumberOfRuns",
        runs: Addr = "Run",
    }

    /// `_PHYSICAL_MEMORY_RUN`: pages in a row.
    pub struct PhysicalRun / PhysicalRunLayout = "_PHYSICAL_MEMORY_RUN" {
        /// Number of the first page.
        first: Uint = "BasePage",
        /// Number of pages.
        pages: Uint = "PageCount",
    }
}

/// The runs of pages that the kernel was given by firmware, ascending.
pub fn runs<'k>(notes: &Notes, target: &'k Target) -> Read<Vec<PhysicalRun<'k>>> {
    let block =
        Ptr(target.read_ptr(target.symbol("MmPhysicalMemoryBlock")?)?).non_null("no physical memory")?;
    let descriptor = Descriptor::at(target, block);
    let (count, Addr(first)) = (u64::from(descriptor.count()?), descriptor.runs()?);
    if count > MAX_RUNS {
        notes.partial(format!(
            "{count} runs of physical memory are not believed; the first {MAX_RUNS} are shown"
        ));
    }
    let size = target.types().struct_size(PhysicalRun::STRUCT).map_err(Absent::from)?;
    Ok((0..count.min(MAX_RUNS))
        .map(|index| PhysicalRun::at(target, first.wrapping_add(index.wrapping_mul(size))))
        .collect())
}
