//! Guests with processes that were paged out: `tools/guest-image/swap/gt-swap.c` fills their memory with a pattern and reports what the
//! kernel says of each page in `/proc/PID/pagemap`. Every page must be read back, and said to be where it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::hex;
use crate::rekal::{Rekal, Row};
use crate::table::{Comparison, Record};
use crate::truth::Truth;

const PAGE: usize = 4096;

/// A process that was paged out.
struct Process {
    name: String,
    pid: String,
    start: u64,
    /// What `pagemap` says of each page.
    pages: Vec<u64>,
}

impl Process {
    /// Area and page of each page that is swapped (bit 62; bits 0 to 4 and 5 to 54).
    fn slots(&self) -> impl Iterator<Item = (usize, u64, u64)> {
        let swapped = self.pages.iter().enumerate().filter(|(_, word)| *word >> 62 & 1 == 1);
        swapped.map(|(number, word)| (number, word & 0x1f, word >> 5 & ((1 << 50) - 1)))
    }
}

/// Names of the commands that are compared.
pub fn names() -> impl Iterator<Item = &'static str> {
    ["dt", "grep", "memdump", "pslist", "vadmap", "vtop"].into_iter()
}

/// Whether the guest has such processes.
#[must_use]
pub fn is_swapped(guest: &str) -> bool {
    guest.ends_with("-swap")
}

/// Runs a command with the swap area that was saved beside the dump, and compares.
pub fn check(name: &str, rekal: &Rekal, truth: &Truth) -> Result<Comparison> {
    match name {
        "dt" => return modules(rekal, truth),
        "pslist" => return kcore(rekal, truth),
        _ => {}
    }
    let swap = rekal.image.with_file_name("swap");
    let swap = swap.to_str().context("not UTF-8")?;
    let processes = processes(truth)?;
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    let mut differences = Vec::new();
    for process in &processes {
        let scratch = tempfile::tempdir()?;
        let folder = scratch.path().to_str().context("not UTF-8")?;
        let run = |with_swap: bool, command: &[&str]| {
            let given: &[&str] = if with_swap { &["--swap", swap] } else { &[] };
            rekal.run(&[given, &["--output_dir", folder, "--overwrite"], command].concat())
        };
        let record = |number: usize| Record::new(format!("{} page {number}", process.name));
        match name {
            "memdump" => {
                wanted.extend(
                    process.slots().map(|(number, ..)| record(number).cell("content", "the pattern")),
                );
                let output = run(true, &["memdump", &process.pid])?;
                if !output.complete {
                    differences.push(format!("{}: not complete: {:?}", process.name, output.notes));
                }
                let row = output.rows.first().context("no dump")?;
                let memory = pages(&row.text("dump_name"), &row.text("index_name"))?;
                for (number, ..) in process.slots() {
                    let at = process.start + (number * PAGE) as u64;
                    let content = match memory.get(&at) {
                        None => "not in the dump",
                        Some(page) if *page == pattern(&process.name, number) => "the pattern",
                        Some(_) => "something else",
                    };
                    found.push(record(number).cell("content", content));
                }
                if process.name == "disk" && run(false, &["memdump", &process.pid])?.complete {
                    differences.push("complete without the swap area".to_owned());
                }
            }
            "vadmap" => {
                let cells = |number, area, page| record(number).cell("area", area).cell("page", hex(page));
                wanted.extend(process.slots().map(|(number, area, page)| cells(number, area, page)));
                for row in run(false, &["vadmap", &process.pid])?.rows {
                    if let Some((first, count, area, page)) = stretch(&row, process)? {
                        let stretch = (0..count).zip(page..);
                        found.extend(stretch.map(|(n, page)| cells(first + n, area, page)));
                    }
                }
            }
            "vtop" => {
                // A page of each kind.
                for (number, area, page) in process.slots().take(8) {
                    let cells = |area, page| record(number).cell("area", area).cell("page", page);
                    wanted.push(cells(area.to_string(), hex(page)));
                    let address = hex(process.start + (number * PAGE) as u64);
                    let rows = run(true, &["vtop", &address, &process.pid])?.rows;
                    let row = rows.iter().find(|row| row.text("step") == "swap").context("no step: swap")?;
                    let comment = row.text("comment");
                    let area = comment.trim_start_matches("page of swap area ").split(':').next();
                    found.push(cells(area.unwrap_or_default().to_owned(), row.text("address")));
                }
            }
            "grep" => {
                // All of page 6 are lines of text.
                let text = format!("GT-SWAP {:<6} page 000006", process.name);
                let line = |at: u64| Record::new(format!("{} page 6 at {at}", process.name));
                let first = process.start + 6 * PAGE as u64;
                if process.slots().any(|(number, ..)| number == 6) {
                    wanted.extend((0..PAGE as u64).step_by(32).map(line));
                }
                for row in run(true, &["grep", &text, "--pid", &process.pid])?.rows {
                    let at = u64::from_str_radix(row.text("offset").trim_start_matches("0x"), 16)?;
                    // The stack may have a line too.
                    found.extend(at.checked_sub(first).filter(|at| *at < PAGE as u64).map(line));
                }
            }
            _ => bail!("no such check"),
        }
    }
    let mut outcome = Comparison::of(wanted, found);
    outcome.differences.extend(differences);
    if outcome.rows == 0 {
        outcome.differences.push("nothing was paged out: nothing was compared".to_owned());
    }
    Ok(outcome)
}

