//! `simple_yarascan` and `yarascan` give what the program `yara` (Debian's, by the library libyara) finds in the same bytes.
//!
//! Only with the feature: `cargo nextest run -p analyzer --features yara yara`.
#![cfg(feature = "yara")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a test may fail loudly"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Every rule has one string: memory is looked at in blocks, and a rule is decided for each.
const RULES: &str = r#"
rule bytes { strings: $a = { 4d 5a ?? 00 [2-6] 50 45 } condition: $a }
rule words { strings: $wide = "evidence" nocase wide ascii condition: $wide }
rule whole { strings: $word = "kernel" fullword condition: $word }
rule hidden { strings: $x = "This program cannot be run" xor(1-255) condition: $x }
rule pattern { strings: $re = /ev[il]{1,3}-[0-9]{4}/ condition: #re > 1 }
rule encoded { strings: $b64 = "powershell -enc" base64 condition: $b64 }
rule never { strings: $no = "this text is nowhere" condition: $no }
"#;
const MIB: usize = 1 << 20;

/// Noise with things to find: at the start, across the border of two blocks of 16 MiB, at the end.
fn image() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(40 * MIB);
    while bytes.len() < 40 * MIB {
        // The generator of Marsaglia, "Xorshift RNGs", 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    let mut put = |at: usize, what: &[u8]| bytes[at..at + what.len()].copy_from_slice(what);
    put(0, b"EVIDENCE");
    put(0x1234, b"e\0v\0I\0d\0e\0n\0c\0e\0");
    put(16 * MIB - 3, b"evidence");
    put(32 * MIB - 20, b"MZ\x90\0abcdPE");
    put(5 * MIB, b" kernel ");
    put(6 * MIB, b"kernels");
    put(7 * MIB, &b"This program cannot be run".map(|byte| byte ^ 0x5a));
    put(8 * MIB, b"evil-2024 evl-1999");
    put(9 * MIB, b"cG93ZXJzaGVsbCAtZW5j");
    put(40 * MIB - 8, b"Evidence");
    bytes
}

/// Rule, string and offset of what `yara` finds; `None`, saying so, where it is not installed.
fn by_yara(rules: &Path, image: &Path) -> Option<BTreeSet<(String, String, u64)>> {
    let Ok(output) = Command::new("yara").args(["-s", "-w"]).args([rules, image]).output() else {
        eprintln!("skipped: no yara (Debian package yara)");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found = BTreeSet::new();
    let mut rule = String::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some(hit) = line.strip_prefix("0x") {
            let mut parts = hit.splitn(3, ':');
            let offset = u64::from_str_radix(parts.next().unwrap(), 16).unwrap();
            found.insert((rule.clone(), parts.next().unwrap().to_owned(), offset));
        } else {
            line.split(' ').next().unwrap().clone_into(&mut rule);
        }
    }
    Some(found)
}

/// The same by a command of rekal.
fn by_rekal(command: &str, rules: &Path, image: &Path) -> BTreeSet<(String, String, u64)> {
    let output = Command::new(env!("CARGO_BIN_EXE_rekal"))
        .args(["--format", "json", "--offline", "-f"])
        .arg(image)
        .args([command, "--hits", "1000", "--yara_file"])
        .arg(rules)
        .env("HOME", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |row: &serde_json::Value, column: &str| row[column].as_str().unwrap().to_owned();
    let rows = document["rows"].as_array().unwrap().iter();
    rows.map(|row| {
        let offset = text(row, "Offset");
        let offset = u64::from_str_radix(offset.strip_prefix("0x").unwrap(), 16).unwrap();
        (text(row, "Rule"), text(row, "Match"), offset)
    })
    .collect()
}

#[test]
fn the_hits_are_those_of_yara() {
    let folder = tempfile::tempdir().unwrap();
    let (rules, image_file) = (folder.path().join("rules.yar"), folder.path().join("image.raw"));
    std::fs::write(&rules, RULES).unwrap();
    std::fs::write(&image_file, image()).unwrap();
    let Some(wanted) = by_yara(&rules, &image_file) else { return };
    let found_rules: BTreeSet<&str> = wanted.iter().map(|(rule, ..)| rule.as_str()).collect();
    assert_eq!(found_rules.len(), 6, "{wanted:?}");
    for command in ["simple_yarascan", "yarascan"] {
        assert_eq!(by_rekal(command, &rules, &image_file), wanted, "{command}");
    }
}
