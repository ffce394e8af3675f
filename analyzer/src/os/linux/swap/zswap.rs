//! zswap: pages that were to go to a swap area and are kept compressed in memory instead (mm/zswap.c).
//!
//! Per area there is a tree of `zswap_entry`, by the page in the area: red-black, from v6.8 one for each 64 MiB of the area, from v6.9
//! XArrays. The compressed page is in zbud, whose handles are addresses, or in zsmalloc. Entries of z3fold are found but not read.

use std::collections::HashMap;

use memory::AddressSpace;
use object::walk::End;
use object::{Absent, Addr, Ptr, Read, Target, Text, Uint, layout};

use super::compressed::{algorithm, decompress};
use super::entry::Slot;
use super::zsmalloc::Zsmalloc;
use super::{PAGE, SPACE_SHIFT};
use crate::os::linux::{rbtree, xarray};
use crate::table::text_of;

/// Most trees of an area: 2^32 pages.
const MAX_TREES: u64 = 1 << 18;

layout! {
    struct Tree / TreeLayout = "zswap_tree" {
        root: Ptr = "rbroot.rb_node",
    }

    struct Entry / EntryLayout = "zswap_entry" {
        node: Addr = "rbnode",
        /// A page in the area; from v6.5 with the area on top.
        offset: Uint = "offset | swpentry.val",
        length: Uint = "length",
        handle: Uint = "handle",
        pool: Ptr = "pool",
    }

    struct Pool / PoolLayout = "zswap_pool" {
        allocator: Ptr = "zpool",
        /// Several from v6.6 to v6.8; their size classes are alike.
        allocators: Addr = "zpools",
        algorithm: Text = "tfm_name",
    }

    struct Allocator / AllocatorLayout = "zpool" {
        driver: Ptr = "driver",
        pool: Ptr = "pool",
    }

    struct Driver / DriverLayout = "zpool_driver" {
        kind: Ptr = "type",
    }
}

/// The pages of an area that zswap has.
pub(super) struct Zswap {
    target: Target,
    /// Address of the `zswap_entry` by page.
    entries: HashMap<u64, u64>,
    /// Whether there may be more.
    torn: bool,
}

impl Zswap {
    /// Those of an area of so many pages; none where the kernel has no zswap, or does not use it for the area.
    pub(super) fn of(target: &Target, area: u64, pages: u64) -> Self {
        let mut zswap = Self { target: target.clone(), entries: HashMap::new(), torn: false };
        let width = u64::from(target.types().model().pointer_size());
        let Ok(trees) = target.symbol("zswap_trees") else { return zswap };
        let first = match target.read_ptr(trees.wrapping_add(area.wrapping_mul(width))) {
            Ok(0) => return zswap,
            Ok(first) => first,
            Err(_) => {
                zswap.torn = true;
                return zswap;
            }
        };
        let several = target.symbol("nr_zswap_trees").is_ok();
        let count = if several { pages.div_ceil(1 << SPACE_SHIFT).min(MAX_TREES) } else { 1 };
        let is_red_black = target.types().structure(Tree::STRUCT).is_ok();
        let size =
            target.types().struct_size(if is_red_black { Tree::STRUCT } else { "xarray" }).unwrap_or(16);
        for number in 0..count {
            let tree = first.wrapping_add(number.wrapping_mul(size));
            if is_red_black { zswap.red_black(tree) } else { zswap.xarray(tree) }
        }
        zswap
    }

    fn red_black(&mut self, tree: u64) {
        let target = &self.target;
        let (Ok(Ptr(root)), Ok(link)) =
            (Tree::at(target, tree).root(), target.offset_of(Entry::STRUCT, "rbnode"))
        else {
            self.torn = true;
            return;
        };
        let walked = rbtree::nodes(target, root);
        self.torn |= walked.end != End::Complete;
        for entry in walked.containers(link) {
            match Entry::at(target, entry).offset() {
                Ok(Uint(offset)) => _ = self.entries.insert(offset & (u64::MAX >> 6), entry),
                Err(_) => self.torn = true,
            }
        }
    }

    fn xarray(&mut self, tree: u64) {
        match xarray::entries(&self.target, tree) {
            Ok(found) => {
                self.torn |= found.end != End::Complete;
                self.entries.extend(found.entries);
            }
            Err(_) => self.torn = true,
        }
    }

    /// The `zswap_entry` of a page; `None` where the area itself has it.
    pub(super) fn find(&self, page: u64) -> Read<Option<u64>> {
        match self.entries.get(&page) {
            None if self.torn => Err(Absent::Malformed("may be in zswap, whose tree is torn")),
            found => Ok(found.copied()),
        }
    }

    /// The content of a page.
    pub(super) fn page(
        &self,
        physical: &dyn AddressSpace,
        allocator: Option<&Zsmalloc>,
        slot: Slot,
        entry: u64,
    ) -> Read<Vec<u8>> {
        let target = &self.target;
        let entry = Entry::at(target, entry);
        let (Uint(length), Uint(handle), Ptr(pool)) = (entry.length()?, entry.handle()?, entry.pool()?);
        let width = usize::from(target.types().model().pointer_size());
        if length == 0 {
            // One repeated word, up to v6.10.
            return Ok(handle.to_le_bytes().iter().take(width).copied().cycle().take(PAGE).collect());
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= PAGE);
        let length = length.ok_or(Absent::Malformed("has a length in zswap that no page has"))?;
        let pool = Pool::at(target, pool);
        let zpool = match (pool.allocator(), pool.allocators()) {
            (Ok(Ptr(zpool)), _) => zpool,
            (_, Ok(Addr(zpools))) => target.read_ptr(zpools)?,
            (Err(why), _) => return Err(why),
        };
        let zpool = Allocator::at(target, zpool);
        let Ptr(kind) = Driver::at(target, zpool.driver()?.0).kind()?;
        // Up to v6.4 allocators that can write pages back have the slot in front of each page (`struct zswap_header`).
        let headed = target.types().structure("zswap_header").is_ok();
        let most = if headed { length.saturating_add(width) } else { length };
        let read = |len: usize| match target.read_cstr(kind, 32)?.as_slice() {
            b"zbud" => target.read_bytes(handle, len as u64, 2 * PAGE),
            b"zsmalloc" => {
                let allocator =
                    allocator.ok_or(Absent::NotApplicable("is in zsmalloc, whose types are not known"))?;
                allocator.object(physical, zpool.pool()?.0, handle, len)
            }
            _ => Err(Absent::Malformed("is in an allocator that is not read")),
        };
        let bytes = read(most).or_else(|_| read(length))?;
        let shift = if width == 8 { 58 } else { 26 };
        let name = (slot.area << shift | slot.page).to_le_bytes();
        let named = headed && name.get(..width).is_some_and(|name| bytes.starts_with(name));
        let from = if named { width } else { 0 };
        let stored = bytes.get(from..from.saturating_add(length)).unwrap_or_default();
        let Text(name) = pool.algorithm()?;
        decompress(algorithm(&text_of(&name))?, stored)
    }
}
