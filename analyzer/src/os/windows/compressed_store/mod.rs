//! The compressed store of Windows 10 and later: pages that were paged out into the memory of the process `MemCompression`.
//!
//! ```text
//! page table entry ─► number of the virtual pagefile, page in it: the page key
//!     nt!SmGlobals ─► tree of all keys ─► number of a store ─► its SMKM_STORE
//!     SMKM_STORE   ─► tree of its keys ─► chunk key ─► page record ─► region key and length
//!                  ─► array of regions ─► bytes in the memory of MemCompression ─► the page: Xpress, or LZ4 from build 26100 on
//! ```
//! The store's structures and regions are read through page tables and pagefiles alone, never through the store, which ends every
//! recursion. Its fields have no symbols; see `shape` for where they come from. Truth: none of a real system yet; the store that the
//! maker of test images lays out from the same public research, and what the structures say of each other: a store knows its own
//! address, its owner is a process, regions are as long as their keys can tell.

mod shape;
mod tree;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use memory::{AddressSpace, Codec, VirtualSpace};
use object::Target;

use self::shape::{Manager, Shape};
use super::kernel;
use super::paged::{Backing, PagedSpace};
use super::pagefile;
use super::process::Process;
use crate::os::kept::KeptPages;

/// Bytes of a page.
const PAGE: usize = 4096;
/// The length of a page that is not compressed.
const WHOLE: u32 = 4096;
/// Most stores: 32 arrays of 32.
const STORES: u32 = 1024;
/// Set in the global tree's value of a key that no store has any more.
const NO_STORE: u32 = 0x0100_0000;
/// The region key of a record that another stands for.
const MOVED: u32 = u32::MAX;
/// Most records that are followed from one to the next.
const MAX_MOVES: usize = 8;
/// `COMPRESSION_FORMAT_XPRESS`.
const XPRESS: u16 = 3;
/// Bytes in which offsets in a region are counted.
const GRANULE: u64 = 16;
/// What the address of a region is a multiple of: allocations of a process are.
const REGION_ALIGNMENT: u64 = 1 << 16;

/// Why a page of the store cannot be had, as readers say it of the page.
pub(super) type Why = &'static str;

const NO_PAGE: Why = "is in the compressed store, which has no such page";

/// Where the store has a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredPage {
    /// The key that stands for it.
    pub key: u32,
    /// Number of the store.
    pub store: u32,
    /// Number of the region in it.
    pub region: u32,
    /// Address of its bytes in the memory of the store's process.
    pub address: u64,
    /// Bytes it takes there: 4096 where it is not compressed, 0 where it is zeros.
    pub len: u32,
    codec: Codec,
}

impl StoredPage {
    /// How it is kept, in a few words.
    #[must_use]
    pub fn how(&self) -> &'static str {
        match (self.len, self.codec) {
            (0, _) => "nothing but zeros",
            (WHOLE, _) => "not compressed",
            (_, Codec::Lz4) => "decompressed with LZ4",
            _ => "decompressed with Xpress",
        }
    }
}

/// The stores of a kernel.
pub(super) struct CompressedStore {
    /// The kernel, as it can be read without the store.
    kernel: Target,
    backing: Arc<Backing>,
    /// Number of the pagefile that stands for the store.
    number: u64,
    manager: Result<(Shape, u64), Why>,
    /// By number, those that were asked for.
    stores: Vec<OnceLock<Result<Box<Store>, Why>>>,
    kept: KeptPages<u64>,
}

/// One store.
struct Store {
    tree: u64,
    /// Address of the array of chunks by the highest bit of a chunk's number.
    chunks: [u64; 32],
    chunk_shift: u32,
    record_mask: u32,
    record_bytes: u32,
    chunk_header: u32,
    region_mask: u32,
    region_shift: u32,
    regions: u64,
    memory: PagedSpace,
}

impl CompressedStore {
    /// The store of a kernel; `None` where none of its pagefiles is one. `backing` reads pages without it.
    pub(super) fn of(kernel: Target, backing: Arc<Backing>) -> Option<Self> {
        let (files, _) = pagefile::pagefiles(&kernel).ok()?;
        let number = files.iter().find(|file| file.is_compressed_store())?.number().ok()?.0;
        Some(Self {
            manager: manager(&kernel),
            kernel,
            backing,
            number,
            stores: (0..STORES).map(|_| OnceLock::new()).collect(),
            kept: KeptPages::new(),
        })
    }

