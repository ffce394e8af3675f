//! kthreads, psscan, pidhashtable, process_spoofing, pscallstack, kallsyms, vmcoreinfo.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result};

use crate::rekal::Row;
use crate::table::Record;
use crate::truth::{Process, Truth};

type Records = Result<(Vec<Record>, Vec<Record>)>;

/// Every thread of the kernel, none with a function of nobody.
pub(super) fn kthreads(truth: &Truth, rows: &[Row]) -> Records {
    let mut wanted = Vec::new();
    for process in truth.processes()? {
        if process.is_kernel_thread {
            let record = Record::new(format!("pid {}", process.pid)).cell("name", process.comm);
            // kthreadd was not started by itself.
            wanted.push(if process.pid == 2 { record } else { record.cell("hooked", false) });
        }
    }
    let found = rows.iter().map(|row| {
        row.record(format!("pid {}", row.object("task", "pid")), &["hooked"])
            .cell("name", row.object("task", "name"))
    });
    Ok((wanted, found.collect()))
}

/// Every process, with its parent; what was released is in no report.
pub(super) fn psscan(truth: &Truth, rows: &[Row]) -> Records {
    let living = rows.iter().filter(|row| row.text("life") != "dead");
    Ok((processes(truth, None)?, living.map(|row| row.record(pid(row), &["ppid", "uid"])).collect()))
}

pub(super) fn pidhashtable(truth: &Truth, rows: &[Row]) -> Records {
    let found = rows.iter().map(|row| row.record(pid(row), &["ppid", "uid", "listed"]));
    Ok((processes(truth, Some(("listed", true)))?, found.collect()))
}

