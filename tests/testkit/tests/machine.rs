//! What a made machine says about itself, checked with a page walk written for this test from the Intel SDM (vol. 3, chapter 4)
//! and with raw offsets of documented structures.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

use testkit::scenario::Scenario;
use testkit::{Damage, PAGE, Paging, Snapshot, SpaceId, System, profiles};

fn systems() -> Vec<System> {
    let mut systems = vec![profiles::windows_xp_pae(), profiles::windows_xp()];
    systems.extend(profiles::windows_7());
    systems.extend(profiles::windows_10());
    systems.extend(profiles::windows_11().map(System::with_five_levels));
    systems
}

fn office(system: System) -> Snapshot {
    Scenario::office(&system).build(system).snapshot
}

fn word(snapshot: &Snapshot, address: u64, size: usize) -> u64 {
    snapshot
        .machine
        .physical()
        .read(address, size)
        .iter()
        .rev()
        .fold(0, |word, &byte| word << 8 | u64::from(byte))
}

/// Physical address of a virtual one, by the page tables in memory alone.
fn walk(snapshot: &Snapshot, dtb: u64, va: u64) -> Option<u64> {
    let (size, levels): (usize, &[(u32, u32)]) = match snapshot.machine.system.paging {
        Paging::X86 => (4, &[(22, 10), (12, 10)]),
        Paging::Pae => (8, &[(30, 2), (21, 9), (12, 9)]),
        Paging::X64 => (8, &[(39, 9), (30, 9), (21, 9), (12, 9)]),
        Paging::La57 => (8, &[(48, 9), (39, 9), (30, 9), (21, 9), (12, 9)]),
    };
    let mut table = dtb;
    for (level, (shift, bits)) in levels.iter().enumerate() {
        let entry = word(snapshot, table + (va >> shift & ((1 << bits) - 1)) * size as u64, size);
        if entry & 1 == 0 {
            return None;
        }
        table = entry & 0x000F_FFFF_FFFF_F000;
        if *shift == 12 || (entry & 0x80 != 0 && level > 0) || (size == 4 && entry & 0x80 != 0) {
            let low = va & ((1 << shift) - 1);
            return Some((table & !((1 << shift) - 1)) + low);
        }
    }
    None
}

fn read(snapshot: &Snapshot, dtb: u64, va: u64, len: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    while out.len() < len {
        let here = va + out.len() as u64;
        let take = (len - out.len()).min(usize::try_from(PAGE - here % PAGE).unwrap());
        out.extend(snapshot.machine.physical().read(walk(snapshot, dtb, here)?, take));
    }
    Some(out)
}

#[test]
fn page_tables_lead_to_what_was_written() {
    for system in systems() {
        let (base, paging) = (system.kernel_base, system.paging);
        let name = format!("{:?} {paging:?}", system.version);
        let snapshot = office(system);
        for process in snapshot.processes().to_vec() {
            let dtb = snapshot.machine.dtb(process.space);
            // The kernel is the same in every process.
            assert_eq!(read(&snapshot, dtb, base, 2).as_deref(), Some(b"MZ".as_slice()), "{name}");
            let eprocess = read(&snapshot, dtb, process.eprocess, 64).unwrap();
            assert_eq!(eprocess, snapshot.machine.read(SpaceId::SYSTEM, process.eprocess, 64), "{name}");
            // KUSER_SHARED_DATA, NtMajorVersion at 0x26C, where every user finds it.
            let major = read(&snapshot, dtb, 0x7FFE_026C, 4).unwrap();
            assert_eq!(
                u32::from_le_bytes(major.try_into().unwrap()),
                snapshot.machine.system.version.0,
                "{name}"
            );
        }
        let notepad = snapshot.process(1888).clone();
        let dtb = snapshot.machine.dtb(notepad.space);
        assert_eq!(
            read(&snapshot, dtb, 0x30_0000, 13).as_deref(),
            Some(b"resident page".as_slice()),
            "{name}"
        );
        assert_eq!(read(&snapshot, dtb, 0x30_1000, 1), None, "{name}: in transition");
        assert_eq!(read(&snapshot, dtb, 0x40_0000, 11).as_deref(), Some(b"shared page".as_slice()), "{name}");
        assert_eq!(read(&snapshot, dtb, 0x40_1000, 1), None, "{name}: behind a prototype");
    }
}

#[test]
fn every_top_table_maps_itself() {
    for system in systems() {
        let (paging, index) = (system.paging, system.self_map);
        let snapshot = office(system);
        for process in snapshot.processes() {
            let dtb = snapshot.machine.dtb(process.space);
            // The address of the entry that maps an address, as Windows computes it.
            let pte = paging.pte_address(index, 0x7FFE_0000);
            let found = walk(&snapshot, dtb, pte).expect("the self-map");
            let entry = word(&snapshot, found, usize::try_from(paging.entry_size()).unwrap());
            assert_eq!(
                entry & 0x000F_FFFF_FFFF_F000,
                walk(&snapshot, dtb, 0x7FFE_0000).unwrap(),
                "{paging:?}"
            );
        }
    }
}

#[test]
fn the_same_description_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let image = |name: &str| {
        let path = folder.path().join(name);
        office(profiles::windows_xp_pae()).write_raw(&path).unwrap();
        std::fs::read(path).unwrap()
    };
    assert!(image("first") == image("second"));
}

#[test]
fn every_damage_can_be_done_on_every_system() {
    let damages = [
        Damage::UnlinkProcess(1524),
        Damage::LoopProcessList(1524, 672),
        Damage::TearProcessList(1524),
        Damage::HandleLevel(1524, 7),
        Damage::HandleCycle(1524),
        Damage::VadCycle(1524),
        Damage::VadTorn(1524),
        Damage::WrongCounts(1524),
        Damage::LoopModules,
        Damage::UnmapPeb(1524),
        Damage::TearThreads(1524),
        Damage::ZeroProcess(1524),
    ];
    for system in systems() {
        let mut snapshot = office(system);
        for damage in damages {
            snapshot.damage(damage);
        }
        let links = snapshot.machine.read(SpaceId::SYSTEM, snapshot.process(1524).eprocess, 64);
        assert!(links.iter().all(|&byte| byte == 0), "the last damage filled the process with zeros");
    }
}
