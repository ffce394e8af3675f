//! bash, boottime, capabilities, envars, ptrace, lsmod_sections, lsmod_parameters, and the commands that look for what was hidden or
//! replaced, which must accuse no clean guest.

use std::collections::HashSet;

use anyhow::{Context as _, Result};

use super::Records;
use super::processes::nanoseconds;
use crate::rekal::Row;
use crate::table::Record;
use crate::truth::{Machine, Truth};

/// What the guest's bash is told to do, line by line.
const TYPED: &str = include_str!("../../../tools/guest-image/guest/history.txt");

/// The typed lines in order. Which process is bash, and what was deleted from its list, is not compared.
pub(super) fn bash(_: &Truth, rows: &[Row]) -> Records {
    let number = |number: usize| format!("line {number}");
    let wanted = TYPED.lines().enumerate().map(|(at, line)| Record::new(number(at)).cell("command", line));
    let listed = rows.iter().filter(|row| row.text("listed") == "true");
    let found = listed.enumerate().map(|(at, row)| row.record(number(at), &["command"])).collect();
    Ok((wanted.collect(), found))
}

/// The two clocks of the guest were read up to a millisecond apart.
pub(super) fn boottime(truth: &Truth, rows: &[Row]) -> Records {
    const SLACK: i128 = 1_000_000;
    let boot = truth.boot_time()?;
    let found = rows.iter().map(|row| {
        let shown = row.text("boot_time");
        let agrees = nanoseconds(&shown).is_some_and(|time| (time - boot).abs() <= SLACK);
        Record::new("boot").cell("boot_time", if agrees { "as reported".to_owned() } else { shown })
    });
    Ok((vec![Record::new("boot").cell("boot_time", "as reported")], found.collect()))
}

pub(super) fn capabilities(truth: &Truth, rows: &[Row]) -> Records {
    const SETS: [(&str, &str); 5] = [
        ("inheritable", "CapInh:"),
        ("permitted", "CapPrm:"),
        ("effective", "CapEff:"),
        ("bounding", "CapBnd:"),
        ("ambient", "CapAmb:"),
    ];
    let mut wanted = Vec::new();
    for process in truth.processes()? {
        let mut record = Record::new(format!("pid {}", process.pid));
        for (column, key) in SETS {
            let bits = u64::from_str_radix(&truth.status(process.pid, key)?, 16)?;
            record = record.cell(column, super::hex(bits));
        }
        wanted.push(record);
    }
    let columns = SETS.map(|(column, _)| column);
    let found = rows.iter().map(|row| row.record(pid(row), &columns)).collect();
    Ok((wanted, found))
}

pub(super) fn envars(truth: &Truth, rows: &[Row]) -> Records {
    let mut wanted = Vec::new();
    for process in truth.processes()?.iter().filter(|process| process.has_memory) {
        let Ok(environment) = truth.bytes(&format!("proc/{}/environ", process.pid)) else { continue };
        let entries = environment.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
        for entry in entries.map(String::from_utf8_lossy) {
            wanted.push(Record::new(format!("pid {}", process.pid)).cell("entry", entry));
        }
    }
    let found = rows.iter().map(|row| {
        let (key, value) = (row.text("key"), row.text("value"));
        let entry = if key.is_empty() && !value.starts_with('=') { value } else { format!("{key}={value}") };
        Record::new(pid(row)).cell("entry", entry)
    });
    Ok((wanted, found.collect()))
}

/// Leaders of processes only: the report has no threads' tracers.
pub(super) fn ptrace(truth: &Truth, rows: &[Row]) -> Records {
    let mut wanted = Vec::new();
    for process in truth.processes()? {
        let tracer = truth.status(process.pid, "TracerPid:")?;
        if tracer != "0" {
            wanted.push(Record::new(format!("pid {}", process.pid)).cell("tracer", tracer));
        }
    }
    let found = rows.iter().filter(|row| row.object("task", "pid") == row.text("tgid"));
    let found = found.map(|row| Record::new(pid(row)).cell("tracer", row.object("tracer", "pid")));
    Ok((wanted, found.collect()))
}

pub(super) fn lsmod_sections(truth: &Truth, rows: &[Row]) -> Records {
    let mut wanted = Vec::new();
    for module in truth.modules()? {
        let folder = format!("sys/module/{}/sections", module.name);
        for section in truth.names(&folder) {
            let address = truth.text(&format!("{folder}/{section}"))?;
            let address = u64::from_str_radix(address.trim().trim_start_matches("0x"), 16)?;
            wanted
                .push(Record::new(format!("{} {section}", module.name)).cell("address", super::hex(address)));
        }
    }
    let key = |row: &Row| format!("{} {}", row.text("name"), row.text("section"));
    let found = rows.iter().map(|row| row.record(key(row), &["address"])).collect();
    Ok((wanted, found))
}

