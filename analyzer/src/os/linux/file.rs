//! Open files: `files_struct` and `file` (include/linux/{fdtable,fs}.h).

use object::{Absent, Ptr, Read, Target, Uint, layout, little_endian, walk};

use super::path::{Location, Paths};
use super::task::Task;
use super::vfs::{Dentry, Inode};

/// Most descriptors of one process that are looked at: the kernel's own default limit, `fs.nr_open`.
const MAX_FDS: usize = 1 << 20;
/// Descriptors read at once.
const CHUNK: usize = 512;
/// `FMODE_READ`, `FMODE_WRITE`, `FMODE_BACKING` (include/linux/fs.h).
const FMODE_READ: u64 = 1;
const FMODE_WRITE: u64 = 2;
const FMODE_BACKING: u64 = 1 << 25;
/// `O_CLOEXEC` (include/uapi/asm-generic/fcntl.h).
pub const O_CLOEXEC: u32 = 0o2_000_000;

layout! {
    struct FilesStruct / FilesStructLayout = "files_struct" {
        fdt: Ptr = "fdt",
    }

    struct FdTable / FdTableLayout = "fdtable" {
        max_fds: u32 = "max_fds",
        fd: Ptr = "fd",
        close_on_exec: Ptr = "close_on_exec",
    }

    /// `file`: an open file; descriptors that were duplicated share it.
    pub struct File / FileLayout = "file" {
        /// Mount it was opened through: a `vfsmount`.
        mount: Ptr = "f_path.mnt | f_vfsmnt",
        /// Name it was opened by.
        dentry: Ptr = "f_path.dentry | f_dentry",
        /// The file proper, from v3.9.
        f_inode: Ptr = "f_inode",
        /// `file_operations`: tells what kind of file it is.
        f_op: Ptr = "f_op",
        /// What the kind of file keeps: a `socket`, a `pipe_inode_info`, an `eventpoll`.
        private_data: Ptr = "private_data",
        /// Read and write position in bytes.
        f_pos: i64 = "f_pos",
        /// `O_*` flags of `open(2)`.
        f_flags: u32 = "f_flags",
        /// `FMODE_*` flags.
        f_mode: Uint = "f_mode",
    }

    struct BackingFile / BackingFileLayout = "backing_file" {
        mount: Ptr = "user_path.mnt | real_path.mnt",
        dentry: Ptr = "user_path.dentry | real_path.dentry",
    }
}

impl<'t> File<'t> {
    /// The inode; `d_inode` of the name before v3.9.
    pub fn inode(&self) -> Read<Inode<'t>> {
        let inode = match self.f_inode() {
            Err(Absent::NoProfile(_)) => {
                Dentry::at(self.target(), self.dentry()?.non_null("file without a name")?).inode()?
            }
            inode => inode?,
        };
        Ok(Inode::at(self.target(), inode.non_null("file without inode")?))
    }

    /// Where it is in the tree of names.
    pub fn location(&self) -> Read<Location> {
        let dentry = self.dentry()?.non_null("file without a name")?;
        Ok(Location { mount: self.mount()?.0, dentry })
    }

    /// Its name as `readlink /proc/PID/fd/N` prints it.
    pub fn path(&self, paths: &Paths<'_>) -> Read<String> {
        paths.d_path(self.location()?)
    }

    /// The place a user opened, where a stacked file system opened another (`file_user_path`, from v6.6): what
    /// `/proc/PID/maps` names. Other files stand for themselves.
    pub fn user_location(&self) -> Read<Location> {
        if self.f_mode()?.0 & FMODE_BACKING == 0 {
            return self.location();
        }
        let backing = BackingFile::at(self.target(), self.addr());
        match (backing.mount(), backing.dentry()) {
            (Err(Absent::NoProfile(_)), _) => self.location(),
            (mount, dentry) => {
                Ok(Location { mount: mount?.0, dentry: dentry?.non_null("file without a name")? })
            }
        }
    }

    /// The inode of [`File::user_location`] (`file_user_inode`).
    pub fn user_inode(&self) -> Read<Inode<'t>> {
        if self.f_mode()?.0 & FMODE_BACKING == 0 {
            return self.inode();
        }
        let dentry = Dentry::at(self.target(), self.user_location()?.dentry);
        Ok(Inode::at(self.target(), dentry.inode()?.non_null("dentry without inode")?))
    }

    /// Access: `r`, `w`, `rw`, or `-` for a file opened with `O_PATH`.
    pub fn access(&self) -> Read<&'static str> {
        let Uint(mode) = self.f_mode()?;
        Ok(match (mode & FMODE_READ != 0, mode & FMODE_WRITE != 0) {
            (true, true) => "rw",
            (true, false) => "r",
            (false, true) => "w",
            (false, false) => "-",
        })
    }
}

