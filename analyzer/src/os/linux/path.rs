//! Names of files as the kernel itself makes them: `d_path` (fs/d_path.c).
//!
//! A file is a dentry in a mount. The name is put together from the file up: dentry by dentry to the root of the
//! mount, from there to the directory it is mounted on, until the root of whoever asks. Files of pipes, sockets and
//! the like have no place in the tree; the function in `d_op->d_dname` makes their names.
//!
//! The one who asks is PID 1: its `fs->root` is where names begin. A file that PID 1 cannot reach (in another mount
//! namespace, in a detached mount) is named from the root of its own mount tree, as `readlink /proc/PID/fd/N` does.

use object::{Absent, Ptr, Read, Target, layout};

use super::vfs::{Dentry, DentryOperations, Inode, Mount, SuperBlock, VfsMount};
use super::{Kernel, processes};
use crate::error::Error;
use crate::session::Session;
use crate::table::text_of;

/// Most names and mounts one path may have; PATH_MAX is 4096 bytes and a name takes at least 2 of them.
const MAX_STEPS: usize = 2048;
/// Longest path in bytes. Paths may exceed PATH_MAX when entered step by step.
const MAX_PATH: usize = 64 << 10;

layout! {
    struct FsStruct / FsStructLayout = "fs_struct" {
        root_mnt: Ptr = "root.mnt",
        root_dentry: Ptr = "root.dentry",
    }

    struct DmaBuf / DmaBufLayout = "dma_buf" {
        name: Ptr = "name",
    }
}

/// `struct path`: a dentry seen through a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// Address of the `vfsmount`.
    pub mount: u64,
    /// Address of the `dentry`.
    pub dentry: u64,
}

/// A way up the tree of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Climb {
    /// The path so far, from the top down; `/` for the top itself.
    pub path: Vec<u8>,
    /// Whether the root asked for was reached. Otherwise the path starts at the root of the mount tree.
    pub reached: bool,
}

/// How a `d_dname` function names files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dname {
    /// `/NAME (deleted)`: memfd, SysV and anonymous shared memory.
    Simple,
    Pipe,
    Socket,
    AnonInode,
    Namespace,
    Pidfd,
    DmaBuf,
}

/// Kernel functions that name files, and what they do.
const DNAMES: &[(&str, Dname)] = &[
    ("simple_dname", Dname::Simple),
    ("pipefs_dname", Dname::Pipe),
    ("sockfs_dname", Dname::Socket),
    ("anon_inodefs_dname", Dname::AnonInode),
    ("ns_dname", Dname::Namespace),
    ("pidfs_dname", Dname::Pidfd),
    ("dmabuffs_dname", Dname::DmaBuf),
];

/// The file systems these functions serve (include/uapi/linux/magic.h), for profiles without function symbols.
const MAGICS: &[(u64, Dname)] = &[
    (0x5049_5045, Dname::Pipe),
    (0x534f_434b, Dname::Socket),
    (0x0904_1934, Dname::AnonInode),
    (0x6e73_6673, Dname::Namespace),
    (0x5049_4446, Dname::Pidfd),
    (0x444d_4142, Dname::DmaBuf),
    // tmpfs and hugetlbfs: dentries with a d_dname are those of shared memory.
    (0x0102_1994, Dname::Simple),
    (0x9584_58f6, Dname::Simple),
];

/// Names files of one kernel.
pub struct Paths<'k> {
    target: &'k Target,
    root: Option<Location>,
    /// Addresses of the functions in [`DNAMES`] that the profile knows.
    dnames: Vec<(u64, Dname)>,
}

impl<'k> Paths<'k> {
    /// Paths as PID 1 sees them; without a readable PID 1, as seen from the root of each mount tree.
    pub fn of_init(session: &Session, kernel: &'k Kernel) -> Result<Self, Error> {
        let init = processes(session, kernel)?.into_iter().find(|task| task.pid() == Ok(1));
        let root = init.and_then(|task| root_of(kernel.target(), task.fs().ok()?.0).ok());
        Ok(Self::new(kernel.target(), root))
    }

    /// Paths as seen from `root`.
    #[must_use]
    pub fn new(target: &'k Target, root: Option<Location>) -> Self {
        let known = |(name, dname): &(&str, Dname)| Some((target.symbol(name).ok()?, *dname));
        Self { target, root, dnames: DNAMES.iter().filter_map(known).collect() }
    }

    /// The name of a file, with ` (deleted)` behind it where it was removed.
    pub fn d_path(&self, at: Location) -> Read<String> {
        let dentry = Dentry::at(self.target, at.dentry);
        if let Some(dname) = self.dname(at, &dentry)? {
            return self.special_name(dname, &dentry);
        }
        let Climb { mut path, .. } = self.climb(at, self.root)?;
        if dentry.is_deleted()? {
            path.extend(b" (deleted)");
        }
        Ok(text_of(&path))
    }

