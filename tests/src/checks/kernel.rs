//! banner, cpuinfo, dmesg, hostname, iomem, lsmod.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

use super::hex;
use crate::rekal::Row;
use crate::table::Record;
use crate::truth::Truth;

pub(super) fn banner(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let wanted = vec![Record::new("banner").cell("banner", truth.text("proc/version")?.trim_end())];
    let found =
        rows.iter().map(|row| Record::new("banner").cell("banner", row.text("banner").trim_end())).collect();
    Ok((wanted, found))
}

/// The machine's own UTS namespace is compared in full; of the others only that each is there, as the guest reported no
/// host name for them.
pub(super) fn hostname(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let own = truth.namespace(1, "uts").context("no UTS namespace of process 1")?;
    let namespaces: BTreeSet<u64> =
        truth.processes()?.iter().filter_map(|process| truth.namespace(process.pid, "uts")).collect();
    let host = truth.text("proc/sys/kernel/hostname")?.trim_end();
    let wanted = namespaces
        .into_iter()
        .map(|namespace| {
            let record = Record::new(format!("uts {namespace}"));
            if namespace == own { record.cell("Hostname", host) } else { record }
        })
        .collect();
    let found =
        rows.iter().map(|row| row.record(format!("uts {}", row.text("uts_ns")), &["Hostname"])).collect();
    Ok((wanted, found))
}

pub(super) fn cpuinfo(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    const COLUMNS: [(&str, &str); 9] = [
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
    let mut wanted = Vec::new();
    for processor in truth.processors()? {
        let mut record = Record::new(format!("CPU {}", processor.get("processor").context("no number")?));
        for (column, key) in COLUMNS {
            if let Some(value) = processor.get(key) {
                record = record.cell(column, value);
            }
        }
        wanted.push(record);
    }
    let columns = COLUMNS.map(|(column, _)| column);
    let found = rows.iter().map(|row| row.record(format!("CPU {}", row.text("CPU")), &columns)).collect();
    Ok((wanted, found))
}

pub(super) fn dmesg(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    const LEVELS: [&str; 8] = ["EMERG", "ALERT", "CRIT", "ERR", "WARNING", "NOTICE", "INFO", "DEBUG"];
    const FACILITIES: [&str; 4] = ["kern", "user", "mail", "daemon"];
    let mut wanted = Vec::new();
    for (number, record) in truth.log()?.into_iter().enumerate() {
        let level = LEVELS.get(record.level as usize).context("no such level")?;
        let facility = FACILITIES.get(record.facility as usize).context("a facility no guest uses")?;
        wanted.push(
            Record::new(format!("record {number}"))
                .cell(
                    "since_boot",
                    format!("{}.{:06}", record.microseconds / 1_000_000, record.microseconds % 1_000_000),
                )
                .cell("facility", facility)
                .cell("level", level)
                .cell("message", record.text),
        );
    }
    let found = rows
        .iter()
        .enumerate()
        .map(|(number, row)| {
            row.record(format!("record {number}"), &["since_boot", "facility", "level", "message"])
        })
        .collect();
    Ok((wanted, found))
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
