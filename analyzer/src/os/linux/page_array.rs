//! The array of `struct page` over all of physical memory (`mem_map`, `vmemmap`): which page an address of it stands for.
//!
//! In `CONFIG_SPARSEMEM` without `CONFIG_SPARSEMEM_VMEMMAP` and in `CONFIG_DISCONTIGMEM` there is no such array, and nothing is found.

use object::{Absent, Read, Uint, layout};

use super::Kernel;

/// Bits of `mem_section.section_mem_map` that are flags (`SECTION_MAP_MASK`, include/linux/mmzone.h): 6 at most since v6.0, in
/// an address that is a multiple of 64.
const SECTION_FLAGS: u64 = 0x3f;
/// `SECTION_MARKED_PRESENT`.
const SECTION_PRESENT: u64 = 1;
/// Pages of sections that are looked at for the first section with memory: all that 52-bit addresses have with sections of
/// 128 MiB and pages of 4 KiB.
const MAX_SECTION_ROOTS: u64 = 1 << 17;

layout! {
    struct Section / SectionLayout = "mem_section" {
        map: Uint = "section_mem_map",
    }
}

/// Where the array is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageArray {
    /// Address of the `struct page` of physical page 0, whether or not there is memory.
    first: u64,
    /// Bytes of a `struct page`.
    size: u64,
    /// Bytes of a page.
    page_size: u64,
}

impl PageArray {
    /// That of a kernel: the variable `vmemmap_base` of x86-64, `mem_map` where all memory is one array, else what the first section
    /// with memory says: its map, less its first page.
    pub fn of(kernel: &Kernel) -> Read<Self> {
        let target = kernel.target();
        let size = target.types().struct_size("page")?.max(1);
        let page_size = kernel.page_size().max(1);
        let found = |first| Self { first, size, page_size };
        if let Ok(symbol) = target.symbol("vmemmap_base").or_else(|_| target.symbol("mem_map")) {
            return target.read_ptr(symbol).map(found);
        }
        let Ok(symbol) = target.symbol("mem_section") else {
            return Err(Absent::NotApplicable("no array of all pages is known"));
        };
        // CONFIG_SPARSEMEM_EXTREME: pointers to pages of sections.
        let roots = target.read_ptr(symbol)?;
        let section_size = target.types().struct_size(Section::STRUCT)?.max(1);
        let sections = page_size / section_size;
        (0..MAX_SECTION_ROOTS)
            .filter_map(|root| target.read_ptr(roots.wrapping_add(root * 8)).ok().filter(|root| *root != 0))
            .flat_map(|root| (0..sections).map(move |section| root.wrapping_add(section * section_size)))
            .filter_map(|section| Section::at(target, section).map().ok())
            .find(|Uint(map)| map & SECTION_PRESENT != 0)
            .map(|Uint(map)| found(map & !SECTION_FLAGS))
            .ok_or(Absent::Malformed("no section with memory in mem_section"))
    }

    /// The physical address that a `struct page` stands for; `None` below the array.
    #[must_use]
    pub fn physical(self, page: u64) -> Option<u64> {
        page.checked_sub(self.first)?.checked_div(self.size)?.checked_mul(self.page_size)
    }

    /// The `struct page` of a physical address.
    #[must_use]
    pub fn page_of(self, physical: u64) -> u64 {
        (physical / self.page_size.max(1)).wrapping_mul(self.size).wrapping_add(self.first)
    }
}
