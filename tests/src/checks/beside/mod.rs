//! Commands whose truth is not a table in the guest's report: the files it booted from, the page tables as the emulator walks
//! them, memory at physical addresses, the kernel's System.map, `objdump`, `readelf`, and what the report says in passing of
//! places in memory. They run on the raw dump; that the other formats hold the same memory is compared elsewhere.

mod memory;
mod placement;
mod programs;
mod search;

use anyhow::{Context as _, Result, ensure};

use crate::emulator::{number, text};
use crate::lab::{Guest, Lab};
use crate::rekal::{Rekal, Row};
use crate::table::{Comparison, Record};
use crate::truth::{Area, Machine, Truth};

/// Everything that is known of one guest.
pub struct Subject<'a> {
    /// Where the guest and its kernel are.
    pub lab: &'a Lab,
    /// The guest.
    pub guest: &'a Guest,
    /// What it reported.
    pub truth: &'a Truth,
    /// The program, with the image.
    pub rekal: &'a Rekal,
}

/// Runs a command and compares.
type Compare = fn(&Subject<'_>) -> super::Records;

const CHECKS: &[(&str, Compare)] = &[
    ("address_resolver", placement::address_resolver),
    ("dis", programs::dis),
    ("dump", memory::dump),
    ("elf_sections", programs::elf_sections),
    ("elf_versions_needed", programs::elf_versions_needed),
    ("elf_versions_symbols", programs::elf_versions_symbols),
    ("find_dtb", placement::find_dtb),
    ("find_kaslr", placement::find_kaslr),
    ("grep", search::grep),
    ("inspect_vaddr", memory::inspect_vaddr),
    ("load_as", placement::load_as),
    ("memdump", memory::memdump),
    ("memmap", memory::memmap),
    ("mfind", programs::mfind),
    ("pas2vas", memory::pas2vas),
    ("recover_fs", programs::recover_fs),
    ("sigscan", search::sigscan),
    ("simple_yarascan", search::simple_yarascan),
    ("vaddump", memory::vaddump),
    ("vtop", memory::vtop),
    ("yarascan", search::yarascan),
];

/// KiB of a huge page, and most of them that are joined between report and dump.
const HUGE_KIB: u64 = 2048;
const MAX_JOINED: u64 = 4;

/// Names of the commands that are compared.
pub fn names() -> impl Iterator<Item = &'static str> {
    CHECKS.iter().map(|(name, _)| *name)
}

/// Runs a command and compares what it says; `None` for one of YARA in a program that was built without.
pub fn check(name: &str, subject: &Subject<'_>) -> Result<Option<Comparison>> {
    let (_, compare) = CHECKS.iter().find(|(check, _)| *check == name).context("no such check")?;
    if name == "dis" && subject.truth.machine()? == Machine::Arm64 {
        return Ok(Some(super::refused(subject.rekal, &["dis", "linux_banner"])));
    }
    let (wanted, found) = match compare(subject) {
        Err(error) if name.contains("yara") && format!("{error:#}").contains("built without YARA") => {
            return Ok(None);
        }
        other => other?,
    };
    let mut outcome = Comparison::of(wanted, found);
    if outcome.rows == 0 {
        outcome.differences.push("the truth has no row: nothing was compared".to_owned());
    }
    Ok(Some(outcome))
}

/// Where a process keeps its arguments and its environment, and what it said of them.
struct Strings {
    arguments: (u64, Vec<u8>),
    environment: (u64, Vec<u8>),
}

