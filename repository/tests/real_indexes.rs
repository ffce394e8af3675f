//! The real indexes of Rekall's repository: they are read, and made again from the profiles they were made from.
//!
//! Reads `rekall/v1.0` below `REKAL_TEST_DATA`, or below the data folder beside the checkout; without it the tests say so
//! and pass.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use profile::Profile;
use profile::names::ProfileName;
use repository::index::{DataIndex, IndexSpec, StructIndex, TraitIndex, build_index};
use repository::{Directory, Limits};
use serde_json::Value;

fn tree() -> Option<Directory> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join("data");
    let root = std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from).join("rekall");
    if root.is_dir() {
        return Some(Directory::new(root, Limits::default()));
    }
    let _ = writeln!(std::io::stderr(), "SKIPPED: no real repository in the test data");
    None
}

fn load(directory: &Directory, name: &str) -> Profile {
    let stored = directory.get(&ProfileName::new(name).unwrap()).unwrap();
    Profile::parse(&stored.bytes, &profile::Limits::default()).unwrap()
}

#[test]
fn real_indexes_are_read_whole() {
    let Some(directory) = tree() else { return };
    for (name, profiles, points) in
        [("nt/index", 358, 3729), ("tcpip/index", 70, 99), ("win32k/index", 158, 316)]
    {
        let document = load(&directory, name);
        let index = DataIndex::read(&document).unwrap();
        assert_eq!((index.profiles.len(), index.rejected), (profiles, 0), "{name}");
        assert_eq!(index.profiles.iter().map(|(_, points)| points.len()).sum::<usize>(), points, "{name}");
        // Written again, it says the same; old files have single byte strings in place of lists.
        let written = index.to_document();
        let again = Profile::parse_text(written.to_canonical_json()).unwrap();
        assert_eq!(DataIndex::read(&again).unwrap().profiles, index.profiles);
        if name == "nt/index" {
            assert_eq!(written.metadata, *document.metadata());
            assert_eq!(written.other["$INDEX"], document.section::<Value>("$INDEX").unwrap().unwrap());
        }
        assert!(StructIndex::read(&document).is_err());
    }
}

#[test]
fn the_real_eprocess_index_is_read_whole() {
    let Some(directory) = tree() else { return };
    let document = load(&directory, "nt/eprocess_index");
    let index = StructIndex::read(&document).unwrap();
    assert_eq!((index.profiles.len(), index.rejected), (308, 0));
    assert_eq!(index.to_document().metadata, *document.metadata());
    assert_eq!(index.to_document().other["$INDEX"], document.section::<Value>("$INDEX").unwrap().unwrap());
    let layouts = index.eprocess_layouts();
    let total: usize = layouts.iter().map(|layout| layout.profiles.len()).sum();
    assert_eq!((layouts.len(), total), (10, 308));
    let windows7 = layouts.iter().find(|layout| layout.is_64 && layout.name_offset == 736).unwrap();
    assert_eq!(windows7.name_after_dtb, 696);
    assert!(DataIndex::read(&document).is_ok_and(|index| index.profiles.is_empty()));
}

/// The points of the real indexes that apply to the real profiles, in the order of the real specification.
const SPECS: [(&str, &str); 3] = [
    (
        "nt",
        "path: nt/
symbols:
  - {name: 'str:KernelSpace', data: ['str:KernelSpace']}
  - {name: 'str:ZwQueryInformationFile', data: ['str:ZwQueryInformationFile']}
  - {name: 'str:IRP_MN_QUERY_DEVICE_TEXT', data: ['str:IRP_MN_QUERY_DEVICE_TEXT']}
  - {name: 'str:APP_NAME', data: ['lstr:APP_NAME']}
  - {name: wcschr, data: ['90'], shift: -1}
  - {name: ExEnumHandleTable, data: ['90'], shift: -1}
  - {name: FsRtlAllocateFileLock, data: ['90'], shift: -1}
  - {name: VdmOpcodeGetDrx, data: ['90'], shift: -1}
  - {name: RtlQueryInformationAcl, data: ['90'], shift: -1}
  - {name: RtlPrefetchMemoryNonTemporal, data: ['90'], shift: -1}
  - {name: IoFreeIrp, data: ['90'], shift: -1}
  - {name: StringCchCopyNW, data: ['90'], shift: -1}
",
    ),
    (
        "tcpip",
        "path: tcpip\nsymbols:\n  - {name: 'str:IPSecDeleteInboundOutboundSaPair', data: ['str:IPSecDeleteInboundOutboundSaPair']}\n",
    ),
    (
        "win32k",
        "path: win32k\nsymbols:\n  - {name: 'str:GUIFont.Height', data: ['lstr:GUIFont.Height']}\n  - {name: 'str:EngMapFile', data: ['str:EngMapFile']}\n",
    ),
];

