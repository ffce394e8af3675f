//! Views of the file system layer: dentries, inodes, superblocks, mounts (include/linux/{dcache,fs,mount}.h, fs/mount.h).

use object::{Absent, Addr, Ptr, Read, Uint, layout};

use crate::table::text_of;

/// Longest name that is read: NAME_MAX is 255, but pseudo file systems (memfd, SysV) make their own.
const MAX_NAME: u64 = 4096;

layout! {
    /// `dentry`: one name in a directory.
    pub struct Dentry / DentryLayout = "dentry" {
        /// Directory it is in; itself for the root of a file system.
        parent: Ptr = "d_parent",
        /// Bytes of the name.
        name_len: u32 = "d_name.len",
        /// The name, without terminator that counts.
        name_ptr: Ptr = "d_name.name",
        /// The file it names; null for a name known not to exist.
        inode: Ptr = "d_inode",
        /// `dentry_operations`, or null.
        ops: Ptr = "d_op",
        /// Its file system.
        sb: Ptr = "d_sb",
        /// Private data of the file system.
        fsdata: Ptr = "d_fsdata",
        /// Back link of the lookup hash; null when nobody can look the name up any more.
        hash_back: Ptr = "d_hash.pprev",
    }

    pub(super) struct DentryOperations / DentryOperationsLayout = "dentry_operations" {
        /// Makes the names of files that have none (pipes, sockets).
        d_dname: Ptr = "d_dname",
    }

    /// `inode`: a file.
    pub struct Inode / InodeLayout = "inode" {
        /// Inode number.
        ino: Uint = "i_ino",
        /// Type and permissions (`S_IF*`, `0777`).
        mode: u16 = "i_mode",
        /// Length in bytes.
        size: Uint = "i_size",
        /// Its file system.
        sb: Ptr = "i_sb",
        /// Private data of the file system.
        private: Ptr = "i_private",
    }

    /// `super_block`: a file system instance.
    pub struct SuperBlock / SuperBlockLayout = "super_block" {
        /// Kernel-internal device number: major << 20 | minor.
        dev: u32 = "s_dev",
        /// Number that names the kind of file system (include/uapi/linux/magic.h).
        magic: Uint = "s_magic",
        /// `SB_*` flags.
        flags: Uint = "s_flags",
        /// `file_system_type`.
        fs_type: Ptr = "s_type",
        /// Name behind a dot (`fuse.sshfs`): a string, or null.
        subtype: Ptr = "s_subtype",
    }

    struct FileSystemType / FileSystemTypeLayout = "file_system_type" {
        name: Ptr = "name",
    }

    /// `vfsmount`: the public part of a mount, embedded in `mount`.
    pub struct VfsMount / VfsMountLayout = "vfsmount" {
        /// Root of the mounted tree.
        root: Ptr = "mnt_root",
        /// The mounted file system.
        sb: Ptr = "mnt_sb",
        /// `MNT_*` flags.
        flags: Uint = "mnt_flags",
    }

    /// `mount`: a mount (fs/mount.h, from v3.3).
    pub struct Mount / MountLayout = "mount" {
        /// The embedded `vfsmount`.
        vfs: Addr = "mnt",
        /// Mount it is mounted on; itself for the root of a mount tree.
        parent: Ptr = "mnt_parent",
        /// Directory it is mounted on.
        mountpoint: Ptr = "mnt_mountpoint",
        /// Source as given to `mount(2)`: a string.
        devname: Ptr = "mnt_devname",
        /// Number of the mount, reused after unmounting.
        id: i32 = "mnt_id",
        /// Peer group; 0 for none.
        group_id: i32 = "mnt_group_id",
        /// Mount it receives propagation from, or null.
        master: Ptr = "mnt_master",
    }

    struct NsCommon / NsCommonLayout = "ns_common" {
        ops: Ptr = "ops",
    }

    struct ProcNsOperations / ProcNsOperationsLayout = "proc_ns_operations" {
        name: Ptr = "name",
    }
}

impl Dentry<'_> {
    /// The name, as bytes.
    pub fn name(&self) -> Read<Vec<u8>> {
        let len = u64::from(self.name_len()?);
        let start = self.name_ptr()?.non_null("dentry without a name")?;
        match usize::try_from(len) {
            Ok(max) if len <= MAX_NAME => self.target().read_cstr(start, max),
            _ => Err(Absent::Malformed("name longer than any file system allows")),
        }
    }

    /// Whether it is the root of its file system (`IS_ROOT`).
    pub fn is_root(&self) -> Read<bool> {
        Ok(self.parent()?.0 == self.addr())
    }

    /// Whether the name was removed (`d_unlinked`): no longer hashed, and not a root.
    pub fn is_deleted(&self) -> Read<bool> {
        Ok(self.hash_back()?.0 == 0 && !self.is_root()?)
    }
}

impl<'t> Inode<'t> {
    /// The file system the inode belongs to.
    pub fn super_block(&self) -> Read<SuperBlock<'t>> {
        let sb = self.sb()?.non_null("inode without file system")?;
        Ok(SuperBlock::at(self.target(), sb))
    }

    /// Kind of file by `i_mode` (`S_IFMT`, include/uapi/linux/stat.h), in the abbreviations of lsof; `ANON` for
    /// anonymous inodes, which have none.
    pub fn type_name(&self) -> Read<&'static str> {
        Ok(match self.mode()? >> 12 {
            0 => "ANON",
            0o01 => "FIFO",
            0o02 => "CHR",
            0o04 => "DIR",
            0o06 => "BLK",
            0o10 => "REG",
            0o12 => "LNK",
            0o14 => "SOCK",
            _ => return Err(Absent::Malformed("file of unknown type")),
        })
    }

    /// Name of a namespace's file: `net:[4026531840]`.
    ///
    /// nsfs keeps the `ns_common` in the inode; its operations know the kind (fs/nsfs.c, since v3.19).
    pub fn namespace_name(&self) -> Read<Vec<u8>> {
        let common = self.private()?.non_null("no namespace")?;
        let ops = NsCommon::at(self.target(), common).ops()?.non_null("no namespace operations")?;
        let name = ProcNsOperations::at(self.target(), ops).name()?.non_null("unnamed kind of namespace")?;
        let mut text = self.target().read_cstr(name, 64)?;
        text.extend(format!(":[{}]", self.ino()?.0).bytes());
        Ok(text)
    }
}

impl SuperBlock<'_> {
    /// Name of the kind of file system: `ext4`, `fuse.sshfs`.
    pub fn type_name(&self) -> Read<String> {
        let fs_type = self.fs_type()?.non_null("file system without type")?;
        let name =
            FileSystemType::at(self.target(), fs_type).name()?.non_null("file system type without name")?;
        let mut text = self.target().read_cstr(name, 256)?;
        match self.subtype() {
            Ok(Ptr(subtype)) if subtype != 0 => {
                text.push(b'.');
                text.extend(self.target().read_cstr(subtype, 256)?);
            }
            _ => {}
        }
        Ok(text_of(&text))
    }
}

/// Major and minor number of a kernel-internal device number (`MAJOR`, `MINOR` of include/linux/kdev_t.h).
#[must_use]
pub fn major_minor(dev: u32) -> (u32, u32) {
    (dev >> 20, dev & 0xf_ffff)
}
