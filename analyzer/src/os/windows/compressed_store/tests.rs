//! A store by hand, with pointers of either width, and what a store can say that is not so.
//!
//! Truth: the content of its three pages; the compressed one is by [MS-XCA] 2.3.4. Offsets are those of public research, as in `shape`.

use memory::{FileSpace, paging};
use object::{DataModel, Types};
use profile::Profile;
use proptest::prelude::*;

use super::*;
use crate::session::{Config, Session};

/// Pages of physical memory.
const PAGES: usize = 48;
/// First of those that the kernel maps, at the same distance from its start.
const FIRST: usize = 16;
/// Physical page of the first region, and its address in the process.
const REGION: (usize, u64) = (40, 0x1_0000);
/// Number of the pagefile that stands for the store.
const FILE: u32 = 1;
/// Number of the only store.
const STORE: u64 = 5;

const BUILD: usize = FIRST << 12;
const FILES: usize = BUILD + 0x100;
const MANAGER: usize = BUILD + 0x400;
const FILE_RECORD: usize = 17 << 12;
const METADATA: usize = FILE_RECORD + 0x400;
const PROCESS: usize = 18 << 12;
const GLOBAL_TREE: usize = 19 << 12;
const LOCAL_TREE: usize = 20 << 12;
const LEAF: usize = 21 << 12;
const STORE_AT: usize = 23 << 12;
const ROW: usize = 25 << 12;
const CHUNK: usize = 26 << 12;
const REGIONS: usize = 27 << 12;

/// Where records of pages begin in their chunk, and bytes of one.
const RECORDS: usize = CHUNK + 0x40;
const RECORD: usize = 0x18;

#[derive(Clone)]
struct Memory {
    bytes: Vec<u8>,
    wide: bool,
}

