//! Every writer against our reader and, where there is one, somebody else's.

#![allow(clippy::cast_possible_truncation, reason = "sizes chosen here")]

use super::*;
use crate::{BugCheck, FileSpace, Hints, Image, Limits, Overlap, RunSpace, WindowsHints, open_space};
use std::io::Cursor;
use std::process::Command;
use std::sync::Arc;

const PAGE: usize = 4096;

/// Bytes that compress in part.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252u64;
    let byte = |at: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if (at / PAGE).is_multiple_of(3) { (state >> 32) as u8 } else { (at / 512) as u8 }
    };
    (0..len).map(byte).collect()
}

/// 2.5 MiB at 0, a hole, 100 pages at 16 MiB, a hole, one page. A megabyte is of bytes from 144 on, which the
/// fastest zlib level makes longer by an eighth.
fn memory() -> (RunSpace, Vec<Run>) {
    let mut file = noise(0x31_0000);
    file[0x10_0000..0x20_0000].iter_mut().zip(noise(3 << 20).chunks(3)).for_each(|(byte, seed)| {
        *byte = 144 + (seed[0] ^ seed[1] ^ seed[2].rotate_left(3)) % 112;
    });
    let runs = vec![
        Run { start: 0, len: 0x28_0000, target: 0 },
        Run { start: 0x100_0000, len: 100 * 4096, target: 0x28_0000 },
        Run { start: 0x200_0000, len: 4096, target: 0x30_0000 },
    ];
    (RunSpace::new("t", Arc::new(FileSpace::from_vec(file)), runs.clone(), Overlap::FirstWins), runs)
}

fn hints() -> Hints {
    let windows = WindowsHints {
        machine: Some(0x8664),
        build: Some(19041),
        processors: Some(2),
        kernel_base: Some(0xffff_f800_0000_0000),
        kdbg: Some(0xffff_f800_0001_0000),
        active_processes: Some(0xffff_f800_0002_0000),
        system_time: Some(133_000_000_000_000_000),
        bug_check: Some(BugCheck { code: 0, parameters: [0; 4] }),
        ..WindowsHints::default()
    };
    Hints {
        dtb: vec![0x1a_b000],
        windows: Some(windows),
        vmcoreinfo: Some(b"OSRELEASE=6.1".to_vec()),
        ..Hints::default()
    }
}

fn reopened(bytes: Vec<u8>) -> Image {
    open_space(Arc::new(FileSpace::from_vec(bytes)), &Limits::default()).unwrap()
}

/// That an image has exactly the memory of [`memory`].
fn assert_same(image: &Image, layer: &str) {
    let (space, runs) = memory();
    assert_eq!(image.layers.last().unwrap(), layer);
    assert_eq!(image.warnings, [""; 0]);
    let ranges =
        |space: &dyn AddressSpace| ranges(space).iter().map(|r| (r.start, r.len)).collect::<Vec<_>>();
    assert_eq!(ranges(&*image.space), ranges(&space));
    for run in runs {
        let read = |space: &dyn AddressSpace| space.read_vec(run.start, run.len, 1 << 24).unwrap();
        assert!(read(&*image.space) == read(&space), "{run:x?}");
    }
}

#[test]
fn lime_elf_and_aff4_read_back_the_same() {
    let (space, _) = memory();
    let mut bytes = Vec::new();
    let copied = lime(&space, &mut bytes, &|_| {}).unwrap();
    assert!(copied.iter().all(|copied| copied.gaps.is_empty()) && copied.len() == 3);
    assert_same(&reopened(bytes), "LiME");
    let mut bytes = Vec::new();
    elf_core(&space, &hints(), &mut bytes, &|_| {}).unwrap();
    let image = reopened(bytes);
    assert_same(&image, "ELF core");
    assert_eq!(image.hints.vmcoreinfo, hints().vmcoreinfo);
    for compression in [Compression::Snappy, Compression::Zlib, Compression::Stored] {
        let mut file = Cursor::new(Vec::new());
        let uuid = "62ff168b-b3ba-4399-9c92-bc91d052bc61";
        aff4(&space, &hints(), compression, uuid, &mut file, &|_| {}).unwrap();
        let image = reopened(file.into_inner());
        assert_same(&image, "AFF4 map");
        assert_eq!(image.hints.dtb, [0x1a_b000]);
        assert_eq!(image.hints.windows.unwrap().kernel_base, Some(0xffff_f800_0000_0000));
    }
}

#[test]
fn crash_dumps_read_back_the_same_and_to_kdmp_parser() {
    let (space, _) = memory();
    let mut bytes = Vec::new();
    crash_dump(&space, &hints(), &mut bytes, &|_| {}).unwrap();
    let image = reopened(bytes.clone());
    assert_same(&image, "crash dump (full)");
    let expected = WindowsHints { kernel_base: None, major: Some(15), ..hints().windows.unwrap() };
    assert_eq!(image.hints.windows, Some(expected));
    let theirs = kdmp_parser::KernelDumpParser::with_reader(Cursor::new(bytes)).unwrap();
    assert_eq!(theirs.physmem().len(), 0x280 + 100 + 1);
    for (gpa, _) in theirs.physmem() {
        let (mut one, mut other) = (vec![0; PAGE], vec![0; PAGE]);
        theirs.phys_read_exact(gpa, &mut one).unwrap();
        space.read_at(u64::from(gpa), &mut other).unwrap();
        assert!(one == other);
    }
    let narrow = WindowsHints { machine: Some(0x14c), pae: Some(true), ..WindowsHints::default() };
    let mut bytes = Vec::new();
    let hints = Hints { windows: Some(narrow), ..hints() };
    crash_dump(&space, &hints, &mut bytes, &|_| {}).unwrap();
    let image = reopened(bytes);
    assert_same(&image, "crash dump (full)");
    assert_eq!(image.hints.windows.unwrap().pae, Some(true));
}

