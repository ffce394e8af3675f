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
        "Peb": [184, ["Pointer", {"target": "_PEB"}]],
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
    "_RTL_DYNAMIC_HASH_TABLE": [40, {"TableSize": [8, ["unsigned long"]], "NumEntries": [20, ["unsigned long"]],
        "Directory": [32, ["Pointer", {"target": "Void"}]]}],
    "_RTL_BITMAP": [16, {"SizeOfBitMap": [0, ["unsigned long"]], "Buffer": [8, ["Pointer", {"target": "Void"}]]}],
    "_DRIVER_OBJECT": [336, {"DriverName": [56, ["_UNICODE_STRING"]],
        "MajorFunction": [112, ["Array", {"count": 28, "target": "Pointer", "target_args": {"target": "Void"}}]]}],
    "_DEVICE_OBJECT": [184, {"DriverObject": [8, ["Pointer", {"target": "Void"}]]}],
    "_KTIMER": [64, {"Header": [0, ["_DISPATCHER_HEADER"]], "DueTime": [24, ["unsigned long long"]],
        "TimerListEntry": [32, ["_LIST_ENTRY"]], "Dpc": [48, ["Pointer", {"target": "_KDPC"}]],
        "Period": [60, ["unsigned long"]]}],
    "_KDPC": [64, {"DeferredRoutine": [24, ["Pointer", {"target": "Void"}]]}],
    "_POOL_TRACKER_TABLE": [40, {"Key": [0, ["unsigned long"]], "NonPagedAllocs": [4, ["unsigned long"]],
        "NonPagedFrees": [8, ["unsigned long"]], "NonPagedBytes": [16, ["unsigned long long"]],
        "PagedAllocs": [24, ["unsigned long"]], "PagedFrees": [28, ["unsigned long"]],
        "PagedBytes": [32, ["unsigned long long"]]}],
    "_PEB": [64, {"ProcessParameters": [16, ["Pointer", {"target": "Void"}]]}],
    "_RTL_USER_PROCESS_PARAMETERS": [128, {"CommandLine": [0, ["_UNICODE_STRING"]], "Environment": [32, ["Pointer", {"target": "Void"}]]}],
    "_RTL_BALANCED_NODE": [16, {"Left": [0, ["Pointer", {"target": "Void"}]], "Right": [8, ["Pointer", {"target": "Void"}]]}],
    "_MMPAGING_FILE": [64, {"Size": [0, ["unsigned long long"]], "PageFileNumber": [8, ["unsigned short"]],
        "PageFileName": [16, ["_UNICODE_STRING"]], "FileObjectNode": [32, ["_RTL_BALANCED_NODE"]]}],
    "_MI_PAGING_IO_STATE": [16, {"PageFileHead": [0, ["Pointer", {"target": "Void"}]]}],
    "_MI_SYSTEM_INFORMATION": [64, {"PagingIo": [8, ["_MI_PAGING_IO_STATE"]]}],
    "_MI_SYSTEM_VA_ASSIGNMENT": [16, {"BaseAddress": [0, ["Pointer", {"target": "Void"}]], "NumberOfBytes": [8, ["unsigned long long"]]}],
    "_MI_VISIBLE_STATE": [64, {"SystemVaRegions": [8, ["_MI_SYSTEM_VA_ASSIGNMENT"]]}],
    "_MMPTE": [8, {"u": [0, ["__pte"]]}],
    "__pte": [8, {"Long": [0, ["unsigned long long"]]}],
    "_MMPFN": [48, {"u1": [0, ["__flink"]], "PteAddress": [16, ["Pointer", {"target": "Void"}]], "u3": [24, ["__u3"]],
        "OriginalPte": [32, ["_MMPTE"]], "u4": [40, ["__u4"]]}],
    "__flink": [8, {"Flink": [0, ["unsigned long long"]]}],
    "__u3": [4, {"e1": [2, ["__e1"]]}],
    "__e1": [2, {"PageLocation": [0, ["BitField", {"start_bit": 0, "end_bit": 3, "target": "unsigned char"}]]}],
    "__u4": [8, {"PteFrame": [0, ["BitField", {"start_bit": 0, "end_bit": 36, "target": "unsigned long long"}]],
        "PrototypePte": [0, ["BitField", {"start_bit": 63, "end_bit": 64, "target": "unsigned long long"}]]}],
    "_CM_NAME_CONTROL_BLOCK": [32, {"Compressed": [0, ["unsigned char"]], "NameLength": [8, ["unsigned short"]],
        "Name": [16, ["unsigned short"]]}]
}"#;