/// The processes by the copy of `/proc/kcore` that the guest made of itself, shortly before it reported.
fn kcore(rekal: &Rekal, truth: &Truth) -> Result<Comparison> {
    let rekal = Rekal { image: rekal.image.with_file_name("kcore"), ..rekal.clone() };
    let rows = rekal.run(&["pslist"])?.rows;
    let found: BTreeMap<u64, String> = rows
        .iter()
        .filter_map(|row| Some((row.object("proc", "pid").parse().ok()?, row.object("proc", "name"))))
        .collect();
    // The program that copies ends with the copy; what has higher numbers came later.
    let (copier, _) =
        found.iter().rev().find(|(_, name)| *name == "gt-swap").context("no program that copies")?;
    let is_steady = |pid: u64, name: &str| pid < *copier && !name.starts_with("kworker");
    let record = |pid: u64, name: &str| Record::new(format!("pid {pid}")).cell("name", name);
    let processes = truth.processes()?;
    let wanted = processes.iter().map(|process| (u64::from(process.pid), process.comm.as_str()));
    let wanted = wanted.filter(|(pid, name)| is_steady(*pid, name)).map(|(pid, name)| record(pid, name));
    let found =
        found.iter().filter(|(pid, name)| is_steady(**pid, name)).map(|(pid, name)| record(*pid, name));
    Ok(Comparison::of(wanted.collect(), found.collect()))
}

/// The structs of loaded modules, out of the BTF in memory, against what `pahole` says of the BTF in the module's file.
fn modules(rekal: &Rekal, truth: &Truth) -> Result<Comparison> {
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    let release = truth.text("proc/sys/kernel/osrelease").map(str::trim)?;
    let kernel = crate::lab::Lab::default_folder().join("build/k").join(release);
    let base = kernel.join("vmlinux.btf");
    for (module, structures) in MODULES.iter().filter(|_| base.is_file()) {
        let Some(file) = find(&kernel.join("lib/modules"), module)? else { continue };
        let scratch = tempfile::NamedTempFile::new()?;
        let bytes = fs::read(&file)?;
        // pahole reads plain files only.
        let plain = match file.extension().and_then(|extension| extension.to_str()) {
            Some("xz") => Command::new("xz").arg("-dc").arg(&file).output()?.stdout,
            _ => bytes,
        };
        fs::write(scratch.path(), plain)?;
        for structure in *structures {
            let output = Command::new("pahole")
                .arg("--btf_base")
                .arg(&base)
                .args(["-C", structure])
                .arg(scratch.path())
                .output()
                .context("cannot run: pahole")?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let Some(size) = text.split("/* size: ").nth(1).and_then(|rest| rest.split(',').next()) else {
                continue;
            };
            wanted.push(Record::new(format!("{module}!{structure}")).cell("size", size));
            let row = rekal.run(&["dt", &format!("{module}!{structure}")])?.rows.into_iter().next();
            let row = row.context("no rows")?;
            found.push(Record::new(format!("{module}!{structure}")).cell("size", row.text("Size")));
        }
    }
    // Kernels before v5.11 and 32-bit ones of Debian keep no BTF of modules.
    let rows = wanted.len();
    let outcome = Comparison::of(wanted, found);
    Ok(if rows == 0 { Comparison { rows: 1, cells: 0, ..outcome } } else { outcome })
}

