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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::linux::testkit::Memory;

    /// A `dentry` takes 64 bytes here, a `mount` 48 with its `vfsmount` at 16.
    const STRUCTS: &str = r#"{
        "qstr": [16, {"len": [4, ["unsigned int"]], "name": [8, ["Pointer", {"target": "char"}]]}],
        "hlist_bl_node": [16, {"pprev": [8, ["Pointer", {"target": "Void"}]]}],
        "dentry": [64, {
            "d_parent": [0, ["Pointer", {"target": "dentry"}]], "d_name": [8, ["qstr"]],
            "d_hash": [24, ["hlist_bl_node"]], "d_op": [40, ["Pointer", {"target": "dentry_operations"}]],
            "d_inode": [48, ["Pointer", {"target": "inode"}]], "d_sb": [56, ["Pointer", {"target": "super_block"}]]}],
        "dentry_operations": [8, {"d_dname": [0, ["Pointer", {"target": "Void"}]]}],
        "inode": [8, {"i_ino": [0, ["long unsigned int"]]}],
        "super_block": [8, {"s_magic": [0, ["long unsigned int"]]}],
        "vfsmount": [16, {"mnt_root": [0, ["Pointer", {"target": "dentry"}]]}],
        "mount": [48, {
            "mnt_parent": [0, ["Pointer", {"target": "mount"}]], "mnt_mountpoint": [8, ["Pointer", {"target": "dentry"}]],
            "mnt": [16, ["vfsmount"]]}]
    }"#;
    const ROOT: u64 = 0x1000;
    const HOME: u64 = 0x1100;
    const FILE: u64 = 0x1200;
    const DISK: u64 = 0x1300;
    const DEEP: u64 = 0x1400;
    const ROOT_MOUNT: u64 = 0x2000;
    const DISK_MOUNT: u64 = 0x2100;
    const DNAME: u64 = 0x5000;

    fn dentry(memory: &mut Memory, at: u64, parent: u64, name: &str) {
        let len = (name.len() as u64) << 32;
        memory.words(at, &[parent, len, at + 64, 0, 1, 0, 0x4000, 0x4100]).bytes(at + 64, name.as_bytes());
        memory.bytes(at + 64 + name.len() as u64, &[0]);
    }

    /// `/home/file`, and another file system on `/home` with `deep` in it.
    fn tree() -> Memory {
        let mut memory = Memory::default();
        dentry(&mut memory, ROOT, ROOT, "/");
        dentry(&mut memory, HOME, ROOT, "home");
        dentry(&mut memory, FILE, HOME, "file");
        dentry(&mut memory, DISK, DISK, "/");
        dentry(&mut memory, DEEP, DISK, "deep");
        memory.words(ROOT_MOUNT, &[ROOT_MOUNT, ROOT, ROOT]);
        memory.words(DISK_MOUNT, &[ROOT_MOUNT, HOME, DISK]);
        memory.word(0x4000, 77).word(0x4100, 0x0904_1934).word(0x4200, DNAME);
        memory
    }

    fn place(mount: u64, dentry: u64) -> Location {
        Location { mount: mount + 16, dentry }
    }

    fn path(memory: &Memory, symbols: &[(&str, u64)], at: Location) -> Read<String> {
        let target = memory.target(STRUCTS, symbols);
        Paths::new(&target, Some(place(ROOT_MOUNT, ROOT))).d_path(at)
    }

    #[test]
    fn paths_cross_mounts_up_to_the_root() {
        let memory = tree();
        let path = |mount, dentry| path(&memory, &[], place(mount, dentry));
        assert_eq!(path(ROOT_MOUNT, ROOT).as_deref(), Ok("/"));
        assert_eq!(path(ROOT_MOUNT, FILE).as_deref(), Ok("/home/file"));
        assert_eq!(path(DISK_MOUNT, DISK).as_deref(), Ok("/home"));
        assert_eq!(path(DISK_MOUNT, DEEP).as_deref(), Ok("/home/deep"));
        // A name that the mount does not hold: it was moved out.
        assert_eq!(path(DISK_MOUNT, FILE).as_deref(), Ok("/"));
    }

    #[test]
    fn paths_start_at_the_root_of_who_asks_or_say_that_it_was_not_met() {
        let memory = tree();
        let target = memory.target(STRUCTS, &[]);
        let climb = |root| Paths::new(&target, None).climb(place(DISK_MOUNT, DEEP), root);
        let reached = |path: &str, reached| Ok(Climb { path: path.into(), reached });
        assert_eq!(climb(Some(place(DISK_MOUNT, DISK))), reached("/deep", true));
        assert_eq!(climb(Some(place(ROOT_MOUNT, FILE))), reached("/home/deep", false));
        assert_eq!(climb(None), reached("/home/deep", false));
    }

    #[test]
    fn a_removed_file_is_marked_and_a_root_is_not() {
        let mut memory = tree();
        memory.word(FILE + 32, 0).word(DISK + 32, 0);
        assert_eq!(path(&memory, &[], place(ROOT_MOUNT, FILE)).as_deref(), Ok("/home/file (deleted)"));
        assert_eq!(path(&memory, &[], place(DISK_MOUNT, DISK)).as_deref(), Ok("/home"));
        let target = memory.target(STRUCTS, &[]);
        assert_eq!(Paths::new(&target, None).inside(FILE).as_deref(), Ok(b"/home/file//deleted".as_slice()));
    }

    #[test]
    fn special_files_are_named_by_their_function_then_by_their_file_system() {
        let mut memory = tree();
        memory.word(FILE + 40, 0x4200);
        let path = |symbols: &[(&str, u64)]| path(&memory, symbols, place(ROOT_MOUNT, FILE));
        assert_eq!(path(&[("simple_dname", DNAME)]).as_deref(), Ok("/file (deleted)"));
        assert_eq!(path(&[("sockfs_dname", DNAME)]).as_deref(), Ok("socket:[77]"));
        assert_eq!(path(&[]).as_deref(), Ok("anon_inode:file"));
        let mut unknown = tree();
        unknown.word(FILE + 40, 0x4200).word(0x4100, 1);
        let path = super::tests::path(&unknown, &[], place(ROOT_MOUNT, FILE));
        assert_eq!(path, Err(Absent::Malformed("named by a function that is not known")));
    }

    #[test]
    fn paths_that_loop_end() {
        let mut dentries = tree();
        dentries.word(HOME, FILE);
        assert_eq!(
            path(&dentries, &[], place(ROOT_MOUNT, FILE)),
            Err(Absent::Malformed("path does not end"))
        );
        let mut mounts = tree();
        mounts.words(ROOT_MOUNT, &[DISK_MOUNT, DISK, ROOT]);
        let target = mounts.target(STRUCTS, &[]);
        let looped = Paths::new(&target, None).climb(place(DISK_MOUNT, DEEP), None);
        assert_eq!(looped, Err(Absent::Malformed("path does not end")));
    }

    #[test]
    fn a_name_of_absurd_length_is_refused() {
        let mut memory = tree();
        memory.word(FILE + 8, u64::from(u32::MAX) << 32);
        assert!(matches!(path(&memory, &[], place(ROOT_MOUNT, FILE)), Err(Absent::Malformed(_))));
    }
}