/// One file descriptor.
#[derive(Clone, Copy)]
pub struct Descriptor<'t> {
    /// Its number.
    pub fd: u32,
    /// The open file.
    pub file: File<'t>,
    cloexec: Option<bool>,
}

impl Descriptor<'_> {
    /// `O_*` flags as `/proc/PID/fdinfo/N` shows them: those of the file, and `O_CLOEXEC` where the descriptor is
    /// closed on `execve(2)`.
    pub fn flags(&self) -> Read<u32> {
        let flags = self.file.f_flags()?;
        match self.cloexec {
            Some(true) => Ok(flags | O_CLOEXEC),
            Some(false) => Ok(flags),
            None => Err(Absent::Malformed("bitmap of descriptors to close on exec cannot be read")),
        }
    }
}

/// The open files of a process by descriptor, and how the table ended.
///
/// Parts of the table that cannot be read are skipped; the end then says [`walk::End::Broken`]. Tasks without open
/// files (zombies) have an empty, complete table.
pub fn files_of<'k>(task: &Task<'k>) -> (Vec<Descriptor<'k>>, walk::End) {
    match task.files() {
        Ok(Ptr(0)) => (Vec::new(), walk::End::Complete),
        Ok(Ptr(files)) => table(task.target(), files),
        Err(why) => (Vec::new(), broken(task.addr(), why, 0)),
    }
}

fn broken(node: u64, why: Absent, recovered: usize) -> walk::End {
    walk::End::Broken { node, why, recovered }
}

