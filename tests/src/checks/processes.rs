//! pslist, psaux, pstree, psxview.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::rekal::Row;
use crate::table::Record;
use crate::truth::{Process, Truth};

/// One clock tick of `/proc/PID/stat` in nanoseconds.
const TICK: i128 = 10_000_000;

pub(super) fn pslist(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let boot = truth.boot_time()?;
    let processes = truth.processes()?;
    let start_ticks: BTreeMap<String, u64> =
        processes.iter().map(|process| (process.pid.to_string(), process.start_ticks)).collect();
    let wanted = processes
        .iter()
        .map(|process| {
            Record::new(key(process))
                .cell("ppid", process.ppid)
                .cell("uid", process.uid)
                .cell("gid", process.gid)
                .cell("binary", &process.comm)
                .cell("name", &process.comm)
                .cell("start_time", AS_REPORTED)
        })
        .collect();
    let found = rows
        .iter()
        .map(|row| {
            let pid = row.object("proc", "pid");
            let start = row.text("start_time");
            let agrees = start_ticks.get(&pid).is_some_and(|ticks| same_start(&start, boot, *ticks));
            row.record(format!("pid {pid}"), &["ppid", "uid", "gid", "binary"])
                .cell("name", row.object("proc", "name"))
                .cell("start_time", if agrees { AS_REPORTED } else { &start })
        })
        .collect();
    Ok((wanted, found))
}

/// Stands for a start time that agrees: the guest reports whole ticks, the program nanoseconds.
const AS_REPORTED: &str = "as reported";

/// Whether a time lies within the tick the guest reported. The guest's two clocks were read up to a microsecond apart.
fn same_start(rfc3339: &str, boot: i128, ticks: u64) -> bool {
    const SLACK: i128 = 1_000_000;
    let Some(time) = nanoseconds(rfc3339) else { return false };
    let after = time - (boot + i128::from(ticks) * TICK);
    (-SLACK..TICK + SLACK).contains(&after)
}

/// Nanoseconds since 1970 of `2024-05-06T07:08:09.123456789Z`.
pub(super) fn nanoseconds(rfc3339: &str) -> Option<i128> {
    let (date, time) = rfc3339.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut seconds: i64 = 0;
    for part in time.split(':') {
        seconds = seconds * 60 + part.parse::<i64>().ok()?;
    }
    // Days since 1970-03-01 of the proleptic Gregorian calendar, the year starting in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (month * 153 + 2) / 5
        + day
        - 719_469;
    let digits = format!("{fraction:0<9}");
    Some((i128::from(days) * 86_400 + i128::from(seconds)) * 1_000_000_000 + digits.parse::<i128>().ok()?)
}

pub(super) fn psaux(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let wanted = truth
        .processes()?
        .iter()
        .map(|process| {
            let command =
                if process.has_memory { process.arguments.join(" ") } else { format!("[{}]", process.comm) };
            Record::new(key(process))
                .cell("UID", process.uid)
                .cell("GID", process.gid)
                .cell("Command", command)
        })
        .collect();
    let found = rows
        .iter()
        .map(|row| row.record(format!("pid {}", row.text("PID")), &["UID", "GID", "Command"]))
        .collect();
    Ok((wanted, found))
}

pub(super) fn pstree(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let processes = truth.processes()?;
    let parents: BTreeMap<u32, u32> = processes.iter().map(|process| (process.pid, process.ppid)).collect();
    let depth = |pid: u32| {
        let ancestor = |pid: &u32| parents.get(pid).copied().filter(|parent| parents.contains_key(parent));
        std::iter::successors(ancestor(&pid), ancestor).take(parents.len()).count()
    };
    let wanted = processes
        .iter()
        .map(|process| {
            Record::new(key(process))
                .cell("Ppid", process.ppid)
                .cell("Uid", process.uid)
                .cell("Name", &process.comm)
                .cell("depth", depth(process.pid))
        })
        .collect();
    let found = rows
        .iter()
        .map(|row| {
            row.record(format!("pid {}", row.text("Pid")), &["Ppid", "Uid", "Name"])
                .cell("depth", row.number("_depth").unwrap_or(0))
        })
        .collect();
    Ok((wanted, found))
}

/// Every process of an honest guest is seen in every way, and no other task is, except dead ones that the scan of memory
/// comes across.
pub(super) fn psxview(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    const WAYS: [&str; 4] = ["InitTask", "PidHashTable", "Children", "PsScan"];
    let wanted = truth
        .processes()?
        .iter()
        .map(|process| WAYS.iter().fold(Record::new(key(process)), |record, way| record.cell(way, true)))
        .collect();
    let found = rows
        .iter()
        .filter(|row| row.text("life") != "dead")
        .map(|row| row.record(format!("pid {}", row.object("_TASK", "pid")), &WAYS))
        .collect();
    Ok((wanted, found))
}

fn key(process: &Process) -> String {
    format!("pid {}", process.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_nanoseconds_since_1970() {
        assert_eq!(nanoseconds("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(nanoseconds("2024-05-06T07:08:09.5Z"), Some(1_714_979_289_500_000_000));
        assert_eq!(nanoseconds("2000-02-29T23:59:59.000000001Z"), Some(951_868_799_000_000_001));
        assert_eq!(nanoseconds("soon"), None);
    }

    #[test]
    fn a_start_time_agrees_within_its_tick() {
        let boot = 1_714_979_289_000_000_000;
        assert!(same_start("2024-05-06T07:08:10.239Z", boot, 123));
        assert!(!same_start("2024-05-06T07:08:10.252Z", boot, 123));
        assert!(!same_start("2024-05-06T07:08:10.22Z", boot, 123));
    }
}