/// Variables, one behind the other.
const SYMBOLS: &[&str] = &[
    "PsLoadedModuleList",
    "ObTypeIndexTable",
    "ObpInfoMaskToOffset",
    "PspCreateProcessNotifyRoutine",
    "KeBugCheckCallbackListHead",
    "CallbackListHead",
    "IopNotifyShutdownQueueHead",
    "IopFsNotifyChangeQueueHead",
    "PnpDeviceClassNotifyList",
    "KiNmiCallbackListHead",
    "KiTimerTableListHead",
    "KiWaitNever",
    "KiWaitAlways",
    "PoolTrackTable",
    "PoolTrackTableSize",
    "ExPoolTagTables",
    "PartitionTable",
    "PartitionCount",
    "TcpPortPool",
    "UdpCompartmentSet",
    "MmUnloadedDrivers",
    "MiState",
    "MiVisibleState",
    "MmPfnDatabase",
];

fn hostile(words: &[u64]) -> Target {
    let mut constants = String::new();
    for (n, symbol) in SYMBOLS.iter().enumerate() {
        let comma = if n == 0 { "" } else { ", " };
        write!(constants, "{comma}\"{symbol}\": {}", n * 64).unwrap();
    }
    let text = format!(
        r#"{{"$METADATA": {{}}, "$STRUCTS": {STRUCTS}, "$CONSTANTS": {{{constants}}},
        "$ENUMS": {{"_MI_ASSIGNED_REGION_TYPES": {{"0": "AssignedRegionNonPagedPool", "1": "AssignedRegionPagedPool"}}}}}}"#
    );
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
        let _ = process.parameter_texts(&target);
        if let Ok(environment) = process.environment(&target) {
            prop_assert!(environment.variables.len() <= WORDS * 8);
        }
    }
}

proptest! {
    // Each leads to many lists.
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn every_walk_over_a_hostile_network_and_kernel_ends(words in proptest::collection::vec(word(), WORDS), build in 0..30_000u32) {
        let target = hostile(&words);
        let notes = Notes::default();
        let driver = net::Driver { base: START, profile: Arc::clone(target.types().profile()) };
        let mut shapes = net::scan::shapes_of(false, build);
        for endpoint in net::tables::endpoints(&notes, &target, &driver, &mut shapes).iter().take(64) {
            let _ = (endpoint.seen(), endpoint.owner().is_ok(), endpoint.created());
        }
        for found in callback::callbacks(&notes, &target).iter().take(64) {
            let _ = (&found.routine, &found.details);
        }
        for timer in timer::timers(&notes, &target).into_iter().flatten().take(64) {
            let _ = (timer.routine(), timer.due(), timer.period(), timer.is_signalled());
        }
        let _ = pool_tracker::usage(&notes, &target);
        for file in pagefile::pagefiles(&target).into_iter().flat_map(|(files, _)| files) {
            let _ = (file.number(), file.pages(), file.path());
        }
        // The pointer to the table may lead nowhere.
        if let Ok(found) = regions::regions(&target, &paging::X64) {
            prop_assert!(found.len() <= 64);
        }
        for physical in [0, 0x1234, 0x8_0000, 0xffff_ffff_ffff_ffff] {
            if let Ok(found) = page_frame::climb(&target, &paging::X64, physical) {
                prop_assert!(found.steps.len() <= 4);
            }
        }
        for driver in unloaded::unloaded(&notes, &target).into_iter().flatten() {
            let _ = (driver.name(), driver.start(), driver.end(), driver.time());
        }
        // A hostile image cannot flood the user.
        prop_assert!(notes.take().len() <= 1001);
    }
}