/// Reads the table of a `files_struct`.
fn table(target: &Target, files: u64) -> (Vec<Descriptor<'_>>, walk::End) {
    let header = || {
        let fdt =
            FdTable::at(target, FilesStruct::at(target, files).fdt()?.non_null("no table of open files")?);
        let array = fdt.fd()?.non_null("no array of open files")?;
        Ok((fdt.max_fds()?, array, fdt.close_on_exec()?.0))
    };
    let (max_fds, array, cloexec) = match header() {
        Ok(header) => header,
        Err(why) => return (Vec::new(), broken(files, why, 0)),
    };
    let count = usize::try_from(max_fds).unwrap_or(usize::MAX);
    let mut end = if count > MAX_FDS { walk::End::Truncated { limit: MAX_FDS } } else { walk::End::Complete };
    let width = usize::from(target.types().model().pointer_size());
    let mut found = Vec::new();
    let mut torn: Option<(u64, Absent, usize)> = None;
    for first in (0..count.min(MAX_FDS)).step_by(CHUNK) {
        let entries = CHUNK.min(count.saturating_sub(first));
        let at = array.wrapping_add((first * width) as u64);
        let bytes = match target.read_bytes(at, (entries * width) as u64, CHUNK * 8) {
            Ok(bytes) => bytes,
            Err(why) => {
                torn.get_or_insert((at, why, found.len()));
                continue;
            }
        };
        let bits = target
            .read_bytes(cloexec.wrapping_add(first as u64 / 8), (entries as u64).div_ceil(8), CHUNK)
            .ok();
        for (index, entry) in bytes.chunks_exact(width).enumerate() {
            let file = little_endian(entry);
            let Ok(fd) = u32::try_from(first + index) else { break };
            if file != 0 {
                let bit = |bits: &Vec<u8>| bits.get(index / 8).map(|byte| byte >> (index % 8) & 1 == 1);
                let cloexec = bits.as_ref().and_then(bit);
                found.push(Descriptor { fd, file: File::at(target, file), cloexec });
            }
        }
    }
    if let Some((node, why, before)) = torn {
        end = broken(node, why, found.len().saturating_sub(before));
    }
    (found, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::linux::testkit::Memory;

    const STRUCTS: &str = r#"{
        "task_struct": [8, {"files": [0, ["Pointer", {"target": "files_struct"}]]}],
        "files_struct": [8, {"fdt": [0, ["Pointer", {"target": "fdtable"}]]}],
        "fdtable": [24, {
            "max_fds": [0, ["unsigned int"]], "fd": [8, ["Pointer", {"target": "Void"}]],
            "close_on_exec": [16, ["Pointer", {"target": "Void"}]]}],
        "file": [8, {"f_flags": [0, ["unsigned int"]]}]
    }"#;
    const TASK: u64 = 0x1000;
    const FDT: u64 = 0x1200;
    const ARRAY: u64 = 0x10_0000;
    const BITS: u64 = 0x1800;

    fn table(max_fds: u64) -> Memory {
        let mut memory = Memory::default();
        memory.word(TASK, 0x1100).word(0x1100, FDT).words(FDT, &[max_fds, ARRAY, BITS]).word(BITS, 0b100);
        memory.word(0x1900, 0o2);
        memory
    }

    fn files(memory: &Memory) -> (Vec<(u32, u64, Read<u32>)>, walk::End) {
        let target = memory.target(STRUCTS, &[]);
        let (found, end) = files_of(&Task::at(&target, TASK));
        (found.iter().map(|found| (found.fd, found.file.addr(), found.flags())).collect(), end)
    }

    #[test]
    fn descriptors_carry_their_own_close_on_exec_flag() {
        let mut memory = table(64);
        memory.words(ARRAY, &[0x1900, 0, 0x1900]);
        let expected = vec![(0, 0x1900, Ok(0o2)), (2, 0x1900, Ok(0o2_000_002))];
        assert_eq!(files(&memory), (expected, walk::End::Complete));
    }

    #[test]
    fn a_task_without_open_files_has_an_empty_table() {
        let mut memory = table(64);
        memory.word(TASK, 0);
        assert_eq!(files(&memory), (vec![], walk::End::Complete));
    }

    #[test]
    fn a_huge_table_is_cut_off_and_unreadable_parts_are_skipped() {
        let mut memory = table(u64::from(u32::MAX));
        // The first page of the array is missing, the second is there.
        memory.word(ARRAY + 4096, 0x1900);
        let (found, end) = files(&memory);
        assert_eq!(found.iter().map(|found| found.0).collect::<Vec<_>>(), [512]);
        assert!(matches!(end, walk::End::Broken { node: ARRAY, recovered: 1, .. }), "{end:?}");
        // Nothing is torn: every page of the largest table is there.
        let mut whole = table(1 << 31);
        for page in 0..2048 {
            whole.word(ARRAY + page * 4096, 0);
        }
        assert_eq!(files(&whole), (vec![], walk::End::Truncated { limit: MAX_FDS }));
    }

    #[test]
    fn a_table_that_cannot_be_read_says_so() {
        let mut memory = table(64);
        memory.word(0x1100, 0x9_0000);
        let (found, end) = files(&memory);
        assert!(found.is_empty() && matches!(end, walk::End::Broken { .. }), "{end:?}");
    }
}
