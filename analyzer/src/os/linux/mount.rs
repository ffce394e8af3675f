//! Mounts: what each mount namespace has where (fs/mount.h, fs/proc_namespace.c).

use std::collections::HashSet;

use object::walk::{self, End};
use object::{Addr, Ptr, Read, Target, Uint, layout};

use super::path::{Climb, Location, Paths, root_of};
use super::vfs::{Dentry, Inode, Mount, SuperBlock, VfsMount};
use super::{Kernel, processes, rbtree};
use crate::error::Error;
use crate::session::Session;
use crate::table::text_of;

/// `MNT_CURSOR` (include/linux/mount.h, v5.8 to v6.7): a reader's place in the list, no mount.
const MNT_CURSOR: u64 = 0x1000_0000;
/// `MNT_SHARED`, `MNT_UNBINDABLE`.
const MNT_SHARED: u64 = 0x1000;
const MNT_UNBINDABLE: u64 = 0x2000;
const MNT_READONLY: u64 = 0x40;
/// `MNT_*` flags in the order of `/proc/PID/mountinfo` (`show_mnt_opts`).
const MOUNT_OPTIONS: &[(u64, &str)] = &[
    (0x01, "nosuid"),
    (0x02, "nodev"),
    (0x04, "noexec"),
    (0x08, "noatime"),
    (0x10, "nodiratime"),
    (0x20, "relatime"),
    (0x80, "nosymfollow"),
];
/// `SB_*` flags in the order of `/proc/PID/mountinfo` (`show_sb_opts`).
const SB_RDONLY: u64 = 1;
const SB_OPTIONS: &[(u64, &str)] =
    &[(0x10, "sync"), (0x80, "dirsync"), (0x40, "mand"), (1 << 25, "lazytime")];
/// `NSFS_MAGIC` (include/uapi/linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

layout! {
    struct NsProxy / NsProxyLayout = "nsproxy" {
        mnt_ns: Ptr = "mnt_ns",
    }

    struct MntNamespace / MntNamespaceLayout = "mnt_namespace" {
        /// List of mounts; before v6.8.
        list: Addr = "list",
        /// Topmost node of the tree of mounts, sorted by their unique number; from v6.8 (commit 2eea9ce4310d).
        mounts: Ptr = "mounts.rb_node",
        /// Inode number; `ns_common` from v3.19.
        inum: u32 = "ns.inum | proc_inum",
    }
}

/// A mount namespace, found through the processes in it.
pub struct Namespace<'k> {
    target: &'k Target,
    /// Address of the `mnt_namespace`.
    pub addr: u64,
    /// Root directory of its process with the lowest pid.
    pub root: Read<Location>,
}

/// Mount namespaces of all processes, in order of the lowest pid in each.
pub fn namespaces<'k>(session: &Session, kernel: &'k Kernel) -> Result<Vec<Namespace<'k>>, Error> {
    let target = kernel.target();
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for task in processes(session, kernel)? {
        // Zombies have left their namespaces.
        let Ok(Ptr(proxy)) = task.nsproxy() else { continue };
        if proxy == 0 {
            continue;
        }
        let Ok(Ptr(addr)) = NsProxy::at(target, proxy).mnt_ns() else { continue };
        if addr != 0 && seen.insert(addr) {
            found.push(Namespace { target, addr, root: task.fs().and_then(|Ptr(fs)| root_of(target, fs)) });
        }
    }
    Ok(found)
}

impl<'k> Namespace<'k> {
    /// Inode number, as in `readlink /proc/PID/ns/mnt`.
    pub fn inum(&self) -> Read<u32> {
        MntNamespace::at(self.target, self.addr).inum()
    }