#[test]
fn unloaded_drivers_are_found_in_the_state_of_the_memory_manager() {
    // Builds whose variable is a member; no build at hand has it so.
    let text = r#"{"$METADATA": {}, "$CONSTANTS": {"MiState": 256}, "$STRUCTS": {
        "_LIST_ENTRY": [16, {"Flink": [0, ["Pointer", {"target": "Void"}]]}],
        "_UNICODE_STRING": [16, {"Length": [0, ["unsigned short"]], "MaximumLength": [2, ["unsigned short"]],
            "Buffer": [8, ["Pointer", {"target": "Void"}]]}],
        "_MI_VISIBLE_STATE": [64, {"UnloadedDrivers": [16, ["Pointer", {"target": "Void"}]],
            "LastUnloadedDriver": [24, ["unsigned long"]]}],
        "_MI_SYSTEM_INFORMATION": [128, {"Vs": [32, ["_MI_VISIBLE_STATE"]]}]}}"#;
    let types = Types::new(Arc::new(Profile::parse_text(text.to_owned()).unwrap()), DataModel::Llp64, &[]);
    let mut memory = Memory::new(4);
    // The ring at 0x1000: its second element is the only one; the count has gone round once.
    memory.word(256 + 48, START + 0x1000).half(256 + 56, 52);
    memory.word(0x1028, 6 | 8 << 16).word(0x1030, START + 0x2000);
    memory.word(0x1038, 0xffff_f880_0100_0000).word(0x1040, 0xffff_f880_0100_8000);
    memory.word(0x2000, u64::from_le_bytes(*b"a\0b\0c\0\0\0"));
    let run = Run { start: START, len: memory.0.len() as u64, target: 0 };
    let space =
        RunSpace::new("state", Arc::new(FileSpace::from_vec(memory.0)), vec![run], Overlap::FirstWins);
    let target = Target::new(Arc::new(types), Arc::new(space), START, 0);
    let found = unloaded::unloaded(&Notes::default(), &target).unwrap();
    let rows: Vec<_> = found.iter().map(|driver| (driver.name().unwrap(), driver.start().unwrap())).collect();
    assert_eq!(rows, [("abc".to_owned(), 0xffff_f880_0100_0000)]);
}

#[test]
fn regions_of_32_bit_systems_are_told_by_the_kinds_of_their_tables() {
    // Names and numbers as in the symbols of Windows 7; a byte for every 2 MiB from 2 GiB on.
    let text = r#"{"$METADATA": {"arch": "I386"}, "$CONSTANTS": {"MiSystemVaType": 4096, "MmSystemRangeStart": 16},
        "$STRUCTS": {}, "$ENUMS": {"_MI_SYSTEM_VA_TYPE": {"0": "MiVaUnused", "1": "MiVaSessionSpace",
            "5": "MiVaNonPagedPool", "6": "MiVaPagedPool"}}}"#;
    let types = Types::new(Arc::new(Profile::parse_text(text.to_owned()).unwrap()), DataModel::Ilp32, &[]);
    let mut memory = Memory::new(4);
    memory.half(16, 0x8000_0000);
    memory.0[4096..4096 + 5].copy_from_slice(&[0, 5, 5, 6, 9]);
    memory.0[4096 + 1023] = 1;
    let base = 0x8200_0000;
    let run = Run { start: base, len: memory.0.len() as u64, target: 0 };
    let space = RunSpace::new("map", Arc::new(FileSpace::from_vec(memory.0)), vec![run], Overlap::FirstWins);
    let target = Target::new(Arc::new(types), Arc::new(space), base, 0);
    let found = regions::regions(&target, &paging::PAE).unwrap();
    let rows: Vec<_> =
        found.iter().map(|region| (region.name.as_str(), region.start.clone(), region.end.clone())).collect();
    assert_eq!(
        rows,
        [
            ("NonPagedPool", Ok(0x8020_0000), Ok(0x8060_0000)),
            ("PagedPool", Ok(0x8060_0000), Ok(0x8080_0000)),
            ("type 9", Ok(0x8080_0000), Ok(0x80a0_0000)),
            ("SessionSpace", Ok(0xffe0_0000), Ok(0x1_0000_0000)),
        ]
    );
}
