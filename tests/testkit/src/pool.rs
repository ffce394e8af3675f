//! Kernel pools: blocks with headers, laid one behind the other in pages, gaps filled with free blocks.
//!
//! Header values: `PoolType` is the pool's kind plus one before Vista and the kind with the in-use bit 2 since; `BlockSize`
//! and `PreviousSize` count granules of 8 (x86) or 16 (x64) bytes. Allocations of a page and more have no header.
//! Source: Windows Internals, "Pool monitoring"; `poolmon` tag documentation in the WDK.

use std::collections::BTreeMap;

use crate::machine::{Machine, SpaceId};
use crate::physical::PAGE;

/// Bytes of the region of a pool.
pub(crate) const POOL_REGION: u64 = 0x100_0000_0000;

/// The pool an allocation comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Always resident.
    NonPaged,
    /// May be paged out.
    Paged,
}

/// One block of a pool.
#[derive(Debug, Clone, Copy)]
struct Block {
    bytes: u64,
    tag: [u8; 4],
    kind: Kind,
}

/// All pools of a machine.
#[derive(Debug)]
pub(crate) struct Pools {
    /// Blocks by the address of their header.
    blocks: BTreeMap<u64, Block>,
    next: BTreeMap<Kind, u64>,
    /// Allocations without a header: address, tag, bytes, kind.
    pub(crate) big: Vec<(u64, [u8; 4], u64, Kind)>,
    /// What the pool tracker was told.
    tracked: Totals,
    /// Allocations and bytes that the descriptor of each kind was told.
    described: BTreeMap<Kind, (u64, u64)>,
}

/// Number of allocations and their bytes by tag and kind.
pub type Totals = BTreeMap<([u8; 4], Kind), (u64, u64)>;

impl Pools {
    pub(crate) fn new(nonpaged: u64, paged: u64) -> Self {
        let next = BTreeMap::from([(Kind::NonPaged, nonpaged), (Kind::Paged, paged)]);
        Self {
            blocks: BTreeMap::new(),
            next,
            big: Vec::new(),
            tracked: Totals::new(),
            described: BTreeMap::new(),
        }
    }

    /// First free address of a pool.
    pub(crate) fn end(&self, kind: Kind) -> u64 {
        self.next[&kind].next_multiple_of(PAGE)
    }

    /// Addresses of the allocations whose tag begins so.
    pub(crate) fn tagged(&self, tag: [u8; 2]) -> impl Iterator<Item = u64> {
        let small = self.blocks.iter().map(|(&at, block)| (at, block.tag));
        let big = self.big.iter().map(|&(at, of, _, _)| (at, of));
        small.chain(big).filter(move |(_, of)| of.starts_with(&tag)).map(|(at, _)| at)
    }

    /// Sum of allocated bytes and number of allocations by tag and kind: what the pool tracker says.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = BTreeMap::new();
        let small = self.blocks.values().map(|block| (block.tag, block.kind, block.bytes));
        for (tag, kind, bytes) in
            small.chain(self.big.iter().map(|&(_, tag, bytes, kind)| (tag, kind, bytes)))
        {
            let total: &mut (u64, u64) = totals.entry((tag, kind)).or_default();
            total.0 += 1;
            total.1 += bytes;
        }
        totals
    }
}

impl Machine {
    fn granule(&self) -> u64 {
        if self.system.is_64() { 16 } else { 8 }
    }

    fn pool_header_size(&self) -> u64 {
        self.system.layouts.size("_POOL_HEADER")
    }

    /// Allocates zeroed pool memory. Returns the address behind the header.
    pub fn allocate(&mut self, kind: Kind, tag: [u8; 4], bytes: u64) -> u64 {
        let header = self.pool_header_size();
        let granule = self.granule();
        let total = (bytes + header).next_multiple_of(granule);
        if total > PAGE - granule {
            return self.allocate_big(kind, tag, bytes);
        }
        let mut at = self.pools.next[&kind];
        if at / PAGE != (at + total - 1) / PAGE {
            at = at.next_multiple_of(PAGE);
        }
        self.pools.next.insert(kind, at + total);
        self.place_block(kind, tag, at + header, bytes);
        at + header
    }

