//! Memory of processes and its places: vaddump, memdump, memmap, vtop, pas2vas, `inspect_vaddr`, dump.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

use anyhow::{Context as _, Result, ensure};

use super::super::{Records, hex, swap};
use super::{Subject, address, file_page, is_as_its_file, lossy, pid_of, process, sleeping_at};
use crate::emulator::{PAGE, Pages, text};
use crate::rekal::Row;
use crate::table::Record;
use crate::truth::Area;

/// Arguments and environments that are looked up one by one.
const SOME: usize = 6;

/// Every area of `/proc/PID/maps`, with as many bytes in memory together as the kernel counts; code is that of the very file the
/// guest booted with; arguments and environment are where the kernel says.
pub(super) fn vaddump(subject: &Subject<'_>) -> Records {
    let files = subject.guest.initramfs()?;
    let scratch = tempfile::tempdir()?;
    let rows = subject.rows(&["vaddump", "--dump_dir", text(scratch.path())?])?;
    let mut by_process: BTreeMap<u32, Vec<&Row>> = BTreeMap::new();
    for row in &rows {
        by_process.entry(pid_of(row)?).or_default().push(row);
    }
    let zeros = zero_pages(subject)?;
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    for pid in subject.resting()? {
        let mine = by_process.remove(&pid).unwrap_or_default();
        let areas = subject.truth.areas(pid)?;
        let key = |start: u64| format!("pid {pid} at {}", hex(start));
        for area in &areas {
            let record = Record::new(key(area.start))
                .cell("end", hex(area.end))
                .cell("flags", &area.permissions)
                .cell("file_path", &area.path);
            let is_file = is_as_its_file(area) && files.contains_key(&area.path);
            wanted.push(if is_file { record.cell("content", "as the file") } else { record });
        }
        let strings = subject.strings(pid)?;
        let mut in_memory = 0;
        for row in mine {
            let start = address(row, "start")?;
            let area = areas.iter().find(|area| area.start == start);
            let dump = std::fs::read(row.text("dump_name"))?;
            let bytes = row.number("in_memory").context("no size")?;
            // The kernel does not count the pages it gives to everyone.
            in_memory += if area.is_some_and(is_shared_by_kernel) { 0 } else { bytes };
            let content = area.and_then(|area| Some((area, files.get(&area.path)?)));
            let content = content.map(|(area, file)| compare(file, area, &dump, bytes)).transpose()?;
            found.push(
                row.record(key(start), &["end", "flags"])
                    .cell("file_path", row.text_or_empty("file_path"))
                    .cell("content", content.unwrap_or_default()),
            );
            for (what, (at, text)) in
                [("arguments", &strings.arguments), ("environment", &strings.environment)]
            {
                if area.is_some_and(|area| (area.start..area.end).contains(at)) {
                    let from = usize::try_from(at - start)?;
                    let is = dump.get(from..from + text.len()).unwrap_or_default();
                    wanted.push(Record::new(format!("pid {pid} {what}")).cell("text", lossy(text)));
                    found.push(Record::new(format!("pid {pid} {what}")).cell("text", lossy(is)));
                }
            }
        }
        let (resident, swapped) = subject.resident(pid)?;
        wanted.push(process(pid).cell("KiB", resident + swapped));
        let in_memory = in_memory.saturating_sub(zeros.of(pid) * PAGE) / 1024;
        found.push(process(pid).cell("KiB", subject.as_reported(pid, resident + swapped, in_memory)?));
    }
    Ok((wanted, found))
}

/// How often each process maps the page of zeros.
struct Zeros(BTreeMap<u32, u64>);

impl Zeros {
    fn of(&self, pid: u32) -> u64 {
        self.0.get(&pid).copied().unwrap_or(0)
    }
}

/// Physical address of the page of zeros that the kernel shows where nothing was written yet, and does not count.
fn zero_page(subject: &Subject<'_>) -> Result<u64> {
    super::placement::physical(subject, "empty_zero_page")
}

fn zero_pages(subject: &Subject<'_>) -> Result<Zeros> {
    let zero = hex(zero_page(subject)?);
    let mut counts = BTreeMap::new();
    for row in subject.rows(&["memmap"])?.iter().filter(|row| row.text("Physical") == zero) {
        *counts.entry(pid_of(row)?).or_default() += 1;
    }
    Ok(Zeros(counts))
}

fn is_shared_by_kernel(area: &Area) -> bool {
    ["[vvar]", "[vvar_vclock]", "[vsyscall]"].contains(&area.path.as_str())
}

