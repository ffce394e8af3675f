//! The compressed store of Windows 10 and 11: pages of a process in the memory of `MemCompression`, and the kernel's structures that
//! lead there.
//!
//! No symbols of Microsoft have these structures. Their fields are written where public research found them (Sardar and Stancill,
//! "Extracting Compressed Pages from the Windows 10 Virtual Store", 2019; what MemProcFS knows of later builds): a made store shows
//! that a reader does what that research says, not what a real Windows does. Sizes of regions, chunks and nodes are smaller than real
//! ones, so that few pages make use of everything.

use std::collections::BTreeMap;

use crate::image::Snapshot;
use crate::machine::{Machine, SpaceId};
use crate::physical::PAGE;
use crate::pool::Kind;
use crate::processes::Process;
use crate::scenario::Scenario;
use crate::vads::{Page, Vad};
use crate::writers::xpress;

/// Number of the pagefile that stands for the store, as on real systems with a pagefile and a swapfile.
pub const STORE_FILE: u64 = 2;
/// Process id of `MemCompression`.
pub const STORE_PID: u64 = 2288;
/// Start of its memory; regions are 64 KiB apart.
const REGIONS: u64 = 0x2_1000_0000;
/// Bytes of a region, of a granule in it, and bits of a region key that count granules.
const REGION: u64 = 0x4000;
const GRANULE: u64 = 16;
const REGION_BITS: u32 = 10;
/// Numbers of the stores: one in the first array, one in the second.
const STORES: [u64; 2] = [3, 37];
/// Records of a chunk, bytes of one, and bytes in front of them.
const RECORD_BITS: u32 = 3;
const RECORD: u64 = 0x18;
const CHUNK_HEADER: u64 = 0x40;
/// Most entries of a node.
const FAN: usize = 4;
/// The page of the first region that is itself in pagefile 0, and its index there.
const PAGED_OUT: (u64, u64) = (1, 0x90);

/// Where a page of the store is.
#[derive(Debug, Clone, Copy)]
struct Packed {
    index: u64,
    /// Which of [`STORES`].
    store: usize,
    region_key: u32,
    len: u32,
}

/// Pages in the store.
#[derive(Debug, Clone, Default)]
struct Store {
    pages: Vec<Packed>,
    /// Content of the regions of both stores, in the order of their addresses, and which store each belongs to.
    regions: Vec<(usize, Vec<u8>)>,
}

impl Store {
    /// Pages by their index in the store's pagefile, compressed as the build does.
    fn new(build: u32, pages: &BTreeMap<u64, Vec<u8>>) -> Self {
        let mut store = Self::default();
        for (turn, (&index, content)) in pages.iter().enumerate() {
            assert_eq!(content.len() as u64, PAGE, "whole pages");
            let packed = if build >= 26100 { lz4(content) } else { xpress::compress(content) };
            let bytes = match content {
                zeros if zeros.iter().all(|byte| *byte == 0) => Vec::new(),
                _ if packed.len() < content.len() => packed,
                _ => content.clone(),
            };
            store.add(index, turn % STORES.len(), &bytes);
        }
        store
    }

    fn add(&mut self, index: u64, store: usize, bytes: &[u8]) {
        let own = |region: &&(usize, Vec<u8>)| region.0 == store;
        let last = self.regions.iter().rposition(|region| region.0 == store);
        let fits =
            |at: usize| self.regions[at].1.len() + bytes.len() <= usize::try_from(REGION).expect("small");
        let at = last.filter(|&at| fits(at)).unwrap_or_else(|| {
            self.regions.push((store, Vec::new()));
            self.regions.len() - 1
        });
        let number = self.regions[..at].iter().filter(own).count();
        let region = &mut self.regions[at].1;
        let key = u32::try_from(number).expect("few") << REGION_BITS
            | u32::try_from(region.len() as u64 / GRANULE).expect("inside a region");
        region.extend(bytes);
        region.resize(region.len().next_multiple_of(usize::try_from(GRANULE).expect("small")), 0);
        let len = u32::try_from(bytes.len()).expect("at most a page");
        self.pages.push(Packed { index, store, region_key: key, len });
    }

