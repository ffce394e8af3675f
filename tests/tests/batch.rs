//! `batch`: one process over many commands says the same as one process for each.
//!
//! Truth: the same commands alone, which are compared with the guest elsewhere.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const COMMANDS: [&str; 4] = ["pslist", "lsmod", "maps --proc_regex '^init$'", "netstat"];

fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).expect("tests lie in PROFILE/deps");
    let program = profile.join("rekal");
    assert!(program.is_file(), "build it first: cargo build --bin rekal: {}", program.display());
    program
}

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("images/linux-6.1-sample.lime.zst")
}

fn rekal(image: &Path, format: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME").env_remove("XDG_CACHE_HOME");
    command.args(["--offline", "--format", format, "-f"]).arg(image).args(arguments).output().unwrap()
}

/// Each command alone: its exit code and output.
fn alone(image: &Path, format: &str) -> Vec<(Option<i32>, Vec<u8>)> {
    COMMANDS
        .map(|line| {
            let words: Vec<&str> = line.split(' ').map(|word| word.trim_matches('\'')).collect();
            let output = rekal(image, format, &words);
            (output.status.code(), output.stdout)
        })
        .to_vec()
}

#[test]
fn tables_follow_one_another_as_they_are_alone() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, format!("# first the processes\n\n{}\n", COMMANDS.join("\n"))).unwrap();
    let script = script.to_str().unwrap();
    let expected = alone(&sample(), "json");
    let together: Vec<u8> = expected.iter().flat_map(|(_, text)| text.clone()).collect();
    let output = rekal(&sample(), "json", &["batch", "--file", script]);
    assert!(output.stdout == together, "{}", String::from_utf8_lossy(&output.stderr));
    // Each in a file of its own, in a format that cannot be told apart otherwise.
    let out = folder.path().join("out");
    let output = rekal(&sample(), "csv", &["--output_dir", out.to_str().unwrap(), "batch", "--file", script]);
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), COMMANDS.len());
    let expected = alone(&sample(), "csv");
    for (name, (_, text)) in ["pslist", "lsmod", "maps", "netstat"].iter().zip(&expected) {
        assert!(fs::read(out.join(format!("{name}.csv"))).unwrap() == *text, "{name}");
    }
    assert_eq!(rekal(&sample(), "csv", &["batch", "--file", script]).status.code(), Some(2));
}

#[test]
fn what_is_missing_is_said_with_every_table() {
    let folder = tempfile::tempdir().unwrap();
    // Half of the image, told by its header to be whole.
    let image = folder.path().join("half.lime");
    let whole = folder.path().join("whole.lime");
    let output = Command::new(program())
        .args(["--offline", "-f"])
        .arg(sample())
        .args(["imagecopy", "--as", "lime", "--out"])
        .arg(&whole)
        .output()
        .unwrap();
    assert!(whole.is_file(), "{}", String::from_utf8_lossy(&output.stderr));
    let bytes = fs::read(&whole).unwrap();
    fs::write(&image, bytes.get(..bytes.len() * 9 / 10).unwrap()).unwrap();
    let script = folder.path().join("script");
    fs::write(&script, COMMANDS.join("\n")).unwrap();
    let expected = alone(&image, "json");
    assert!(expected.iter().any(|(code, _)| *code == Some(3)), "a truncated image is partial");
    let together: Vec<u8> = expected.iter().flat_map(|(_, text)| text.clone()).collect();
    let output = rekal(&image, "json", &["batch", "--file", script.to_str().unwrap()]);
    assert!(output.stdout == together, "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn all_commands_run_and_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(program());
    command.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME").env_remove("XDG_CACHE_HOME");
    command.args(["--offline", "--format", "json", "-f"]).arg(sample()).arg("batch");
    let output = command.current_dir(folder.path()).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(matches!(output.status.code(), Some(0 | 3)), "{errors}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "files were written");
    let tables = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<serde_json::Value>();
    let names: Vec<String> =
        tables.map(|table| table.unwrap()["plugin"].as_str().unwrap().to_owned()).collect();
    for name in ["pslist", "check_syscall", "netstat", "vtop"] {
        assert_eq!(names.iter().any(|ran| ran == name), name != "vtop", "{name}");
    }
}

#[test]
fn a_command_that_fails_does_not_stop_the_others() {
    let output =
        rekal(&sample(), "json", &["batch", "no_such_command", "pslist --no_such_option", "hostname"]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("no_such_command") && errors.contains("no_such_option"), "{errors}");
    assert_eq!(output.stdout, rekal(&sample(), "json", &["hostname"]).stdout);
}
