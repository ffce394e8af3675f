//! Which plugin stands beside which command, and which of their columns mean the same.

use serde_json::{Value, json};

use super::clean::{
    address, base_name, caller, capabilities, digits, function, hook, kernel, level, lower, no_target, plain,
    rights, set, symbol, table, time, zero, zero_address,
};
use crate::rekal::Row;
use crate::table::Record;

/// A plugin, a command, and what they have in common.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    /// The plugin as on Volatility's command line, without `linux.`.
    pub plugin: &'static str,
    /// The command of `rekal` with its arguments.
    pub command: &'static [&'static str],
    /// Columns that identify a row.
    key: &'static [Column],
    /// Columns to compare.
    cells: &'static [Column],
    /// Makes the rows that Volatility would make of a row of ours; none where it has no such row.
    expand: fn(&Row) -> Vec<Row>,
}

/// The same column of both.
#[derive(Debug, Clone, Copy)]
struct Column {
    name: &'static str,
    theirs: &'static str,
    /// A column of ours; `COLUMN.FIELD` where its cells are objects.
    ours: &'static str,
    /// What makes both texts the same where they mean the same.
    clean: fn(&str) -> String,
}

const fn col(
    name: &'static str,
    theirs: &'static str,
    ours: &'static str,
    clean: fn(&str) -> String,
) -> Column {
    Column { name, theirs, ours, clean }
}