    /// The process whose memory the regions are.
    fn process(&self) -> Process {
        let mut pages = Vec::new();
        for (at, (_, content)) in (0..).zip(&self.regions) {
            for (number, piece) in (0..).zip(content.chunks(4096)) {
                let page = if (at, number) == (0, PAGED_OUT.0) {
                    Page::PageFile(0, PAGED_OUT.1)
                } else {
                    Page::Resident(piece.to_vec())
                };
                pages.push((region_address(at) + number * PAGE, page));
            }
        }
        let end = region_address(self.regions.len() as u64) - 1;
        Process {
            vads: vec![Vad { pages, ..Vad::private(REGIONS, end) }],
            peb: 0,
            ..Process::new(STORE_PID, 4, "MemCompression")
        }
    }

    /// Whether some bytes of a page are in the part of a region that is itself in pagefile 0.
    fn needs_pagefile(&self, index: u64) -> bool {
        self.pages.iter().filter(|page| page.index == index).any(|page| {
            let start = u64::from(page.region_key) % (1 << REGION_BITS) * GRANULE;
            let (first, last) = (start / PAGE, (start + u64::from(page.len).max(1) - 1) / PAGE);
            page.store == 0
                && page.region_key >> REGION_BITS == 0
                && page.len != 0
                && (first..=last).contains(&PAGED_OUT.0)
        })
    }
}

fn region_address(number: u64) -> u64 {
    REGIONS + number * 0x1_0000
}

/// What a description says of the store.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    store: Store,
    /// Address of each page in its process, and whether reading it needs pagefile 0.
    pub pages: Vec<(u64, bool)>,
}

impl Scenario {
    /// Pages of a process, from an address on, in the compressed store. The process must be in the description.
    #[must_use]
    pub fn with_compressed(mut self, build: u32, pid: u64, start: u64, pages: &[Vec<u8>]) -> Self {
        // Places in the pagefile are no neighbours.
        let index = |number: usize| 0x100 + number as u64 * 3;
        let content: BTreeMap<u64, Vec<u8>> =
            pages.iter().enumerate().map(|(number, page)| (index(number), page.clone())).collect();
        let store = Store::new(build, &content);
        let end = start + pages.len() as u64 * PAGE - 1;
        let addresses = || (0..pages.len()).map(|number| (start + number as u64 * PAGE, index(number)));
        let area = Vad {
            commit: pages.len() as u64,
            pages: addresses().map(|(at, index)| (at, Page::PageFile(STORE_FILE, index))).collect(),
            ..Vad::private(start, end)
        };
        let process = self.processes.iter_mut().find(|process| process.pid == pid).expect("a process");
        process.vads.push(area);
        self.processes.push(store.process());
        let needs = addresses().map(|(at, index)| (at, store.needs_pagefile(index))).collect();
        self.stored = Some(Stored { pages: needs, store });
        self
    }
}

impl Snapshot {
    /// Physical addresses of the pages in which the structures of the compressed store begin.
    pub fn store_pages(&self) -> Vec<u64> {
        let places = self.machine.pools.tagged(*b"sm");
        let mut pages: Vec<u64> = places
            .filter_map(|at| self.physical_of(SpaceId::SYSTEM, at))
            .map(|at| at / PAGE * PAGE)
            .collect();
        pages.sort_unstable();
        pages.dedup();
        pages
    }
}

/// Where fields are, in bytes from the start of their structure.
struct Fields {
    /// From `SmGlobals` to the pointer behind the manager, and how far behind; `None` where the manager is there.
    pointer: Option<(u64, u64)>,
    /// The word that names the format of compression, where it is known.
    format: Option<u64>,
    regions: u64,
    owner: u64,
    /// Bits of a key.
    key: u64,
}

fn fields(build: u32) -> Fields {
    let of = |pointer, format, regions, owner, key| Fields { pointer, format, regions, owner, key };
    match build {
        26100.. => of(Some((0x10, 0xC30)), None, 0x1B70, 0x1D08, 0x0FFF_FFFF),
        22621.. => of(Some((0x08, 0x7A8)), Some(0x430), 0x1848, 0x19B8, u64::MAX),
        _ => of(None, Some(0x430), 0x1848, 0x19B8, u64::MAX),
    }
}

