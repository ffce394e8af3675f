//! The committed sample, with the bundled repository: every command agrees with what the guest reported.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::path::{Path, PathBuf};

use rekal_tests::checks;
use rekal_tests::rekal::{Rekal, program};
use rekal_tests::truth::Truth;

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is a folder of the workspace")
}

fn sample(name: &str) -> PathBuf {
    workspace().join("tests/images").join(name)
}

fn rekal() -> Rekal {
    Rekal { program: program().unwrap(), image: sample("linux-6.1-sample.lime.zst"), repository: None }
}

fn truth() -> Truth {
    Truth::from_json(&sample("linux-6.1-sample.truth.json")).unwrap()
}

#[test]
fn every_command_agrees_with_the_guest() {
    let (rekal, truth) = (rekal(), truth());
    let mut differences = Vec::new();
    for command in checks::sample_names() {
        let outcome = checks::check(command, &rekal, &truth).unwrap();
        differences.extend(outcome.differences.into_iter().map(|line| format!("{command}: {line}")));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn one_thread_and_many_print_the_same_bytes() {
    let rekal = rekal();
    for command in ["pslist", "psxview", "maps", "netstat"] {
        let one = rekal.run_with(&[command], &[("RAYON_NUM_THREADS", "1")]).unwrap();
        let many = rekal.run_with(&[command], &[("RAYON_NUM_THREADS", "4")]).unwrap();
        assert!(one.bytes == many.bytes, "{command} differs");
    }
}

/// A comparison that could not fail would prove nothing: a truth that was changed must be noticed.
#[test]
fn a_false_truth_is_noticed() {
    let text = std::fs::read_to_string(sample("linux-6.1-sample.truth.json")).unwrap();
    let mut document: serde_json::Value = serde_json::from_str(&text).unwrap();
    document["proc/1/comm"] = "systemd\n".into();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), document.to_string()).unwrap();
    let truth = Truth::from_json(file.path()).unwrap();
    let outcome = checks::check("pslist", &rekal(), &truth).unwrap();
    assert_eq!(
        outcome.differences,
        [
            r#"pid 1: binary: the truth "systemd", rekal "init""#,
            r#"pid 1: name: the truth "systemd", rekal "init""#
        ]
    );
}