#[test]
fn real_entries_are_made_again_from_their_profiles() {
    let Some(directory) = tree() else { return };
    for (module, spec) in SPECS {
        let built = build_index(&directory, &IndexSpec::parse(spec).unwrap()).unwrap();
        assert_eq!((built.indexed, built.left_out.len(), built.ambiguous.len()), (1, 0, 0), "{module}");
        let made = built.document.other["$INDEX"].as_object().unwrap();
        let real: Value = load(&directory, &format!("{module}/index")).section("$INDEX").unwrap().unwrap();
        for (name, points) in made {
            assert_eq!(Some(points), real.get(name), "{name}");
        }
    }
}

#[test]
fn the_real_eprocess_entry_is_made_again() {
    let Some(directory) = tree() else { return };
    let spec = "path: nt\ntype: struct\nimplementation: EProcessIndex\nmembers:\n  _EPROCESS:\n    - ImageFileName\n    - Pcb\n  _KPROCESS:\n    - DirectoryTableBase\n";
    let built = build_index(&directory, &IndexSpec::parse(spec).unwrap()).unwrap();
    assert_eq!(built.indexed, 1);
    let real = load(&directory, "nt/eprocess_index");
    assert_eq!(built.document.metadata, *real.metadata());
    let real: Value = real.section("$INDEX").unwrap().unwrap();
    for (name, entry) in built.document.other["$INDEX"].as_object().unwrap() {
        assert_eq!(Some(entry), real.get(name));
    }
}

#[test]
fn every_profile_of_the_real_index_matches_itself_best() {
    let Some(directory) = tree() else { return };
    let index = DataIndex::read(&load(&directory, "nt/index")).unwrap();
    for (name, points) in &index.profiles {
        // Memory that holds exactly what this profile's points say, and cannot be read elsewhere.
        let matches = index.matches(1, |offset, buf| {
            let point =
                points.iter().find(|point| point.offset == offset && point.data[0].len() == buf.len());
            point.inspect(|point| buf.copy_from_slice(&point.data[0])).is_some()
        });
        let best = matches.iter().find(|found| found.profile == *name).expect("it matches itself");
        assert!(best.is_perfect() && best.unreadable == 0);
        // Others may match as well where their points are the same ones, never better.
        assert!(matches[0].is_perfect() && matches[0].matched <= best.matched);
    }
}

/// Indexes small enough for thousands of runs, one of each kind.
const SMALL: [&str; 3] = [
    r#"{"$INDEX": {"nt/GUID/A1": [[3640624, ["4b65", "90"]], [-9, "cc"]], "nt/GUID/B2": [[5, ["90"]]]}, "$METADATA": {"BaseSymbol": null, "ProfileClass": "Index", "Type": "Profile"}}"#,
    r#"{"$INDEX": {"nt/GUID/A1": {"arch": "I386", "offsets": {"_EPROCESS.ImageFileName": 364, "_EPROCESS.Pcb": 0, "_KPROCESS.DirectoryTableBase": 24}}}, "$METADATA": {"ProfileClass": "EProcessIndex", "Type": "Profile"}}"#,
    r#"{"$INDEX": {"$HASHES": {"00ff": "Linux/a"}, "$PROFILES": {"Linux/a": {"LastModified": 7.5}}, "$TRAITS": {"Linux/a": [[["symbol", -12]], [["x", 1], ["y", 2]]]}}, "$METADATA": {"BaseSymbol": "linux_proc_banner", "ProfileClass": "LinuxSymbolOffsetIndex", "Type": "Index"}}"#,
];

#[test]
fn damaged_indexes_neither_panic_nor_change_by_writing() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let bytes = b"\"{}[]:,0123456789-.eE$/GUIDan\\ ";
    let mut read = 0;
    for _ in 0..20_000 {
        let mut text = SMALL[random(SMALL.len())].as_bytes().to_vec();
        for _ in 0..=random(4) {
            let at = random(text.len());
            match random(3) {
                0 => drop(text.remove(at)),
                1 => text.insert(at, bytes[random(bytes.len())]),
                _ => text[at] = bytes[random(bytes.len())],
            }
        }
        let Ok(profile) = Profile::parse(&text, &profile::Limits::default()) else { continue };
        let again = |document: profile::Document| Profile::parse_text(document.to_canonical_json()).unwrap();
        if let Ok(index) = DataIndex::read(&profile) {
            let _ = index.matches(1, |offset, buf| {
                buf.fill(0x90);
                offset % 2 == 1
            });
            assert_eq!(DataIndex::read(&again(index.to_document())).unwrap().profiles, index.profiles);
            read += 1;
        }
        if let Ok(index) = StructIndex::read(&profile) {
            assert!(index.eprocess_layouts().len() <= index.profiles.len());
        }
        if let Ok(index) = TraitIndex::read(&profile) {
            let _ = index.matches([("linux_proc_banner", 7), ("symbol", 0), ("x", 8)]);
        }
    }
    assert!(read > 1000, "most damage was too heavy: {read}");
}
