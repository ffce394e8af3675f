//! Compares images of one machine byte by byte: `compare_images REFERENCE OTHER...`.
//!
//! For each OTHER prints its layers, warnings, hints, how many bytes both store and agree on, how many only
//! one of them stores, and whether those are zeros. Exit code 1 when bytes differ.

#![allow(clippy::print_stdout, reason = "a tool for people")]

use memory::{Limits, open};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let mut paths = std::env::args().skip(1);
    let Some(reference) = paths.next().and_then(|path| open(Path::new(&path), &Limits::default()).ok())
    else {
        println!("usage: compare_images REFERENCE OTHER...");
        return ExitCode::from(2);
    };
    let mut code = ExitCode::SUCCESS;
    for path in paths {
        let start = Instant::now();
        let image = match open(Path::new(&path), &Limits::default()) {
            Ok(image) => image,
            Err(error) => {
                println!("{path}: {error}");
                code = ExitCode::FAILURE;
                continue;
            }
        };
        let opened = start.elapsed();
        let start = Instant::now();
        let (mut same, mut different, mut only, mut only_nonzero) = (0u64, 0u64, 0u64, 0u64);
        let mut first = None;
        for run in image.space.runs(0, u64::MAX) {
            let mut at = run.start;
            while at < run.end() {
                let size = (run.end() - at).min(1 << 20);
                let (mut ours, mut theirs) = (vec![0; size as usize], vec![0; size as usize]);
                if let Err(fault) = image.space.read_at(at, &mut ours) {
                    println!("{path}: run cannot be read: {fault}");
                    code = ExitCode::FAILURE;
                }
                for (page, (a, b)) in ours.chunks(4096).zip(theirs.chunks_mut(4096)).enumerate() {
                    let phys = at + page as u64 * 4096;
                    if reference.space.read_at(phys, b).is_err() {
                        only += a.len() as u64;
                        only_nonzero += if a.iter().any(|byte| *byte != 0) { a.len() as u64 } else { 0 };
                    } else if a == b {
                        same += a.len() as u64;
                    } else {
                        different += a.len() as u64;
                        first.get_or_insert(phys);
                    }
                }
                at += size;
            }
        }
        let read = start.elapsed();
        let (mut missing, mut missing_nonzero) = (0u64, 0u64);
        for run in reference.space.runs(0, u64::MAX) {
            for at in (run.start..run.end()).step_by(4096) {
                if image.space.translate(at).is_err() {
                    let page = reference.space.read_vec(at, 4096, 4096).unwrap_or_default();
                    missing += 4096;
                    missing_nonzero += if page.iter().any(|byte| *byte != 0) { 4096 } else { 0 };
                }
            }
        }
        println!("{path}: {:?} opened {opened:.1?} read {read:.1?}", image.layers);
        println!(
            "  same {same} different {different} (first {first:x?}) extra {only} (nonzero {only_nonzero})"
        );
        println!("  missing {missing} (nonzero {missing_nonzero}) warnings {:?}", image.warnings);
        println!(
            "  cpus {:x?} vmcoreinfo {:?}",
            image.hints.cpus,
            image.hints.vmcoreinfo.map(|text| text.len())
        );
        if different > 0 {
            code = ExitCode::FAILURE;
        }
    }
    code
}
