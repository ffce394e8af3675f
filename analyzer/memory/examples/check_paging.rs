//! Compares page-table walks with QEMU: `check_paging IMAGE INFO_MEM`.
//!
//! `INFO_MEM` is what the monitor command `info mem` printed for the machine that was dumped; the tables are
//! those of the first CPU's CR3 in the image's notes. Prints how many bytes both say are mapped and every
//! difference; exit code 1 on a difference. Also checks that translation, `explain` and enumeration agree on
//! every run.

#![allow(clippy::print_stdout, reason = "a tool for people")]

use memory::{AddressSpace, Limits, Next, VirtualSpace, open};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Ranges `start..end` of `info mem`, merged, as canonical addresses.
fn info_mem(text: &str, canonical: impl Fn(u64) -> u64) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for line in text.lines() {
        let Some((start, rest)) = line.split_once('-') else { continue };
        let mut rest = rest.split_whitespace();
        let (Ok(start), Some(Ok(len))) =
            (u64::from_str_radix(start, 16), rest.nth(1).map(|len| u64::from_str_radix(len, 16)))
        else {
            continue;
        };
        let start = canonical(start);
        push(&mut ranges, start, start.saturating_add(len));
    }
    ranges
}

fn push(ranges: &mut Vec<(u64, u64)>, start: u64, end: u64) {
    match ranges.last_mut() {
        Some(last) if last.1 == start => last.1 = end,
        _ => ranges.push((start, end)),
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [image, info] = arguments.as_slice() else {
        println!("usage: check_paging IMAGE INFO_MEM");
        return ExitCode::from(2);
    };
    let (image, text) = match (open(Path::new(image), &Limits::default()), std::fs::read_to_string(info)) {
        (Ok(image), Ok(text)) => (image, text),
        (image, text) => {
            println!("cannot open: {:?} {:?}", image.err(), text.err());
            return ExitCode::from(2);
        }
    };
    let Some((cpu, paging)) = image.hints.cpus.first().and_then(|cpu| Some((cpu, cpu.paging()?))) else {
        println!("the image has no CPU notes");
        return ExitCode::from(2);
    };
    let space = VirtualSpace::new(image.space, paging, cpu.cr3);
    println!("{}", space.name());
    let truth = info_mem(&text, |addr| paging.canonical(addr));
    let mut ours = Vec::new();
    let start = Instant::now();
    let mut mappings = space.mappings(0, u64::MAX);
    let mut runs = Vec::new();
    for run in mappings.by_ref() {
        push(&mut ours, run.start, run.end());
        runs.push(run);
    }
    let truncated = mappings.truncated();
    println!(
        "{} runs in {:.1?}, truncated {truncated}, unreadable {:?}",
        runs.len(),
        start.elapsed(),
        mappings.unreadable()
    );
    let start = Instant::now();
    let mut checked = 0u64;
    for run in &runs {
        for addr in [run.start, run.start + run.len / 2, run.start + (run.len - 1)] {
            let phys = run.target + (addr - run.start);
            let explained = space.explain(addr).pop().map(|step| step.next);
            let agrees = space.translate(addr) == Ok(phys)
                && matches!(explained, Some(Next::Page { phys: found, .. }) if found == phys);
            if !agrees {
                println!("{addr:#x}: {:?} instead of {phys:#x}, {explained:?}", space.translate(addr));
                return ExitCode::FAILURE;
            }
            checked += 1;
        }
    }
    println!("{checked} translations agree in {:.1?}", start.elapsed());
    let total: u64 = ours.iter().map(|(start, end)| end.wrapping_sub(*start)).sum();
    for range in truth.iter().filter(|range| !ours.contains(range)) {
        println!("only QEMU: {:x}-{:x}", range.0, range.1);
    }
    for range in ours.iter().filter(|range| !truth.contains(range)) {
        println!("only here: {:x}-{:x}", range.0, range.1);
    }
    println!("{} ranges, {total:#x} bytes, equal: {}", ours.len(), ours == truth);
    if ours == truth { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