    /// An allocation of whole pages, which has no header.
    fn allocate_big(&mut self, kind: Kind, tag: [u8; 4], bytes: u64) -> u64 {
        let at = self.pools.end(kind);
        let whole = bytes.next_multiple_of(PAGE);
        self.pools.next.insert(kind, at + whole);
        self.ensure(SpaceId::SYSTEM, at, whole);
        self.pools.big.push((at, tag, whole, kind));
        at
    }

    /// Whether a block's data starts at this address.
    pub(crate) fn has_block(&self, data: u64) -> bool {
        self.pools.blocks.contains_key(&(data - self.pool_header_size()))
    }

    /// Makes a block whose data stands at this very address.
    pub(crate) fn place_block(&mut self, kind: Kind, tag: [u8; 4], data: u64, bytes: u64) {
        let header = self.pool_header_size();
        let total = (bytes + header).next_multiple_of(self.granule());
        self.ensure(SpaceId::SYSTEM, data - header, total);
        let before = self.pools.blocks.range(..data - header + total).next_back();
        if let Some((&at, block)) = before {
            assert!(at + block.bytes <= data - header, "blocks overlap: {at:#x} and {:#x}", data - header);
        }
        self.pools.blocks.insert(data - header, Block { bytes: total, tag, kind });
    }

    /// Writes all block headers, filling gaps with free blocks.
    pub(crate) fn finish_pools(&mut self) {
        let mut pages: BTreeMap<u64, Vec<(u64, Block)>> = BTreeMap::new();
        for (&at, &block) in &self.pools.blocks {
            pages.entry(at / PAGE).or_default().push((at, block));
        }
        for (page, blocks) in pages {
            let mut previous = 0;
            let mut at = page * PAGE;
            for &(start, block) in &blocks {
                // A block from the page before may reach into this one; then its predecessor is not in this page.
                if start > at {
                    self.pool_header(at, previous, start - at, *b"Free", None);
                    previous = start - at;
                }
                self.pool_header(start, previous, block.bytes, block.tag, Some(block.kind));
                previous = block.bytes;
                at = start + block.bytes;
            }
            let end = (page + 1) * PAGE;
            if at < end {
                self.pool_header(at, previous, end - at, *b"Free", None);
            }
        }
    }

    /// The pools' own descriptions: one descriptor of each kind, `PoolVector`, or one memory node of heaps, `ExPoolState`.
    pub(crate) fn make_pool_descriptors(&mut self) {
        let (Some(vector), Some(size)) =
            (self.symbol_if("PoolVector"), self.system.layouts.size_if("_POOL_DESCRIPTOR"))
        else {
            self.make_pool_heaps();
            return;
        };
        let totals = self.pools.totals();
        let pointer = self.pointer_size();
        let paged = self.allocate(Kind::NonPaged, *b"Pool", size);
        let nonpaged = self
            .symbol_if("NonPagedPoolDescriptor")
            .unwrap_or_else(|| self.allocate(Kind::NonPaged, *b"Pool", size));
        for (index, kind, at) in [(0, Kind::NonPaged, nonpaged), (1, Kind::Paged, paged)] {
            let own = totals.iter().filter(|((_, of), _)| *of == kind).map(|(_, total)| total);
            let (count, bytes) = own.fold((0, 0), |sum, total| (sum.0 + total.0, sum.1 + total.1));
            self.pools.described.insert(kind, (count, bytes));
            self.at("_POOL_DESCRIPTOR", at)
                .set("PoolType", index)
                .set("PoolIndex", 0)
                .set("RunningAllocs", count)
                .set("TotalPages", bytes.div_ceil(PAGE))
                .set_if("TotalBytes", bytes);
            self.write_pointer(SpaceId::SYSTEM, vector + index * pointer, at);
        }
        // The paged pool's variable is an array, of which one is used.
        self.set_variable("ExpPagedPoolDescriptor", paged);
        self.set_variable32("ExpNumberOfPagedPools", 1);
        self.set_variable32("ExpNumberOfNonPagedPools", 1);
    }