    /// Number of the pagefile that stands for the store.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Where a page of the virtual pagefile is.
    pub(super) fn locate(&self, page: u64) -> Result<StoredPage, Why> {
        let (shape, manager) = self.manager?;
        let in_file = u32::try_from(page).ok().filter(|page| page >> 28 == 0).ok_or(NO_PAGE)?;
        let number = u32::try_from(self.number).unwrap_or(0);
        let key = (number.wrapping_shl(28) | in_file) & u32::MAX.wrapping_shr(32 - shape.key_bits);
        let space = self.kernel.space();
        let root = self.pointer(manager.wrapping_add(shape.global_tree))?;
        let found = tree::find(space, root, shape.width, key)?.ok_or(NO_PAGE)?;
        if found & NO_STORE != 0 {
            return Err("was in the compressed store, which gave it up");
        }
        let index = found % STORES;
        let store = self.store(&shape, manager, index)?;
        let chunk = tree::find(space, store.tree, shape.width, key)?.ok_or(NO_PAGE)?;
        let (region_key, len) = self.record(&shape, store, chunk)?;
        // Some lengths have flags above them. What is then left of one must not make zeros of a page that is not.
        let len = match (len, len % WHOLE) {
            (0 | WHOLE, _) => len,
            (_, 0) => return Err("is in the compressed store, with a length that no page has"),
            (_, len) => len,
        };
        let region = region_key.checked_shr(store.region_shift).unwrap_or(0);
        let offset = u64::from(region_key & store.region_mask).wrapping_mul(GRANULE);
        let region_bytes = u64::from(store.region_mask).wrapping_add(1).wrapping_mul(GRANULE);
        if offset.wrapping_add(len.into()) > region_bytes {
            return Err("is in the compressed store, beyond the end of a region");
        }
        let place = store.regions.wrapping_add(u64::from(region).wrapping_mul(shape.width));
        // The lowest bits are no part of the address.
        let start = self.pointer(place)? & !(REGION_ALIGNMENT - 1);
        if start == 0 || self.is_kernel(start) {
            return Err("is in the compressed store, in a region that is not there");
        }
        let address = start.wrapping_add(offset);
        Ok(StoredPage { key, store: index, region, address, len, codec: shape.codec })
    }

    /// Physical address of the first of a page's bytes.
    pub(super) fn physical(&self, page: &StoredPage) -> Result<u64, memory::Fault> {
        let fault = |why| memory::Fault::Elsewhere { addr: page.address, why, entry: page.key.into() };
        let (shape, manager) = self.manager.map_err(fault)?;
        self.store(&shape, manager, page.store).map_err(fault)?.memory.translate(page.address)
    }

    /// A page of the virtual pagefile.
    pub(super) fn read(&self, page: u64) -> Result<Arc<Vec<u8>>, Why> {
        self.kept.page(page, page, || {
            let stored = self.locate(page)?;
            let (shape, manager) = self.manager?;
            let store = self.store(&shape, manager, stored.store)?;
            let mut out = vec![0; PAGE];
            let len = usize::try_from(stored.len).unwrap_or(PAGE).min(PAGE);
            let mut bytes = vec![0; len];
            store
                .memory
                .read_at(stored.address, &mut bytes)
                .map_err(|_| "is in the compressed store, whose region cannot be read")?;
            match len {
                0 => {}
                PAGE => out = bytes,
                _ => memory::decompress(stored.codec, &bytes, &mut out)
                    .ok_or("is in the compressed store, and cannot be decompressed")?,
            }
            Ok(out)
        })
    }

    fn pointer(&self, addr: u64) -> Result<u64, Why> {
        self.kernel
            .read_ptr(addr)
            .map_err(|_| "is in the compressed store, of whose structures one cannot be read")
    }

    fn word(&self, addr: u64) -> Result<u32, Why> {
        self.kernel
            .read_u32(addr)
            .map_err(|_| "is in the compressed store, of whose structures one cannot be read")
    }

    fn is_kernel(&self, addr: u64) -> bool {
        let wide = self.kernel.types().model().pointer_size() == 8;
        if wide { addr >> 47 != 0 } else { addr >> 31 != 0 }
    }

    /// A store by its number.
    fn store(&self, shape: &Shape, manager: u64, index: u32) -> Result<&Store, Why> {
        let place = usize::try_from(index).ok().and_then(|index| self.stores.get(index)).ok_or(NO_PAGE)?;
        let store = place.get_or_init(|| self.open(shape, manager, index).map(Box::new));
        store.as_deref().map_err(|why| *why)
    }