#[test]
fn a_crash_dump_of_many_runs_has_a_bitmap() {
    let file = Arc::new(FileSpace::from_vec(noise(100 * PAGE)));
    let runs = (0..50).map(|n| Run { start: n * 0x3000, len: 0x1000, target: n * 0x2000 }).collect();
    let space = RunSpace::new("t", file, runs, Overlap::FirstWins);
    let mut bytes = Vec::new();
    crash_dump(&space, &hints(), &mut bytes, &|_| {}).unwrap();
    let image = reopened(bytes.clone());
    assert_eq!((image.layers[1].as_str(), image.warnings.len()), ("crash dump (bitmap)", 0));
    let theirs = kdmp_parser::KernelDumpParser::with_reader(Cursor::new(bytes)).unwrap();
    assert_eq!(theirs.physmem().len(), 50);
    for n in 0..50 {
        assert_eq!(image.space.read_u64(n * 0x3000), space.read_u64(n * 0x3000));
    }
    let none = Hints::default();
    let error = crash_dump(&space, &none, &mut Vec::new(), &|_| {}).unwrap_err();
    assert_eq!(error.to_string(), "a crash dump needs a page table root");
}

/// Truth: libewf reads the file, verifies every checksum and the hash, and gives back the media.
#[test]
fn ewf_reads_back_the_same_here_and_in_libewf() {
    let (space, runs) = memory();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.E01");
    let mut file = std::fs::File::create(&path).unwrap();
    ewf(&space, "a test", &mut file, &|_| {}).unwrap();
    drop(file);
    let image = crate::open(&path, &Limits::default()).unwrap();
    assert_eq!((&image.layers[1..], image.warnings.len()), (&["EWF".to_owned(), "raw".to_owned()][..], 0));
    let mut expected = vec![0; space.end() as usize];
    for run in runs {
        space.read_at(run.start, &mut expected[run.start as usize..run.end() as usize]).unwrap();
    }
    assert!(image.space.read_vec(0, space.end(), 1 << 26).unwrap() == expected);
    let Ok(verified) = Command::new("ewfverify").arg("-q").arg(&path).output() else {
        eprintln!("skipped: no ewfverify (Debian package ewf-tools)");
        return;
    };
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    let raw = folder.path().join("exported");
    let mut export = Command::new("ewfexport");
    let exported = export.args(["-u", "-q", "-f", "raw", "-t"]).arg(&raw).arg(&path).output().unwrap();
    assert!(exported.status.success(), "{exported:?}");
    assert!(std::fs::read(raw.with_extension("raw")).unwrap() == expected);
}

#[test]
fn unreadable_memory_is_zeros_and_reported_with_its_run() {
    // The middle page is promised beyond the end of the file.
    let file = Arc::new(FileSpace::from_vec(noise(2 * PAGE)));
    let runs = vec![Run { start: 0, len: 3 * 4096, target: 0 }];
    let cut = RunSpace::new("t", file, runs, Overlap::FirstWins);
    // A space of runs leaves out what is beyond the end: give it back as a promise.
    struct Promise(RunSpace);
    impl AddressSpace for Promise {
        fn name(&self) -> String {
            "promise".into()
        }
        fn read_at(&self, addr: u64, buf: &mut [u8]) -> Result<(), crate::Fault> {
            self.0.read_at(addr, buf)
        }
        fn translate(&self, addr: u64) -> Result<u64, crate::Fault> {
            self.0.translate(addr)
        }
        fn runs(&self, start: u64, end: u64) -> Box<dyn Iterator<Item = Run> + '_> {
            Box::new(Run { start: 0, len: 3 * 4096, target: 0 }.clipped(start, end).into_iter())
        }
        fn end(&self) -> u64 {
            3 * 4096
        }
        fn bits(&self) -> u8 {
            64
        }
        fn base(&self) -> Option<&dyn AddressSpace> {
            None
        }
    }
    let space = Promise(cut);
    let told = |copied: Vec<Copied>| copied[0].gaps.missing;
    assert_eq!(told(lime(&space, &mut Vec::new(), &|_| {}).unwrap()), 4096);
    assert_eq!(told(ewf(&space, "", &mut Cursor::new(Vec::new()), &|_| {}).unwrap()), 4096);
    assert_eq!(told(raw(&space, &mut Cursor::new(Vec::new()), &|_| {}).unwrap()), 4096);
    assert_eq!(told(crash_dump(&space, &hints(), &mut Vec::new(), &|_| {}).unwrap()), 4096);
}