/// Whether as many pages as are in memory are those of the file, and the rest is zero.
fn compare(file: &[u8], area: &Area, dump: &[u8], in_memory: u64) -> Result<String> {
    let mut same = 0;
    for (start, page) in (area.start..).step_by(4096).zip(dump.chunks(4096)) {
        if file_page(file, area, start)? == page {
            same += 1;
        } else if page.iter().any(|byte| *byte != 0) {
            return Ok(format!("other bytes at {start:#x}"));
        }
    }
    Ok(if same * PAGE >= in_memory {
        "as the file".to_owned()
    } else {
        format!("only {same} pages of the file")
    })
}

/// The same of the dump of the whole process, by its index.
pub(super) fn memdump(subject: &Subject<'_>) -> Records {
    let files = subject.guest.initramfs()?;
    let scratch = tempfile::tempdir()?;
    let zeros = zero_pages(subject)?;
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    for pid in subject.resting()? {
        let rows = subject.rows(&["memdump", "--dump_dir", text(scratch.path())?, &pid.to_string()])?;
        let row = rows.first().context("no dump")?;
        let pages = swap::pages(&row.text("dump_name"), &row.text("index_name"))?;
        std::fs::remove_file(row.text("dump_name"))?;
        let areas = subject.truth.areas(pid)?;
        let strings = subject.strings(pid)?;
        let (resident, swapped) = subject.resident(pid)?;
        wanted.push(
            process(pid)
                .cell("KiB", resident + swapped)
                .cell("outside", "")
                .cell("code", "as the files")
                .cell("arguments", lossy(&strings.arguments.1))
                .cell("environment", lossy(&strings.environment.1)),
        );
        let (mut count, mut outside, mut other) = (0_u64, Vec::new(), Vec::new());
        for (start, page) in &pages {
            let Some(area) = areas.iter().find(|area| (area.start..area.end).contains(start)) else {
                outside.push(hex(*start));
                continue;
            };
            count += u64::from(!is_shared_by_kernel(area));
            let file = files.get(&area.path).filter(|_| is_as_its_file(area));
            if file.map(|file| file_page(file, area, *start)).transpose()?.is_some_and(|is| is != *page) {
                other.push(hex(*start));
            }
        }
        let in_memory = count.saturating_sub(zeros.of(pid)) * PAGE / 1024;
        let read = |(at, text): &(u64, Vec<u8>)| lossy(&bytes(&pages, *at, text.len()));
        found.push(
            process(pid)
                .cell("KiB", subject.as_reported(pid, resident + swapped, in_memory)?)
                .cell("outside", outside.join(","))
                .cell("code", if other.is_empty() { "as the files".to_owned() } else { other.join(",") })
                .cell("arguments", read(&strings.arguments))
                .cell("environment", read(&strings.environment)),
        );
    }
    Ok((wanted, found))
}

/// Bytes at an address, as far as they are there.
fn bytes(pages: &BTreeMap<u64, Vec<u8>>, start: u64, length: usize) -> Vec<u8> {
    let byte = |at: u64| pages.get(&(at & !(PAGE - 1)))?.get(usize::try_from(at % PAGE).ok()?).copied();
    (start..).take(length).map_while(byte).collect()
}

