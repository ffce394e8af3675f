//! Where the kernel is: `find_dtb`, `find_kaslr`, `load_as`, `address_resolver`. Truth: `/proc/kallsyms` and `/proc/iomem` of the guest
//! beside the System.map of its kernel, and the emulator's page tables.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::super::{Records, hex};
use super::{Subject, address};
use crate::emulator::number;
use crate::table::Record;
use crate::truth::Machine;

/// Symbols that are asked for.
const SYMBOLS: usize = 200;

/// How the kernel was moved.
struct Placement {
    /// Virtual address of its start in the guest minus that in System.map.
    slide: u64,
    /// Physical address of its first symbol of code.
    physical: u64,
    /// The same as it was linked.
    linked: u64,
}

/// Physical address of something in the kernel's image.
pub(super) fn physical(subject: &Subject<'_>, symbol: &str) -> Result<u64> {
    let place = placement(subject)?;
    let linked = subject.lab.linked_address(subject.guest, symbol)?;
    let linked = linked.with_context(|| format!("not in System.map: {symbol}"))?;
    Ok(linked.wrapping_sub(place.linked).wrapping_add(place.physical))
}

/// Physical address of the kernel's page tables.
fn root(subject: &Subject<'_>) -> Result<u64> {
    physical(subject, "init_top_pgt").or_else(|_| physical(subject, "swapper_pg_dir"))
}

fn placement(subject: &Subject<'_>) -> Result<Placement> {
    let kallsyms = subject.truth.text("proc/kallsyms")?;
    let line = kallsyms.lines().find(|line| line.ends_with(" T _stext")).context("no _stext")?;
    let start = number(line.split(' ').next().unwrap_or_default())?;
    let linked = |symbol: &str| subject.lab.linked_address(subject.guest, symbol);
    let first = linked("_stext")?.context("no _stext in System.map")?;
    let code = subject.truth.resources()?.into_iter().find(|resource| resource.name == "Kernel code");
    let physical = code.context("no code in /proc/iomem")?.start;
    Ok(Placement { slide: start.wrapping_sub(first), physical, linked: first })
}

/// The kernel's own tables.
pub(super) fn find_dtb(subject: &Subject<'_>) -> Records {
    let rows = subject.rows(&["find_dtb"])?;
    let found = rows.iter().filter(|row| row.text("Valid") == "true");
    let found = found.map(|row| Record::new(row.text("DTB")));
    Ok((vec![Record::new(hex(root(subject)?))], found.collect()))
}

/// Both shifts, and the start of the direct map: where the emulator finds physical address 0.
pub(super) fn find_kaslr(subject: &Subject<'_>) -> Records {
    let place = placement(subject)?;
    let mut wanted = Record::new("kernel")
        .cell("virtual_shift", hex(place.slide))
        .cell("kernel_slide", hex(place.slide))
        .cell("DTB", hex(root(subject)?));
    // arch/x86/include/asm/page_types.h: where the image is mapped, less what it is above the start of memory. Other
    // architectures have no address to be loaded at.
    let base = match subject.truth.machine()? {
        Machine::Amd64 => Some(0xffff_ffff_8000_0000),
        Machine::I386 => Some(0xc000_0000),
        Machine::Arm64 => None,
    };
    if let Some(base) = base {
        let shift = place.physical.wrapping_sub(place.linked.wrapping_sub(base));
        wanted = wanted.cell("physical_shift", hex(shift));
    }
    if let Some(mapped) = subject.guest.mapped_pages()? {
        let (start, _) =
            mapped.iter().find(|(_, place)| *place == 0).context("physical address 0 is not mapped")?;
        wanted = wanted.cell("page_offset", hex(*start));
    }
    let rows = subject.rows(&["find_kaslr"])?;
    let columns = ["virtual_shift", "kernel_slide", "DTB", "physical_shift", "page_offset"];
    let found = rows.iter().filter(|row| row.text("Valid") == "true");
    Ok((vec![wanted], found.map(|row| row.record("kernel".to_owned(), &columns)).collect()))
}

/// The tables and the slide in use.
pub(super) fn load_as(subject: &Subject<'_>) -> Records {
    let place = placement(subject)?;
    let wanted = vec![
        Record::new("dtb").cell("start", hex(root(subject)?)),
        Record::new("kernel_slide").cell("start", hex(place.slide)),
    ];
    let rows = subject.rows(&["load_as"])?;
    let found = rows.iter().filter(|row| ["dtb", "kernel_slide"].contains(&row.text("item").as_str()));
    Ok((wanted, found.map(|row| row.record(row.text("item"), &["start"])).collect()))
}

/// Symbols all over the kernel whose name stands once in `/proc/kallsyms`, forth and back.
pub(super) fn address_resolver(subject: &Subject<'_>) -> Records {
    let mut names: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut symbols = Vec::new();
    for line in subject.truth.text("proc/kallsyms")?.lines() {
        // Those of modules have their module behind.
        if let [start, kind, name] = line.split_whitespace().collect::<Vec<_>>()[..] {
            let start = number(start)?;
            names.entry(name).or_default().push(start);
            if ["T", "t"].contains(&kind) {
                symbols.push((name, start));
            }
        }
    }
    symbols.retain(|(name, _)| names.get(name).is_some_and(|places| places.len() == 1));
    let chosen: Vec<(&str, u64)> =
        symbols.iter().step_by((symbols.len() / SYMBOLS).max(1)).take(SYMBOLS).copied().collect();
    let record = |name: &str, start: u64| Record::new(format!("{name} {}", hex(start)));
    let mut wanted: Vec<Record> =
        chosen.iter().map(|(name, start)| record(&format!("linux!{name}"), *start)).collect();
    wanted.extend(wanted.clone());
    let asked: Vec<String> = chosen.iter().map(|(name, _)| format!("linux!{name}")).collect();
    let forth: Vec<&str> = asked.iter().map(String::as_str).collect();
    let mut found = Vec::new();
    for row in subject.rows(&[&["address_resolver"], forth.as_slice()].concat())? {
        found.push(record(&row.text("Symbol"), address(&row, "Offset")?));
    }
    let places: Vec<String> = chosen.iter().map(|(_, start)| hex(*start)).collect();
    let back: Vec<&str> = places.iter().map(String::as_str).collect();
    for row in subject.rows(&[&["address_resolver"], back.as_slice()].concat())? {
        let name = row.text("Symbol");
        // Other names of the same place.
        if asked.contains(&name) {
            found.push(record(&name, address(&row, "Offset")?));
        }
    }
    Ok((wanted, found))
}
