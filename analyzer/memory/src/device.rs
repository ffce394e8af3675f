//! Memory of the running machine through a character device: `/dev/mem`, `/dev/crash`, `/dev/fmem`. Only reads.
//!
//! Such a device has no length, and a read of what is no memory may disturb hardware; so the ranges that `/proc/iomem` calls
//! System RAM are the memory, and nothing else is touched.

use crate::{FileSpace, Overlap, Run, RunSpace};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Where Linux lists what physical addresses are.
const IOMEM: &str = "/proc/iomem";
/// The memory of the running kernel as an ELF core.
const KCORE: &str = "/proc/kcore";

/// Whether a path is the memory of the running machine: what is read may change meanwhile.
pub(crate) fn is_live(path: &Path) -> bool {
    is_device(path) || path.canonicalize().is_ok_and(|path| path == Path::new(KCORE))
}

/// Whether a path is a character device.
#[cfg(unix)]
pub(crate) fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_char_device())
}

/// Whether a path is a character device.
#[cfg(not(unix))]
pub(crate) fn is_device(_path: &Path) -> bool {
    false
}

/// The memory behind a device.
///
/// # Errors
/// The error of the operating system, or that it does not tell where memory is.
pub(crate) fn open(path: &Path) -> io::Result<RunSpace> {
    over(File::open(path)?, &std::fs::read_to_string(IOMEM)?)
}

/// A device as the memory that a text like `/proc/iomem` tells of.
fn over(device: File, iomem: &str) -> io::Result<RunSpace> {
    let runs: Vec<Run> = iomem.lines().filter_map(system_ram).collect();
    // Without the privilege all addresses are shown as 0.
    let Some(end) = runs.iter().map(Run::end).max().filter(|_| runs.iter().any(|run| run.start > 0)) else {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{IOMEM} does not tell where memory is (root may read it)"),
        ));
    };
    let file = Arc::new(FileSpace::from_device(device, end));
    Ok(RunSpace::new("device", file, runs, Overlap::FirstWins))
}

/// A line of `/proc/iomem` about memory: `00100000-7ffdefff : System RAM`. What is inside of it is indented.
fn system_ram(line: &str) -> Option<Run> {
    let (range, _) = line.split_once(" : ").filter(|(_, name)| *name == "System RAM")?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (u64::from_str_radix(first, 16).ok()?, u64::from_str_radix(last, 16).ok()?);
    Some(Run { start: first, len: last.checked_sub(first)?.checked_add(1)?, target: first })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AddressSpace as _;

    const IOMEM: &str = "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n000a0000-000bffff : PCI Bus\n\
                         00100000-0fffffff : System RAM\n  01000000-01ffffff : Kernel code\n";

    #[test]
    fn only_memory_is_touched() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(0x10_1000).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, b"evidence", 0x10_0000).unwrap();
        let space = over(file, IOMEM).unwrap();
        assert_eq!(space.read_vec(0x10_0000, 8, 8).unwrap(), b"evidence");
        assert!(space.read_u8(0xfff).is_err() && space.read_u8(0xa_0000).is_err());
        assert_eq!(
            space.runs(0, u64::MAX).map(|run| (run.start, run.len)).collect::<Vec<_>>(),
            [(0x1000, 0x9_ec00), (0x10_0000, 0xff0_0000)]
        );
    }

    #[test]
    fn hidden_addresses_are_an_error() {
        let hidden = "00000000-00000000 : System RAM\n00000000-00000000 : System RAM\n";
        assert!(over(tempfile::tempfile().unwrap(), hidden).is_err());
    }

    #[test]
    fn devices_are_live_and_files_are_not() {
        assert!(is_live(Path::new("/dev/zero")));
        assert!(!is_live(tempfile::NamedTempFile::new().unwrap().path()));
    }
}