/// Every page that the emulator finds in the page tables its processors use, at its physical place, and no other; of the
/// other processes, as many as the kernel counts.
pub(super) fn memmap(subject: &Subject<'_>) -> Records {
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    let mut by_process: BTreeMap<u32, Pages> = BTreeMap::new();
    for row in subject.rows(&["memmap", "--coalesce"])? {
        by_process.entry(pid_of(&row)?).or_default().extend(pages_of(&row)?);
    }
    let zero = zero_page(subject)?;
    for pid in subject.resting()? {
        let areas = subject.truth.areas(pid)?;
        // Pages that the process may not touch are in its memory, but its tables do not lead there.
        if areas.iter().any(|area| area.permissions.starts_with("---")) {
            continue;
        }
        let areas: Vec<Area> = areas.into_iter().filter(is_shared_by_kernel).collect();
        let counts = |page: &&(u64, u64)| {
            page.1 != zero && !areas.iter().any(|area| (area.start..area.end).contains(&page.0))
        };
        let pages = by_process.get(&pid).into_iter().flatten().filter(counts).count() as u64;
        let (resident, _) = subject.resident(pid)?;
        wanted.push(process(pid).cell("KiB", resident));
        found.push(process(pid).cell("KiB", subject.as_reported(pid, resident, pages * PAGE / 1024)?));
    }
    let Some(mapped) = subject.guest.mapped_pages()? else { return Ok((wanted, found)) };
    // What it writes of entries with one of the bits 52 to 62 is wrong: QEMU takes them for the address, and that for a device's.
    // Its list of virtual addresses has those pages.
    let listed = subject.guest.listed_ranges()?;
    let starts: BTreeSet<u64> = mapped.iter().map(|page| page.0).collect();
    let is_listed = |at: u64| listed.range(..=at).next_back().is_some_and(|(_, end)| at < *end);
    let is_left_out = |page: &(u64, u64)| !starts.contains(&page.0) && is_listed(page.0);
    // Processors are in some process, or in none while they rest.
    let is_current = |pages: &Pages| pages.iter().all(|page| mapped.contains(page) || is_left_out(page));
    let current = by_process.iter().filter(|(_, pages)| !pages.is_empty() && is_current(pages));
    let mut current: Vec<u32> = current.map(|(pid, _)| *pid).collect();
    let in_none = current.is_empty();
    current.extend(in_none.then_some(1));
    let memory = subject.guest.memory()?;
    let mut all = Pages::new();
    for pid in &current {
        for row in subject.rows(&["memmap", "--all", "--coalesce", &pid.to_string()])? {
            // QEMU leaves out the registers of devices.
            let is_memory = |page: &(u64, u64)| memory.iter().any(|range| range.contains(&page.1));
            all.extend(pages_of(&row)?.into_iter().filter(|page| is_memory(page) && !is_left_out(page)));
        }
    }
    if in_none {
        let own = by_process.remove(&1).unwrap_or_default();
        all.retain(|page| !own.contains(page));
    }
    wanted.extend(ranges(&mapped));
    found.extend(ranges(&all));
    Ok((wanted, found))
}

fn pages_of(row: &Row) -> Result<Vec<(u64, u64)>> {
    let (start, place) = (address(row, "Virtual")?, address(row, "Physical")?);
    let size = row.number("Size").context("no size")?;
    ensure!(size % PAGE == 0, "not pages: {size}");
    Ok((0..size).step_by(4096).map(|at| (start + at, place + at)).collect())
}

/// One record for each stretch of pages that are next to one another in both ways.
fn ranges(pages: &Pages) -> Vec<Record> {
    let mut ranges: Vec<(u64, u64, u64)> = Vec::new();
    for (start, place) in pages {
        match ranges.last_mut() {
            Some((first, at, length)) if *first + *length == *start && *at + *length == *place => {
                *length += PAGE;
            }
            _ => ranges.push((*start, *place, PAGE)),
        }
    }
    let record = |(start, place, length)| {
        Record::new(format!("at {start:#x}")).cell("physical", hex(place)).cell("length", hex(length))
    };
    ranges.into_iter().map(record).collect()
}

/// Physical addresses as the emulator finds them; the banner and the arguments of processes are there.
pub(super) fn vtop(subject: &Subject<'_>) -> Records {
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    let physical = |arguments: &[&str]| -> Result<u64> {
        let rows = subject.rows(&[&["vtop"], arguments].concat())?;
        address(
            rows.iter().find(|row| row.text("step") == "physical").context("no physical address")?,
            "address",
        )
    };
    let banner = subject.truth.text("proc/version")?.trim_end();
    wanted.push(Record::new("linux_banner").cell("text", banner));
    let is = subject.guest.physical(physical(&["linux_banner"])?, banner.len())?;
    found.push(Record::new("linux_banner").cell("text", lossy(&is)));
    for pid in subject.resting()?.into_iter().take(SOME) {
        let (at, text) = subject.strings(pid)?.arguments;
        let length = text.len().min(usize::try_from(PAGE - at % PAGE)?);
        let is = subject.guest.physical(physical(&[&hex(at), &pid.to_string()])?, length)?;
        wanted.push(process(pid).cell("arguments", lossy(text.get(..length).unwrap_or_default())));
        found.push(process(pid).cell("arguments", lossy(&is)));
    }
    // Of the kernel's half, which is the last, the same for all.
    let mapped = subject.guest.mapped_pages()?.unwrap_or_default();
    for (start, place) in mapped.iter().rev().step_by(mapped.len().div_ceil(16).max(1)).take(SOME) {
        let record = || Record::new(format!("kernel {start:#x}"));
        wanted.push(record().cell("physical", hex(*place)));
        found.push(record().cell("physical", hex(physical(&[&hex(*start)])?)));
    }
    Ok((wanted, found))
}