/// Every pair, by plugin.
pub const PAIRS: &[Pair] = &[
    Pair {
        plugin: "bash",
        command: &["bash"],
        key: &[col("pid", "PID", "task.pid", plain), col("", "Command", "command", plain)],
        cells: &[col("time", "CommandTime", "timestamp", time)],
        expand: alone,
    },
    Pair {
        plugin: "boottime",
        command: &["boottime"],
        key: &[],
        cells: &[col("boot", "Boot Time", "boot_time", time)],
        expand: alone,
    },
    Pair {
        plugin: "capabilities",
        command: &["capabilities"],
        key: &[col("pid", "Pid", "task.pid", plain)],
        cells: &[
            col("name", "Name", "task.name", plain),
            col("euid", "EUID", "euid", plain),
            col("effective", "cap_effective", "names", set),
            col("permitted", "cap_permitted", "permitted", capabilities),
            col("inheritable", "cap_inheritable", "inheritable", capabilities),
            col("bounding", "cap_bounding", "bounding", capabilities),
            col("ambient", "cap_ambient", "ambient", capabilities),
        ],
        expand: alone,
    },
    Pair {
        plugin: "ebpf",
        command: &["ebpf"],
        key: &[col("at", "Address", "prog", address)],
        cells: &[col("name", "Name", "name", plain)],
        expand: alone,
    },
    Pair { plugin: "elfs", command: &["elfs"], key: AREA, cells: &[], expand: alone },
    Pair {
        plugin: "envars",
        command: &["envars"],
        key: &[
            col("pid", "PID", "task.pid", plain),
            col("", "KEY", "key", plain),
            col("=", "VALUE", "value", plain),
        ],
        cells: &[col("name", "COMM", "task.name", plain)],
        expand: alone,
    },
    Pair {
        plugin: "iomem",
        command: &["iomem"],
        key: &[col("", "Start", "start", address), col("to", "End", "end", address)],
        cells: &[col("name", "Name", "name", plain), col("depth", "_depth", "_depth", zero)],
        expand: deeper,
    },
    Pair {
        plugin: "ip.Addr",
        command: &["ifconfig"],
        key: &[
            col("ns", "NetNS", "net_ns", plain),
            col("device", "Index", "ifindex", plain),
            col("ip", "IP", "ip", plain),
        ],
        cells: &[
            col("prefix", "Prefix", "prefix", plain),
            col("mac", "MAC", "MAC", plain),
            col("name", "Interface", "device", plain),
            col("state", "State", "state", lower),
        ],
        expand: addresses,
    },
    Pair {
        plugin: "ip.Link",
        command: &["ifconfig"],
        key: &[col("ns", "NS", "net_ns", plain), col("", "Interface", "device", plain)],
        cells: &[
            col("mac", "MAC", "MAC", plain),
            col("mtu", "MTU", "mtu", plain),
            col("state", "State", "state", lower),
            col("flags", "Flags", "flags", set),
        ],
        expand: first_of_device,
    },
    Pair {
        plugin: "kallsyms",
        command: &["kallsyms"],
        key: &[col("", "Addr", "address", address), col("", "SymbolName", "name", plain)],
        cells: &[
            col("type", "Type", "symbol_type", lower),
            col("module", "ModuleName", "module_name", kernel),
        ],
        expand: alone,
    },
    Pair {
        plugin: "kmsg",
        command: &["dmesg"],
        key: &[col("", "timestamp", "since_boot", plain), col("", "line", "message", plain)],
        cells: &[
            col("level", "level", "level", level),
            col("facility", "facility", "facility", plain),
            col("caller", "caller", "caller", caller),
        ],
        expand: lines,
    },
    Pair {
        plugin: "kthreads",
        command: &["kthreads"],
        key: &[col("tid", "TID", "task.pid", plain)],
        cells: &[
            col("name", "Thread Name", "name", plain),
            col("function", "Handler Address", "address", address),
            col("symbol", "Symbol", "symbol", symbol),
            col("module", "Module", "module_name", kernel),
        ],
        expand: full_name,
    },
    Pair {
        plugin: "library_list",
        command: &["library_list"],
        key: &[col("pid", "Pid", "task.pid", plain), col("at", "LoadAddress", "load_address", address)],
        cells: &[col("path", "Path", "path", plain)],
        expand: alone,
    },
    Pair {
        plugin: "lsmod",
        command: &["lsmod"],
        key: &[col("", "Module Name", "name", plain)],
        cells: &[
            col("at", "Offset", "virtual", address),
            col("size", "Code Size", "size", plain),
            col("taints", "Taints", "taints", plain),
        ],
        expand: alone,
    },
    Pair {
        plugin: "lsof",
        command: &["lsof"],
        key: &[col("pid", "PID", "pid", plain), col("fd", "FD", "fd", plain)],
        cells: &[
            col("path", "Path", "path", plain),
            col("type", "Type", "file_type", plain),
            col("inode", "Inode", "node", plain),
            col("size", "Size", "size", plain),
        ],
        expand: alone,
    },
    // The words these print findings with have no counterpart; that something is found has.
    Pair {
        plugin: "malware.check_afinfo",
        command: &["check_afinfo"],
        key: &[col("at", "Handler Address", "address", address)],
        cells: &[],
        expand: alone,
    },
    Pair {
        plugin: "malware.check_creds",
        command: &["check_creds"],
        key: &[col("", "CredVAddr", "cred", address)],
        cells: &[],
        expand: shared,
    },
    Pair {
        plugin: "malware.check_idt",
        command: &["check_idt"],
        key: &[col("vector", "Index", "index", plain)],
        cells: &[col("address", "Address", "address", address), col("symbol", "Symbol", "symbol", symbol)],
        expand: alone,
    },
    Pair {
        plugin: "malware.check_modules",
        command: &["check_modules"],
        key: &[col("", "Module Name", "mod_name", plain)],
        cells: &[],
        expand: unknown,
    },
    Pair {
        plugin: "malware.check_syscall",
        command: &["check_syscall"],
        key: &[col("", "Table Name", "table", table), col("call", "Index", "index", plain)],
        cells: &[
            col("address", "Handler Address", "address", address),
            col("symbol", "Handler Symbol", "symbol", symbol),
        ],
        expand: alone,
    },
    Pair {
        plugin: "malware.hidden_modules",
        command: &["hidden_modules"],
        key: &[col("", "Offset", "module", address)],
        cells: &[],
        expand: alone,
    },
    Pair {
        plugin: "malware.malfind",
        command: &["malfind"],
        key: &[
            col("pid", "PID", "task.pid", plain),
            col("from", "Start", "start", address),
            col("to", "End", "end", address),
        ],
        cells: &[],
        expand: alone,
    },
    Pair {
        plugin: "malware.modxview",
        command: &["modxview"],
        key: &[col("", "Name", "name", plain)],
        cells: &[
            col("address", "Address", "module", address),
            col("procfs", "In procfs", "in_procfs", plain),
            col("sysfs", "In sysfs", "in_sysfs", plain),
            col("scan", "In scan", "in_scan", plain),
        ],
        expand: alone,
    },
    Pair {
        plugin: "malware.netfilter",
        command: &["netfilter"],
        key: &[
            col("ns", "Net NS", "net_ns", plain),
            col("", "Proto", "family", lower),
            col("", "Hook", "hook", hook),
            col("at", "Handler", "address", address),
        ],
        cells: &[
            col("priority", "Priority", "priority", plain),
            col("symbol", "Symbol", "symbol", symbol),
            col("hooked", "Is Hooked", "hooked", lower),
        ],
        expand: alone,
    },
    Pair {
        plugin: "malware.process_spoofing",
        command: &["process_spoofing"],
        key: &[col("pid", "PID", "proc.pid", plain)],
        cells: &[
            col("ppid", "PPID", "ppid", plain),
            col("exe", "Exe_Path", "exe", plain),
            col("argv0", "Cmdline_Basename", "argv0", base_name),
            col("name", "Comm", "proc.name", plain),
            col("argv0 differs", "Cmdline_Spoofed", "argv0_differs", plain),
            col("name differs", "Comm_Spoofed", "name_differs", plain),
        ],
        expand: alone,
    },
    Pair {
        plugin: "malware.tty_check",
        command: &["check_ttys", "--all"],
        key: &[col("", "Name", "name", plain)],
        cells: &[col("function", "Address", "address", address), col("symbol", "Symbol", "symbol", symbol)],
        expand: receiving,
    },
    Pair {
        plugin: "mountinfo",
        command: &["mount"],
        key: &[col("ns", "MNT_NS_ID", "mnt_ns", plain), col("mount", "MOUNT ID", "mount_id", plain)],
        cells: &[
            col("parent", "PARENT_ID", "parent_id", plain),
            col("root", "ROOT", "root", plain),
            col("path", "MOUNT_POINT", "Path", plain),
            col("type", "FSTYPE", "Type", plain),
            col("source", "MOUNT_SRC", "Device", plain),
            col("options", "MOUNT_OPTIONS", "flags", set),
            col("super", "SB_OPTIONS", "super_flags", set),
            col("device", "MAJOR:MINOR", "numbers", plain),
            col("fields", "FIELDS", "propagation", plain),
        ],
        expand: device_numbers,
    },
    Pair {
        plugin: "pagecache.Files",
        command: &["mls"],
        key: &[
            col("on", "MountPoint", "mount", plain),
            col("inode", "InodeNum", "inode", plain),
            col("", "FilePath", "path", no_target),
        ],
        cells: &[
            col("type", "FileType", "file_type", plain),
            col("size", "InodeSize", "size", plain),
            col("modified", "ModificationTime", "mtime", time),
            col("changed", "ChangeTime", "ctime", time),
            col("accessed", "AccessTime", "atime", time),
        ],
        expand: alone,
    },
    Pair {
        plugin: "pidhashtable",
        command: &["pidhashtable"],
        key: &[col("pid", "PID", "proc.pid", plain), col("at", "OFFSET", "proc.address", address)],
        cells: &[col("ppid", "PPID", "ppid", plain), col("name", "COMM", "proc.name", plain)],
        expand: alone,
    },
    Pair {
        plugin: "proc.Maps",
        command: &["maps"],
        key: AREA,
        cells: &[
            col("flags", "Flags", "flags", rights),
            col("path", "File Path", "file_path", plain),
            col("inode", "Inode", "inode", zero),
            col("offset", "PgOff", "pgoff", zero_address),
        ],
        expand: alone,
    },
    Pair {
        plugin: "psaux",
        command: &["psaux"],
        key: &[col("pid", "PID", "PID", plain)],
        cells: &[col("arguments", "ARGS", "Command", plain)],
        expand: alone,
    },
    Pair {
        plugin: "pscallstack",
        command: &["pscallstack"],
        key: &[col("tid", "TID", "task.pid", plain), col("at", "Address", "stack_address", address)],
        cells: &[col("value", "Value", "address", address), col("name", "Name", "symbol", function)],
        expand: alone,
    },
    Pair {
        plugin: "pslist",
        command: &["pslist"],
        key: &[col("pid", "PID", "proc.pid", plain)],
        cells: &[
            col("at", "OFFSET (V)", "proc.address", address),
            col("name", "COMM", "proc.name", plain),
            col("ppid", "PPID", "ppid", plain),
            col("uid", "UID", "uid", plain),
            col("gid", "GID", "gid", plain),
            col("started", "CREATION TIME", "start_time", time),
        ],
        expand: alone,
    },
    Pair {
        plugin: "psscan",
        command: &["psscan"],
        key: &[col("pid", "PID", "proc.pid", plain), col("at", "OFFSET (P)", "physical_offset", address)],
        cells: &[col("name", "COMM", "proc.name", plain), col("ppid", "PPID", "ppid", plain)],
        expand: alone,
    },
    Pair {
        plugin: "pstree",
        command: &["pstree"],
        key: &[col("pid", "PID", "Pid", plain)],
        cells: &[
            col("ppid", "PPID", "Ppid", plain),
            col("name", "COMM", "Name", plain),
            col("depth", "_depth", "_depth", zero),
        ],
        expand: alone,
    },
    Pair {
        plugin: "ptrace",
        command: &["ptrace"],
        key: &[col("tid", "TID", "task.pid", plain)],
        cells: &[col("tracer", "Tracer TID", "tracer.pid", plain)],
        expand: alone,
    },
    Pair {
        plugin: "sockstat",
        command: &["netstat"],
        key: &[
            col("ns", "NetNS", "net_ns", plain),
            col("at", "Sock Offset", "sock", address),
            col("pid", "PID", "Pid", plain),
            col("fd", "FD", "fd", plain),
        ],
        cells: &[
            col("type", "Type", "Type", plain),
            col("state", "State", "State", lower),
            col("source port", "Source Port", "SPort", plain),
            col("destination port", "Destination Port", "DPort", plain),
        ],
        expand: alone,
    },
    Pair { plugin: "tracing.ftrace", command: &["ftrace"], key: &[], cells: &[], expand: alone },
    Pair { plugin: "tracing.perf_events", command: &["perf_events"], key: &[], cells: &[], expand: alone },
    Pair { plugin: "tracing.tracepoints", command: &["tracepoints"], key: &[], cells: &[], expand: alone },
    Pair {
        plugin: "vmcoreinfo",
        command: &["vmcoreinfo"],
        key: &[col("", "Key", "key", plain)],
        cells: &[col("value", "Value", "key_value", digits)],
        expand: alone,
    },
];