    /// The path from `root` down; without `root`, from the root of the mount tree.
    pub fn climb(&self, at: Location, root: Option<Location>) -> Read<Climb> {
        let to_mount = self.target.offset_of(Mount::STRUCT, "mnt")?;
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut length = 0;
        let mut here = at;
        for _ in 0..MAX_STEPS {
            if Some(here) == root {
                return Ok(Climb { path: join(&names), reached: true });
            }
            let dentry = Dentry::at(self.target, here.dentry);
            if VfsMount::at(self.target, here.mount).root()?.0 == here.dentry {
                let mount = Mount::at(self.target, here.mount.wrapping_sub(to_mount));
                let Ptr(parent) = mount.parent()?;
                if parent == mount.addr() {
                    return Ok(Climb { path: join(&names), reached: false });
                }
                let dentry = mount.mountpoint()?.non_null("mount without a mount point")?;
                here = Location { mount: parent.wrapping_add(to_mount), dentry };
                continue;
            }
            let parent = dentry.parent()?.non_null("dentry without a parent")?;
            if parent == here.dentry {
                // Outside of its mount: a directory that was moved out of a bind mount.
                return Ok(Climb { path: b"/".to_vec(), reached: false });
            }
            let name = dentry.name()?;
            length += name.len() + 1;
            if length > MAX_PATH {
                return Err(Absent::Malformed("path does not end"));
            }
            names.push(name);
            here.dentry = parent;
        }
        Err(Absent::Malformed("path does not end"))
    }

    /// Path of a dentry inside its own file system (`dentry_path`), with `//deleted` behind it where it was removed.
    pub fn inside(&self, dentry: u64) -> Read<Vec<u8>> {
        let mut names = Vec::new();
        let mut length = 0;
        let mut here = Dentry::at(self.target, dentry);
        let deleted = here.is_deleted()?;
        for _ in 0..MAX_STEPS {
            if here.is_root()? {
                let mut path = join(&names);
                if deleted {
                    path.extend(b"//deleted");
                }
                return Ok(path);
            }
            let name = here.name()?;
            length += name.len() + 1;
            if length > MAX_PATH {
                break;
            }
            names.push(name);
            here = Dentry::at(self.target, here.parent()?.non_null("dentry without a parent")?);
        }
        Err(Absent::Malformed("path does not end"))
    }

    /// Which function names the file, if not its place in the tree. A special file that is mounted itself (a
    /// namespace kept by `ip netns`) does have a place.
    fn dname(&self, at: Location, dentry: &Dentry<'_>) -> Read<Option<Dname>> {
        let Ptr(ops) = dentry.ops()?;
        if ops == 0 {
            return Ok(None);
        }
        let Ptr(function) = DentryOperations::at(self.target, ops).d_dname()?;
        if function == 0 {
            return Ok(None);
        }
        if dentry.is_root()? && VfsMount::at(self.target, at.mount).root()?.0 == at.dentry {
            return Ok(None);
        }
        if let Some((_, dname)) = self.dnames.iter().find(|(addr, _)| *addr == function) {
            return Ok(Some(*dname));
        }
        let sb = dentry.sb()?.non_null("dentry without file system")?;
        let magic = SuperBlock::at(self.target, sb).magic()?.0;
        match MAGICS.iter().find(|(known, _)| *known == magic) {
            Some((_, dname)) => Ok(Some(*dname)),
            None => Err(Absent::Malformed("named by a function that is not known")),
        }
    }

    fn special_name(&self, dname: Dname, dentry: &Dentry<'_>) -> Read<String> {
        let inode =
            || -> Read<_> { Ok(Inode::at(self.target, dentry.inode()?.non_null("dentry without inode")?)) };
        let numbered = |kind: &str| -> Read<String> { Ok(format!("{kind}:[{}]", inode()?.ino()?.0)) };
        let name = || dentry.name().map(|name| text_of(&name));
        match dname {
            Dname::Simple => Ok(format!("/{} (deleted)", name()?)),
            Dname::Pipe => numbered("pipe"),
            Dname::Socket => numbered("socket"),
            Dname::AnonInode => Ok(format!("anon_inode:{}", name()?)),
            Dname::Namespace => inode()?.namespace_name().map(|name| text_of(&name)),
            // pidfs has inodes of its own from v6.9 but keeps the name that user space knows.
            Dname::Pidfd => Ok("anon_inode:[pidfd]".to_owned()),
            Dname::DmaBuf => {
                let buffer = dentry.fsdata()?.non_null("no DMA buffer")?;
                let label = match DmaBuf::at(self.target, buffer).name()? {
                    Ptr(0) => Vec::new(),
                    Ptr(label) => self.target.read_cstr(label, 256)?,
                };
                Ok(format!("/{}:{}", name()?, text_of(&label)))
            }
        }
    }
}

/// The root directory of an `fs_struct`.
pub fn root_of(target: &Target, fs: u64) -> Read<Location> {
    let fs = FsStruct::at(target, Ptr(fs).non_null("no root directory")?);
    Ok(Location { mount: fs.root_mnt()?.0, dentry: fs.root_dentry()?.0 })
}

/// Joins names that were collected from the file up.
fn join(names: &[Vec<u8>]) -> Vec<u8> {
    if names.is_empty() {
        return b"/".to_vec();
    }
    let mut path = Vec::new();
    for name in names.iter().rev() {
        path.push(b'/');
        path.extend(name);
    }
    path
}