/// Modules and some structs they define.
const MODULES: [(&str, &[&str]); 3] = [
    ("zram", &["zram", "zram_table_entry", "zcomp_strm"]),
    ("zsmalloc", &["zspage", "size_class", "zs_pool"]),
    ("nf_tables", &["nft_trans_rule", "nft_trans_chain"]),
];

/// The file of a module below a folder.
fn find(folder: &Path, module: &str) -> Result<Option<PathBuf>> {
    for item in fs::read_dir(folder)? {
        let path = item?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && !path.is_symlink() {
            if let Some(found) = find(&path, module)? {
                return Ok(Some(found));
            }
        } else if name.split('.').next() == Some(module) && name.contains(".ko") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// First page, number of pages, area and its first page of a row about swapped pages of the pattern.
fn stretch(row: &Row, process: &Process) -> Result<Option<(usize, usize, u64, u64)>> {
    if row.text("type") != "Swapped" {
        return Ok(None);
    }
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16);
    let at = number(&row.text("VAddr"))?;
    let comment = row.text("comment");
    let (_, place) = comment.split_once("swap area ").context("no area")?;
    let words: Vec<&str> = place.split_whitespace().collect();
    let [area, .., page] = words.as_slice() else { bail!("odd comment: {comment}") };
    let count = usize::try_from(row.number("length").unwrap_or(0))? / PAGE;
    let Some(offset) =
        at.checked_sub(process.start).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    else {
        return Ok(None);
    };
    let first = offset / PAGE;
    let inside = first < process.pages.len();
    Ok(inside.then_some((first, count, area.parse()?, number(page)?)))
}

/// The processes that report what became of their pages.
fn processes(truth: &Truth) -> Result<Vec<Process>> {
    let names = truth.names("run/gt").into_iter().filter_map(|file| file.strip_prefix("swap-"));
    let read = |name: &str| {
        let text = truth.text(&format!("run/gt/swap-{name}"))?;
        let mut lines = text.lines();
        let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
        let ["pid", pid, "start", start, "pages", _] = words.as_slice() else {
            bail!("odd report of {name}")
        };
        let pages = lines.map(|line| u64::from_str_radix(line, 16)).collect::<Result<_, _>>()?;
        let start = u64::from_str_radix(start, 16)?;
        Ok(Process { name: name.to_owned(), pid: (*pid).to_owned(), start, pages })
    };
    names.map(read).collect()
}

/// Pages of a dump by virtual address.
pub(super) fn pages(dump: &str, index: &str) -> Result<BTreeMap<u64, Vec<u8>>> {
    let memory = fs::read(Path::new(dump))?;
    let mut pages = BTreeMap::new();
    for line in fs::read_to_string(index)?.lines().skip(1) {
        let words: Vec<u64> = line
            .split_whitespace()
            .map(|word| u64::from_str_radix(word.trim_start_matches("0x"), 16))
            .collect::<Result<_, _>>()?;
        let [place, len, start] = words.as_slice() else { bail!("odd line of an index: {line}") };
        let (place, len) = (usize::try_from(*place)?, usize::try_from(*len)?);
        let bytes = memory.get(place..place + len).context("index beyond the dump")?;
        pages.extend((*start..).step_by(PAGE).zip(bytes.chunks(PAGE).map(<[u8]>::to_vec)));
    }
    Ok(pages)
}

/// What `fill` of gt-swap.c writes into a page.
fn pattern(name: &str, number: usize) -> Vec<u8> {
    let mut page = vec![if number % 8 == 1 { b'G' } else { 0 }; PAGE];
    let noise = match number % 8 {
        0 | 1 => return page,
        2 => PAGE,
        3 => PAGE / 2 + 256,
        _ => 0,
    };
    let mut state = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for word in page.chunks_exact_mut(8).take(noise / 8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes());
    }
    for at in (noise..PAGE).step_by(32) {
        let line = format!("GT-SWAP {name:<6} page {number:06} at {at:04}");
        let line = line.bytes().chain(std::iter::repeat(0)).take(31).chain([b'\n']);
        for (place, byte) in page.iter_mut().skip(at).zip(line) {
            *place = byte;
        }
    }
    page
}
