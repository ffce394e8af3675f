//! Migration streams: of a real machine, compared with `pmemsave`, and small ones for everything it did not do.

use super::*;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Runs a machine for a moment, then saves its memory both ways; `None`, saying so, without QEMU.
fn machine(folder: &std::path::Path, kind: &str, ram: &str) -> Option<(PathBuf, PathBuf)> {
    let (raw, stream) = (folder.join("raw"), folder.join("stream"));
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-M", kind, "-m", ram, "-display", "none", "-monitor", "stdio", "-net", "none"]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: no qemu-system-x86_64");
        return None;
    };
    let mut monitor = child.stdin.take().unwrap();
    let mut say = |line: String, seconds: u64| {
        monitor.write_all(line.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_secs(seconds));
    };
    // The boot firmware runs while the first pass goes on, so that some pages come twice.
    say(
        format!("migrate_set_parameter max-bandwidth 40M\nmigrate -d \"exec:cat > {}\"\n", stream.display()),
        3,
    );
    say(format!("stop\npmemsave 0 0x4000000 \"{}\"\n", raw.display()), 2);
    say("quit\n".to_owned(), 0);
    child.wait().unwrap();
    Some((raw, stream))
}

/// Truth: QEMU's own raw copy of the same memory. The legacy video and firmware area is left out: there
/// physical memory shows devices in place of the memory block.
#[test]
fn a_real_stream_is_the_memory_of_the_machine() {
    for kind in ["pc", "q35"] {
        let folder = tempfile::tempdir().unwrap();
        let Some((raw, stream)) = machine(folder.path(), kind, "64") else { return };
        let image = crate::open(&stream, &Limits::default()).unwrap();
        assert_eq!(image.layers, ["file", "QEMU stream"]);
        assert_eq!(image.warnings, [""; 0]);
        assert_eq!(image.space.end(), 64 << 20);
        let raw = fs::read(raw).unwrap();
        for (start, end) in [(0, 0xa_0000), (0x10_0000, 64 << 20)] {
            let read = image.space.read_vec(start, end - start, 1 << 27).unwrap();
            assert!(raw[start as usize..end as usize] == read, "{kind}");
        }
        assert!(raw[..0xa_0000].iter().any(|byte| *byte != 0));
    }
}

fn word(value: u64) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

fn named(name: &str) -> Vec<u8> {
    [&[name.len() as u8], name.as_bytes()].concat()
}

/// The test memory with a block of 18 pages: page 2 comes twice, pages 4 to 15 never.
fn stream(records: &[u8]) -> Vec<u8> {
    let mut bytes = b"QEVM\0\0\0\x03\x07\0\0\0\x06pc-q35".to_vec();
    bytes.extend([5]);
    bytes.extend(named("configuration/capabilities"));
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 1]);
    bytes.extend(named("events"));
    bytes.extend([1, 0, 0, 0, 2]);
    bytes.extend(named("ram"));
    bytes.extend([0, 0, 0, 0, 0, 0, 0, 4]);
    bytes.extend(word(0x1_3000 | 4));
    bytes.extend([named("vga.vram"), word(0x1000), named("pc.ram"), word(0x1_2000), word(0x10)].concat());
    bytes.extend([0x7e, 0, 0, 0, 2, 2, 0, 0, 0, 2]);
    bytes.extend([word(0x2000 | 8), named("pc.ram"), vec![0xee; PAGE]].concat());
    bytes.extend([word(8), named("vga.vram"), vec![0xdd; PAGE]].concat());
    bytes.extend([word(8), named("pc.ram"), page(0)].concat());
    for number in [1, 2, 3, 16, 17] {
        bytes.extend([word(number << 12 | 0x28), page(number)].concat());
    }
    bytes.extend(records);
    bytes.extend(
        [word(0x10), vec![0x7e, 0, 0, 0, 2, 3, 0, 0, 0, 2], word(0x10), vec![0x7e, 0, 0, 0, 2, 4]].concat(),
    );
    bytes
}

#[test]
fn later_pages_replace_earlier_ones_and_zero_pages_are_zeros() {
    assert_test_memory(&opened(stream(&[])));
    let image = opened(stream(&[word(0x4000 | 0x22), vec![0]].concat()));
    assert_eq!(image.space.read_vec(0x3000, 0x2000, 2 * PAGE).unwrap(), [page(3), vec![0; PAGE]].concat());
    let mut bytes = stream(&[]);
    bytes.truncate(bytes.len() - 3000);
    let image = opened(bytes);
    assert_eq!(image.warnings.len(), 1);
    assert_eq!(image.space.read_u64(0x10000), Ok(16));
}

#[test]
fn what_needs_another_channel_is_refused_with_the_reason() {
    for (flag, reason) in [(0x60, "XBZRLE"), (0x120, "compressed"), (0x220, "multifd")] {
        let Err(Failure::Refused { reason: told, .. }) = open_bytes(stream(&word(0x1000 | flag))) else {
            panic!("opened")
        };
        assert!(told.contains(reason), "{told}");
    }
}

#[test]
fn hyper_v_states_are_told_and_refused() {
    let Err(Failure::NotAnImage { content, .. }) = open_bytes(b"\x14\x20\x28\x01".repeat(2000)) else {
        panic!("opened")
    };
    assert!(content.starts_with("a saved state of Hyper-V; open it in WinDbg"), "{content}");
    let folder = tempfile::tempdir().unwrap();
    for name in ["guest.bin", "guest.vsv"] {
        fs::write(folder.path().join(name), pages(0..3)).unwrap();
    }
    let error = crate::open(&folder.path().join("guest.bin"), &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("a saved state of Hyper-V"), "{error}");
}

#[test]
fn mutated_streams_are_survived() {
    survive_mutations(&stream(&[word(0x4000 | 0x22), vec![0]].concat()));
}
