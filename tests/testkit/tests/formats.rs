//! Made files read by programs and libraries that are not ours: kdmp-parser, readelf, llvm-readobj.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

use std::path::Path;
use std::process::Command;

use kdmp_parser::{Gpa, Gva, Gxa as _, KernelDumpParser};
use testkit::{CrashDump, Machine, PAGE, Process, Snapshot, SpaceId, filetime, profiles};

fn small() -> Option<Snapshot> {
    let mut machine = Machine::new(profiles::windows_10()?);
    let created = filetime(1_329_909_000);
    machine.process(&Process { created, ..Process::new(4, 0, "System") });
    machine.process(&Process { created, session: Some(1), ..Process::new(1234, 4, "calc.exe") });
    Some(machine.finish())
}

/// Output of a program; `None`, said, where it is not installed.
fn output(program: &str, arguments: &[&str], file: &Path) -> Option<String> {
    match Command::new(program).args(arguments).arg(file).output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(_) => {
            eprintln!("skipped: {program} is not installed");
            None
        }
    }
}

#[test]
fn crash_dumps_hold_the_memory_of_the_raw_image() {
    let Some(snapshot) = small() else { return };
    let folder = tempfile::tempdir().expect("a scratch folder");
    let raw = folder.path().join("raw");
    snapshot.write_raw(&raw).expect("a written image");
    let raw = std::fs::read(raw).expect("an image");
    let page = |frame: u64| &raw[usize::try_from(frame * PAGE).unwrap()..][..4096];
    for kind in [CrashDump::Full, CrashDump::Bitmap] {
        let path = folder.path().join("dump");
        snapshot.write_crash_dump(&path, kind).expect("a written dump");
        let dump = KernelDumpParser::new(&path).expect("a dump");
        assert_eq!(dump.headers().directory_table_base, snapshot.dtb(), "{kind:?}");
        let mut found = 0;
        for (address, _) in dump.physmem() {
            let mut bytes = [0; 4096];
            dump.phys_read_exact(address, &mut bytes).expect("a page");
            assert!(bytes == page(address.u64() / PAGE), "{kind:?}: {:#x}", address.u64());
            found += 1;
        }
        let used = snapshot.machine.physical().frames().filter(|(_, bytes)| bytes.iter().any(|&b| b != 0));
        for (frame, bytes) in used {
            let mut read = [0; 4096];
            dump.phys_read_exact(Gpa::new(frame * PAGE), &mut read).expect("a page in use");
            assert!(read == bytes, "{kind:?}: frame {frame:#x}");
        }
        let all = snapshot.runs.iter().map(|&(_, len)| len / PAGE).sum::<u64>();
        assert!(if kind == CrashDump::Full { found == all } else { found < all / 2 }, "{kind:?}: {found}");
        // Its own page walk, large pages and the self-map included.
        for address in [snapshot.machine.system.kernel_base, snapshot.process(1234).eprocess] {
            let mut bytes = [0; 64];
            dump.virt_read_exact(Gva::new(address), &mut bytes).expect("kernel memory");
            assert_eq!(bytes.to_vec(), snapshot.machine.read(SpaceId::SYSTEM, address, 64));
        }
    }
}

#[test]
fn readelf_sees_the_runs() {
    let Some(snapshot) = small() else { return };
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("core");
    snapshot.write_elf_core(&path).expect("a written core");
    let Some(text) = output("readelf", &["-lW"], &path) else { return };
    for (start, len) in &snapshot.runs {
        let line =
            text.lines().find(|line| line.contains("LOAD") && line.contains(&format!("{start:#018x}")));
        assert!(line.is_some_and(|line| line.contains(&format!("{len:#x}").replace("0x", ""))), "{text}");
    }
}

#[test]
fn readobj_reads_the_headers_of_the_kernel() {
    let Some(snapshot) = small() else { return };
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("ntoskrnl.exe");
    let size = usize::try_from(snapshot.machine.kernel_size()).unwrap();
    let base = snapshot.machine.system.kernel_base;
    std::fs::write(&path, snapshot.machine.read(SpaceId::SYSTEM, base, size)).expect("a file");
    let arguments = ["--file-headers", "--sections", "--coff-exports", "--coff-debug-directory"];
    let Some(text) = output("llvm-readobj", &arguments, &path) else { return };
    for expected in
        ["COFF-x86-64", "Name: INITKDBG", "Name: MISYSPTE", "PDBFileName: ntkrnlmp.pdb", "Name: KeBugCheckEx"]
    {
        assert!(text.contains(expected), "{expected} is missing in\n{}", text.get(..3000).unwrap_or(&text));
    }
    // BBED7C29-55FB-E452-2AAA-23F4B8677AD9: the first three parts are little-endian integers.
    assert!(text.contains("(29 7C ED BB FB 55 52 E4 2A AA 23 F4 B8 67 7A D9)"), "{text}");
}