impl Memory {
    fn half(&mut self, at: usize, value: u32) -> &mut Self {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    fn pointer(&mut self, at: usize, value: u64) -> &mut Self {
        let width = self.width();
        self.bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        self
    }

    fn width(&self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    fn base(&self) -> u64 {
        if self.wide { 0xffff_8000_0000_0000 } else { 0x8000_0000 }
    }

    /// The kernel's address of a place.
    fn at(&self, place: usize) -> u64 {
        self.base() + place as u64
    }

    /// Three pages: one not compressed, one of zeros, one of `a`.
    fn new(build: u32, wide: bool) -> Self {
        let mut memory = Self { bytes: vec![0; PAGES << 12], wide };
        memory.tables();
        let own = |place: usize| memory.base() + place as u64;
        let (files, file, process, global) = (FILES, own(FILE_RECORD), own(PROCESS), own(GLOBAL_TREE));
        let (metadata, store, local, leaf) = (own(METADATA), own(STORE_AT), own(LOCAL_TREE), own(LEAF));
        let (row, chunk, regions) = (own(ROW), own(CHUNK), own(REGIONS));
        let pick = |of_64: usize, of_32: usize| if wide { of_64 } else { of_32 };
        let width = pick(8, 4);
        memory.half(BUILD, build).pointer(files + width, file);
        memory.half(FILE_RECORD + 8, FILE | 0x40);
        memory.half(PROCESS, 3).pointer(PROCESS + 0x28, 0x1000).half(PROCESS + 0x30, 4444);
        memory.half(PROCESS + 0x38, u32::from_le_bytes(*b"MemC"));
        memory.pointer(MANAGER, metadata).pointer(MANAGER + pick(0x1c0, 0xf4), global);
        let index = usize::try_from(STORE).unwrap();
        memory.pointer(METADATA + index * pick(0x28, 0x14), store);
        // One leaf with three keys; a root whose first child has smaller ones.
        let key = |page: u32| FILE << 28 | page;
        let entries = 2 * width;
        memory.half(GLOBAL_TREE, 4 | 1 << 24);
        for (slot, page) in [1, 2, 3, 4].into_iter().enumerate() {
            let value = if page == 4 { 0x0100_0000 } else { 0x2_0005 };
            memory.half(GLOBAL_TREE + entries + slot * 8, key(page));
            memory.half(GLOBAL_TREE + entries + slot * 8 + 4, value);
        }
        memory.half(LOCAL_TREE, 1 | 1 << 16).pointer(LOCAL_TREE + width, leaf);
        memory.half(LOCAL_TREE + entries, key(2)).pointer(LOCAL_TREE + entries + width, leaf + 0x1000);
        // The first chunk has number 1: chunk keys begin at 8.
        memory.half(LEAF, 1 | 1 << 24).half(LEAF + entries, key(1)).half(LEAF + entries + 4, 8);
        let second = LEAF + 0x1000;
        memory.half(second, 2 | 1 << 24).half(second + entries, key(2)).half(second + entries + 4, 9);
        memory.half(second + entries + 8, key(3)).half(second + entries + 12, 10);
        let data = STORE_AT + pick(0x50, 0x38);
        let chunks = data + pick(0xc0, 0x6c);
        memory.pointer(data, local).pointer(chunks, row);
        let behind = chunks + 32 * width;
        memory.half(behind + 8, 3).half(behind + 0xc, 7).half(behind + 0x10, 0x18).half(behind + 0x18, 0x40);
        let own_store = data + pick(0x320, 0x1c0);
        memory.pointer(own_store, store).half(own_store + width, 0x3ff).half(own_store + width + 4, 10);
        memory.half(data + pick(0x3e0, 0x224), 3);
        memory.pointer(STORE_AT + pick(0x1848, 0x1184), regions);
        memory.pointer(STORE_AT + pick(0x19b8, 0x125c), process);
        memory.pointer(ROW, chunk).pointer(REGIONS, REGION.1);
        for (slot, [region, len, next]) in
            [[0, 0x1000, 0], [0, 0, 0], [u32::MAX, 0, 11], [0x100, 0x7_000b, 0]].into_iter().enumerate()
        {
            let at = RECORDS + slot * RECORD;
            memory.half(at, region).half(at + 4, len).half(at + 8, next);
        }
        let region = REGION.0 << 12;
        memory.bytes[region..region + 4096].fill(b'w');
        // A literal; a match of the byte before, 4092 + 3 bytes long.
        let compressed = [0xff, 0xff, 0xff, 0x7f, b'a', 0x07, 0x00, 0x0f, 0xff, 0xfc, 0x0f];
        memory.bytes[region + 4096..region + 4096 + 11].copy_from_slice(&compressed);
        memory
    }

    /// Page tables from page 1 on.
    fn tables(&mut self) {
        let (kernel, user): (usize, usize) = if self.wide {
            for (at, next) in
                [(0x1000, 5), (0x1000 + 256 * 8, 2), (0x2000, 3), (0x3000, 4), (0x5000, 6), (0x6000, 7)]
            {
                self.pointer(at, next << 12 | 0x67);
            }
            (0x4000, 0x7000)
        } else {
            for (at, next) in [(0x1000, 3), (0x1000 + 512 * 4, 2)] {
                self.pointer(at, next << 12 | 0x67);
            }
            (0x2000, 0x3000)
        };
        let width = self.width();
        for page in FIRST..PAGES {
            self.pointer(kernel + page * width, (page as u64) << 12 | 0x63);
        }
        for page in 0..4 {
            self.pointer(user + (16 + page) * width, ((REGION.0 + page) as u64) << 12 | 0x67);
        }
    }

    fn store(&self) -> Option<CompressedStore> {
        let (base, model) =
            if self.wide { (self.base(), DataModel::Llp64) } else { (self.base(), DataModel::Ilp32) };
        let mode = if self.wide { &paging::X64 } else { &paging::X86 };
        let types = Arc::new(Types::new(Arc::new(Profile::parse_text(profile()).unwrap()), model, &[]));
        let physical: Arc<dyn AddressSpace> = Arc::new(FileSpace::from_vec(self.bytes.clone()));
        let tables = || VirtualSpace::new(Arc::clone(&physical), mode, 0x1000);
        let session = Session::new(Config::default());
        let backing = Arc::new(Backing::without_store(&session, &types, tables(), base));
        let space = PagedSpace::new(Arc::clone(&backing), tables(), None);
        CompressedStore::of(Target::new(types, Arc::new(space), base, 0), backing)
    }
}

fn profile() -> String {
    format!(
        r#"{{"$METADATA": {{}}, "$CONSTANTS": {{"NtBuildNumber": {BUILD}, "MmPagingFile": {FILES}, "SmGlobals": {MANAGER}}},
        "$STRUCTS": {{
        "_UNICODE_STRING": [16, {{"Length": [0, ["unsigned short"]]}}],
        "_MMPAGING_FILE": [64, {{"Size": [0, ["unsigned long"]], "PageFileName": [16, ["_UNICODE_STRING"]],
            "PageFileNumber": [8, ["BitField", {{"start_bit": 0, "end_bit": 4, "target": "unsigned short"}}]],
            "VirtualStorePagefile": [8, ["BitField", {{"start_bit": 6, "end_bit": 7, "target": "unsigned short"}}]]}}],
        "_DISPATCHER_HEADER": [24, {{"Type": [0, ["unsigned char"]]}}],
        "_KPROCESS": [64, {{"Header": [0, ["_DISPATCHER_HEADER"]], "DirectoryTableBase": [40, ["unsigned long"]]}}],
        "_EPROCESS": [256, {{"Pcb": [0, ["_KPROCESS"]], "UniqueProcessId": [48, ["Pointer", {{"target": "Void"}}]],
            "ImageFileName": [56, ["Array", {{"count": 15, "target": "unsigned char"}}]]}}]}}}}"#
    )
}

