//! The guest whose kernel was attacked: what `tools/guest-image/hostile/rekal_hostile.c` did must be found, all of it and nothing else.

use anyhow::{Context as _, Result, bail};

use crate::rekal::{Rekal, Row};
use crate::table::{Comparison, Record};
use crate::truth::Truth;

/// What a command must find.
struct Finding {
    command: &'static str,
    arguments: &'static [&'static str],
    /// Which rows are findings.
    is: fn(&Row) -> bool,
    /// Columns of a finding that are compared.
    columns: &'static [&'static str],
    /// The findings. Several rows may be one finding: an open file of many processes.
    wanted: &'static [&'static [&'static str]],
    /// Part of the note that makes the run incomplete.
    note: Option<&'static str>,
}

fn hooked(row: &Row) -> bool {
    row.text("hooked") != "false"
}

const fn finding(
    command: &'static str,
    is: fn(&Row) -> bool,
    columns: &'static [&'static str],
    wanted: &'static [&'static [&'static str]],
) -> Finding {
    Finding { command, arguments: &[], is, columns, wanted, note: None }
}

const FINDINGS: &[Finding] = &[
    finding(
        "check_afinfo",
        hooked,
        &["table", "member", "symbol"],
        &[&["tcp4_seq_ops", "show", "rekal_hostile!hostile_tcp4_show"]],
    ),
    finding("check_idt", hooked, &["index", "symbol"], &[&["4", "rekal_hostile!hostile_interrupt"]]),
    finding(
        "check_inline_kernel",
        hooked,
        &["function", "detour", "symbol"],
        &[
            &["linux!__x64_sys_delete_module", "jump", "rekal_hostile!hostile_delete_module"],
            // How the kernel calls the only listener of a tracepoint.
            &["linux!__SCT__tp_func_sched_process_exec", "jump", "rekal_hostile!hostile_probe"],
        ],
    ),
    finding("check_modules", |row| row.text("known") == "false", &["mod_name"], &[&["rekal_hostile"]]),
    finding(
        "check_proc_fops",
        hooked,
        &["path", "member", "module_name"],
        &[&["/proc/net/tcp", "seq_operations.show", "rekal_hostile"]],
    ),
    finding(
        "check_syscall",
        hooked,
        &["table", "index", "symbol"],
        &[&["sys_call_table", "217", "rekal_hostile!hostile_getdents64"]],
    ),
    finding(
        "check_task_fops",
        hooked,
        &["member", "symbol"],
        &[&["write", "rekal_hostile!hostile_write_null"]],
    ),
    finding(
        "check_ttys",
        hooked,
        &["member", "symbol"],
        &[&["tty_ldisc_ops.receive_buf2", "rekal_hostile!hostile_receive"]],
    ),
    finding(
        "ftrace",
        hooked,
        &["function", "symbol"],
        &[&["linux!ksys_sync", "rekal_hostile!hostile_trace"]],
    ),
    finding(
        "hidden_modules",
        |_| true,
        &["name", "found_by", "taints"],
        &[&["rekal_hostile", "sysfs,tree,scan", "OE"]],
    ),
    finding(
        "kthreads",
        // kthreadd alone was started without a function.
        |row| row.text("hooked") != "false" && row.object("task", "pid") != "2",
        &["full_name", "symbol"],
        &[&["<absent: not applicable: the short name is the full name>", "rekal_hostile!hostile_thread"]],
    ),
    finding("modxview", |row| row.text("in_procfs") == "false", &["name"], &[&["rekal_hostile"]]),
    finding(
        "netfilter",
        hooked,
        &["family", "hook", "priority", "symbol"],
        &[&["ipv4", "input", "-2147483648", "rekal_hostile!hostile_packet"]],
    ),
    Finding {
        note: Some("list keyboard_notifier_list ends in a loop"),
        ..finding(
            "notifier_chains",
            hooked,
            &["chain_symbol", "symbol"],
            &[&["keyboard_notifier_list", "rekal_hostile!hostile_key"]],
        )
    },
    finding(
        "pkt_queues",
        |row| row.text("queue") == "receive" && row.text("length") == "12",
        &["comm", "packet_bytes"],
        &[&["gt", "72656b616c2d7061636b6574"]],
    ),
    finding(
        "tracepoints",
        hooked,
        &["tracepoint", "symbol"],
        &[&["sched_process_exec", "rekal_hostile!hostile_probe"]],
    ),
];

