//! banner, cpuinfo, dmesg, hostname, iomem, lsmod.

use anyhow::{Context as _, Result};

use super::hex;
use crate::rekal::Row;
use crate::table::Record;
use crate::truth::{Machine, Truth};

pub(super) fn banner(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let wanted = vec![Record::new("banner").cell("banner", truth.text("proc/version")?.trim_end())];
    let found =
        rows.iter().map(|row| Record::new("banner").cell("banner", row.text("banner").trim_end())).collect();
    Ok((wanted, found))
}

pub(super) fn hostname(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let mut wanted = Vec::new();
    for namespace in truth.names("uts") {
        let host = truth.text(&format!("uts/{namespace}"))?;
        wanted.push(Record::new(format!("uts {namespace}")).cell("Hostname", host));
    }
    let found =
        rows.iter().map(|row| row.record(format!("uts {}", row.text("uts_ns")), &["Hostname"])).collect();
    Ok((wanted, found))
}

pub(super) fn cpuinfo(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    const ARM64: [(&str, &str); 5] = [
        ("vendor", "CPU implementer"),
        ("cpu_family", "CPU architecture"),
        ("variant", "CPU variant"),
        ("model_number", "CPU part"),
        ("stepping", "CPU revision"),
    ];
    const X86: [(&str, &str); 9] = [
        ("vendor", "vendor_id"),
        ("model", "model name"),
        ("cpu_family", "cpu family"),
        ("model_number", "model"),
        ("stepping", "stepping"),
        ("microcode", "microcode"),
        ("physical_id", "physical id"),
        ("core_id", "core id"),
        ("apicid", "apicid"),
    ];
    let is_arm64 = truth.machine()? == Machine::Arm64;
    let columns: &[(&str, &str)] = if is_arm64 { &ARM64 } else { &X86 };
    let mut wanted = Vec::new();
    for processor in truth.processors()? {
        let mut record = Record::new(format!("CPU {}", processor.get("processor").context("no number")?));
        for &(column, key) in columns {
            if let Some(value) = processor.get(key) {
                // ARM64 shows codes in hex; the program only that of the implementer, which has no number's meaning.
                let number = value.strip_prefix("0x").filter(|_| is_arm64 && column != "vendor");
                let number = number.and_then(|digits| u64::from_str_radix(digits, 16).ok());
                record =
                    record.cell(column, number.map_or_else(|| value.to_owned(), |number| number.to_string()));
            }
        }
        wanted.push(record);
    }
    let columns: Vec<&str> = columns.iter().map(|(column, _)| *column).collect();
    let found = rows.iter().map(|row| row.record(format!("CPU {}", row.text("CPU")), &columns)).collect();
    Ok((wanted, found))
}

/// The kernel may log between the report and the pause (a slow emulator alarms its clock watchdog). Records behind the
/// last reported one whose time is past the report's clock are therefore not compared; nothing else is left out.
pub(super) fn dmesg(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    const LEVELS: [&str; 8] = ["EMERG", "ALERT", "CRIT", "ERR", "WARNING", "NOTICE", "INFO", "DEBUG"];
    const FACILITIES: [&str; 4] = ["kern", "user", "mail", "daemon"];
    let mut wanted = Vec::new();
    for (number, record) in truth.log()?.into_iter().enumerate() {
        let level = LEVELS.get(record.level as usize).context("no such level")?;
        let facility = FACILITIES.get(record.facility as usize).context("a facility no guest uses")?;
        wanted.push(
            Record::new(format!("record {number}"))
                .cell("since_boot", seconds(i128::from(record.microseconds)))
                .cell("facility", facility)
                .cell("level", level)
                .cell("message", record.text),
        );
    }
    let reported = truth.reported_at()? / 1000;
    let is_later = |row: &Row| microseconds(&row.text("since_boot")).is_some_and(|time| time > reported);
    let found = rows
        .iter()
        .enumerate()
        .filter(|(number, row)| *number < wanted.len() || !is_later(row))
        .map(|(number, row)| {
            row.record(format!("record {number}"), &["since_boot", "facility", "level", "message"])
        })
        .collect();
    Ok((wanted, found))
}

fn seconds(microseconds: i128) -> String {
    format!("{}.{:06}", microseconds / 1_000_000, microseconds % 1_000_000)
}

fn microseconds(seconds: &str) -> Option<i128> {
    let (whole, fraction) = seconds.split_once('.').filter(|(_, fraction)| fraction.len() == 6)?;
    Some(whole.parse::<i128>().ok()? * 1_000_000 + fraction.parse::<i128>().ok()?)
}

pub(super) fn iomem(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let wanted = truth
        .resources()?
        .into_iter()
        .enumerate()
        .map(|(number, resource)| {
            Record::new(format!("line {number}"))
                .cell("start", hex(resource.start))
                .cell("end", hex(resource.end))
                .cell("name", resource.name)
                .cell("depth", resource.depth)
        })
        .collect();
    let found = rows
        .iter()
        .enumerate()
        .map(|(number, row)| {
            row.record(format!("line {number}"), &["start", "end", "name"])
                .cell("depth", row.number("_depth").unwrap_or(0))
        })
        .collect();
    Ok((wanted, found))
}

pub(super) fn lsmod(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let wanted = truth
        .modules()?
        .into_iter()
        .map(|module| {
            Record::new(module.name)
                .cell("start", hex(module.address))
                .cell("size", module.size)
                .cell("refcount", module.references)
                .cell("state", module.state)
                .cell("used_by", module.used_by)
        })
        .collect();
    let found = rows
        .iter()
        .map(|row| row.record(row.text("name"), &["start", "size", "refcount", "state", "used_by"]))
        .collect();
    Ok((wanted, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_since_boot_are_microseconds() {
        assert_eq!(microseconds("22.631997"), Some(22_631_997));
        assert_eq!(seconds(22_031_997), "22.031997");
        assert_eq!(microseconds("<absent: unreadable>"), None);
    }
}
