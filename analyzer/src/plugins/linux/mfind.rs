//! `mfind`: files in memory by their path.
//!
//! Looks paths up among the names in memory (see `mls`), and tells where the dentry and the inode are, and how much of
//! the content is cached. Truth: what guests say of the files of their memory file
//! systems, and the archive they booted from.

use crate::os::linux::KernelFact;
use crate::os::linux::page_cache::{each_file, pages};
use crate::os::linux::vfs::major_minor;
use crate::plugin::prelude::*;
use crate::table::text_of;

/// The command.
pub struct Mfind;

/// Which files.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Paths
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
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
        /// Address of the `dentry`.
        dentry: Address,
        /// Address of the `inode`.
        inode_address: Address,
        /// Length in bytes.
        size: Read<ByteSize>,
        /// Bytes of the pages of it that are in memory.
        cached: Read<ByteSize>,
        /// Path.
        path: String,
    }
}

impl Plugin for Mfind {
    const NAME: &'static str = "mfind";
    const SUMMARY: &'static str = "Find files in memory by their path";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let mut found = false;
        each_file(session, |place, file| {
            let path = text_of(&file.path);
            if !args.paths.contains(&path) {
                return Ok(());
            }
            found = true;
            let device = file.inode.super_block().and_then(|sb| sb.dev()).map(major_minor);
            let cached = pages(&kernel, &file.inode);
            out.push(Row {
                device: device.map(|(major, minor)| format!("{major}:{minor}")),
                mounted_at: place.mount_point.clone(),
                mnt_ns: place.namespace.clone(),
                inode: file.inode.ino().map(|ino| ino.0),
                dentry: Address(file.dentry.addr()),
                inode_address: Address(file.inode.addr()),
                size: file.inode.size().map(|size| ByteSize(size.0)),
                cached: cached
                    .map(|pages| ByteSize((pages.physical.len() as u64).saturating_mul(kernel.page_size()))),
                path,
            })
        })?;
        if found {
            return Ok(());
        }
        Err(Error::analysis(format!("no such file in memory: {}", args.paths.join(", ")))
            .with_hint("rekal mls lists the files whose names are in memory"))
    }
}