/// Every process has credentials of its own.
pub(super) fn check_creds(truth: &Truth, rows: &[Row]) -> Records {
    let processes = truth.processes()?;
    // A zombie has no memory either; it is no kernel thread.
    let zombie = |pid| truth.status(pid, "State:").is_ok_and(|state| state.starts_with('Z'));
    let wanted = processes
        .iter()
        .filter(|process| process.has_memory || zombie(process.pid))
        .map(|process| Record::new(format!("pid {}", process.pid)).cell("shared", 1));
    let found = rows.iter().map(|row| row.record(pid(row), &["shared"])).collect();
    Ok((wanted.collect(), found))
}

/// Every module is known in both ways.
pub(super) fn check_modules(truth: &Truth, rows: &[Row]) -> Records {
    let wanted =
        truth.modules()?.into_iter().map(|module| Record::new(module.name).cell("known", true)).collect();
    let found = rows.iter().map(|row| row.record(row.text("mod_name"), &["known"])).collect();
    Ok((wanted, found))
}

/// No gate of the interrupt table and no system call leads out of the kernel, and the first calls are the documented ones
/// (arch/x86/entry/syscalls/syscall_64.tbl, syscall_32.tbl from 3 on, include/uapi/asm-generic/unistd.h).
pub(super) fn check_syscall(truth: &Truth, rows: &[Row]) -> Records {
    const AMD64: &[&str] = &[
        "read", "write", "open", "close", "newstat", "newfstat", "newlstat", "poll", "lseek", "mmap",
        "mprotect", "munmap",
    ];
    const I386: &[&str] = &["read", "write", "open", "close", "waitpid", "creat", "link", "unlink", "execve"];
    const GENERIC: &[&str] = &[
        "io_setup",
        "io_destroy",
        "io_submit",
        "io_cancel",
        "io_getevents",
        "setxattr",
        "lsetxattr",
        "fsetxattr",
        "getxattr",
    ];
    let (prefix, start, first) = match truth.machine()? {
        Machine::Amd64 => ("x64", 0, AMD64),
        Machine::I386 => ("ia32", 3, I386),
        Machine::Arm64 => ("arm64", 0, GENERIC),
    };
    let own = |row: &&Row| row.text("table") == "sys_call_table";
    let mut wanted: Vec<Record> = first
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let number = number + start;
            Record::new(format!("call {number}")).cell("symbol", format!("linux!__{prefix}_sys_{name}"))
        })
        .collect();
    let mut found: Vec<Record> = rows
        .iter()
        .filter(own)
        .skip(start)
        .take(first.len())
        .map(|row| row.record(format!("call {}", row.text("index")), &["symbol"]))
        .collect();
    wanted.push(Record::new("hooked").cell("count", 0));
    let hooked = rows.iter().filter(|row| row.text("hooked") != "false").count();
    found.push(Record::new("hooked").cell("count", hooked));
    Ok((wanted, found))
}

/// The first gates are the processor's exceptions (Intel SDM vol. 3, table 6-1); all lead into the kernel. The double fault
/// of 32-bit kernels has a task gate, which leads to a segment.
pub(super) fn check_idt(_: &Truth, rows: &[Row]) -> Records {
    const FIRST: [&str; 8] =
        ["divide_error", "debug", "nmi", "int3", "overflow", "bounds", "invalid_op", "device_not_available"];
    let mut wanted: Vec<Record> = FIRST
        .iter()
        .enumerate()
        .map(|(number, name)| {
            let privilege = if matches!(*name, "int3" | "overflow") { 3 } else { 0 };
            let symbol = format!("linux!asm_exc_{name}");
            Record::new(format!("vector {number}")).cell("dpl", privilege).cell("symbol", symbol)
        })
        .collect();
    let key = |row: &Row| format!("vector {}", row.text("index"));
    let mut found: Vec<Record> =
        rows.iter().take(FIRST.len()).map(|row| row.record(key(row), &["dpl", "symbol"])).collect();
    wanted.push(Record::new("all").cell("gates", 256).cell("hooked", 0));
    found.push(Record::new("all").cell("gates", rows.len()).cell("hooked", hooked(rows)));
    Ok((wanted, found))
}

/// Parameters with a file that can be read, except those that a module prints itself.
pub(super) fn lsmod_parameters(truth: &Truth, rows: &[Row]) -> Records {
    let key = |row: &Row| format!("{} {}", row.text("name"), row.text("key"));
    let own: HashSet<String> =
        rows.iter().filter(|row| row.is_not_applicable("parameter_value")).map(key).collect();
    let mut wanted = Vec::new();
    for module in truth.names("sys/module") {
        let folder = format!("sys/module/{module}/parameters");
        for name in truth.names(&folder) {
            let record = Record::new(format!("{module} {name}"));
            if !own.contains(&record.key) {
                let value = truth.text(&format!("{folder}/{name}"))?;
                wanted.push(record.cell("parameter_value", value.trim_end_matches('\n')));
            }
        }
    }
    let readable = |row: &&Row| u32::from_str_radix(&row.text("mode"), 8).is_ok_and(|mode| mode & 0o444 != 0);
    let shown = rows.iter().filter(readable).filter(|row| !row.is_not_applicable("parameter_value"));
    Ok((wanted, shown.map(|row| row.record(key(row), &["parameter_value"])).collect()))
}

