//! Heaps of `malloc`, against what programs of our own report of each block and what `malloc_info(3)` says, and zsh against the
//! history file it wrote (`tools/guest-image/guest/heap.c`, `zsh-history.txt`).

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::Records;
use super::processes::nanoseconds;
use crate::rekal::Row;
use crate::table::Record;
use crate::truth::Truth;

/// Text at the start of every block.
pub(super) const TEXT: &str = "GT-BLOCK-";

/// What a program said of its heap.
struct Report<'t> {
    pid: String,
    /// Address, usable bytes, text.
    used: Vec<(u64, u64, &'t str)>,
    free: Vec<u64>,
    /// Block, place in it, the block it leads to.
    references: Vec<(u64, u64, u64)>,
    /// The document of `malloc_info`.
    info: &'t str,
}

fn number(text: &str) -> Result<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).with_context(|| format!("not a number: {text}"))
}

fn reports(truth: &Truth) -> Result<Vec<Report<'_>>> {
    let mut reports = Vec::new();
    for name in truth.names("run/gt").into_iter().filter(|name| name.starts_with("heap-")) {
        let text = truth.text(&format!("run/gt/{name}"))?;
        let info = text.split_once("<malloc").context("no malloc_info")?.1;
        let mut report =
            Report { pid: String::new(), used: Vec::new(), free: Vec::new(), references: Vec::new(), info };
        for line in text.lines() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["pid", pid] => report.pid = (*pid).to_owned(),
                ["used", addr, usable, text] => report.used.push((number(addr)?, usable.parse()?, text)),
                ["free", addr] => report.free.push(number(addr)?),
                ["ref", from, at, to] => report.references.push((number(from)?, number(at)?, number(to)?)),
                _ => {}
            }
        }
        reports.push(report);
    }
    Ok(reports)
}

/// Rows of the programs by process and address.
fn by_address(rows: &[Row]) -> Result<BTreeMap<(String, u64), &Row>> {
    rows.iter().map(|row| Ok(((row.object("task", "pid"), number(&row.text("address"))?), row))).collect()
}

fn is_used(row: &Row) -> bool {
    ["allocated", "mmapped"].contains(&row.text("state").as_str())
}

/// Every block in use has its usable size, and none that was given back is in use.
pub(super) fn heapobjects(truth: &Truth, rows: &[Row]) -> Records {
    let known = by_address(rows)?;
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    for report in reports(truth)? {
        let row = |addr: u64| known.get(&(report.pid.clone(), addr));
        let key = |addr: u64| format!("pid {} {addr:#x}", report.pid);
        for &(addr, usable, text) in &report.used {
            wanted.push(Record::new(key(addr)).cell("used", true).cell("usable", usable).cell("text", text));
            if let Some(row) = row(addr) {
                let shown = row.text("hexdump").contains(text);
                found.push(
                    Record::new(key(addr))
                        .cell("used", is_used(row))
                        .cell("usable", row.text("usable"))
                        .cell("text", if shown { text.to_owned() } else { row.text("hexdump") }),
                );
            }
        }
        for &addr in &report.free {
            wanted.push(Record::new(key(addr)).cell("used", false));
            found.push(Record::new(key(addr)).cell("used", row(addr).is_some_and(|row| is_used(row))));
        }
    }
    Ok((wanted, found))
}

/// The value of an attribute of an element.
fn attribute(element: &str, name: &str) -> Result<u64> {
    let rest = element.split_once(&format!(" {name}=\"")).context("no such attribute")?.1;
    Ok(rest.split('"').next().unwrap_or_default().parse()?)
}

/// Sums, arena by arena.
pub(super) fn heapinfo(truth: &Truth, rows: &[Row]) -> Records {
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    for report in reports(truth)? {
        let of = |row: &&Row| row.object("task", "pid") == report.pid;
        let (arenas, all): (Vec<&Row>, Vec<&Row>) =
            rows.iter().filter(of).partition(|row| !row.is_not_applicable("arena"));
        let elements = |text: &'_ str, what: &str| -> Vec<String> {
            text.lines().filter(|line| line.trim_start().starts_with(what)).map(str::to_owned).collect()
        };
        let mapped = elements(report.info, "<total type=\"mmap\"").pop().context("no mapped chunks")?;
        let heaps: Vec<&str> = report.info.split("<heap nr=").skip(1).collect();
        let whole = format!("pid {}", report.pid);
        wanted.push(
            Record::new(&whole).cell("arenas", heaps.len()).cell("mmapped", attribute(&mapped, "count")?),
        );
        found.extend(all.iter().map(|row| row.record(whole.clone(), &["arenas", "mmapped"])));
        for (index, heap) in heaps.into_iter().enumerate() {
            let heap = heap.split("</heap>").next().unwrap_or_default();
            let one = |what: &str| elements(heap, what).pop();
            let rest = one("<total type=\"rest\"").context("no rest")?;
            let fast = one("<total type=\"fast\"");
            let fast = |name| fast.as_deref().map_or(Ok(0), |element| attribute(element, name));
            // Sizes of chunks in bins come with the three flags of the chunk in the lowest bits.
            let mut flags = 0;
            for line in elements(heap, "<size from").into_iter().chain(elements(heap, "<unsorted")) {
                let (from, to) = (attribute(&line, "from")?, attribute(&line, "to")?);
                let count = attribute(&line, "count")?;
                let low = from & 7;
                let is_fast = low == 1 && to & 7 == 0;
                flags += match () {
                    () if is_fast => 0,
                    () if from == to => low * count,
                    () => attribute(&line, "total")? & 15,
                };
            }
            let heaps = one("<aspace type=\"subheaps\"").map_or(Ok(0), |line| attribute(&line, "size"))?;
            let system = one("<system type=\"current\"").context("no system")?;
            let key = format!("pid {} arena {index}", report.pid);
            wanted.push(
                Record::new(&key)
                    .cell("system", attribute(&system, "size")?)
                    .cell("heap_infos", heaps)
                    .cell("fast", fast("count")?)
                    .cell("fast_size", fast("size")?)
                    .cell("rest", attribute(&rest, "count")?)
                    .cell("rest_size", attribute(&rest, "size")? - flags),
            );
            if let Some(row) = arenas.get(index) {
                let sum =
                    |columns: [&str; 2]| columns.iter().filter_map(|column| row.number(column)).sum::<u64>();
                found.push(
                    row.record(key, &["system", "heap_infos", "fast", "fast_size"])
                        .cell("rest", row.number("bins").unwrap_or(0) + 1)
                        .cell("rest_size", sum(["bins_size", "top_size"])),
                );
            }
        }
    }
    Ok((wanted, found))
}

