//! Damaged and hostile files.

use std::fs;

use profile_gen::pdb::{PdbOptions, convert_pdb};

use crate::{data, skipped};

#[test]
fn damaged_files_end_as_errors_or_reports() {
    let fuzzed = data("pdb").join("fuzzed.pdb");
    let Ok(bytes) = fs::read(&fuzzed) else { return skipped("no damaged PDB in the test data") };
    let _ = convert_pdb(&bytes, &PdbOptions::default());
    let small = fs::read(data("rekall-golden").join("inputs/types_x64.pdb")).expect("test data is readable");
    // A fixed sequence, so a failure can be repeated (xorshift).
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("below a usize")
    };
    let (mut good, mut bad) = (0, 0);
    for _ in 0..10_000 {
        let mut copy = small.clone();
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
            Ok(_) => good += 1,
            Err(error) => {
                assert!(!error.to_string().is_empty());
                bad += 1;
            }
        }
    }
    assert!(good > 1000 && bad > 500, "{good} read, {bad} refused");
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
