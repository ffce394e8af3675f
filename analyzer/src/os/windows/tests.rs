//! Page tables by hand, and walks over memory that says anything.

use std::fmt::Write as _;

use memory::{FileSpace, Limits, Overlap, Run, RunSpace, open_space, paging};
use object::{DataModel, Target, Types};
use profile::Profile;
use proptest::prelude::*;

use super::evidence::Evidence;
use super::object_header::ObjectHeader;
use super::thread::threads;
use super::{handle, module, names, unicode, vad, *};
use crate::notes::Notes;

/// Physical memory under construction.
struct Memory(Vec<u8>);

impl Memory {
    fn new(pages: usize) -> Self {
        Self(vec![0; pages << 12])
    }

    fn word(&mut self, at: usize, value: u64) -> &mut Self {
        self.0[at..at + 8].copy_from_slice(&value.to_le_bytes());
        self
    }

    fn half(&mut self, at: usize, value: u32) -> &mut Self {
        self.0[at..at + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// `KUSER_SHARED_DATA` of Windows XP in a page.
    fn shared_data(&mut self, at: usize) -> &mut Self {
        self.half(at + 0x26c, 5).half(at + 0x270, 1)
    }

    fn evidence(&self) -> Evidence {
        let image = open_space(Arc::new(FileSpace::from_vec(self.0.clone())), &Limits::default()).unwrap();
        let mut evidence = Evidence::quick(&image);
        evidence.scan(&image);
        evidence
    }
}

#[test]
fn the_root_of_pae_tables_is_found_by_its_directories() {
    let mut memory = Memory::new(16);
    let directories = [0x2000u64, 0x3000, 0x4000, 0x5000];
    for (n, directory) in directories.into_iter().enumerate() {
        // The root at 0x1020, and the fourth directory's map of all four.
        memory.word(0x1020 + 8 * n, directory | 1).word(0x5000 + 8 * n, directory | 0x63);
    }
    // 0xffdf0000
    memory.word(0x5000 + 8 * 0x1fe, 0x6063).word(0x6000 + 8 * 0x1f0, 0x7063).shared_data(0x7000);
    let evidence = memory.evidence();
    let (quality, root) = &evidence.roots[0];
    assert_eq!((root.dtb, root.paging.name), (0x1020, paging::PAE.name));
    assert!(quality.shared_data);
}

#[test]
fn the_root_of_small_tables_maps_itself() {
    let mut memory = Memory::new(16);
    // 0xc0000000 and 0xffdf0000
    memory.half(0x3000 + 4 * 0x300, 0x3067).half(0x3000 + 4 * 0x3ff, 0x4067);
    memory.half(0x4000 + 4 * 0x1f0, 0x5067).shared_data(0x5000);
    let evidence = memory.evidence();
    let (quality, root) = &evidence.roots[0];
    assert_eq!((root.dtb, root.paging.name), (0x3000, paging::X86.name));
    assert!(quality.shared_data);
}

#[test]
fn fuller_tables_win_over_decoys() {
    let mut memory = Memory::new(16);
    // Both map themselves and the shared page; the second maps more, as the kernel's own do.
    for (root, more) in [(0x1000, 0), (0x2000, 3)] {
        memory.word(root + 8 * 0x1ed, root as u64 | 0x63).word(root + 8 * 0x1ef, 0x3063);
        for n in 0..more {
            memory.word(root + 8 * (0x1f0 + n), 0xf063);
        }
    }
    // 0xfffff78000000000
    memory.word(0x3000, 0x4063).word(0x4000, 0x5063).word(0x5000, 0x6063).shared_data(0x6000);
    let evidence = memory.evidence();
    assert_eq!(evidence.roots[0].1.dtb, 0x2000);
    let shared: Vec<u64> =
        evidence.roots.iter().filter(|(quality, _)| quality.shared_data).map(|(_, root)| root.dtb).collect();
    assert_eq!(shared, [0x2000, 0x1000]);
}

/// Where the hostile memory begins.
const START: u64 = 0xffff_fa80_0000_0000;
/// Words of it.
const WORDS: usize = 4096;

/// As few fields as the walks need, at offsets that overlap with everything.
const STRUCTS: &str = r#"{
    "_LIST_ENTRY": [16, {"Flink": [0, ["Pointer", {"target": "Void"}]], "Blink": [8, ["Pointer", {"target": "Void"}]]}],
    "_UNICODE_STRING": [16, {"Length": [0, ["unsigned short"]], "MaximumLength": [2, ["unsigned short"]],
        "Buffer": [8, ["Pointer", {"target": "Void"}]]}],
    "_EX_FAST_REF": [8, {"Value": [0, ["unsigned long long"]]}],
    "_DISPATCHER_HEADER": [24, {"Type": [0, ["unsigned char"]]}],
    "_KPROCESS": [64, {"Header": [0, ["_DISPATCHER_HEADER"]], "DirectoryTableBase": [40, ["unsigned long long"]]}],
    "_EPROCESS": [256, {"Pcb": [0, ["_KPROCESS"]], "UniqueProcessId": [64, ["Pointer", {"target": "Void"}]],
        "InheritedFromUniqueProcessId": [72, ["Pointer", {"target": "Void"}]],
        "ImageFileName": [80, ["Array", {"count": 15, "target": "unsigned char"}]], "CreateTime": [96, ["unsigned long long"]],
        "ActiveThreads": [104, ["unsigned long"]], "ObjectTable": [112, ["Pointer", {"target": "_HANDLE_TABLE"}]],
        "ThreadListHead": [120, ["_LIST_ENTRY"]], "VadRoot": [136, ["_MM_AVL_TABLE"]]}],
    "_ETHREAD": [64, {"ThreadListEntry": [16, ["_LIST_ENTRY"]], "CreateTime": [32, ["unsigned long long"]]}],
    "_MM_AVL_TABLE": [64, {"BalancedRoot": [0, ["_MMADDRESS_NODE"]]}],
    "_MMADDRESS_NODE": [40, {"LeftChild": [8, ["Pointer", {"target": "Void"}]], "RightChild": [16, ["Pointer", {"target": "Void"}]]}],
    "_MMVAD": [120, {"StartingVpn": [24, ["unsigned long long"]], "EndingVpn": [32, ["unsigned long long"]],
        "u": [40, ["__u"]], "Subsection": [72, ["Pointer", {"target": "_SUBSECTION"}]],
        "FirstPrototypePte": [80, ["Pointer", {"target": "Void"}]], "LastContiguousPte": [88, ["Pointer", {"target": "Void"}]]}],
    "__u": [8, {"VadFlags": [0, ["_MMVAD_FLAGS"]]}],
    "_MMVAD_FLAGS": [8, {"CommitCharge": [0, ["BitField", {"start_bit": 0, "end_bit": 51, "target": "unsigned long long"}]],
        "PrivateMemory": [0, ["BitField", {"start_bit": 63, "end_bit": 64, "target": "unsigned long long"}]]}],
    "_SUBSECTION": [56, {"ControlArea": [0, ["Pointer", {"target": "_CONTROL_AREA"}]]}],
    "_CONTROL_AREA": [128, {"FilePointer": [64, ["_EX_FAST_REF"]]}],
    "_FILE_OBJECT": [216, {"FileName": [88, ["_UNICODE_STRING"]], "DeviceObject": [8, ["Pointer", {"target": "Void"}]]}],
    "_HANDLE_TABLE": [104, {"TableCode": [0, ["unsigned long long"]], "NextHandleNeedingPool": [8, ["unsigned long"]]}],
    "_HANDLE_TABLE_ENTRY": [16, {"Object": [0, ["Pointer", {"target": "Void"}]], "GrantedAccess": [8, ["unsigned long"]]}],
    "_OBJECT_HEADER": [56, {"PointerCount": [0, ["long long"]], "HandleCount": [8, ["long long"]],
        "TypeIndex": [24, ["unsigned char"]], "InfoMask": [26, ["unsigned char"]], "Body": [48, ["unsigned long long"]]}],
    "_OBJECT_HEADER_NAME_INFO": [32, {"Directory": [0, ["Pointer", {"target": "Void"}]], "Name": [8, ["_UNICODE_STRING"]]}],
    "_OBJECT_TYPE": [64, {"Name": [16, ["_UNICODE_STRING"]]}],
    "_LDR_DATA_TABLE_ENTRY": [128, {"InLoadOrderLinks": [0, ["_LIST_ENTRY"]], "BaseDllName": [88, ["_UNICODE_STRING"]]}],
    "_CM_KEY_BODY": [16, {"KeyControlBlock": [8, ["Pointer", {"target": "Void"}]]}],
    "_CM_KEY_CONTROL_BLOCK": [64, {"ParentKcb": [8, ["Pointer", {"target": "Void"}]], "NameBlock": [16, ["Pointer", {"target": "Void"}]]}],
    "_CM_NAME_CONTROL_BLOCK": [32, {"Compressed": [0, ["unsigned char"]], "NameLength": [8, ["unsigned short"]],
        "Name": [16, ["unsigned short"]]}]
}"#;

fn hostile(words: &[u64]) -> Target {
    let mut constants = String::new();
    for (n, symbol) in ["PsLoadedModuleList", "ObTypeIndexTable", "ObpInfoMaskToOffset"].iter().enumerate() {
        let comma = if n == 0 { "" } else { ", " };
        write!(constants, "{comma}\"{symbol}\": {}", n * 64).unwrap();
    }
    let text = format!(r#"{{"$METADATA": {{}}, "$STRUCTS": {STRUCTS}, "$CONSTANTS": {{{constants}}}}}"#);
    let types = Types::new(Arc::new(Profile::parse_text(text).unwrap()), DataModel::Llp64, &[]);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let run = Run { start: START, len: bytes.len() as u64, target: 0 };
    let space = RunSpace::new("hostile", Arc::new(FileSpace::from_vec(bytes)), vec![run], Overlap::FirstWins);
    Target::new(Arc::new(types), Arc::new(space), START, 0)
}

/// A word that is most often an address of the memory itself, so that structures lead on and on.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => (0..WORDS as u64).prop_map(|n| START + n * 8),
        1 => (0..WORDS as u64).prop_map(|n| START + n * 8 + 1),
        2 => 0..64u64,
        1 => any::<u64>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn every_walk_over_hostile_memory_ends(words in proptest::collection::vec(word(), WORDS), at in 0..WORDS as u64) {
        let target = hostile(&words);
        let notes = Notes::default();
        let addr = START + at * 8;
        let process = Process::at(&target, addr);
        if let Ok(tree) = vad::tree(&process) {
            prop_assert!(tree.nodes.len() <= WORDS * 8);
            for node in tree.nodes.iter().take(64) {
                let vad = vad::Vad::at(&target, node.addr);
                let _ = (vad.start(), vad.last(), vad.commit(), vad.kind(), vad.file_name(), vad.type_name());
            }
        }
        if let Ok(found) = handle::handles(&target, addr) {
            prop_assert!(found.handles.len() <= WORDS);
            for handle in found.handles.iter().take(64) {
                let header = ObjectHeader::at(&target, handle.object);
                let _ = (header.type_name(), header.name(), names::full_name(&header));
                for kind in ["File", "Key", "Process", "Thread", "SymbolicLink", "Event"] {
                    let _ = names::describe(&header, kind);
                }
            }
        }
        let _ = threads(&notes, &process);
        let _ = (process.describe(), process.handle_count(), process.is_plausible(), process.audit_path());
        for module in module::modules(&notes, &target).into_iter().flatten().take(64) {
            let _ = (module.name(), module.base());
        }
        let _ = unicode::UnicodeString::at(&target, addr).text();
    }
}
