//! Commands that write what is in memory: cores, modules, areas; and lists of what is mapped. `gdb` and `readelf` read the files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::{Context as _, ensure};

use super::{Records, hex};
use crate::emulator::run;
use crate::rekal::Row;
use crate::table::Record;
use crate::truth::{Area, Machine, Truth};

fn pid(row: &Row) -> String {
    format!("pid {}", row.object("task", "pid"))
}

/// `gdb` shows the stack pointer and program counter of `/proc/PID/syscall`, and the command line where the program left it;
/// the auxiliary vector is in the core.
pub(super) fn coredump(truth: &Truth, rows: &[Row]) -> Records {
    let mut wanted = Vec::new();
    let mut arguments = BTreeMap::new();
    for process in truth.processes()?.iter().filter(|process| process.has_memory) {
        let folder = format!("proc/{}", process.pid);
        let syscall = truth.text(&format!("{folder}/syscall"))?;
        let mut last = syscall.split_whitespace().rev();
        // PID 1 writes the report, so it went on; what reads its own state runs.
        let registers = match (last.next(), last.next()) {
            (Some(pc), Some(sp)) if process.pid != 1 => format!("{sp} {pc}"),
            _ => "running".to_owned(),
        };
        let threads = truth.names(&format!("{folder}/task")).len();
        let stat = truth.text(&format!("{folder}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        // Fields 48 and 49 of proc(5), counted from the third.
        let place = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
        let (start, end) = (place(48).context("no arg_start")?, place(49).context("no arg_end")?);
        arguments.insert(process.pid.to_string(), (start, end));
        let line = truth.bytes(&format!("{folder}/cmdline"))?;
        wanted.push(
            Record::new(format!("pid {}", process.pid))
                .cell("registers", registers)
                .cell("threads", threads.max(1))
                .cell("arguments", String::from_utf8_lossy(line))
                .cell("auxv", "there"),
        );
    }
    let scratch = tempfile::tempdir()?;
    let mut script = "set pagination off\nset confirm off\nset debuginfod enabled off\n".to_owned();
    for row in rows {
        let pid = row.object("task", "pid");
        let (start, end) = arguments.get(&pid).copied().unwrap_or((0, 1));
        let bytes = scratch.path().join(&pid);
        // Writing to a String cannot fail.
        let _ = writeln!(script, "core-file {}", row.text("dump_name"));
        let _ = writeln!(script, "printf \"@ {pid} %#lx %#lx\\n\", (unsigned long)$sp, (unsigned long)$pc");
        let _ = writeln!(script, "dump binary memory {} {start} {end}", bytes.display());
    }
    let file = scratch.path().join("script");
    std::fs::write(&file, script)?;
    // The one for many processors misreads the first core of i386.
    let debugger = if truth.machine()? == Machine::Arm64 { "gdb-multiarch" } else { "gdb" };
    let shown = run(debugger, &["-nx", "-batch", "-x", file.to_str().context("not UTF-8")?])?;
    let mut registers = BTreeMap::new();
    for line in shown.lines() {
        if let Some((pid, values)) = line.strip_prefix("@ ").and_then(|rest| rest.split_once(' ')) {
            registers.insert(pid.to_owned(), values.to_owned());
        }
    }
    let mut found = Vec::new();
    for row in rows {
        let pid = row.object("task", "pid");
        let wanted_registers = wanted
            .iter()
            .find(|record| record.key == format!("pid {pid}"))
            .and_then(|record| record.cells.get("registers"));
        let registers = match wanted_registers.map(String::as_str) {
            Some("running") => "running".to_owned(),
            _ => registers.get(&pid).cloned().unwrap_or_default(),
        };
        let core = std::fs::read(row.text("dump_name"))?;
        let auxv = truth.bytes(&format!("proc/{pid}/auxv"))?;
        // Notes are behind the program headers, of which there may be thousands.
        let has_auxv = memmem(core.get(..1 << 20).unwrap_or(&core), auxv);
        let line = std::fs::read(scratch.path().join(&pid)).unwrap_or_default();
        found.push(
            Record::new(format!("pid {pid}"))
                .cell("registers", registers)
                .cell("threads", row.text("Threads"))
                .cell("arguments", String::from_utf8_lossy(&line))
                .cell("auxv", if has_auxv { "there" } else { "not there" }),
        );
    }
    Ok((wanted, found))
}

fn memmem(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || text.windows(part.len()).any(|window| window == part)
}

/// `readelf` accepts every module's file without a word on standard error, and shows the sections that were not freed at the
/// addresses of `/sys/module/NAME/sections`.
pub(super) fn moddump(truth: &Truth, rows: &[Row]) -> Records {
    let mut wanted = Vec::new();
    let modules = truth.modules()?;
    for module in &modules {
        let folder = format!("sys/module/{}/sections", module.name);
        // The tables of symbols are made anew.
        for section in truth.names(&folder).into_iter().filter(|name| ![".symtab", ".strtab"].contains(name))
        {
            let address = truth.text(&format!("{folder}/{section}"))?;
            let address = u64::from_str_radix(address.trim().trim_start_matches("0x"), 16)?;
            wanted.push(Record::new(format!("{} {section}", module.name)).cell("address", hex(address)));
        }
        wanted.push(Record::new(format!("{} symbols", module.name)).cell("any", true));
    }
    let mut found = Vec::new();
    for row in rows {
        let (name, file) = (row.text("name"), row.text("dump_name"));
        let shown = run("readelf", &["-SsnW", &file])?;
        let complaint = shown.lines().find(|line| line.contains("readelf:"));
        ensure!(complaint.is_none(), "{name}: {}", complaint.unwrap_or_default());
        let mut symbols = 0;
        for line in shown.lines() {
            let words: Vec<&str> =
                line.split(']').next_back().unwrap_or_default().split_whitespace().collect();
            match words.as_slice() {
                [section, "PROGBITS" | "NOTE", address, ..] if line.trim_start().starts_with('[') => {
                    let address = u64::from_str_radix(address, 16)?;
                    found.push(Record::new(format!("{name} {section}")).cell("address", hex(address)));
                }
                [_, _, _, "FUNC" | "OBJECT", ..] => symbols += 1,
                _ => {}
            }
        }
        found.push(Record::new(format!("{name} symbols")).cell("any", symbols > 0));
        // What was freed is nowhere any more.
        let known: Vec<&str> = found.iter().map(|record| record.key.as_str()).collect();
        wanted.retain(|record| {
            let freed = record.key.starts_with(&format!("{name} .init"))
                || record.key.starts_with(&format!("{name} __patchable"))
                || record.key.starts_with(&format!("{name} .static_call_sites"));
            !freed || known.contains(&record.key.as_str())
        });
    }
    Ok((wanted, found))
}

/// Whether a file is mapped as the loader or `execve` does it: from its start, and code of it too.
fn objects(areas: &[Area]) -> impl Iterator<Item = &Area> {
    areas.iter().filter(|area| {
        let code = |other: &Area| other.inode == area.inode && other.permissions.contains('x');
        area.path == "[vdso]" || area.inode != 0 && area.offset == 0 && areas.iter().any(code)
    })
}

/// The starts of programs, libraries and the vDSO.
pub(super) fn elfs(truth: &Truth, rows: &[Row]) -> Records {
    let mut wanted = Vec::new();
    let processes = truth.processes()?;
    let key = |row: &Row| format!("{} at {}", pid(row), row.text("start"));
    let known: BTreeSet<String> = rows.iter().map(key).collect();
    for process in &processes {
        let areas = truth.areas(process.pid)?;
        // What a child did not touch since `fork` is not in its memory: `exec` chooses other addresses.
        let vdso = |areas: &[Area]| areas.iter().find(|area| area.path == "[vdso]").map(|area| area.start);
        let forked = processes.iter().any(|parent| {
            parent.pid == process.ppid
                && truth.areas(parent.pid).is_ok_and(|of| !of.is_empty() && vdso(&of) == vdso(&areas))
        });
        for area in objects(&areas) {
            let key = format!("pid {} at {}", process.pid, hex(area.start));
            if !forked || known.contains(&key) {
                wanted.push(Record::new(key).cell("end", hex(area.end)).cell("file_path", &area.path));
            }
        }
    }
    let found = rows
        .iter()
        .map(|row| row.record(key(row), &["end"]).cell("file_path", row.text_or_empty("file_path")));
    Ok((wanted, found.collect()))
}

/// Every library that is mapped begins where the loader says; so does the vDSO.
pub(super) fn library_list(truth: &Truth, rows: &[Row]) -> Records {
    let mut wanted = Vec::new();
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    for process in truth.processes()? {
        let areas = truth.areas(process.pid)?;
        let libraries: Vec<&Area> = objects(&areas).filter(|area| area.path.contains(".so")).collect();
        if libraries.is_empty() {
            continue;
        }
        let record = |area: &Area| Record::new(format!("pid {} at {}", process.pid, hex(area.start)));
        wanted.extend(libraries.iter().map(|area| record(area).cell("name", name(&area.path))));
        let vdso = areas.iter().find(|area| area.path == "[vdso]").context("no vDSO")?;
        // A child may not have touched the page with the name.
        wanted.push(record(vdso));
    }
    let found =
        rows.iter().filter(|row| !row.text_or_empty("path").is_empty() || row.is_not_applicable("path"));
    let found = found.map(|row| {
        Record::new(format!("{} at {}", pid(row), row.text("load_address")))
            .cell("name", name(&row.text("path")))
    });
    Ok((wanted, found.collect()))
}

/// The pages in memory and in swap areas, by process, in KiB.
pub(super) fn vadmap(truth: &Truth, rows: &[Row]) -> Records {
    let mut wanted = Vec::new();
    for process in truth.processes()?.iter().filter(|process| process.has_memory) {
        let kib =
            |field| truth.status(process.pid, field).map(|text| text.trim_end_matches(" kB").to_owned());
        wanted.push(Record::new(format!("pid {}", process.pid)).cell("swapped", kib("VmSwap:")?.trim()));
    }
    let mut swapped: BTreeMap<String, u64> = BTreeMap::new();
    for row in rows {
        let kib = if row.text("type") == "Swapped" { row.number("length").unwrap_or(0) / 1024 } else { 0 };
        *swapped.entry(pid(row)).or_default() += kib;
    }
    let found = swapped.into_iter().map(|(pid, kib)| Record::new(pid).cell("swapped", kib));
    Ok((wanted, found.collect()))
}

/// Code that can be written, or that no file holds but the kernel's own.
pub(super) fn malfind(truth: &Truth, rows: &[Row]) -> Records {
    let mut wanted = Vec::new();
    for process in truth.processes()? {
        for area in truth.areas(process.pid)? {
            let suspicious =
                area.permissions.contains("wx") || area.permissions.contains('x') && area.inode == 0;
            if suspicious && area.path != "[vdso]" && area.path != "[vsyscall]" {
                wanted.push(
                    Record::new(format!("pid {} at {}", process.pid, hex(area.start)))
                        .cell("end", hex(area.end))
                        .cell("flags", &area.permissions),
                );
            }
        }
    }
    let found = rows
        .iter()
        .map(|row| row.record(format!("{} at {}", pid(row), row.text("start")), &["end", "flags"]));
    Ok((wanted, found.collect()))
}