/// Both widths, in builds that have them alike.
fn both() -> [Memory; 2] {
    [Memory::new(19041, true), Memory::new(19045, false)]
}

#[test]
fn pages_of_every_kind_are_read() {
    for memory in both() {
        let store = memory.store().unwrap();
        assert_eq!(store.number(), u64::from(FILE));
        let read = |page: u64| store.read(page).map(|page| page.to_vec());
        assert_eq!(read(1), Ok(vec![b'w'; 4096]));
        assert_eq!(read(2), Ok(vec![0; 4096]));
        assert_eq!(read(3), Ok(vec![b'a'; 4096]));
        assert_eq!(read(4), Err("was in the compressed store, which gave it up"));
        for page in [0, 5, 1 << 28, u64::MAX] {
            assert_eq!(read(page), Err(NO_PAGE), "{page:#x}");
        }
        let found = store.locate(3).unwrap();
        assert_eq!((found.key, found.store, found.region, found.len), (0x1000_0003, 5, 0, 11));
        assert_eq!(found.address, REGION.1 + 4096);
        assert_eq!(store.physical(&found), Ok((REGION.0 as u64 + 1) << 12));
        assert_eq!(found.how(), "decompressed with Xpress");
    }
}

#[test]
fn what_cannot_be_is_told() {
    let entries = |memory: &Memory| 2 * memory.width();
    type Damage = fn(&mut Memory, usize);
    let hostile: &[(&str, Damage)] = &[
        ("whose tree does not end", |memory, entries| {
            let (own, at) = (memory.at(LOCAL_TREE), LOCAL_TREE + entries + entries / 2);
            memory.pointer(at, own);
        }),
        ("node with too many keys", |memory, _| {
            memory.half(LEAF + 0x1000, 600 | 1 << 24);
        }),
        ("what is no node", |memory, _| {
            let odd = memory.at(GLOBAL_TREE) + 8;
            let root = MANAGER + if memory.wide { 0x1c0 } else { 0xf4 };
            memory.pointer(root, odd);
        }),
        ("a node cannot be read", |memory, entries| {
            let (away, at) = (memory.at(PAGES << 12), LOCAL_TREE + entries + entries / 2);
            memory.pointer(at, away);
        }),
        ("has no such page", |memory, entries| {
            memory.half(GLOBAL_TREE + entries + 16, 7);
        }),
        ("a compressed store that is not there", |memory, entries| {
            memory.half(GLOBAL_TREE + entries + 20, 6);
        }),
        ("know its own address", |memory, _| {
            let at = STORE_AT + if memory.wide { 0x370 } else { 0x1f8 };
            memory.pointer(at, 0);
        }),
        ("whose compression is not known", |memory, _| {
            memory.half(STORE_AT + if memory.wide { 0x430 } else { 0x25c }, 4);
        }),
        ("whose regions have no length", |memory, _| {
            memory.half(STORE_AT + if memory.wide { 0x37c } else { 0x200 }, 99);
        }),
        ("belongs to no process", |memory, _| {
            memory.half(PROCESS, 5);
        }),
        ("in a chunk that is not there", |memory, entries| {
            memory.half(LEAF + 0x1000 + entries + 12, 3);
        }),
        ("whose records lead on and on", |memory, _| {
            memory.half(RECORDS + 2 * RECORD + 8, 10);
        }),
        ("beyond the end of a region", |memory, _| {
            memory.half(RECORDS + 3 * RECORD, 0x3ff).half(RECORDS + 3 * RECORD + 4, 0x11);
        }),
        ("in a region that is not there", |memory, _| {
            let kernel = memory.at(REGIONS);
            memory.pointer(REGIONS, kernel);
        }),
        ("whose region cannot be read", |memory, _| {
            memory.pointer(REGIONS, 0x20_0000);
        }),
        ("cannot be decompressed", |memory, _| {
            memory.half(RECORDS + 3 * RECORD + 4, 4);
        }),
        ("with a length that no page has", |memory, _| {
            memory.half(RECORDS + 3 * RECORD + 4, 0x7_0000);
        }),
        ("of whose structures one cannot be read", |memory, _| {
            memory.pointer(ROW, 0);
        }),
    ];
    for memory in both() {
        for (why, damage) in hostile {
            let mut damaged = memory.clone();
            let entries = entries(&memory);
            damage(&mut damaged, entries);
            let found = damaged.store().unwrap().read(3);
            assert!(found.clone().is_err_and(|found| found.contains(why)), "{why}: {found:?}");
        }
    }
    let unknown = Memory::new(21000, true).store().unwrap().read(3);
    assert_eq!(unknown, Err("is in the compressed store of a build whose layout is not known"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn a_mutated_store_gives_whole_pages_or_reasons(
        changes in proptest::collection::vec((0..PAGES << 10, 0..4u8, any::<u32>()), 1..6),
        wide: bool,
    ) {
        let mut memory = both()[usize::from(!wide)].clone();
        for (place, kind, value) in changes {
            // Most of memory is empty: changes go to what is not.
            let used: Vec<usize> = [BUILD, FILES, MANAGER, FILE_RECORD, METADATA, PROCESS, GLOBAL_TREE, LOCAL_TREE, LEAF,
                LEAF + 0x1000, STORE_AT, STORE_AT + 0x100, STORE_AT + 0x300, STORE_AT + 0x1100, STORE_AT + 0x1200,
                STORE_AT + 0x1800, STORE_AT + 0x1900, ROW, RECORDS, REGIONS, REGION.0 << 12, (REGION.0 + 1) << 12, 0x1000,
                0x2000, 0x3000, 0x4000].to_vec();
            let at = used[place % used.len()] + place / used.len() % 64 * 4;
            let old = u32::from_le_bytes(memory.bytes[at..at + 4].try_into().unwrap());
            let new = match kind {
                0 => value,
                1 => old ^ 1 << (value % 32),
                2 => value % 64,
                _ => (u32::try_from(memory.base() & 0xffff_ffff).unwrap()) + value % (1 << 18),
            };
            memory.half(at, new);
        }
        if let Some(store) = memory.store() {
            for page in 0..6 {
                if let Ok(bytes) = store.read(page) {
                    prop_assert_eq!(bytes.len(), 4096);
                }
            }
        }
    }
}