    /// Heaps of one memory node, and the regions they take from.
    fn make_pool_heaps(&mut self) {
        let Some(state) = self.symbol_if("ExPoolState") else { return };
        self.at("_EX_POOL_HEAP_MANAGER_STATE", state).set("NumberOfPools", 1);
        let node = self.at("_EX_POOL_HEAP_MANAGER_STATE", state).member("PoolNode[0]");
        let size = self.system.layouts.size("_SEGMENT_HEAP");
        for slot in 0..4 {
            let heap = self.allocate(Kind::NonPaged, *b"Heap", size);
            self.at("_SEGMENT_HEAP", heap)
                .set("Signature", 0xDDEE_DDEE)
                .set("MemStats.TotalCommittedPages", 0x100 + slot);
            self.write_pointer(SpaceId::SYSTEM, node + slot * self.pointer_size(), heap);
        }
        let size = self.system.layouts.size("_MI_VISIBLE_STATE");
        let visible = self.allocate(Kind::NonPaged, *b"MmVs", size);
        self.set_variable("MiVisibleState", visible);
        for (region, start) in [
            ("AssignedRegionNonPagedPool", self.system.nonpaged_pool),
            ("AssignedRegionPagedPool", self.system.paged_pool),
        ] {
            let enums = self.system.layouts.profile().enums().expect("readable enums");
            let number = enums["_MI_ASSIGNED_REGION_TYPES"].values[region];
            let at = self.at("_MI_VISIBLE_STATE", visible).member(&format!("SystemVaRegions[{number}]"));
            self.at("_MI_SYSTEM_VA_ASSIGNMENT", at)
                .set("BaseAddress", start)
                .set("NumberOfBytes", POOL_REGION);
        }
    }

    /// The table that counts allocations by tag: `PoolTrackTable`.
    pub(crate) fn make_pool_tracker(&mut self) {
        let totals = self.pools.totals();
        let mut rows: BTreeMap<[u8; 4], [(u64, u64); 2]> = BTreeMap::new();
        for (&(tag, kind), &total) in &totals {
            rows.entry(tag).or_default()[usize::from(kind == Kind::Paged)] = total;
        }
        self.pools.tracked = totals;
        let name = "_POOL_TRACKER_TABLE";
        let entry = self.system.layouts.size(name);
        let count = (rows.len() as u64 + 8).next_power_of_two();
        let bytes = (count * entry).max(PAGE);
        let table = self.allocate(Kind::NonPaged, *b"PoTr", bytes);
        // Each processor counts by itself, and frees what others made.
        let second = self.symbol_if("ExPoolTagTables").map(|tables| {
            let second = self.allocate(Kind::NonPaged, *b"PoTr", bytes);
            self.write_pointer(SpaceId::SYSTEM, tables, table);
            self.write_pointer(SpaceId::SYSTEM, tables + self.pointer_size(), second);
            second
        });
        for (index, (tag, [nonpaged, paged])) in (0u64..).zip(rows) {
            let freed = if second.is_some() && index % 3 == 0 { 5 } else { 0 };
            let key = u64::from(u32::from_le_bytes(tag));
            self.at(name, table + index * entry)
                .set("Key", key)
                .set("NonPagedAllocs", nonpaged.0 + freed)
                .set("NonPagedBytes", nonpaged.1 + freed * 0x40)
                .set("PagedAllocs", paged.0)
                .set("PagedBytes", paged.1);
            if let Some(second) = second.filter(|_| freed != 0) {
                self.at(name, second + index * entry)
                    .set("Key", key)
                    .set("NonPagedFrees", freed)
                    .set("NonPagedBytes", 0u64.wrapping_sub(freed * 0x40));
            }
        }
        self.set_variable("PoolTrackTable", table);
        self.set_variable("PoolTrackTableSize", count);
    }

    /// What the pool tracker was told.
    pub fn tracked(&self) -> &Totals {
        &self.pools.tracked
    }

    /// Allocations and bytes that the descriptors were told, by kind.
    pub fn described(&self) -> &BTreeMap<Kind, (u64, u64)> {
        &self.pools.described
    }

    fn pool_header(&mut self, at: u64, previous: u64, bytes: u64, tag: [u8; 4], kind: Option<Kind>) {
        let granule = self.granule();
        let vista = self.system.version.0 >= 6;
        let pool_type = match (kind, vista) {
            (None, _) => 0,
            (Some(Kind::NonPaged), false) => 1,
            (Some(Kind::Paged), false) | (Some(Kind::NonPaged), true) => 2,
            (Some(Kind::Paged), true) => 3,
        };
        self.at("_POOL_HEADER", at)
            .set("PreviousSize", previous / granule)
            .set("BlockSize", bytes / granule)
            .set("PoolType", pool_type)
            .set("PoolTag", u64::from(u32::from_le_bytes(tag)));
    }
}
