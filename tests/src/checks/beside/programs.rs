//! Files and code: dis, `elf_sections`, `elf_versions_needed`, `elf_versions_symbols`, mfind, `recover_fs`. Truth: the files the guest
//! booted from, `objdump` and `readelf` on them, and the guest's list of files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::super::Records;
use super::{Subject, sleeping_at};
use crate::emulator::{PAGE, number, run, text};
use crate::rekal::Row;
use crate::table::Record;
use crate::truth::{Area, Machine, Truth};

/// Bytes of code that are compared in one place.
const CODE: u64 = 400;

/// Code behind the system calls that processes sleep in, and where programs begin, as `objdump` shows it in the file: the same instructions with the same
/// bytes. What an instruction is called differs between the two here and there.
pub(super) fn dis(subject: &Subject<'_>) -> Records {
    let files = subject.guest.initramfs()?;
    let scratch = tempfile::tempdir()?;
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    let resting = subject.resting()?;
    let places =
        resting.iter().map(|pid| Ok([sleeping_at(subject.truth, *pid)?, entry(subject.truth, *pid)?]));
    let places: Vec<_> = places.collect::<Result<_>>()?;
    for (pid, (start, area)) in resting
        .into_iter()
        .zip(places)
        .flat_map(|(pid, places)| places.into_iter().flatten().map(move |place| (pid, place)))
    {
        let Some(content) = files.get(&area.path) else { continue };
        if !seen.insert((area.path.clone(), start - area.start + area.offset)) {
            continue;
        }
        // The kernel reads ahead: 16 pages, aligned. What is behind them may not be in memory.
        let end = (start + CODE).min((start + 1).next_multiple_of(PAGE)).min(area.end);
        let file = scratch.path().join("file");
        std::fs::write(&file, content)?;
        let (from, to) = (format!("{start:#x}"), format!("{end:#x}"));
        let shown = run(
            "objdump",
            &[
                "-d",
                "-w",
                "--insn-width=16",
                "--adjust-vma",
                &format!("{:#x}", bias(&file, &area)?),
                "--start-address",
                &from,
                "--stop-address",
                &to,
                text(&file)?,
            ],
        )?;
        let record =
            |at: u64, bytes: &str| Record::new(format!("{} {at:#x}", area.path)).cell("bytes", bytes);
        let mut instructions = Vec::new();
        for line in shown.lines() {
            let mut parts = line.split('\t');
            let (Some(at), Some(bytes), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let at = number(at.trim().trim_end_matches(':'))?;
            // The last ones may be cut.
            if at + 16 <= end {
                instructions.push(record(at, bytes.trim()));
            }
        }
        let count = instructions.len().to_string();
        let space = format!("pid@{pid}");
        for row in subject.rows(&["dis", &from, "--address_space", &space, "--count", &count])? {
            found.push(record(super::address(&row, "address")?, row.text("opcode").trim()));
        }
        wanted.extend(instructions);
    }
    Ok((wanted, found))
}

/// Where a program was entered (`AT_ENTRY` of its auxiliary vector, elf.h), and the area that is in.
fn entry(truth: &Truth, pid: u32) -> Result<Option<(u64, Area)>> {
    const AT_ENTRY: u64 = 9;
    let auxv = truth.bytes(&format!("proc/{pid}/auxv"))?;
    let size = if truth.machine()? == Machine::I386 { 4 } else { 8 };
    let words: Vec<u64> = auxv
        .chunks_exact(size)
        .map(|word| word.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        .collect();
    let entry = words
        .chunks_exact(2)
        .find_map(|pair| (pair.first() == Some(&AT_ENTRY)).then(|| pair.last().copied()));
    let Some(entry) = entry.flatten() else { return Ok(None) };
    let area = truth.areas(pid)?.into_iter().find(|area| (area.start..area.end).contains(&entry));
    Ok(area.map(|area| (entry, area)))
}

/// How far the addresses of a mapped program are from those in its file.
fn bias(file: &Path, area: &Area) -> Result<u64> {
    for line in run("readelf", &["-lW", text(file)?])?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["LOAD", offset, start, ..] = words.as_slice() {
            let (offset, start) = (number(offset)?, number(start)?);
            if offset & !(PAGE - 1) == area.offset {
                return Ok(area.start.wrapping_sub(start & !(PAGE - 1)));
            }
        }
    }
    anyhow::bail!("no such segment: {}", area.path)
}

/// The ELF files the guest booted with, in a folder.
fn elf_files(subject: &Subject<'_>, folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut elves = Vec::new();
    for (path, content) in subject.guest.initramfs()? {
        if content.starts_with(b"\x7fELF") {
            let file = folder.join(elves.len().to_string());
            std::fs::write(&file, content)?;
            elves.push((path, file));
        }
    }
    Ok(elves)
}

/// Names of `sh_type` as `readelf` has them (elf.h).
const TYPES: [(&str, u64); 21] = [
    ("NULL", 0),
    ("PROGBITS", 1),
    ("SYMTAB", 2),
    ("STRTAB", 3),
    ("RELA", 4),
    ("HASH", 5),
    ("DYNAMIC", 6),
    ("NOTE", 7),
    ("NOBITS", 8),
    ("REL", 9),
    ("SHLIB", 10),
    ("DYNSYM", 11),
    ("INIT_ARRAY", 14),
    ("FINI_ARRAY", 15),
    ("PREINIT_ARRAY", 16),
    ("GROUP", 17),
    ("RELR", 19),
    ("GNU_HASH", 0x6fff_fff6),
    ("VERDEF", 0x6fff_fffd),
    ("VERNEED", 0x6fff_fffe),
    ("VERSYM", 0x6fff_ffff),
];

/// Every section as `readelf -S` shows it.
pub(super) fn elf_sections(subject: &Subject<'_>) -> Records {
    let scratch = tempfile::tempdir()?;
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    for (path, file) in elf_files(subject, scratch.path())? {
        for line in run("readelf", &["-SW", text(&file)?])?.lines() {
            // [ 1] .interp PROGBITS 0000000000000318 000318 00001c 00 A 0 0 1
            let Some((number_of, rest)) = line.trim().strip_prefix('[').and_then(|line| line.split_once(']'))
            else {
                continue;
            };
            let words: Vec<&str> = rest.split_whitespace().collect();
            // The first section is nothing and has no name.
            if words.first() == Some(&"NULL") {
                continue;
            }
            let (Ok(_), [name, kind, start, offset, size, _, more @ ..]) =
                (number_of.trim().parse::<u64>(), words.as_slice())
            else {
                continue;
            };
            let (_, kind) =
                TYPES.iter().find(|(known, _)| known == kind).with_context(|| format!("type: {kind}"))?;
            let flags = if more.len() > 3 { more.first().copied().unwrap_or_default() } else { "" };
            let flags: String = ['W', 'A', 'X'].into_iter().filter(|flag| flags.contains(*flag)).collect();
            wanted.push(
                Record::new(format!("{path} {name}"))
                    .cell("sh_type", kind)
                    .cell("flags", flags)
                    .cell("address", super::super::hex(number(start)?))
                    .cell("file_offset", super::super::hex(number(offset)?))
                    .cell("size", number(size)?),
            );
        }
        let rows = subject.rows(&["elf_sections", text(&file)?])?;
        found.extend(rows.iter().map(|row| {
            let key = format!("{path} {}", row.text("section"));
            row.record(key, &["sh_type", "address", "file_offset", "size"])
                .cell("flags", row.text_or_empty("flags"))
        }));
    }
    Ok((wanted, found))
}

/// The versions that `readelf -V` shows under the file they come from: library, version, index.
fn needed(file: &Path) -> Result<Vec<(String, String, String)>> {
    let mut needed = Vec::new();
    let (mut is_in, mut library) = (false, String::new());
    for line in run("readelf", &["-VW", text(file)?])?.lines() {
        let after = |key: &str| line.split(key).nth(1).and_then(|rest| rest.split_whitespace().next());
        if line.starts_with("Version ") {
            is_in = line.starts_with("Version needs");
        } else if let (true, Some(file)) = (is_in, after("File: ")) {
            file.clone_into(&mut library);
        } else if let (true, Some(version)) = (is_in, after("Name: ")) {
            let index = after("Version: ").context("no index")?;
            needed.push((library.clone(), version.to_owned(), index.to_owned()));
        }
    }
    Ok(needed)
}

pub(super) fn elf_versions_needed(subject: &Subject<'_>) -> Records {
    let scratch = tempfile::tempdir()?;
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    for (path, file) in elf_files(subject, scratch.path())? {
        let record = |library: &str, version: &str| Record::new(format!("{path} {library} {version}"));
        wanted.extend(needed(&file)?.iter().map(|(library, version, _)| record(library, version)));
        let rows = subject.rows(&["elf_versions_needed", text(&file)?])?;
        found.extend(rows.iter().map(|row| record(&row.text("library"), &row.text("version"))));
    }
    Ok((wanted, found))
}

/// The dynamic symbols of `readelf --dyn-syms`, with the version behind their name.
pub(super) fn elf_versions_symbols(subject: &Subject<'_>) -> Records {
    let scratch = tempfile::tempdir()?;
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    for (path, file) in elf_files(subject, scratch.path())? {
        let libraries: BTreeMap<String, String> =
            needed(&file)?.into_iter().map(|(library, _, index)| (index, library)).collect();
        for line in run("readelf", &["--dyn-syms", "-W", text(&file)?])?.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [_, value, _, _, _, _, section, symbol, more @ ..] = words.as_slice() else { continue };
            let Ok(value) = u64::from_str_radix(value, 16) else { continue };
            let (name, version) = symbol.split_once('@').unwrap_or((symbol, ""));
            let version = version.trim_start_matches('@');
            // The symbol that stands for a version has that version, as `objdump -T` shows.
            let version = if *section == "ABS" && version.is_empty() { name } else { version };
            let is_needed = *section == "UND";
            let index = more.first().map(|index| index.trim_matches(['(', ')'])).unwrap_or_default();
            let record = Record::new(format!("{path} {name} {version}"));
            wanted.push(if is_needed {
                let library = libraries.get(index).map(String::as_str).unwrap_or_default();
                record.cell("address", "").cell("library", library)
            } else {
                record.cell("address", super::super::hex(value))
            });
        }
        found.extend(subject.rows(&["elf_versions_symbols", text(&file)?])?.iter().map(|row| {
            Record::new(format!("{path} {} {}", row.text("symbol"), row.text_or_empty("version")))
                .cell("address", row.text_or_empty("address"))
                .cell("library", row.text_or_empty("library"))
        }));
    }
    Ok((wanted, found))
}

