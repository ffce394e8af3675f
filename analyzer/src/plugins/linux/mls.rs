//! `mls`: files and directories whose names are in memory.
//!
//! Walks the dentries below the root of every mount that PID 1 sees, and below those that only other mount namespaces have. Names
//! that nobody used lately are not in memory, on disk file systems above all; deleted files that are still open are shown by `lsof`.
//!
//! Truth: every file of the memory file systems of guests of 5.10, 6.1 and 6.12, with owner, mode, size and time; for what PID 1 of
//! a guest cannot see, Volatility 3.

use crate::os::linux::page_cache::{Named, Place, Stat, each_file, is_below};
use crate::os::linux::vfs::major_minor;
use crate::plugin::prelude::*;
use crate::table::text_of;

/// The command.
pub struct Mls;

/// Which files.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only what is at this path or below it
    #[arg(value_name = "PATH")]
    path: Option<String>,
}

row! {
    pub struct Row {
        /// Major and minor number of the file system.
        device: Read<String>,
        /// Where it is mounted.
        mounted_at as "mount": String,
        /// Inode number of the mount namespace.
        mnt_ns: Read<u32>,
        /// Inode number.
        inode: Read<u64>,
        /// Kind of file, as lsof abbreviates it.
        file_type: Read<&'static str>,
        /// Kind and permissions, octal.
        mode: Read<String>,
        /// Owner.
        uid: Read<u32>,
        /// Group.
        gid: Read<u32>,
        /// Length in bytes.
        size: Read<ByteSize>,
        /// Last change of the content.
        mtime: Read<Time>,
        /// Last use.
        atime: Read<Time>,
        /// Last change of the inode.
        ctime: Read<Time>,
        /// Path.
        path: String,
    }
}

impl Plugin for Mls {
    const NAME: &'static str = "mls";
    const SUMMARY: &'static str = "List files whose names are in memory";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let top = args.path.as_deref().unwrap_or("/");
        each_file(session, |place, file| {
            let path = text_of(&file.path);
            if is_below(&path, top) { out.push(row(place, path, &file)) } else { Ok(()) }
        })
    }
}

fn row(place: &Place, path: String, file: &Named<'_>) -> Row {
    let stat = Stat::at(file.inode.target(), file.inode.addr());
    let device = file.inode.super_block().and_then(|sb| sb.dev()).map(major_minor);
    Row {
        device: device.map(|(major, minor)| format!("{major}:{minor}")),
        mounted_at: place.mount_point.clone(),
        mnt_ns: place.namespace.clone(),
        inode: file.inode.ino().map(|ino| ino.0),
        file_type: file.inode.type_name(),
        mode: file.inode.mode().map(|mode| format!("{mode:o}")),
        uid: stat.uid(),
        gid: stat.gid(),
        size: file.inode.size().map(|size| ByteSize(size.0)),
        mtime: stat.mtime(),
        atime: stat.atime(),
        ctime: stat.ctime(),
        path,
    }
}
