//! `/proc/PID`.

use anyhow::{Context as _, Result};

use super::{Truth, fields, unescape};

/// Flags of `/proc/PID/stat` (`include/linux/sched.h`): worker of a workqueue, kernel thread.
const PF_WQ_WORKER: u64 = 0x20;
const PF_KTHREAD: u64 = 0x20_0000;

/// Bytes of `task_struct.comm` before its NUL.
const COMM_LEN: usize = 15;

/// A process, as `/proc/PID/{stat,status,comm,cmdline}` describe it.
#[derive(Debug, Clone)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Parent's process id.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// `task_struct.comm`.
    pub comm: String,
    /// Clock ticks between boot and its start.
    pub start_ticks: u64,
    /// Arguments; empty for kernel threads and zombies.
    pub arguments: Vec<String>,
    /// Whether it has user memory.
    pub has_memory: bool,
    /// Whether it is a thread of the kernel.
    pub is_kernel_thread: bool,
}

/// A mapping, a line of `/proc/PID/maps`.
#[derive(Debug, Clone)]
pub struct Area {
    /// First address.
    pub start: u64,
    /// End, exclusive.
    pub end: u64,
    /// `rwxp`.
    pub permissions: String,
    /// Offset in the file in bytes.
    pub offset: u64,
    /// Major and minor device number.
    pub device: (u32, u32),
    /// Inode number.
    pub inode: u64,
    /// Path or name; empty for none.
    pub path: String,
}

/// An open file: a link in `/proc/PID/fd` and its `fdinfo`.
#[derive(Debug, Clone)]
pub struct Descriptor {
    /// Number.
    pub fd: u32,
    /// Target of the link.
    pub target: String,
    /// Position in bytes.
    pub position: u64,
    /// Flags in octal, with a leading 0.
    pub flags: String,
    /// Inode number; reported since v5.14.
    pub inode: Option<u64>,
}

impl Truth {
    /// All processes, by pid.
    pub fn processes(&self) -> Result<Vec<Process>> {
        let mut pids: Vec<u32> = self.names("proc").iter().filter_map(|name| name.parse().ok()).collect();
        pids.sort_unstable();
        pids.into_iter().map(|pid| self.process(pid).with_context(|| format!("process {pid}"))).collect()
    }

    fn process(&self, pid: u32) -> Result<Process> {
        let stat = self.text(&format!("proc/{pid}/stat"))?;
        // The name may hold anything, parentheses included: the last one ends it.
        let after = stat.rsplit_once(") ").context("no name in stat")?.1;
        let values: Vec<&str> = after.split_whitespace().collect();
        let number = |index: usize| -> Result<u64> {
            values.get(index).context("stat is short")?.parse().context("not a number in stat")
        };
        let status = self.text(&format!("proc/{pid}/status"))?;
        let first_id = |field: &str| -> Result<u32> {
            let line =
                status.lines().find_map(|line| line.strip_prefix(field)).context("no such line in status")?;
            line.split_whitespace()
                .next()
                .context("empty line in status")?
                .parse()
                .context("not a number in status")
        };
        let command_line = self.bytes(&format!("proc/{pid}/cmdline"))?;
        let arguments = match command_line.strip_suffix(b"\0").unwrap_or(command_line) {
            [] if command_line.is_empty() => Vec::new(),
            line => {
                line.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect()
            }
        };
        Ok(Process {
            pid,
            ppid: u32::try_from(number(1)?)?,
            uid: first_id("Uid:")?,
            gid: first_id("Gid:")?,
            comm: self.comm(pid, number(6)?)?,
            start_ticks: number(19)?,
            arguments,
            has_memory: status.contains("\nVmSize:"),
            is_kernel_thread: number(6)? & PF_KTHREAD != 0,
        })
    }

    /// `task_struct.comm`, which `/proc` embellishes (`proc_task_name()`, fs/proc/array.c). A worker of a workqueue shows
    /// what it works on after `-` or `+`: `kworker/0:1-events` is called `kworker/0:1`. Any other kernel thread shows its
    /// full name since v5.17: `rcu_tasks_rude_kthread` is called `rcu_tasks_rude_`.
    fn comm(&self, pid: u32, flags: u64) -> Result<String> {
        let text = self.text(&format!("proc/{pid}/comm"))?;
        let name = text.strip_suffix('\n').unwrap_or(text);
        let pooled = name.starts_with("kworker/") && !name.starts_with("kworker/R-");
        let end = if flags & PF_WQ_WORKER != 0 && pooled {
            name.find(['-', '+']).unwrap_or(name.len())
        } else if flags & PF_KTHREAD != 0 {
            name.len().min(COMM_LEN)
        } else {
            name.len()
        };
        Ok(name.get(..end).unwrap_or(name).to_owned())
    }

    /// Wall clock at boot in nanoseconds since 1970, from two clocks the guest read together.
    pub fn boot_time(&self) -> Result<i128> {
        Ok(self.clock("realtime")? - self.clock("boottime")?)
    }

    /// Nanoseconds since boot when the guest began to report.
    pub fn reported_at(&self) -> Result<i128> {
        self.clock("boottime")
    }

    fn clock(&self, name: &str) -> Result<i128> {
        let text = self.text("clock")?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)).context("no such clock")?.trim();
        let (seconds, nanoseconds) = value.split_once('.').context("no fraction")?;
        Ok(seconds.parse::<i128>()? * 1_000_000_000 + nanoseconds.parse::<i128>()?)
    }

    /// Mappings of a process.
    pub fn areas(&self, pid: u32) -> Result<Vec<Area>> {
        self.text(&format!("proc/{pid}/maps"))?
            .lines()
            .map(|line| area(line).with_context(|| format!("bad line: {line}")))
            .collect()
    }

    /// Open files of a process, by number.
    pub fn descriptors(&self, pid: u32) -> Result<Vec<Descriptor>> {
        let mut all = Vec::new();
        for name in self.names(&format!("proc/{pid}/fd")) {
            let target = self.link(&format!("proc/{pid}/fd/{name}")).context("not a link")?;
            let info = self.text(&format!("proc/{pid}/fdinfo/{name}"))?;
            let value = |key: &str| info.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
            all.push(Descriptor {
                fd: name.parse()?,
                target: target.to_owned(),
                position: value("pos:").context("no position")?.parse()?,
                flags: value("flags:").context("no flags")?.to_owned(),
                inode: value("ino:").map(str::parse).transpose()?,
            });
        }
        all.sort_by_key(|descriptor| descriptor.fd);
        Ok(all)
    }
}

fn area(line: &str) -> Option<Area> {
    let ([range, permissions, offset, device, inode], path) = fields::<5>(line)?;
    let (start, end) = range.split_once('-')?;
    let (major, minor) = device.split_once(':')?;
    Some(Area {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        permissions: permissions.to_owned(),
        offset: u64::from_str_radix(offset, 16).ok()?,
        device: (u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?),
        inode: inode.parse().ok()?,
        path: unescape(path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_taken_apart() {
        let area =
            area(r"7f00-7f01 r--p 00000010 00:1a 7                  /tmp/odd name\012x (deleted)").unwrap();
        assert_eq!(
            (area.start, area.end, area.offset, area.device, area.inode),
            (0x7f00, 0x7f01, 16, (0, 26), 7)
        );
        assert_eq!(area.path, "/tmp/odd name\nx (deleted)");
    }

    #[test]
    fn an_anonymous_mapping_has_no_path() {
        assert_eq!(area("1000-2000 rw-p 00000000 00:00 0 ").unwrap().path, "");
    }
}