/// Names of the commands that must find something.
pub fn names() -> impl Iterator<Item = &'static str> {
    FINDINGS.iter().map(|finding| finding.command).chain(["check_creds", "psxview"])
}

/// Whether the guest is the one that was attacked.
#[must_use]
pub fn is_hostile(guest: &str) -> bool {
    guest.ends_with("-hostile")
}

/// Runs a command and compares what it finds with what was done.
pub fn check(name: &str, rekal: &Rekal, truth: &Truth) -> Result<Comparison> {
    match name {
        "check_creds" => return check_creds(rekal, truth),
        "psxview" => return psxview(rekal, truth),
        _ => {}
    }
    let finding = FINDINGS.iter().find(|finding| finding.command == name).context("no such finding")?;
    let output = rekal.run(&[&[finding.command], finding.arguments].concat())?;
    let record = |cells: Vec<String>| Record::new(cells.join(" "));
    let wanted = finding.wanted.iter().map(|cells| record(cells.iter().map(ToString::to_string).collect()));
    let found = output.rows.iter().filter(|row| (finding.is)(row));
    let mut found: Vec<Record> =
        found.map(|row| record(finding.columns.iter().map(|column| row.text(column)).collect())).collect();
    found.sort();
    found.dedup();
    let mut outcome = Comparison::of(wanted.collect(), found);
    let notes = serde_json::Value::from(output.notes).to_string();
    if output.complete == finding.note.is_some() || finding.note.is_some_and(|note| !notes.contains(note)) {
        outcome.differences.push(format!("wanted the note {:?}, found {notes}", finding.note));
    }
    Ok(outcome)
}

/// A process that the guest tells of: `hide` was taken off the list, `give` has the credentials of `from`.
fn process(truth: &Truth, what: &str) -> Result<String> {
    let text = truth.text("run/gt/hostile")?;
    let value = text.split_whitespace().filter_map(|word| word.split_once('=')).find(|(key, _)| *key == what);
    let Some((_, pid)) = value else { bail!("the guest does not tell: {what}") };
    Ok(pid.to_owned())
}

fn check_creds(rekal: &Rekal, truth: &Truth) -> Result<Comparison> {
    let record = |pid: String| Record::new(format!("pid {pid}")).cell("shared", 2);
    let wanted = vec![record(process(truth, "from")?), record(process(truth, "give")?)];
    let rows = rekal.run(&["check_creds"])?.rows;
    let found = rows.iter().filter(|row| row.text("shared") != "1");
    Ok(Comparison::of(
        wanted,
        found.map(|row| row.record(format!("pid {}", row.object("task", "pid")), &["shared"])).collect(),
    ))
}

fn psxview(rekal: &Rekal, truth: &Truth) -> Result<Comparison> {
    const WAYS: [&str; 4] = ["InitTask", "PidHashTable", "Children", "PsScan"];
    let wanted = Record::new(format!("pid {}", process(truth, "hide")?)).cell("InitTask", false);
    let wanted = WAYS.iter().skip(1).fold(wanted, |record, way| record.cell(way, true));
    let rows = rekal.run(&["psxview"])?.rows;
    let odd = |row: &&Row| row.text("life") != "dead" && WAYS.iter().any(|way| row.text(way) != "true");
    let found = rows.iter().filter(odd);
    let found = found.map(|row| row.record(format!("pid {}", row.object("_TASK", "pid")), &WAYS)).collect();
    Ok(Comparison::of(vec![wanted], found))
}
