//! `/proc/PID/mountinfo`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

use super::{Truth, unescape};

/// A mount, a line of `mountinfo` (proc(5)).
#[derive(Debug, Clone)]
pub struct Mount {
    /// Inode number of the mount namespace.
    pub namespace: u64,
    /// Number of the mount.
    pub id: u32,
    /// Number of the mount it stands on.
    pub parent: u32,
    /// Major and minor device number.
    pub device: (u32, u32),
    /// The mounted directory of the file system.
    pub root: String,
    /// Where it is mounted.
    pub mount_point: String,
    /// Options of the mount.
    pub options: String,
    /// Propagation: `shared:1 master:2`; empty for private.
    pub propagation: String,
    /// Type of the file system.
    pub fs_type: String,
    /// What was mounted.
    pub source: String,
    /// Options of the file system that every file system has (`rw`, `sync`, ...); its own ones are left out.
    pub super_options: String,
}

/// Options that `show_sb_opts()` in fs/proc_namespace.c prints, besides `ro` and `rw`.
const GENERAL: [&str; 6] = ["ro", "rw", "sync", "dirsync", "mand", "lazytime"];

/// A file of the guest's memory file systems, as its own `lstat` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// `major:minor` of the file system, decimal.
    pub device: String,
    /// Inode number.
    pub inode: u64,
    /// Kind and permissions, octal.
    pub mode: String,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Last change of the content: seconds since 1970 with nine decimals.
    pub mtime: String,
    /// Path.
    pub path: String,
}

impl Truth {
    /// Every file of the memory file systems.
    pub fn tree(&self) -> Result<Vec<Listed>> {
        let mut files: Vec<Listed> = Vec::new();
        for line in self.text("tree")?.lines() {
            match (listed(line), files.last_mut()) {
                (Some(file), _) => files.push(file),
                // The rest of a name with a line feed in it.
                (None, Some(last)) => last.path = format!("{}\n{line}", last.path),
                (None, None) => bail!("tree: bad line: {line}"),
            }
        }
        Ok(files)
    }

    /// The mounts of every mount namespace, as its first process sees them.
    pub fn mounts(&self) -> Result<Vec<Mount>> {
        let mut first: BTreeMap<u64, u32> = BTreeMap::new();
        for process in self.processes()? {
            if let Some(namespace) = self.namespace(process.pid, "mnt") {
                first.entry(namespace).or_insert(process.pid);
            }
        }
        let mut all = Vec::new();
        for (namespace, pid) in first {
            for line in self.text(&format!("proc/{pid}/mountinfo"))?.lines() {
                all.push(mount(namespace, line).with_context(|| format!("bad line: {line}"))?);
            }
        }
        Ok(all)
    }
}

fn mount(namespace: u64, line: &str) -> Option<Mount> {
    let (head, tail) = line.split_once(" - ")?;
    let mut head = head.split(' ');
    let mut tail = tail.split(' ');
    let id = head.next()?.parse().ok()?;
    let parent = head.next()?.parse().ok()?;
    let (major, minor) = head.next()?.split_once(':')?;
    Some(Mount {
        namespace,
        id,
        parent,
        device: (major.parse().ok()?, minor.parse().ok()?),
        root: unescape(head.next()?),
        mount_point: unescape(head.next()?),
        options: head.next()?.to_owned(),
        propagation: head.collect::<Vec<_>>().join(" "),
        fs_type: tail.next()?.to_owned(),
        source: unescape(tail.next()?),
        super_options: tail
            .next()?
            .split(',')
            .filter(|option| GENERAL.contains(option))
            .collect::<Vec<_>>()
            .join(","),
    })
}

fn listed(line: &str) -> Option<Listed> {
    let mut words = line.splitn(8, ' ');
    // The guest prints both numbers in hex.
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    let mut listed = Listed {
        device: format!("{}:{}", number(major)?, number(minor)?),
        inode: words.next()?.parse().ok()?,
        mode: words.next()?.to_owned(),
        uid: words.next()?.parse().ok()?,
        gid: words.next()?.parse().ok()?,
        size: words.next()?.parse().ok()?,
        mtime: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
    };
    // The target of a symbolic link stands behind its path.
    if listed.mode.starts_with("12")
        && let Some((path, _)) = listed.path.split_once(" -> ")
    {
        listed.path = path.to_owned();
    }
    Some(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_is_taken_apart() {
        let line = r"34 1 0:28 / /mnt/odd\040name rw,relatime shared:1 master:2 - tmpfs gt\040odd rw,size=64k,inode64";
        let mount = mount(7, line).unwrap();
        assert_eq!((mount.id, mount.parent, mount.device), (34, 1, (0, 28)));
        assert_eq!((mount.mount_point.as_str(), mount.source.as_str()), ("/mnt/odd name", "gt odd"));
        assert_eq!((mount.propagation.as_str(), mount.super_options.as_str()), ("shared:1 master:2", "rw"));
    }
}