    /// Its mounts in the kernel's order, which is that of `/proc/PID/mountinfo`, and how the walk ended.
    #[must_use]
    pub fn mounts(&self) -> (Vec<Mount<'k>>, End) {
        let namespace = MntNamespace::at(self.target, self.addr);
        let tree = self.target.types().has_field(MntNamespace::STRUCT, "mounts.rb_node");
        let walked = || {
            if tree {
                let link = self.target.offset_of(Mount::STRUCT, "mnt_node")?;
                return Ok((rbtree::nodes(self.target, namespace.mounts()?.0), link));
            }
            let link = self.target.offset_of(Mount::STRUCT, "mnt_list")?;
            Ok((walk::list(self.target, namespace.list()?.0), link))
        };
        let (walked, link) = match walked() {
            Ok(walked) => walked,
            Err(why) => return (Vec::new(), End::Broken { node: self.addr, why, recovered: 0 }),
        };
        let mounts = walked.containers(link).map(|addr| Mount::at(self.target, addr));
        let is_mount = |mount: &Mount<'_>| {
            tree || mount.public().and_then(|mount| mount.flags()).map_or(0, |f| f.0) & MNT_CURSOR == 0
        };
        (mounts.filter(is_mount).collect(), walked.end)
    }
}

impl<'t> Mount<'t> {
    /// The public part.
    pub fn public(&self) -> Read<VfsMount<'t>> {
        Ok(VfsMount::at(self.target(), self.vfs()?.0))
    }

    /// The mounted file system.
    pub fn super_block(&self) -> Read<SuperBlock<'t>> {
        Ok(SuperBlock::at(self.target(), self.public()?.sb()?.non_null("mount without file system")?))
    }

    /// Source as given to `mount(2)`; `none` where nothing was.
    pub fn device(&self) -> Read<String> {
        match self.devname()? {
            Ptr(0) => Ok("none".to_owned()),
            Ptr(name) => self.target().read_cstr(name, 4096).map(|name| text_of(&name)),
        }
    }

    /// Number of the mount it is mounted on.
    pub fn parent_id(&self) -> Read<i32> {
        Mount::at(self.target(), self.parent()?.non_null("mount without parent")?).id()
    }

    /// Where it is mounted, below `root`; `None` where the root does not lead there.
    pub fn mount_point(&self, paths: &Paths<'_>, root: Location) -> Read<Option<String>> {
        let at = Location { mount: self.vfs()?.0, dentry: self.public()?.root()?.0 };
        let Climb { path, reached } = paths.climb(at, Some(root))?;
        Ok(reached.then(|| text_of(&path)))
    }

    /// What is mounted: a path inside the file system, or the namespace that is kept.
    pub fn mounted_root(&self, paths: &Paths<'_>) -> Read<String> {
        let dentry = self.public()?.root()?.non_null("mount without root")?;
        let name = if self.super_block()?.magic()?.0 == NSFS_MAGIC {
            let inode = Dentry::at(self.target(), dentry).inode()?.non_null("dentry without inode")?;
            Inode::at(self.target(), inode).namespace_name()?
        } else {
            paths.inside(dentry)?
        };
        Ok(text_of(&name))
    }

    /// Options of the mount: `rw,nosuid,relatime`.
    pub fn options(&self) -> Read<String> {
        let Uint(flags) = self.public()?.flags()?;
        Ok(join_options(flags & MNT_READONLY != 0, flags, MOUNT_OPTIONS))
    }

    /// Options of the file system that all of them have: `rw,sync`.
    pub fn super_options(&self) -> Read<String> {
        let Uint(flags) = self.super_block()?.flags()?;
        Ok(join_options(flags & SB_RDONLY != 0, flags, SB_OPTIONS))
    }

    /// Propagation as in `/proc/PID/mountinfo`: `shared:1 master:2 unbindable`; empty for private mounts.
    pub fn propagation(&self) -> Read<String> {
        let Uint(flags) = self.public()?.flags()?;
        let mut parts = Vec::new();
        if flags & MNT_SHARED != 0 {
            parts.push(format!("shared:{}", self.group_id()?));
        }
        let Ptr(master) = self.master()?;
        if master != 0 {
            parts.push(format!("master:{}", Mount::at(self.target(), master).group_id()?));
        }
        if flags & MNT_UNBINDABLE != 0 {
            parts.push("unbindable".to_owned());
        }
        Ok(parts.join(" "))
    }
}

