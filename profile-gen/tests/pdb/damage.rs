//! Damaged and hostile files.

use std::fs;

use profile_gen::pdb::{PdbOptions, convert_pdb};

use crate::{data, skipped};

/// Copies of one file, damaged in 1 to 8 bytes and sometimes cut off; the same for the same seed (xorshift).
fn mutate(small: &[u8], seed: u64, copies: usize) -> (usize, usize) {
    let mut state = seed;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("below a usize")
    };
    let (mut good, mut bad) = (0, 0);
    for _ in 0..copies {
        let mut copy = small.to_vec();
        if random(10) == 0 {
            copy.truncate(random(small.len()));
        }
        for _ in 0..=random(8) {
            let at = random(copy.len().max(1));
            // Half of the damage goes where numbers of pages and streams are.
            let at = if random(2) == 0 { at % 0x1000 } else { at };
            if let Some(byte) = copy.get_mut(at) {
                *byte = u8::try_from(random(256)).expect("a byte");
            }
        }
        match convert_pdb(&copy, &PdbOptions::default()) {
            Ok(converted) => {
                // What is written must read back; a quarter of them, as it takes its time.
                if random(4) == 0 {
                    let text = converted.document.to_canonical_json();
                    let read = profile::Profile::parse_text(text).expect("our own text");
                    read.to_document().expect("our own structs");
                }
                good += 1;
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                bad += 1;
            }
        }
    }
    (good, bad)
}

/// Most memory this process ever had, in bytes; `None` where the system does not say.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}

#[test]
fn twenty_thousand_damaged_files_end_as_errors_or_reports() {
    let fuzzed = data("pdb").join("fuzzed.pdb");
    let Ok(bytes) = fs::read(&fuzzed) else { return skipped("no damaged PDB in the test data") };
    let _ = convert_pdb(&bytes, &PdbOptions::default());
    let small = fs::read(data("rekall-golden").join("inputs/types_x64.pdb")).expect("test data is readable");
    let seeds = [0x9e37_79b9_7f4a_7c15, 0x2545_f491_4f6c_dd1d];
    let counts = std::thread::scope(|scope| {
        let runs = seeds.map(|seed| {
            scope.spawn({
                let small = &small;
                move || mutate(small, seed, 10_000)
            })
        });
        runs.map(|run| run.join().expect("no panic"))
    });
    let good: usize = counts.iter().map(|(good, _)| good).sum();
    let bad: usize = counts.iter().map(|(_, bad)| bad).sum();
    assert_eq!(good + bad, 20_000);
    assert!(good > 2000 && bad > 1000, "{good} read, {bad} refused");
    if let Some(peak) = peak_memory() {
        assert!(peak < 128 << 20, "{peak} bytes at the peak");
    }
}

#[test]
fn a_list_of_arguments_is_as_long_as_its_record_whatever_its_count_says() {
    let path = data("rekall-golden").join("inputs/types_x64.pdb");
    let Ok(mut bytes) = fs::read(&path) else { return skipped("no files of the original") };
    let expected = convert_pdb(&bytes, &PdbOptions::default()).expect("a whole PDB");
    // LF_ARGLIST: length, leaf, count of 4 bytes, types. The library would allocate what the count says: 16 GiB.
    let lists: Vec<usize> = (2..bytes.len() - 6)
        .filter(|&at| bytes[at..at + 2] == [0x01, 0x12])
        .filter(|&at| {
            let word = |at: usize, len: usize| {
                bytes[at..at + len].iter().rev().fold(0, |n, &b| n << 8 | usize::from(b))
            };
            word(at - 2, 2) == 6 + 4 * word(at + 2, 4) && word(at + 2, 4) > 0
        })
        .collect();
    assert!(lists.len() >= 3, "{} lists", lists.len());
    for at in lists {
        bytes[at + 2..at + 6].fill(0xff);
    }
    let hostile = convert_pdb(&bytes, &PdbOptions::default()).expect("readable all the same");
    assert_eq!(hostile.document.structs, expected.document.structs);
}

#[test]
fn files_of_other_kinds_are_named() {
    for (bytes, what) in [
        (&b"MSCF...."[..], "cabinet"),
        (b"MZ......", "executable"),
        (b"BSJB....", "portable"),
        (b"Microsoft C/C++ program database 2.00\r\n\x1aJG", "2.00"),
        (b"", "empty"),
        (b"<html>", "something else"),
    ] {
        let error = convert_pdb(bytes, &PdbOptions::default()).expect_err(what);
        assert!(error.to_string().contains(what), "{error}");
    }
    let mut header = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0".to_vec();
    header.extend([0, 16, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0]);
    let error = convert_pdb(&header, &PdbOptions::default()).expect_err("truncated");
    assert!(error.to_string().contains("truncated"), "{error}");
}