/// A mapping of a process.
const AREA: &[Column] = &[
    col("pid", "PID", "task.pid", plain),
    col("from", "Start", "start", address),
    col("to", "End", "end", address),
];

impl Pair {
    /// What Volatility's rows say.
    #[must_use]
    pub fn theirs(&self, rows: &[Row]) -> Vec<Record> {
        let said = |row: &Row, column: &Column| Some(row.cell(column.theirs)).filter(|text| text != "N/A");
        let clean = |row: &Row, column: &Column| (column.clean)(&said(row, column).unwrap_or_default());
        let record = |row: &Row| {
            let mut record = self.record(|column| clean(row, column));
            if let (Some(tid), Some(pid)) = (row.number("TID"), row.number("PID"))
                && tid != pid
            {
                record.key.push_str(&format!(" thread {tid}"));
            }
            record
        };
        rows.iter().map(record).collect()
    }

    /// What the rows of `rekal` say.
    #[must_use]
    pub fn ours(&self, rows: &[Row]) -> Vec<Record> {
        let rows = rows.iter().flat_map(self.expand);
        rows.map(|row| self.record(|column| (column.clean)(&row.cell(column.ours)))).collect()
    }

    fn record(&self, cell: impl Fn(&Column) -> String) -> Record {
        let key = self.key.iter().map(|column| format!("{} {}", column.name, cell(column)).trim().to_owned());
        let record = Record::new(key.collect::<Vec<_>>().join(" "));
        self.cells.iter().fold(record, |record, column| record.cell(column.name, cell(column)))
    }
}