/// The guest's own list of files in memory, and the files it booted with.
pub(super) fn mfind(subject: &Subject<'_>) -> Records {
    let mut wanted = BTreeMap::new();
    for (path, content) in subject.guest.initramfs()? {
        wanted.insert(path, vec![("size", content.len().to_string())]);
    }
    for area in subject
        .resting()?
        .into_iter()
        .map(|pid| subject.truth.areas(pid))
        .collect::<Result<Vec<_>>>()?
        .concat()
    {
        let Some(cells) = wanted.get_mut(&area.path).filter(|cells| cells.len() == 1) else { continue };
        cells.push(("inode", area.inode.to_string()));
        cells.push(("device", format!("{}:{}", area.device.0, area.device.1)));
    }
    for file in subject.truth.tree()? {
        let cells =
            [("size", file.size.to_string()), ("inode", file.inode.to_string()), ("device", file.device)];
        wanted.insert(file.path, cells.to_vec());
    }
    let paths: Vec<&str> = wanted.keys().map(String::as_str).collect();
    let rows = subject.rows(&[&["mfind"], paths.as_slice()].concat())?;
    // What is below a mount point has the same path.
    let is_meant = |row: &&Row| {
        let device =
            wanted.get(&row.text("path")).and_then(|cells| cells.iter().find(|cell| cell.0 == "device"));
        device.is_none_or(|cell| cell.1 == row.text("device"))
    };
    let found = rows.iter().filter(is_meant);
    let found = found.map(|row| row.record(row.text("path"), &["size", "inode", "device"])).collect();
    let record = |(path, cells): (String, Vec<(&'static str, String)>)| {
        cells.into_iter().fold(Record::new(path), |record, (column, value)| record.cell(column, value))
    };
    Ok((wanted.into_iter().map(record).collect(), found))
}

/// The files the guest booted with, byte by byte, as `tar` unpacks them.
pub(super) fn recover_fs(subject: &Subject<'_>) -> Records {
    let scratch = tempfile::tempdir()?;
    let archive = scratch.path().join("files.tar");
    let folder = scratch.path().join("files");
    std::fs::create_dir(&folder)?;
    let rows = subject.rows(&["recover_fs", text(&archive)?])?;
    run("tar", &["--no-same-owner", "--no-same-permissions", "-xf", text(&archive)?, "-C", text(&folder)?])?;
    let members: BTreeMap<String, String> =
        rows.iter().map(|row| (row.text("path"), row.text("member"))).collect();
    let (mut wanted, mut found) = (Vec::new(), Vec::new());
    for (path, content) in subject.guest.initramfs()? {
        wanted.push(Record::new(&path).cell("content", "as the file"));
        let Some(member) = members.get(&path) else { continue };
        let is = std::fs::read(folder.join(member))?;
        let is_same = is == content;
        found.push(Record::new(&path).cell("content", if is_same { "as the file" } else { "other bytes" }));
    }
    Ok((wanted, found))
}