impl Machine {
    /// Makes the kernel's structures of a store, whose process is there.
    pub(crate) fn make_store(&mut self, stored: &Stored) {
        let store = &stored.store;
        let fields = fields(self.system.version.2);
        let piece = store.regions[0].1.chunks(4096).nth(usize::try_from(PAGED_OUT.0).expect("small"));
        self.page_out(0, PAGED_OUT.1, piece.expect("a region of two pages"));
        self.page_files.entry(1).or_default();
        self.page_files.entry(STORE_FILE).or_default();
        self.store_file = Some(STORE_FILE);
        let globals =
            ["SmGlobals", "?SmGlobals@@3U_SM_GLOBALS@@A"].iter().find_map(|name| self.symbol_if(name));
        let globals = globals.expect("a kernel with a store");
        let manager = match fields.pointer {
            None => globals,
            Some((pointer, inside)) => {
                let block = self.allocate(Kind::NonPaged, *b"SmPa", 0x1000);
                self.pointer_at(globals + pointer, block + inside);
                block
            }
        };
        let key = |index: u64| u32::try_from((STORE_FILE << 28 | index) & fields.key).expect("32 bits");
        // Flags above the number; every page has a neighbour that was given up.
        let mut all = BTreeMap::new();
        for page in &store.pages {
            all.insert(key(page.index), u32::try_from(STORES[page.store]).expect("small") | 0x2_0000);
            all.insert(key(page.index + 1), 0x0100_0000);
        }
        let root = self.store_tree(&all.into_iter().collect::<Vec<_>>());
        self.pointer_at(manager + 0x1C0, root);
        let owner = self.placed(STORE_PID).expect("the store's process").eprocess;
        for (which, number) in STORES.into_iter().enumerate() {
            let place = manager + number / 32 * 8;
            let row = match self.read_pointer(SpaceId::SYSTEM, place) {
                0 => self.allocate(Kind::NonPaged, *b"smSa", 32 * 0x28),
                row => row,
            };
            self.pointer_at(place, row);
            let at = self.allocate(Kind::NonPaged, *b"smSt", 0x2000);
            self.pointer_at(row + number % 32 * 0x28, at);
            let own: Vec<&Packed> = store.pages.iter().filter(|page| page.store == which).collect();
            let chunk_keys = self.store_chunks(at + 0x110, &own);
            let entries: Vec<(u32, u32)> =
                own.iter().zip(chunk_keys).map(|(page, chunk)| (key(page.index), chunk)).collect();
            let root = self.store_tree(&entries);
            self.pointer_at(at + 0x50, root);
            self.pointer_at(at + 0x370, at);
            self.half_at(at + 0x378, (1 << REGION_BITS) - 1);
            // Only the lowest byte counts.
            self.half_at(at + 0x37C, REGION_BITS | 0x100);
            if let Some(format) = fields.format {
                self.half_at(at + format, 3);
            }
            let regions: Vec<u64> = (0..)
                .zip(&store.regions)
                .filter(|(_, (store, _))| *store == which)
                .map(|(number, _)| region_address(number))
                .collect();
            let array = self.allocate(Kind::NonPaged, *b"smRg", regions.len() as u64 * 8 + 8);
            for (slot, region) in (0..).zip(regions) {
                self.pointer_at(array + slot * 8, region);
            }
            self.pointer_at(at + fields.regions, array);
            self.pointer_at(at + fields.owner, owner);
        }
    }