impl Row {
    /// A cell, or a field of an object cell, as text; empty where it is absent.
    fn cell(&self, column: &str) -> String {
        match column.split_once('.') {
            Some((column, field)) => self.object(column, field),
            None => self.text_unless_absent(column),
        }
    }
}

fn alone(row: &Row) -> Vec<Row> {
    vec![row.clone()]
}

/// Volatility's tree has a root of its own.
fn deeper(row: &Row) -> Vec<Row> {
    let depth = row.number("_depth").unwrap_or(0);
    vec![row.with(&[("_depth", json!(depth + 1))])]
}

/// Volatility looks at one function of a line discipline.
fn receiving(row: &Row) -> Vec<Row> {
    if row.text("member") == "tty_ldisc_ops.receive_buf" { vec![row.clone()] } else { Vec::new() }
}

fn shared(row: &Row) -> Vec<Row> {
    if row.text("shared") == "1" { Vec::new() } else { vec![row.clone()] }
}

fn unknown(row: &Row) -> Vec<Row> {
    if row.text("known") == "true" { Vec::new() } else { vec![row.clone()] }
}

/// A message of several lines is a row for each, the later ones indented.
fn lines(row: &Row) -> Vec<Row> {
    let message = row.text("message");
    message.split('\n').map(|line| row.with(&[("message", Value::from(line))])).collect()
}

