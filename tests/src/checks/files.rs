//! lsof, maps, mount.

use std::collections::BTreeMap;

use anyhow::Result;

use super::hex;
use super::processes::nanoseconds;
use crate::rekal::Row;
use crate::table::Record;
use crate::truth::Truth;

pub(super) fn lsof(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let mut wanted = Vec::new();
    for process in truth.processes()? {
        for descriptor in truth.descriptors(process.pid)? {
            let record = Record::new(format!("pid {} fd {}", process.pid, descriptor.fd))
                .cell("name", &process.comm)
                .cell("user", process.uid)
                .cell("path", &descriptor.target)
                .cell("offset", descriptor.position)
                .cell("flags", &descriptor.flags);
            wanted.push(match descriptor.inode {
                Some(inode) => record.cell("node", inode),
                None => record,
            });
        }
    }
    let found = rows
        .iter()
        .map(|row| {
            let key = format!("pid {} fd {}", row.text("pid"), row.text("fd"));
            row.record(key, &["name", "user", "path", "offset", "flags", "node"])
        })
        .collect();
    Ok((wanted, found))
}

pub(super) fn maps(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let mut wanted = Vec::new();
    for process in truth.processes()? {
        for area in truth.areas(process.pid)? {
            wanted.push(
                Record::new(format!("pid {} at {}", process.pid, hex(area.start)))
                    .cell("end", hex(area.end))
                    .cell("flags", &area.permissions)
                    .cell("pgoff", area.offset)
                    .cell("device", format!("{}:{}", area.device.0, area.device.1))
                    .cell("inode", area.inode)
                    .cell("file_path", &area.path),
            );
        }
    }
    let found = rows
        .iter()
        .map(|row| {
            // The kernel prints 0:0 and 0 for memory without a file.
            let number =
                |column| if row.is_not_applicable(column) { "0".to_owned() } else { row.text(column) };
            row.record(
                format!("pid {} at {}", row.object("task", "pid"), row.text("start")),
                &["end", "flags"],
            )
            .cell("pgoff", number("pgoff"))
            .cell("device", format!("{}:{}", number("major"), number("minor")))
            .cell("inode", number("inode"))
            .cell("file_path", row.text_or_empty("file_path"))
        })
        .collect();
    Ok((wanted, found))
}

pub(super) fn mount(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let wanted = truth
        .mounts()?
        .into_iter()
        .map(|mount| {
            Record::new(format!("mount {} in {}", mount.id, mount.namespace))
                .cell("parent_id", mount.parent)
                .cell("device", format!("{}:{}", mount.device.0, mount.device.1))
                .cell("root", mount.root)
                .cell("Path", mount.mount_point)
                .cell("flags", mount.options)
                .cell("propagation", mount.propagation)
                .cell("Type", mount.fs_type)
                .cell("Device", mount.source)
                .cell("super_flags", mount.super_options)
        })
        .collect();
    let found = rows
        .iter()
        // A mount that the first process of its namespace cannot reach is not in that process's mountinfo.
        .filter(|row| !row.is_not_applicable("Path"))
        .map(|row| {
            let key = format!("mount {} in {}", row.text("mount_id"), row.text("mnt_ns"));
            row.record(
                key,
                &["parent_id", "root", "Path", "flags", "propagation", "Type", "Device", "super_flags"],
            )
            .cell("device", format!("{}:{}", row.text("major"), row.text("minor")))
        })
        .collect();
    Ok((wanted, found))
}

/// Every file of the memory file systems. Only those are reported, so names of other file systems are not compared; files of
/// other mount namespaces neither.
pub(super) fn mls(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let tree = truth.tree()?;
    let paths: BTreeMap<&str, &str> =
        tree.iter().map(|file| (file.path.as_str(), file.device.as_str())).collect();
    let wanted = tree.iter().map(|file| {
        let record = Record::new(&file.path)
            .cell("inode", file.inode)
            .cell("mode", &file.mode)
            .cell("uid", file.uid)
            .cell("gid", file.gid)
            .cell("size", file.size);
        // Behind the loop device: its file system is written back after the report.
        if file.path == "/tmp/disk.img" {
            return record;
        }
        record.cell("mtime", file.mtime.trim_end_matches('0').trim_end_matches('.'))
    });
    let found =
        rows.iter().filter(|row| paths.get(row.text("path").as_str()) == Some(&row.text("device").as_str()));
    let found = found.map(|row| {
        let mtime = nanoseconds(&row.text("mtime")).map_or_else(
            || row.text("mtime"),
            |time| format!("{}.{:09}", time / 1_000_000_000, time % 1_000_000_000),
        );
        row.record(row.text("path"), &["inode", "mode", "uid", "gid", "size"])
            .cell("mtime", mtime.trim_end_matches('0').trim_end_matches('.'))
    });
    Ok((wanted.collect(), found.collect()))
}

/// The content, byte by byte.
pub(super) fn mcat(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let mut wanted = Vec::new();
    for path in ["/etc/group", "/etc/passwd"] {
        let text = truth.text(path.trim_start_matches('/'))?;
        wanted.push(Record::new(path).cell("content", text).cell("cached", text.len()));
    }
    let found = rows.iter().map(|row| {
        let content = std::fs::read(row.text("dump_name"));
        let content = content
            .map_or_else(|error| error.to_string(), |bytes| String::from_utf8_lossy(&bytes).into_owned());
        row.record(row.text("path"), &["cached"]).cell("content", content)
    });
    Ok((wanted, found.collect()))
}