    /// Page records in chunks, from number 1 on; rows of chunks double. Returns the chunk keys.
    fn store_chunks(&mut self, metadata: u64, pages: &[&Packed]) -> Vec<u32> {
        self.half_at(metadata + 0x108, RECORD_BITS);
        self.half_at(metadata + 0x10C, (1 << RECORD_BITS) - 1);
        self.half_at(metadata + 0x110, u32::try_from(RECORD).expect("small"));
        self.half_at(metadata + 0x118, u32::try_from(CHUNK_HEADER).expect("small"));
        let mut next = 1u32 << RECORD_BITS;
        let mut record = |machine: &mut Self, words: [u32; 3]| {
            let (chunk_key, chunk) = (next, next >> RECORD_BITS);
            next += 1;
            let row = chunk.ilog2();
            let place = metadata + u64::from(row) * 8;
            let array = match machine.read_pointer(SpaceId::SYSTEM, place) {
                0 => machine.allocate(Kind::NonPaged, *b"smBA", 16 << row),
                array => array,
            };
            machine.pointer_at(place, array);
            let place = array + u64::from(chunk - (1 << row)) * 16;
            let at = match machine.read_pointer(SpaceId::SYSTEM, place) {
                0 => machine.allocate(Kind::NonPaged, *b"smCh", PAGE),
                at => at,
            };
            machine.pointer_at(place, at);
            let at = at + CHUNK_HEADER + u64::from(chunk_key % (1 << RECORD_BITS)) * RECORD;
            for (slot, word) in (0..).zip(words) {
                machine.half_at(at + slot * 4, word);
            }
            chunk_key
        };
        let mut keys = Vec::new();
        for (turn, page) in pages.iter().enumerate() {
            // Above the length are flags, unless it is that of a whole page or of none.
            let len = if matches!(page.len, 0 | 4096) { page.len } else { page.len | 0x4_0000 };
            let chunk_key = record(self, [page.region_key, len, 0x5EED_5EED]);
            // Every fifth is found through another record.
            keys.push(if turn % 5 == 4 { record(self, [u32::MAX, 0, chunk_key]) } else { chunk_key });
        }
        keys
    }

    /// A tree of words by key, ascending. Returns the address of its root.
    fn store_tree(&mut self, entries: &[(u32, u32)]) -> u64 {
        let mut nodes = Vec::new();
        for leaf in entries.chunks(FAN) {
            let at = self.store_node(leaf.len(), 0);
            for (slot, &(key, value)) in (0..).zip(leaf) {
                self.half_at(at + 16 + slot * 8, key);
                self.half_at(at + 20 + slot * 8, value);
            }
            nodes.push((leaf[0].0, at));
        }
        let mut level = 0;
        while nodes.len() > 1 {
            level += 1;
            let mut parents = Vec::new();
            for group in nodes.chunks(FAN + 1) {
                let at = self.store_node(group.len() - 1, level);
                self.pointer_at(at + 8, group[0].1);
                for (slot, &(key, child)) in (0..).zip(&group[1..]) {
                    self.half_at(at + 16 + slot * 16, key);
                    self.pointer_at(at + 24 + slot * 16, child);
                }
                parents.push((group[0].0, at));
            }
            nodes = parents;
        }
        nodes[0].1
    }

    fn store_node(&mut self, count: usize, level: u8) -> u64 {
        let at = self.allocate(Kind::NonPaged, *b"smBt", PAGE);
        let count = u16::try_from(count).expect("few").to_le_bytes();
        self.write(SpaceId::SYSTEM, at, &[count[0], count[1], level, u8::from(level == 0)]);
        at
    }

    fn pointer_at(&mut self, address: u64, value: u64) {
        self.write_pointer(SpaceId::SYSTEM, address, value);
    }

    fn half_at(&mut self, address: u64, value: u32) {
        self.write(SpaceId::SYSTEM, address, &value.to_le_bytes());
    }
}

/// Compresses a page as a block of LZ4 (lz4_Block_format.md): runs of one byte as matches, the rest as literals.
fn lz4(page: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut literals = 0;
    let mut at = 1;
    // The last match begins 12 bytes before the end, and the last 5 bytes are literals.
    while at + 12 < page.len() {
        let run = page[at..page.len() - 5].iter().take_while(|byte| **byte == page[at - 1]).count();
        if run < 8 {
            at += 1;
            continue;
        }
        sequence(&mut out, &page[literals..at], Some(run - 4));
        at += run;
        literals = at;
        at += 1;
    }
    sequence(&mut out, &page[literals..], None);
    out
}

/// Literals, and a match of the byte before with this length without 4.
fn sequence(out: &mut Vec<u8>, literals: &[u8], length: Option<usize>) {
    let nibble = |length: usize| u8::try_from(length.min(15)).expect("4 bits");
    let rest = |out: &mut Vec<u8>, length: usize| {
        let Some(mut left) = length.checked_sub(15) else { return };
        while left >= 255 {
            out.push(255);
            left -= 255;
        }
        out.push(u8::try_from(left).expect("a byte"));
    };
    out.push(nibble(literals.len()) << 4 | length.map_or(0, nibble));
    rest(out, literals.len());
    out.extend(literals);
    if let Some(length) = length {
        out.extend([1, 0]);
        rest(out, length);
    }
}