fn full_name(row: &Row) -> Vec<Row> {
    let name = match row.cell("full_name") {
        name if name.is_empty() => row.object("task", "name"),
        name => name,
    };
    vec![row.with(&[("name", Value::from(name))])]
}

/// One row for each address; a device is named without the label that one address gives it.
fn addresses(row: &Row) -> Vec<Row> {
    let device = device(row);
    let mut found = Vec::new();
    let four = row.cell("ipv4");
    if !four.is_empty() {
        found.push((four, row.cell("prefix_len")));
    }
    // Every row of a device has all of these.
    for six in row.list("ipv6").into_iter().filter(|_| row.text("interface") == device) {
        let (ip, prefix) = six.split_once('/').unwrap_or((&six, ""));
        found.push((ip.to_owned(), prefix.to_owned()));
    }
    let with =
        |(ip, prefix)| row.with(&[("ip", json!(ip)), ("prefix", json!(prefix)), ("device", json!(device))]);
    found.into_iter().map(with).collect()
}

fn device(row: &Row) -> String {
    let label = row.text("interface");
    label.split_once(':').map_or(label.clone(), |(device, _)| device.to_owned())
}

/// A device with several addresses has several rows; the one without a label of its own stands for it.
fn first_of_device(row: &Row) -> Vec<Row> {
    let device = device(row);
    if row.text("interface") == device { vec![row.with(&[("device", json!(device))])] } else { Vec::new() }
}

fn device_numbers(row: &Row) -> Vec<Row> {
    let numbers = format!("{}:{}", row.text("major"), row.text("minor"));
    vec![row.with(&[("numbers", json!(numbers))])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_sorted_and_named_once() {
        assert!(PAIRS.windows(2).all(|pair| pair[0].plugin < pair[1].plugin));
    }
}