fn join_options(read_only: bool, flags: u64, names: &[(u64, &'static str)]) -> String {
    let mut options = vec![if read_only { "ro" } else { "rw" }];
    options.extend(names.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name));
    options.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::linux::testkit::Memory;

    /// A `mount` has 96 bytes here: links first, its `vfsmount` at 48.
    const MOUNT: &str = r#"
        "list_head": [16, {"next": [0, ["Pointer", {"target": "list_head"}]], "prev": [8, ["Pointer", {"target": "list_head"}]]}],
        "rb_node": [24, {"rb_right": [8, ["Pointer", {"target": "rb_node"}]], "rb_left": [16, ["Pointer", {"target": "rb_node"}]]}],
        "rb_root": [8, {"rb_node": [0, ["Pointer", {"target": "rb_node"}]]}],
        "vfsmount": [24, {"mnt_root": [0, ["Pointer", {"target": "Void"}]], "mnt_flags": [16, ["int"]]}],
        "mount": [96, {
            "mnt_list": [0, ["list_head"]], "mnt_node": [16, ["rb_node"]], "mnt_group_id": [40, ["int"]],
            "mnt": [48, ["vfsmount"]], "mnt_master": [72, ["Pointer", {"target": "mount"}]]}]"#;
    const WITH_LIST: &str =
        r#""mnt_namespace": [32, {"list": [0, ["list_head"]], "mounts": [16, ["unsigned int"]]}]"#;
    const WITH_TREE: &str = r#""mnt_namespace": [32, {"mounts": [0, ["rb_root"]]}]"#;
    const NAMESPACE: u64 = 0x1000;

    fn mount(memory: &mut Memory, at: u64, link: &[u64], flags: u64, group: u64, master: u64) {
        memory.words(at, link).words(at + 40, &[group, 0, 0, flags, master]);
    }

    fn mounts(memory: &Memory, namespace: &str) -> (Vec<u64>, End) {
        let target = memory.target(&format!("{{{MOUNT}, {namespace}}}"), &[]);
        let root = Ok(Location { mount: 0, dentry: 0 });
        let (mounts, end) = Namespace { target: &target, addr: NAMESPACE, root }.mounts();
        (mounts.iter().map(Mount::addr).collect(), end)
    }

    #[test]
    fn a_readers_cursor_in_the_list_is_no_mount() {
        let mut memory = Memory::default();
        memory.words(NAMESPACE, &[0x2000, 0x2200]);
        mount(&mut memory, 0x2000, &[0x2100, NAMESPACE], 0, 0, 0);
        mount(&mut memory, 0x2100, &[0x2200, 0x2000], MNT_CURSOR, 0, 0);
        mount(&mut memory, 0x2200, &[NAMESPACE, 0x2100], 0, 0, 0);
        assert_eq!(mounts(&memory, WITH_LIST), (vec![0x2000, 0x2200], End::Complete));
    }

    #[test]
    fn newer_namespaces_keep_a_tree() {
        let mut memory = Memory::default();
        memory.word(NAMESPACE, 0x2100 + 16);
        mount(&mut memory, 0x2000, &[0; 5], 0, 0, 0);
        mount(&mut memory, 0x2100, &[0, 0, 0, 0x2200 + 16, 0x2000 + 16], 0, 0, 0);
        mount(&mut memory, 0x2200, &[0; 5], 0, 0, 0);
        assert_eq!(mounts(&memory, WITH_TREE), (vec![0x2000, 0x2100, 0x2200], End::Complete));
    }

    #[test]
    fn options_and_propagation_read_like_mountinfo() {
        let mut memory = Memory::default();
        mount(&mut memory, 0x2000, &[0; 5], 0x01 | 0x20 | MNT_READONLY | MNT_SHARED, 7, 0x2100);
        mount(&mut memory, 0x2100, &[0; 5], MNT_UNBINDABLE, 9, 0);
        let target = memory.target(&format!("{{{MOUNT}}}"), &[]);
        let mount = |at| Mount::at(&target, at);
        assert_eq!(mount(0x2000).options().as_deref(), Ok("ro,nosuid,relatime"));
        assert_eq!(mount(0x2000).propagation().as_deref(), Ok("shared:7 master:9"));
        assert_eq!(mount(0x2100).options().as_deref(), Ok("rw"));
        assert_eq!(mount(0x2100).propagation().as_deref(), Ok("unbindable"));
    }
}