impl Subject<'_> {
    /// The rows of a command; a run that calls itself incomplete is an error.
    fn rows(&self, command: &[&str]) -> Result<Vec<Row>> {
        let swap = self.rekal.image.with_file_name("swap");
        let given = if swap.is_file() { vec!["--swap", text(&swap)?] } else { Vec::new() };
        let output = self.rekal.run(&[given.as_slice(), command].concat())?;
        let notes = || serde_json::Value::from(output.notes.clone());
        ensure!(output.complete, "{} was not complete: {}", command.join(" "), notes());
        Ok(output.rows)
    }

    /// The processes whose memory stays as it is: all but the one that writes the report.
    fn resting(&self) -> Result<Vec<u32>> {
        let processes = self.truth.processes()?.into_iter();
        Ok(processes
            .filter(|process| process.has_memory && process.pid != 1)
            .map(|process| process.pid)
            .collect())
    }

    /// Arguments and environment of a process (fields 48 to 51 of `/proc/PID/stat`, proc(5)).
    fn strings(&self, pid: u32) -> Result<Strings> {
        let stat = self.truth.text(&format!("proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split_whitespace().collect();
        let part = |field: usize, file: &str| {
            // Counted from the third, which is the first here.
            let place = |field: usize| -> Result<u64> {
                Ok(fields.get(field - 3).context("stat is short")?.parse()?)
            };
            let (start, end) = (place(field)?, place(field + 1)?);
            let bytes = self.truth.bytes(&format!("proc/{pid}/{file}"))?;
            let length = usize::try_from(end.saturating_sub(start))?.min(bytes.len());
            Ok::<_, anyhow::Error>((start, bytes.get(..length).unwrap_or_default().to_vec()))
        };
        Ok(Strings { arguments: part(48, "cmdline")?, environment: part(50, "environ")? })
    }

    /// KiB that a process has in memory, and in swap, as its page tables say (`smaps_rollup`).
    fn resident(&self, pid: u32) -> Result<(u64, u64)> {
        Ok((self.rollup(pid, "Rss:")?, self.rollup(pid, "Swap:")?))
    }

    /// KiB found of a process, or those of the report where `khugepaged` may have made the difference before the dump: it fills up
    /// what it joins to a huge page.
    fn as_reported(&self, pid: u32, reported: u64, found: u64) -> Result<u64> {
        let filled = (1..MAX_JOINED * HUGE_KIB).contains(&found.saturating_sub(reported));
        Ok(if filled && self.rollup(pid, "AnonHugePages:")? > 0 { reported } else { found })
    }

    /// KiB by a line of `smaps_rollup`.
    fn rollup(&self, pid: u32, key: &str) -> Result<u64> {
        let rollup = self.truth.text(&format!("proc/{pid}/smaps_rollup"))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix(key)).context("no such line")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

/// Where the program counter of a sleeping thread is (`/proc/PID/syscall`), and the area and file it is in.
fn sleeping_at(truth: &Truth, pid: u32) -> Result<Option<(u64, Area)>> {
    let syscall = truth.text(&format!("proc/{pid}/syscall"))?;
    let Some(counter) = syscall.split_whitespace().nth(8) else { return Ok(None) };
    let counter = number(counter)?;
    let area = truth.areas(pid)?.into_iter().find(|area| (area.start..area.end).contains(&counter));
    Ok(area.map(|area| (counter, area)))
}

/// Whether an area of a program shows its file as it is: code, or the part with the headers. The rest may be relocated.
fn is_as_its_file(area: &Area) -> bool {
    !area.permissions.contains('w') && (area.permissions.contains('x') || area.offset == 0)
}

/// The page of a file that a page of an area shows; what is behind the file's end is zero.
fn file_page(file: &[u8], area: &Area, address: u64) -> Result<Vec<u8>> {
    let start = usize::try_from(address - area.start + area.offset)?;
    let rest = file.get(start..).unwrap_or_default();
    let mut page = rest.get(..4096).unwrap_or(rest).to_vec();
    page.resize(4096, 0);
    Ok(page)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pid_of(row: &Row) -> Result<u32> {
    row.object("task", "pid").parse().context("no pid")
}

fn address(row: &Row, column: &str) -> Result<u64> {
    number(&row.text(column))
}

fn process(pid: u32) -> Record {
    Record::new(format!("pid {pid}"))
}
