//! One machine in every format: what the writers of the crate `testkit` make reads the same as its raw image. Writers and
//! readers share no code and were written by different people from public descriptions.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail loudly")]

use std::path::Path;

use memory::{AddressSpace, Image, Limits};
use testkit::{CrashDump, Machine, Process, Snapshot, filetime, profiles};

const PAGE: u64 = 4096;

/// A small machine with Windows 7 x64; `None`, said, without its profile.
fn machine() -> Option<Snapshot> {
    let Some(system) = profiles::windows_7() else {
        eprintln!("skipped: no profile of Windows 7");
        return None;
    };
    let mut machine = Machine::new(system);
    let created = filetime(1_329_909_000);
    machine.process(&Process { created, ..Process::new(4, 0, "System") });
    machine.process(&Process { created, session: Some(1), ..Process::new(1234, 4, "calc.exe") });
    Some(machine.finish())
}

fn open(path: &Path) -> Image {
    memory::open(path, &Limits::default()).unwrap()
}

/// Compares every page that `image` has with the raw one, and that pages it lacks are zeros there.
fn compare(image: &Image, raw: &dyn AddressSpace, name: &str) {
    assert_eq!(image.warnings, [""; 0], "{name}");
    let mut next = 0;
    let (mut pages, mut ours, mut theirs) = (0, vec![0; 4096], vec![0; 4096]);
    let zero = |from: u64, to: u64, buffer: &mut Vec<u8>| {
        for at in (from..to.min(raw.end())).step_by(4096) {
            raw.read_at(at, buffer).unwrap();
            assert!(buffer.iter().all(|byte| *byte == 0), "{name} lacks {at:#x}");
        }
    };
    for run in image.space.runs(0, u64::MAX) {
        zero(next, run.start, &mut theirs);
        for at in (run.start..run.end()).step_by(4096) {
            image.space.read_at(at, &mut ours).unwrap();
            raw.read_at(at, &mut theirs).unwrap();
            assert!(ours == theirs, "{name} differs at {at:#x}");
            pages += 1;
        }
        next = run.end();
    }
    zero(next, raw.end(), &mut theirs);
    assert!(pages > 100 && image.space.end().is_multiple_of(PAGE), "{name}: {pages} pages");
}

#[test]
fn every_format_of_one_machine_reads_as_its_raw_image() {
    let Some(snapshot) = machine() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    snapshot.write_raw(&path("raw")).unwrap();
    let raw = open(&path("raw"));
    for (name, kind) in
        [("full", CrashDump::Full), ("bitmap", CrashDump::Bitmap), ("kernel", CrashDump::Kernel)]
    {
        snapshot.write_crash_dump(&path(name), kind).unwrap();
        let image = open(&path(name));
        compare(&image, &*raw.space, name);
        assert_eq!(image.hints.dtb, [snapshot.dtb()], "{name}");
    }
    snapshot.write_elf_core(&path("elf")).unwrap();
    compare(&open(&path("elf")), &*raw.space, "elf");
    snapshot.write_vmware(&path("guest.vmem"), &path("guest.vmss")).unwrap();
    let image = open(&path("guest.vmem"));
    assert_eq!(image.layers, ["file", "VMware memory"]);
    compare(&image, &*raw.space, "vmem");
    snapshot.write_vmsn(&path("alone.vmsn")).unwrap();
    let image = open(&path("alone.vmsn"));
    assert_eq!(image.layers, ["file", "VMware state"]);
    compare(&image, &*raw.space, "vmsn");
    snapshot.write_hiberfil(&path("hiberfil.sys")).unwrap();
    let image = open(&path("hiberfil.sys"));
    assert_eq!(image.layers, ["file", "hibernation file (XP-7)"]);
    compare(&image, &*raw.space, "hiberfil");
}
