//! Modules with missing pages, and damaged files.

use std::sync::Arc;

use analyzer::pe::{Pe, VersionInfo};
use memory::{AddressSpace, Fault, FileSpace, Overlap, Run, RunSpace};
use object::Absent;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::agreement::loaded;
use crate::fixture::{made, space};

const PAGE: u64 = 4096;

/// Asks an executable for everything.
fn use_all(pe: &Pe) {
    let _ = (pe.rsds(), pe.version(), pe.bound_imports(), pe.is_reproducible());
    for module in pe.imports().items {
        assert!(module.functions.items.len() <= 1 << 18);
    }
    if let Ok(exports) = pe.exports() {
        assert!(exports.entries.items.len() <= 1 << 18);
    }
    for section in &pe.headers().sections.items {
        let _ = (section.permissions(), pe.headers().section_at(section.rva));
    }
}

#[test]
fn what_a_missing_page_holds_is_unreadable_and_nothing_else() {
    for path in made() {
        let Some(module) = loaded(path) else { return };
        let whole = Pe::mapped(&space(module.clone()), 0).unwrap();
        let pages = module.len() as u64 / PAGE;
        let memory: Arc<dyn AddressSpace> = Arc::new(FileSpace::from_vec(module));
        for missing in 1..pages {
            let runs = (0..pages).filter(|page| *page != missing);
            let runs = runs.map(|page| Run { start: page * PAGE, len: PAGE, target: page * PAGE }).collect();
            let holes = RunSpace::new("holes", Arc::clone(&memory), runs, Overlap::FirstWins);
            let torn = Pe::mapped(&(Arc::new(holes) as Arc<dyn AddressSpace>), 0).unwrap();
            let is_hole = |why: &Absent| matches!(why, Absent::Unreadable { fault: Fault::NotInImage { phys }, .. } if phys / PAGE == missing);
            // Whatever is read equals what the whole module says; whatever is not names the missing page.
            match torn.rsds() {
                Ok(rsds) => assert_eq!(Ok(rsds), whole.rsds()),
                Err(why) => assert!(is_hole(&why), "{why}"),
            }
            match torn.version() {
                Ok(version) => assert_eq!(Ok(version), whole.version()),
                Err(why) => assert!(is_hole(&why), "{why}"),
            }
            match torn.exports() {
                Ok(exports) => {
                    let whole = whole.exports().unwrap();
                    for (torn, whole) in exports.entries.items.iter().zip(&whole.entries.items) {
                        assert!(torn.name == whole.name || torn.name.as_ref().is_err_and(is_hole));
                        assert!(torn.target == whole.target || torn.target.as_ref().is_err_and(is_hole));
                    }
                    assert!(exports.entries.cut.as_ref().is_none_or(is_hole));
                }
                Err(why) => assert!(is_hole(&why), "{why}"),
            }
            use_all(&torn);
        }
    }
}

/// Changes of a file: some bytes at some places, some of them where counts and addresses are, and a cut end.
fn damage() -> impl Strategy<Value = (Vec<(prop::sample::Index, u8)>, Option<prop::sample::Index>)> {
    let byte = prop_oneof![Just(0xff), Just(0x80), Just(0x7f), Just(0), any::<u8>()];
    let edits = prop::collection::vec((any::<prop::sample::Index>(), byte), 1..12);
    (edits, prop::option::weighted(0.1, any::<prop::sample::Index>()))
}

#[test]
fn damaged_files_neither_panic_nor_hang() {
    for path in made() {
        let file = std::fs::read(path).unwrap();
        // The interesting bytes are in the headers and directories; code and zeros are not worth a change.
        let places: Vec<usize> = (0..file.len()).filter(|at| file[*at] != 0 || *at < 0x400).collect();
        let mut runner =
            TestRunner::new(Config { cases: 20_000, failure_persistence: None, ..Config::default() });
        let result = runner.run(&damage(), |(edits, cut)| {
            let mut bytes = file.clone();
            for (place, byte) in edits {
                bytes[*place.get(&places)] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let bytes = space(bytes);
            for pe in [Pe::file(&bytes, 0), Pe::mapped(&bytes, 0)].into_iter().flatten() {
                use_all(&pe);
            }
            Ok(())
        });
        result.unwrap();
    }
}

#[test]
fn damaged_version_resources_neither_panic_nor_hang() {
    for path in made() {
        let Some(module) = loaded(path) else { return };
        let key: Vec<u8> = "VS_VERSION_INFO".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let at = module.windows(key.len()).position(|window| window == key).unwrap() - 6;
        let len = usize::from(u16::from_le_bytes([module[at], module[at + 1]]));
        let resource = &module[at..at + len];
        assert!(VersionInfo::parse(resource).is_ok());
        let mut runner =
            TestRunner::new(Config { cases: 20_000, failure_persistence: None, ..Config::default() });
        let result = runner.run(&damage(), |(edits, cut)| {
            let mut bytes = resource.to_vec();
            for (place, byte) in edits {
                let at = place.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(version) = VersionInfo::parse(&bytes) {
                // Each text takes at least six bytes of a block.
                assert!(version.strings.items.len() <= bytes.len());
            }
            Ok(())
        });
        result.unwrap();
    }
}

#[test]
fn hostile_tables_are_cut_with_a_reason() {
    for path in made() {
        let mut file = std::fs::read(path).unwrap();
        let whole = Pe::file(&space(file.clone()), 0).unwrap();
        let directory = whole.headers().directories[0];
        let section = whole.headers().section_at(directory.rva).unwrap();
        let at = usize::try_from(directory.rva - section.rva + section.raw_offset).unwrap();
        file[at + 20..at + 28].fill(0xff);
        let exports = Pe::file(&space(file), 0).unwrap().exports().unwrap();
        assert!(matches!(exports.entries.cut, Some(Absent::Malformed(_))), "{:?}", exports.entries.cut);
        assert!(exports.entries.items.len() <= 1 << 17);
    }
}
