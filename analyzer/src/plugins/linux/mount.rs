//! `mount`: mounts of every mount namespace that a process is in.
//!
//! Walks the mounts of each `mnt_namespace`: a tree from v6.8, a list before. Rows agree with `/proc/PID/mountinfo`,
//! except for options that only the file system's own code knows (`size=`, `mode=`): `super_flags` has the general ones.
//!
//! Truth: `/proc/PID/mountinfo` of guests of 5.10, 6.1 and 6.12, every mount in order; options of the file system itself
//! beyond its flags are not compared, as memory does not hold them in one form.

use object::walk::End;

use crate::os::linux::KernelFact;
use crate::os::linux::mount::{Namespace, namespaces};
use crate::os::linux::path::Paths;
use crate::os::linux::vfs::{self, major_minor};
use crate::plugin::prelude::*;

/// The command.
pub struct Mount;

row! {
    pub struct Row {
        /// Inode number of the mount namespace.
        mnt_ns: Read<u32>,
        /// Number of the mount.
        mount_id: Read<i32>,
        /// Number of the mount it is mounted on.
        parent_id: Read<i32>,
        /// Source as given to `mount(2)`.
        device as "Device": Read<String>,
        /// Where it is mounted, as seen by the first process of the namespace; absent where that process cannot reach it.
        path as "Path": Read<String>,
        /// Kind of file system.
        fs_type as "Type": Read<String>,
        /// Options of the mount.
        flags: Read<String>,
        /// General options of the file system.
        super_flags: Read<String>,
        /// Peer groups that mounts propagate between; empty for a private mount.
        propagation: Read<String>,
        /// Major device number of the file system.
        major: Read<u32>,
        /// Minor device number of the file system.
        minor: Read<u32>,
        /// Directory of the file system that is mounted.
        root: Read<String>,
    }
}

impl Plugin for Mount {
    const NAME: &'static str = "mount";
    const SUMMARY: &'static str = "List mounts of all mount namespaces";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let paths = Paths::new(kernel.target(), None);
        for namespace in namespaces(session, &kernel)? {
            let (mounts, end) = namespace.mounts();
            if end != End::Complete {
                session.notes.walk(&format!("mounts of the namespace at {:#x}", namespace.addr), &end);
            }
            for mount in mounts {
                out.push(row(&namespace, &mount, &paths))?;
            }
        }
        Ok(())
    }
}

fn row(namespace: &Namespace<'_>, mount: &vfs::Mount<'_>, paths: &Paths<'_>) -> Row {
    let path = || {
        let path = mount.mount_point(paths, namespace.root.clone()?)?;
        path.ok_or(Absent::NotApplicable("not below the root directory of the namespace's first process"))
    };
    let device = mount.super_block().and_then(|sb| sb.dev()).map(major_minor);
    Row {
        mnt_ns: namespace.inum(),
        mount_id: mount.id(),
        parent_id: mount.parent_id(),
        device: mount.device(),
        path: path(),
        fs_type: mount.super_block().and_then(|sb| sb.type_name()),
        flags: mount.options(),
        super_flags: mount.super_options(),
        propagation: mount.propagation(),
        major: device.clone().map(|(major, _)| major),
        minor: device.map(|(_, minor)| minor),
        root: mount.mounted_root(paths),
    }
}