/// The page with the code that processes sleep in is found in the dump by its content, which is that of the file. It is mapped by
/// all who sleep there, and where the file is mapped in others. What the emulator says of pages of a process is found.
pub(super) fn pas2vas(subject: &Subject<'_>) -> Records {
    let files = subject.guest.initramfs()?;
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    let mut sleepers: BTreeMap<(String, u64), BTreeSet<(u32, u64)>> = BTreeMap::new();
    for pid in subject.resting()? {
        let Some((counter, area)) = sleeping_at(subject.truth, pid)? else { continue };
        if files.contains_key(&area.path) {
            let page = counter & !(PAGE - 1);
            let place = (area.path, page - area.start + area.offset);
            sleepers.entry(place).or_default().insert((pid, page));
        }
    }
    let dump = super::search::Dump::open(subject)?;
    // The pages that most sleep in.
    let mut places: Vec<_> = sleepers.into_iter().collect();
    places.sort_by_key(|(_, who)| std::cmp::Reverse(who.len()));
    for ((path, offset), who) in places.into_iter().take(SOME / 2) {
        let file = files.get(&path).context("no such file")?;
        let area =
            Area { start: 0, end: 0, permissions: String::new(), offset: 0, device: (0, 0), inode: 0, path };
        let record =
            |pid: u32, at: u64| Record::new(format!("{} {offset:#x} of pid {pid} at {at:#x}", area.path));
        let mut rows = Vec::new();
        // The same bytes may stand elsewhere too, where nobody maps them.
        for place in dump.pages(&file_page(file, &area, offset)?)? {
            rows.extend(subject.rows(&["pas2vas", &hex(place + subject.guest.ram_start()?)])?);
        }
        let mut expected = who;
        for row in &rows {
            let (pid, at) = (row.text("Pid").parse()?, address(row, "Virtual")?);
            let shows = |of: &Area| {
                of.path == area.path
                    && (of.start..of.end).contains(&at)
                    && (at & !(PAGE - 1)) - of.start + of.offset == offset
            };
            expected.extend(subject.truth.areas(pid)?.iter().any(shows).then_some((pid, at)));
            found.push(record(pid, at));
        }
        wanted.extend(expected.into_iter().map(|(pid, at)| record(pid, at)));
    }
    let mapped = subject.guest.mapped_pages()?.unwrap_or_default();
    for (start, place) in mapped.iter().take_while(|page| page.0 < 1 << 46).step_by(97).take(SOME) {
        let record = || Record::new(format!("{place:#x} at {start:#x}"));
        let rows = subject.rows(&["pas2vas", &hex(*place)])?;
        wanted.push(record());
        found.extend(rows.iter().any(|row| row.text("Virtual") == hex(*start)).then(record));
    }
    Ok((wanted, found))
}

/// The banner is at the place in the file, and at the physical address.
pub(super) fn inspect_vaddr(subject: &Subject<'_>) -> Records {
    let banner = subject.truth.text("proc/version")?.trim_end();
    let rows = subject.rows(&["inspect_vaddr", "linux_banner"])?;
    let physical = address(rows.first().context("no row")?, "Base AS Offset")?;
    let last = rows.last().context("no row")?;
    let mut file = File::open(&subject.rekal.image)?;
    file.seek(SeekFrom::Start(address(last, "Offset")?))?;
    let mut bytes = vec![0; banner.len()];
    file.read_exact(&mut bytes)?;
    let is = subject.guest.physical(physical, banner.len())?;
    let wanted = ["file", "memory"].map(|place| Record::new(place).cell("text", banner)).to_vec();
    let found =
        [("file", bytes), ("memory", is)].map(|(place, is)| Record::new(place).cell("text", lossy(&is)));
    Ok((wanted, found.to_vec()))
}

/// The environments of processes, byte by byte.
pub(super) fn dump(subject: &Subject<'_>) -> Records {
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    for pid in subject.resting()?.into_iter().rev().take(SOME) {
        let (at, text) = subject.strings(pid)?.environment;
        let (space, length) = (format!("pid@{pid}"), text.len().to_string());
        let mut bytes = Vec::new();
        if !text.is_empty() {
            for row in subject.rows(&["dump", &hex(at), "--address_space", &space, "--length", &length])? {
                let line = row.text("hexdump");
                let digits = line.split("  ").next().unwrap_or_default();
                let values = digits.split_whitespace().map(|digits| u8::from_str_radix(digits, 16));
                bytes.extend(values.map_while(Result::ok));
            }
        }
        wanted.push(process(pid).cell("environment", lossy(&text)));
        found.push(process(pid).cell("environment", lossy(&bytes)));
    }
    Ok((wanted, found))
}
