//! Cabinets: real ones against `cabextract`, damaged ones against the bounds.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use profile_gen::{CabinetError, expand_cabinet};
use proptest::prelude::Rng as _;
use proptest::test_runner::{RngAlgorithm, TestRng};

use crate::real::data;
use crate::samples::{lzx, mszip, pdb};

/// What `cabextract` makes of a cabinet's only file; `None`, with a message, where the tool is absent.
fn cabextract(cabinet: &Path) -> Option<Vec<u8>> {
    let output = Command::new("cabextract").arg("--quiet").arg("--pipe").arg(cabinet).output();
    match output {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(output.stdout)
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED: cabextract: {error}");
            None
        }
    }
}

#[test]
fn our_samples_are_cabinets() {
    let scratch = tempfile::tempdir().expect("scratch directory");
    for (name, cabinet) in [("mszip", mszip(&[("a.pdb", &pdb(3))])), ("lzx", lzx("a.pdb", &pdb(3)))] {
        assert_eq!(expand_cabinet(&cabinet, "a.pdb", 1 << 20).expect(name), pdb(3));
        let path = scratch.path().join(name);
        fs::write(&path, cabinet).expect("writing");
        if let Some(expanded) = cabextract(&path) {
            assert_eq!(expanded, pdb(3), "{name}");
        }
    }
}

#[test]
fn the_real_cabinet_expands() {
    let path = data("pdb").join("basic32.pd_");
    let Ok(cabinet) = fs::read(&path) else { return crate::real::skipped("pdb/basic32.pd_") };
    let expanded = expand_cabinet(&cabinet, "basic32.pdb", 1 << 30).expect("a cabinet");
    assert_eq!(expanded.len(), 6_590_464);
    if let Some(other) = cabextract(&path) {
        assert!(expanded == other, "not what cabextract makes of it");
    }
    let error = expand_cabinet(&cabinet, "basic32.pdb", 6_590_463).expect_err("a byte too long");
    assert_eq!(error, CabinetError::TooLarge(6_590_463));
}

#[test]
fn the_member_is_chosen_by_its_extension_or_because_it_is_the_only_one() {
    let member = |cabinet: &[u8], name: &str| expand_cabinet(cabinet, name, 1000);
    let two = mszip(&[("read.me", b"text"), ("..\\X.PDB", b"pdb")]);
    assert_eq!(member(&two, "a.pdb"), Ok(b"pdb".to_vec()));
    assert_eq!(member(&two, "a.exe"), Err(CabinetError::NoSuchFile(2, "exe".to_owned())));
    assert_eq!(member(&mszip(&[("other", b"x")]), "a.pdb"), Ok(b"x".to_vec()));
}

/// 20,000 mutants of small cabinets and 200 of the real one: an error or some bytes, never a panic, a hang or more memory
/// than the limit and the tables of a cabinet take.
#[test]
fn damaged_cabinets_end_as_errors_within_the_limit() {
    const LIMIT: u64 = 1 << 20;
    std::panic::set_hook(Box::new(|_| {}));
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let small = [
        mszip(&[("a.pdb", &pdb(3))]),
        mszip(&[("read.me", &pdb(70)), ("a.pdb", &pdb(1))]),
        mszip(&[("a.pdb", &vec![0; 1 << 20])]),
        lzx("a.pdb", &pdb(3)),
    ];
    let mut opened = 0;
    for round in 0..20_000 {
        let mutant = mutate(&small[round % small.len()], &mut rng);
        match expand_cabinet(&mutant, "a.pdb", LIMIT) {
            Ok(bytes) => {
                assert!(bytes.len() as u64 <= LIMIT);
                opened += 1;
            }
            Err(CabinetError::TooLarge(limit)) => assert_eq!(limit, LIMIT),
            Err(CabinetError::Damaged(_) | CabinetError::NoSuchFile(..)) => {}
        }
    }
    assert!(opened > 100, "most mutants are not even tried: {opened}");
    if let Ok(real) = fs::read(data("pdb").join("basic32.pd_")) {
        for _ in 0..200 {
            let _ = expand_cabinet(&mutate(&real, &mut rng), "a.pdb", 8 << 20);
        }
    }
    if let Some(peak) = peak_memory() {
        assert!(peak < 128 << 20, "{peak} bytes at the peak");
    }
}

/// Flips, overwrites, cuts and repeats; a third of it in the header, where the numbers are.
fn mutate(bytes: &[u8], rng: &mut TestRng) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut below = |limit: usize| rng.next_u32() as usize % limit.max(1);
    for _ in 0..=below(5) {
        let end = if below(3) == 0 { out.len().min(96) } else { out.len() };
        let (at, any) = (below(end), below(256));
        match (below(6), out.get_mut(at)) {
            (0..=2, Some(byte)) => {
                *byte = [0, 1, 0x7f, 0x80, 0xff, u8::try_from(any).expect("below 256")][below(6)];
            }
            (3, Some(byte)) => *byte ^= 1 << below(8),
            (4, Some(_)) if at > 40 => out.truncate(at),
            (_, Some(_)) => {
                let piece: Vec<u8> = out[at..out.len().min(at + 40)].to_vec();
                out.splice(at..at, piece);
            }
            (_, None) => {}
        }
    }
    out
}

/// Most memory this process ever had, in bytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? << 10)
}