    fn open(&self, shape: &Shape, manager: u64, index: u32) -> Result<Store, Why> {
        let row = self.pointer(manager.wrapping_add(u64::from(index / 32).wrapping_mul(shape.width)))?;
        let at = self.pointer(row.wrapping_add(u64::from(index % 32).wrapping_mul(shape.metadata)))?;
        if row == 0 || at == 0 {
            return Err("is in a compressed store that is not there");
        }
        let of = |offset: u64| at.wrapping_add(offset);
        if self.pointer(of(shape.own_store))? != at {
            return Err("is in a compressed store that does not know its own address");
        }
        let format = shape.format.map(|offset| self.word(of(offset))).transpose()?;
        // Two bytes.
        if format.is_some_and(|format| format & 0xffff != u32::from(XPRESS)) {
            return Err("is in a compressed store whose compression is not known");
        }
        let mut chunks = [0; 32];
        for (slot, number) in chunks.iter_mut().zip(0u64..) {
            *slot = self.pointer(of(shape.chunks.wrapping_add(number.wrapping_mul(shape.width))))?;
        }
        let behind = shape.chunks.wrapping_add(32u64.wrapping_mul(shape.width));
        let region_mask = self.word(of(shape.own_store.wrapping_add(shape.width)))?;
        let region_shift = self.word(of(shape.own_store.wrapping_add(shape.width).wrapping_add(4)))? & 0xff;
        if 1u32.checked_shl(region_shift).is_none_or(|bytes| bytes.wrapping_sub(1) != region_mask) {
            return Err("is in a compressed store whose regions have no length");
        }
        Ok(Store {
            tree: self.pointer(of(shape.local_tree))?,
            chunks,
            chunk_shift: self.word(of(behind.wrapping_add(8)))? & 0xff,
            record_mask: self.word(of(behind.wrapping_add(0xc)))?,
            record_bytes: self.word(of(behind.wrapping_add(0x10)))?,
            chunk_header: self.word(of(behind.wrapping_add(0x18)))?,
            region_mask,
            region_shift,
            regions: self.pointer(of(shape.regions))?,
            memory: self.memory(self.pointer(of(shape.owner))?)?,
        })
    }

    /// The memory of the process that a store belongs to.
    fn memory(&self, owner: u64) -> Result<PagedSpace, Why> {
        let process = Process::at(&self.kernel, owner);
        if !self.is_kernel(owner) || !process.is_plausible() {
            return Err("is in a compressed store that belongs to no process");
        }
        let dtb = process.dtb().map_err(|_| "is in a compressed store of a process without page tables")?;
        let tables = self.backing.kernel();
        let tables = VirtualSpace::new(Arc::clone(tables.physical()), tables.paging(), dtb);
        Ok(PagedSpace::new(Arc::clone(&self.backing), tables, None))
    }

    /// Region key and length of the page that a chunk key stands for.
    fn record(&self, shape: &Shape, store: &Store, chunk_key: u32) -> Result<(u32, u32), Why> {
        let mut chunk_key = chunk_key;
        for _ in 0..MAX_MOVES {
            let number = chunk_key.checked_shr(store.chunk_shift).unwrap_or(0);
            let row =
                number.checked_ilog2().ok_or("is in the compressed store, in a chunk that is not there")?;
            let array = usize::try_from(row).ok().and_then(|row| store.chunks.get(row)).copied();
            let array = array
                .filter(|at| *at != 0)
                .ok_or("is in the compressed store, in a chunk that is not there")?;
            let column = number ^ 1u32.wrapping_shl(row);
            let chunk =
                self.pointer(array.wrapping_add(u64::from(column).wrapping_mul(shape.chunk_entry)))?;
            let record = u64::from(chunk_key & store.record_mask).wrapping_mul(store.record_bytes.into());
            let at = chunk.wrapping_add(store.chunk_header.into()).wrapping_add(record);
            let key = self.word(at)?;
            if key != MOVED {
                return Ok((key, self.word(at.wrapping_add(4))?));
            }
            chunk_key = self.word(at.wrapping_add(8))?;
        }
        Err("is in the compressed store, whose records lead on and on")
    }
}

/// What the manager of all stores looks like, and where it is.
fn manager(kernel: &Target) -> Result<(Shape, u64), Why> {
    let wide = kernel.types().model().pointer_size() == 8;
    let build = kernel::build_of(kernel)
        .ok_or("is in the compressed store of a build that does not say its number")?;
    let shape =
        Shape::of(build, wide).ok_or("is in the compressed store of a build whose layout is not known")?;
    let globals = kernel
        .symbol("SmGlobals")
        .or_else(|_| kernel.symbol("?SmGlobals@@3U_SM_GLOBALS@@A"))
        .map_err(|_| "is in the compressed store, which the profile does not know (SmGlobals)")?;
    let at = match shape.manager {
        Manager::There => globals,
        Manager::Behind { pointer, inside } => kernel
            .read_ptr(globals.wrapping_add(pointer))
            .map_err(|_| "is in the compressed store, whose manager cannot be read")?
            .wrapping_sub(inside),
    };
    Ok((shape, at))
}