fn processes(truth: &Truth, more: Option<(&'static str, bool)>) -> Result<Vec<Record>> {
    let record = |process: Process| {
        let record = Record::new(format!("pid {}", process.pid));
        let record = record.cell("ppid", process.ppid).cell("uid", process.uid);
        more.into_iter().fold(record, |record, (column, value)| record.cell(column, value))
    };
    Ok(truth.processes()?.into_iter().map(record).collect())
}

/// The names as `/proc/PID` gives them, and which differ.
pub(super) fn process_spoofing(truth: &Truth, rows: &[Row]) -> Records {
    let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut wanted = Vec::new();
    for process in truth.processes()?.into_iter().filter(|process| process.has_memory) {
        let exe = truth.link(&format!("proc/{}/exe", process.pid)).context("no exe")?.to_owned();
        let program = last(exe.strip_suffix(" (deleted)").unwrap_or(&exe));
        let argument = process.arguments.first().cloned().unwrap_or_default();
        let shown = last(argument.strip_prefix('-').unwrap_or(&argument));
        let short: String = program.chars().take(15).collect();
        wanted.push(
            Record::new(format!("pid {}", process.pid))
                .cell("exe", exe)
                .cell("argv0_differs", shown != program)
                .cell("name_differs", process.comm != short)
                .cell("argv0", argument),
        );
    }
    let columns = ["exe", "argv0", "argv0_differs", "name_differs"];
    // Zombies have no program any more.
    let found = rows.iter().filter(|row| !row.is_not_applicable("exe"));
    Ok((wanted, found.map(|row| row.record(pid(row), &columns)).collect()))
}

/// Every frame of `/proc/PID/stack` is among the addresses of the stack, in the same order. PID 1 reads its own, and the thread of
/// RCU runs all the time: their stacks are others by the time of the dump.
pub(super) fn pscallstack(truth: &Truth, rows: &[Row]) -> Records {
    let mut places: HashMap<&str, Vec<u64>> = HashMap::new();
    let kallsyms = truth.text("proc/kallsyms")?;
    for line in kallsyms.lines() {
        let mut fields = line.split_whitespace();
        let (Some(address), Some(_), Some(name)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        places.entry(name).or_default().push(u64::from_str_radix(address, 16)?);
    }
    let mut stacks: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for row in rows {
        let address = row.text("address");
        let address = u64::from_str_radix(address.trim_start_matches("0x"), 16)?;
        stacks.entry(row.object("task", "pid")).or_default().push(address);
    }
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    let moves =
        |process: &Process| process.pid == 1 || ["rcu_sched", "rcu_preempt"].contains(&process.comm.as_str());
    for process in truth.processes()?.iter().filter(|process| !moves(process)) {
        let key = process.pid.to_string();
        let mut rest = stacks.get(&key).map(Vec::as_slice).unwrap_or_default();
        for (number, line) in truth.text(&format!("proc/{key}/stack"))?.lines().enumerate() {
            // [<0>] hrtimer_nanosleep+0x9e/0x170
            let frame = line.split_whitespace().nth(1).context("no frame")?;
            let (name, offset) = frame.split_once('+').context("no offset")?;
            let offset = offset.split('/').next().unwrap_or_default().trim_start_matches("0x");
            let offset = u64::from_str_radix(offset, 16)?;
            let starts = places.get(name).map(Vec::as_slice).unwrap_or_default();
            let seen = rest.iter().position(|address| starts.contains(&address.wrapping_sub(offset)));
            rest = seen.map_or(rest, |at| rest.get(at + 1..).unwrap_or_default());
            let record = || Record::new(format!("pid {key} frame {number} {frame}"));
            wanted.push(record().cell("seen", true));
            found.push(record().cell("seen", seen.is_some()));
        }
    }
    Ok((wanted, found))
}

/// Every line, those of modules without the case of the letter.
pub(super) fn kallsyms(truth: &Truth, rows: &[Row]) -> Records {
    let mut wanted = Vec::new();
    for line in truth.text("proc/kallsyms")?.lines() {
        let mut fields = line.split_whitespace();
        let (Some(address), Some(kind), Some(name)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let module = fields.next().map(|module| module.trim_matches(['[', ']']));
        let address = u64::from_str_radix(address, 16)?;
        let kind = if module.is_some() { kind.to_ascii_lowercase() } else { kind.to_owned() };
        wanted.push(
            Record::new(format!("{} {name} {}", module.unwrap_or("linux"), super::hex(address)))
                .cell("symbol_type", kind),
        );
    }
    let found = rows.iter().map(|row| {
        let (module, kind) = (row.text("module_name"), row.text("symbol_type"));
        let kind = if module == "linux" { kind } else { kind.to_ascii_lowercase() };
        Record::new(format!("{module} {} {}", row.text("name"), row.text("address")))
            .cell("symbol_type", kind)
    });
    let mut found: Vec<Record> = found.collect();
    for list in [&mut wanted, &mut found] {
        list.sort();
        list.dedup();
    }
    Ok((wanted, found))
}

/// Release, build-id, and where symbols are.
pub(super) fn vmcoreinfo(truth: &Truth, rows: &[Row]) -> Records {
    // Linux version RELEASE (...
    let release = truth.text("proc/version")?.split_whitespace().nth(2).context("no release")?;
    let mut wanted = vec![Record::new("OSRELEASE").cell("key_value", release)];
    let has = |key: &str| rows.iter().any(|row| row.text("key") == key);
    // From v5.11.
    if has("BUILD-ID") {
        wanted.push(Record::new("BUILD-ID").cell("key_value", truth.build_id()?));
    }
    let kallsyms = truth.text("proc/kallsyms")?;
    // Kernels without CONFIG_KALLSYMS_ALL show symbols of code only.
    for symbol in ["init_uts_ns", "_stext"] {
        let end = format!(" {symbol}");
        let Some(line) = kallsyms.lines().find(|line| line.ends_with(&end)) else { continue };
        let address = line.split_whitespace().next().unwrap_or_default();
        wanted.push(Record::new(format!("SYMBOL({symbol})")).cell("key_value", address));
    }
    let keys: Vec<String> = wanted.iter().map(|record| record.key.clone()).collect();
    let found = rows.iter().filter(|row| keys.contains(&row.text("key")));
    Ok((wanted, found.map(|row| row.record(row.text("key"), &["key_value"])).collect()))
}

fn pid(row: &Row) -> String {
    format!("pid {}", row.object("proc", "pid"))
}
