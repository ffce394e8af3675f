//! zsmalloc: where the compressed pages of zram and zswap are (mm/zsmalloc.c).
//!
//! ```text
//! handle ─► object: page frame and number in it ─► page ─► zspage ─► class: size of its objects
//!                                                   │ 8 bytes with the handle, then the object; it may go on in the next page
//! ```
//! How many bits of an object are the frame depends on the architecture (`MAX_POSSIBLE_PHYSMEM_BITS`), and how many below it are tags
//! on the version; the right reading is the one whose object begins with its own handle.

use memory::AddressSpace;
use object::{Absent, Addr, Ptr, Read, Target, Uint, layout, little_endian};

use super::super::page_array::PageArray;

/// `ZSPAGE_MAGIC`.
const MAGIC: u64 = 0x58;
/// Shifts of the frame, by the bits of physical addresses: 52, 48 and 46 in 64-bit words, 36 and 32 in 32-bit ones.
const WIDE_SHIFTS: &[u32] = &[24, 28, 30];
const NARROW_SHIFTS: &[u32] = &[8, 12];
/// Bits below the number of an object that are tags, likely ones first.
const TAG_BITS: [u32; 3] = [1, 0, 2];

layout! {
    struct Pool / PoolLayout = "zs_pool" {
        classes: Addr = "size_class",
    }

    struct Class / ClassLayout = "size_class" {
        size: Uint = "size",
        objects: Uint = "objs_per_zspage",
        pages: Uint = "pages_per_zspage",
    }

    struct Zspage / ZspageLayout = "zspage" {
        class: Uint = "class",
        magic: Uint = "magic",
    }

    struct Page / PageLayout = "page" {
        private: Ptr = "private",
        next: Ptr = "index | __folio_index",
    }
}

/// The allocator: its types, and how pages are found.
#[derive(Clone)]
pub(super) struct Zsmalloc {
    /// The kernel's types.
    pub(super) kernel: Target,
    /// Types of the allocator, which may be a module.
    pub(super) types: Target,
    pub(super) pages: PageArray,
}

impl Zsmalloc {
    /// The first `len` bytes of the object of a handle.
    pub(super) fn object(
        &self,
        physical: &dyn AddressSpace,
        pool: u64,
        handle: u64,
        len: usize,
    ) -> Read<Vec<u8>> {
        let (object, wide) = (self.kernel.read_ptr(handle)?, self.kernel.types().model().pointer_size() == 8);
        let mut trouble = None;
        for &shift in if wide { WIDE_SHIFTS } else { NARROW_SHIFTS } {
            for tags in TAG_BITS {
                match self.try_object(physical, (pool, handle, len), (object, shift, tags)) {
                    Ok(bytes) => return Ok(bytes),
                    Err(why) => trouble = trouble.or(Some(why)),
                }
            }
        }
        Err(trouble.unwrap_or(Absent::Malformed("has a handle that no object has")))
    }

    fn try_object(
        &self,
        physical: &dyn AddressSpace,
        (pool, handle, len): (u64, u64, usize),
        (object, shift, tags): (u64, u32, u32),
    ) -> Read<Vec<u8>> {
        const PAGE: u64 = 4096;
        let place = (object >> shift).wrapping_mul(PAGE);
        let number = (object & (1u64 << shift).wrapping_sub(1)) >> tags;
        let page = Page::at(&self.kernel, self.pages.page_of(place));
        let zspage_at = page.private()?.non_null("has a handle to no object")?;
        let zspage = Zspage::at(&self.types, zspage_at);
        if zspage.magic()?.0 != MAGIC {
            return Err(Absent::Malformed("has a handle to no object"));
        }
        let Addr(classes) = Pool::at(&self.types, pool).classes()?;
        let width = u64::from(self.kernel.types().model().pointer_size());
        let class = self.kernel.read_ptr(classes.wrapping_add(zspage.class()?.0.wrapping_mul(width)))?;
        let class = Class::at(&self.types, class);
        let (Uint(size), Uint(objects), Uint(pages)) = (class.size()?, class.objects()?, class.pages()?);
        // What fills a page alone has no handle in front.
        let head = if (objects, pages) == (1, 1) { 0 } else { width };
        if size > PAGE || len as u64 > size.saturating_sub(head) {
            return Err(Absent::Malformed("has an object larger than its size class"));
        }
        let inside = size.wrapping_mul(number) % PAGE;
        let unreadable = |addr| move |fault| Absent::Unreadable { addr, fault };
        let mut bytes = vec![0; usize::try_from(head).unwrap_or(0).saturating_add(len)];
        let first = usize::try_from(PAGE - inside).unwrap_or(0).min(bytes.len());
        let (here, beyond) = bytes.split_at_mut(first);
        let at = place.wrapping_add(inside);
        physical.read_at(at, here).map_err(unreadable(at))?;
        if !beyond.is_empty() {
            let next = page.next()?.non_null("goes on behind the last page of its zspage")?;
            if Page::at(&self.kernel, next).private()? != Ptr(zspage_at) {
                return Err(Absent::Malformed("goes on in a page of another zspage"));
            }
            let at = self.pages.physical(next).ok_or(Absent::Malformed("goes on where no page is"))?;
            physical.read_at(at, beyond).map_err(unreadable(at))?;
        }
        let (found, object) = bytes.split_at(bytes.len().saturating_sub(len));
        let found = little_endian(found);
        // OBJ_ALLOCATED_TAG marks objects in use.
        if head > 0 && found != handle | 1 {
            return Err(Absent::Malformed("has an object with another handle"));
        }
        Ok(object.to_vec())
    }
}