/// Every module is known in every way.
pub(super) fn modxview(truth: &Truth, rows: &[Row]) -> Records {
    const WAYS: [&str; 4] = ["in_procfs", "in_sysfs", "in_tree", "in_scan"];
    let known = |name| WAYS.iter().fold(Record::new(name), |record, way| record.cell(way, true));
    let wanted = truth.modules()?.into_iter().map(|module| known(module.name)).collect();
    let found = rows.iter().map(|row| row.record(row.text("name"), &WAYS)).collect();
    Ok((wanted, found))
}

/// Nothing is shown at all.
pub(super) fn no_finding(_: &Truth, rows: &[Row]) -> Records {
    Ok((vec![Record::new("all").cell("rows", 0)], vec![Record::new("all").cell("rows", rows.len())]))
}

/// Something is shown, and nothing of it leads where it must not.
pub(super) fn nothing_hooked(_: &Truth, rows: &[Row]) -> Records {
    Ok((vec![verdict(true, 0)], vec![verdict(!rows.is_empty(), hooked(rows))]))
}

fn verdict(any: bool, hooked: usize) -> Record {
    Record::new("all").cell("any", any).cell("hooked", hooked)
}

/// Rows that are not known to be fine; a gate that leads to no code is.
fn hooked(rows: &[Row]) -> usize {
    rows.iter().filter(|row| row.text("hooked") != "false" && !row.is_not_applicable("hooked")).count()
}

/// Every file of `/proc` and of `/proc/net` that the report has is looked at, and none has a replaced function.
pub(super) fn check_proc_fops(truth: &Truth, rows: &[Row]) -> Records {
    let paths: HashSet<String> = rows.iter().map(|row| row.text("path")).collect();
    // Made when looked up; `mounts` and `net` are links to files of processes.
    let made = |name: &str| name.parse::<u32>().is_ok() || ["self", "mounts", "net", "sys"].contains(&name);
    let mut wanted: Vec<Record> = truth
        .names("proc")
        .into_iter()
        .filter(|name| !made(name))
        .map(|name| Record::new(format!("/proc/{name}")).cell("seen", true))
        .collect();
    let net = truth.names("proc/1/net").into_iter();
    wanted.extend(net.map(|name| Record::new(format!("/proc/net/{name}")).cell("seen", true)));
    let mut found: Vec<Record> = wanted
        .iter()
        .map(|record| Record::new(record.key.clone()).cell("seen", paths.contains(&record.key)))
        .collect();
    wanted.push(verdict(true, 0));
    found.push(verdict(!rows.is_empty(), hooked(rows)));
    Ok((wanted, found))
}

/// Whether a file was opened with `O_PATH`: such a file has no functions.
fn is_path_only(truth: &Truth, pid: &str, fd: &str) -> Result<bool> {
    const O_PATH: u32 = 0o10_000_000;
    let text = truth.text(&format!("proc/{pid}/fdinfo/{fd}"))?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:")).context("no flags")?;
    Ok(u32::from_str_radix(flags.trim(), 8)? & O_PATH != 0)
}

/// Every open file is looked at, and none has a replaced function.
pub(super) fn check_task_fops(truth: &Truth, rows: &[Row]) -> Records {
    let key = |pid: &str, fd: &str| format!("pid {pid} fd {fd}");
    let seen: HashSet<String> =
        rows.iter().map(|row| key(&row.object("task", "pid"), &row.text("fd"))).collect();
    let mut wanted = Vec::new();
    for process in truth.processes()? {
        let pid = process.pid.to_string();
        for fd in truth.names(&format!("proc/{pid}/fd")) {
            if !is_path_only(truth, &pid, fd)? {
                wanted.push(Record::new(key(&pid, fd)).cell("seen", true));
            }
        }
    }
    let mut found: Vec<Record> = wanted
        .iter()
        .map(|record| Record::new(record.key.clone()).cell("seen", seen.contains(&record.key)))
        .collect();
    wanted.push(verdict(true, 0));
    found.push(verdict(!rows.is_empty(), hooked(rows)));
    Ok((wanted, found))
}

fn pid(row: &Row) -> String {
    format!("pid {}", row.object("task", "pid"))
}

impl Truth {
    /// The rest of a line of `/proc/PID/status`.
    pub(super) fn status(&self, pid: u32, key: &str) -> Result<String> {
        let status = self.text(&format!("proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.map(|rest| rest.trim().to_owned()).with_context(|| format!("no line {key} for {pid}"))
    }
}