/// Every block in use is found by its text, and no other.
pub(super) fn heapsearch(truth: &Truth, rows: &[Row]) -> Records {
    let mut wanted = Vec::new();
    let reports = reports(truth)?;
    let key = |pid: &str, addr: u64| format!("pid {pid} {addr:#x}");
    for report in &reports {
        let marked = report.used.iter().filter(|(.., text)| text.starts_with(TEXT));
        wanted.extend(marked.map(|(addr, ..)| Record::new(key(&report.pid, *addr)).cell("in_chunk", 0)));
    }
    let found = rows.iter().filter(|row| reports.iter().any(|of| of.pid == row.object("task", "pid")));
    let found = found.map(|row| {
        let addr = number(&row.text("address"))?;
        Ok(row.record(key(&row.object("task", "pid"), addr), &["in_chunk"]))
    });
    Ok((wanted, found.collect::<Result<_>>()?))
}

/// The addresses that a block holds lead where the program says.
pub(super) fn heaprefs(truth: &Truth, rows: &[Row]) -> Records {
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    for report in reports(truth)? {
        for &(from, at, to) in &report.references {
            let key = format!("pid {} {from:#x} at {at}", report.pid);
            wanted.push(Record::new(&key).cell("to_chunk", super::hex(to)).cell("to_offset", 0));
            let is_it = |row: &&Row| {
                row.object("task", "pid") == report.pid
                    && row.text("address") == super::hex(from)
                    && row.number("in_chunk") == Some(at)
            };
            found.extend(rows.iter().find(is_it).map(|row| row.record(key, &["to_chunk", "to_offset"])));
        }
    }
    Ok((wanted, found))
}

/// Each block's text is where the index says.
pub(super) fn heapdump(truth: &Truth, rows: &[Row]) -> Records {
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    for report in reports(truth)? {
        let row = rows.iter().find(|row| row.object("task", "pid") == report.pid).context("no dump")?;
        let dump = std::fs::read(row.text("dump_name"))?;
        let index = std::fs::read_to_string(row.text("index_name"))?;
        let mut pieces = Vec::new();
        for line in index.lines().skip(1) {
            if let [at, len, start] = line.split('\t').map(number).collect::<Result<Vec<_>>>()?.as_slice() {
                pieces.push((*start, *len, *at));
            }
        }
        for &(addr, usable, text) in &report.used {
            let key = format!("pid {} {addr:#x}", report.pid);
            wanted.push(Record::new(&key).cell("text", text));
            let piece = pieces.iter().find(|(start, len, _)| (*start..start + len).contains(&addr));
            let bytes = piece.and_then(|(start, len, at)| {
                let inside = (addr + usable <= start + len).then_some(at + addr - start)?;
                dump.get(usize::try_from(inside).ok()?..)?.get(..text.len())
            });
            let bytes = bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            found.extend(bytes.map(|bytes| Record::new(key).cell("text", bytes)));
        }
    }
    Ok((wanted, found))
}

/// The lines of zsh's own history file with their times; when the last one ended is not in it.
pub(super) fn zsh(truth: &Truth, rows: &[Row]) -> Records {
    let history = truth.text("run/gt/zsh-history")?;
    let mut wanted = Vec::new();
    let lines: Vec<&str> = history.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let (times, command) = line.split_once(';').context("no command")?;
        let (started, took) = times.trim_start_matches(": ").split_once(':').context("no times")?;
        let (started, took): (i128, i128) = (started.parse()?, took.parse()?);
        let record = Record::new(format!("line {at}")).cell("command", command).cell("started", started);
        wanted.push(if at + 1 < lines.len() { record.cell("ended", started + took) } else { record });
    }
    let seconds = |text: String| nanoseconds(&text).map_or(text, |time| (time / 1_000_000_000).to_string());
    let found = rows.iter().enumerate().map(|(at, row)| {
        row.record(format!("line {at}"), &["command"])
            .cell("started", seconds(row.text("started")))
            .cell("ended", seconds(row.text("ended")))
    });
    Ok((wanted, found.collect()))
}
