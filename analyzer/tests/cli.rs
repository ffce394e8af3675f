//! The program as users run it: arguments in, bytes and exit codes out.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A scratch directory that is also the home directory, so that no configuration of the machine gets in.
struct Scratch(TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekal"));
        command.env_clear().env("HOME", self.0.path()).current_dir(self.0.path()).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments).output().unwrap())
    }
}

/// What a run left behind.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Run {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

fn run(arguments: &[&str]) -> Run {
    Scratch::new().run(arguments)
}

/// Bytes without meaning and without pages of zeros.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len / 8).flat_map(|_| next()).collect()
}

/// One range of a LiME file: the header of the format's documentation and the bytes.
fn lime(start: u64, len: u64, bytes: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0x4c69_4d45u32.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend((start + len - 1).to_le_bytes());
    file.extend([0; 8]);
    file.extend(bytes);
    file
}

#[test]
fn help_lists_options_commands_and_exit_codes() {
    for arguments in [&["--help"][..], &["-h"], &["--help", "pslist"]] {
        let run = run(arguments);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        for part in
            ["--filename", "--repository_path", "pslist", "convert_profile", "completion", "3  partial"]
        {
            assert!(run.stdout.contains(part), "{part} is missing");
        }
    }
}

#[test]
fn help_of_a_command_needs_no_image() {
    let run = run(&["pslist", "--help"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert!(run.stdout.starts_with("For linux images:\n\nList processes\n"), "{}", run.stdout);
    assert!(run.stdout.contains("For windows images:\n\nList processes\n"), "{}", run.stdout);
    for part in ["rekal pslist", "--proc_regex", "Columns:", "start_time", "--eprocess", "handle_count"] {
        assert!(run.stdout.contains(part), "{part} is missing");
    }
}

#[test]
fn version_is_printed() {
    let run = run(&["--version"]);
    assert_eq!((run.code, run.stdout), (0, format!("rekal {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn usage_errors_are_one_block_on_standard_error_and_exit_with_2() {
    let cases: &[(&[&str], &str, &str)] = &[
        (&[], "no command given", "rekal --help lists options and commands"),
        (&["plist"], "unknown command: plist", "did you mean pslist? rekal --help lists all commands"),
        (
            &["pslist", "-f", "x"],
            "a global option, not one of pslist: -f",
            "put it before the command: rekal -f ... pslist ...",
        ),
        (
            &["--proc_regex", "x", "pslist"],
            "an option of pslist, not a global one: --proc_regex",
            "put it after the command: rekal ... pslist --proc_regex ...",
        ),
        (&["pslist"], "this command needs a memory image", "name it: rekal -f IMAGE COMMAND"),
        (&["info", "plist"], "unknown command: plist", "rekal info lists all commands"),
    ];
    for (arguments, message, hint) in cases {
        let run = run(arguments);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{arguments:?}");
        let lines: Vec<&str> = run.stderr.lines().collect();
        assert_eq!(lines[0], format!("rekal: error: {message}"));
        assert_eq!(*lines.last().unwrap(), format!("hint: {hint}"));
    }
}

#[test]
fn a_file_in_place_of_the_command_is_explained() {
    let scratch = Scratch::new();
    let image = scratch.write("memory.raw", b"x");
    let run = scratch.run(&[&image]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains(&format!("hint: to analyze a file, name it with -f: rekal -f {image} COMMAND"))
    );
}

#[test]
fn hostile_arguments_do_not_reach_the_terminal() {
    let run = run(&["\x1b[2Jpslist"]);
    assert_eq!(run.stderr.lines().next(), Some("rekal: error: unknown command: \\x1b[2Jpslist"));
    assert!(!run.stderr.contains('\x1b'));
}

#[test]
fn what_is_no_image_exits_with_4_and_leaves_the_output_empty() {
    let scratch = Scratch::new();
    let text = scratch.write("notes.txt", b"these are only some notes\n".repeat(100).as_slice());
    let noise = scratch.write("noise.raw", &noise(1 << 20));
    for (image, command) in
        [("/nonexistent/image", "pslist"), (&text, "pslist"), (&noise, "pslist"), (&text, "load_as")]
    {
        for format in ["text", "json", "csv"] {
            let run = scratch.run(&["-F", format, "-f", image, command]);
            assert_eq!((run.code, run.stdout.as_str()), (4, ""), "{image} {format}: {}", run.stderr);
            assert!(run.stderr.starts_with("rekal: error: "), "{}", run.stderr);
            assert!(run.stderr.contains("\nhint: "), "{}", run.stderr);
        }
    }
}

#[test]
fn a_run_that_fails_in_the_middle_ends_its_table_and_says_so() {
    let scratch = Scratch::new();
    let image = scratch.write("noise.raw", &noise(1 << 20));
    let run = scratch.run(&["-F", "json", "-f", &image, "load_as"]);
    assert_eq!(run.code, 4);
    let json = run.json();
    assert_eq!(json["complete"], false);
    assert_eq!(json["notes"][0]["severity"], "error");
    let items: Vec<_> = json["rows"].as_array().unwrap().iter().map(|row| row["item"].clone()).collect();
    assert_eq!(items, ["layer", "layer", "run"]);
    assert_eq!(json["rows"][2]["start"], "0x0");
    assert_eq!(json["rows"][2]["size"], 1 << 20);
}

#[test]
fn imagecopy_writes_offset_equal_to_address() {
    let scratch = Scratch::new();
    let memory = noise(8192);
    let image = scratch.write("mem.lime", &lime(0x4000, 8192, &memory));
    let out = scratch.path("mem.raw");
    let run = scratch.run(&["-F", "ndjson", "-f", &image, "imagecopy", "-O", &out]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert_eq!(run.stdout, "{\"start\": \"0x4000\", \"end\": \"0x6000\", \"size\": 8192, \"missing\": 0}\n");
    let mut expected = vec![0; 0x4000];
    expected.extend(&memory);
    assert_eq!(fs::read(&out).unwrap(), expected);

    let again = scratch.run(&["-f", &image, "imagecopy", "--out", &out]);
    assert_eq!(again.code, 2);
    assert!(again.stderr.starts_with("rekal: error: file exists: "), "{}", again.stderr);
    assert!(again.stderr.contains("--overwrite before the command"), "{}", again.stderr);
    let again = scratch.run(&["--overwrite", "-f", &image, "imagecopy", "--out", &out]);
    assert_eq!(again.code, 0);
    let there = scratch.run(&["-D", &scratch.path(""), "-f", &image, "imagecopy", "--out", "below.raw"]);
    assert_eq!(there.code, 0);
    assert_eq!(fs::read(scratch.path("below.raw")).unwrap(), expected);
}

#[test]
fn a_truncated_image_is_partial_in_every_way_that_can_be_told() {
    let scratch = Scratch::new();
    let image = scratch.write("mem.lime", &lime(0, 16384, &noise(8192)));
    let run = scratch.run(&["-F", "json", "-f", &image, "imagecopy", "--out", &scratch.path("mem.raw")]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.starts_with("rekal: partial: "), "{}", run.stderr);
    let json = run.json();
    assert_eq!(json["complete"], false);
    assert_eq!(json["notes"][0]["severity"], "partial");
    let quiet = scratch.run(&["-q", "-f", &image, "imagecopy", "--out", &scratch.path("quiet.raw")]);
    assert_eq!(quiet.code, 3);
    assert!(quiet.stderr.starts_with("rekal: partial: "), "{}", quiet.stderr);
}

#[test]
fn output_goes_to_a_new_file_only() {
    let scratch = Scratch::new();
    let file = scratch.path("rows.json");
    let run = scratch.run(&["-F", "json", "--output", &file, "info"]);
    assert_eq!((run.code, run.stdout.as_str(), run.stderr.as_str()), (0, "", ""));
    let json: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(json["plugin"], "info");
    let again = scratch.run(&["--output", &file, "info"]);
    assert_eq!(again.code, 2);
    let again = scratch.run(&["--output", &file, "--overwrite", "-F", "csv", "info"]);
    assert_eq!(again.code, 0);
    assert!(fs::read_to_string(&file).unwrap().starts_with("Command,Active,Parameter,Docs\r\n"));
}

#[test]
fn a_run_that_fails_before_its_first_row_leaves_no_file() {
    let scratch = Scratch::new();
    let file = scratch.path("rows.json");
    assert_eq!(scratch.run(&["-f", "/nonexistent", "--output", &file, "pslist"]).code, 4);
    assert!(!Path::new(&file).exists());
    assert_eq!(fs::read_dir(scratch.0.path()).unwrap().count(), 0);
}

#[test]
fn the_limit_stops_and_says_so() {
    let run = run(&["--limit", "2", "-F", "ndjson", "info"]);
    assert_eq!((run.code, run.stdout.lines().count()), (0, 2));
    assert_eq!(run.stderr, "rekal: note: stopped after 2 rows, as --limit says\n");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let scratch = Scratch::new();
    for format in ["text", "json", "ndjson", "csv"] {
        let mut command = scratch.command(&["-F", format, "info", "pslist"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{format}");
    }
}

#[test]
fn every_format_shows_the_same_rows() {
    let rows = |format: &str| run(&["-F", format, "info", "find_dtb"]).stdout;
    let json: Value = serde_json::from_str(&rows("json")).unwrap();
    let json = json["rows"].as_array().unwrap();
    let ndjson: Vec<Value> = rows("ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json, &ndjson);
    assert_eq!(rows("csv").lines().count(), json.len() + 1);
    assert_eq!(rows("test").lines().count(), json.len() + 1);
    assert_eq!(rows("text").lines().count(), json.len() + 2);
    assert_eq!(rows("wide").lines().filter(|line| line.starts_with("****")).count(), json.len());
}

#[test]
fn the_configuration_file_of_the_home_directory_is_read() {
    let scratch = Scratch::new();
    scratch.write(".rekalrc", b"format = 'ndjson'\nfromat = 'x'\n");
    let run = scratch.run(&["--limit", "1", "info"]);
    assert!(run.stdout.starts_with("{\"Command\": "), "{}", run.stdout);
    let warning = run.stderr.lines().next().unwrap();
    assert!(warning.starts_with("rekal: warning: "), "{warning}");
    assert!(warning.ends_with(".rekalrc: unknown key: fromat (did you mean format?)"), "{warning}");
    let run = scratch.run(&["-F", "test", "info"]);
    assert!(run.stdout.starts_with("Command||Active||"), "{}", run.stdout);
}

#[test]
fn the_current_directory_is_no_place_for_configuration() {
    let scratch = Scratch::new();
    let evidence = scratch.path("evidence");
    fs::create_dir(&evidence).unwrap();
    fs::write(Path::new(&evidence).join(".rekalrc"), "format = 'json'").unwrap();
    fs::create_dir_all(Path::new(&evidence).join("repository/bundled")).unwrap();
    let run = Run::of(scratch.command(&["info"]).current_dir(&evidence).output().unwrap());
    assert!(run.stdout.starts_with("Command "), "{}", run.stdout);
}

#[test]
fn completion_scripts_name_commands_and_their_options() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish"] {
        let run = scratch.run(&["completion", shell]);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""));
        for part in ["pslist", "proc_regex", "repository_path"] {
            assert!(run.stdout.contains(part), "{shell}: {part} is missing");
        }
    }
    let script = scratch.write("rekal.bash", scratch.run(&["completion", "bash"]).stdout.as_bytes());
    // The shell itself is the judge of its syntax, and of what the script offers.
    let test = format!(
        "source {script}; COMP_WORDS=(rekal psl); COMP_CWORD=1; _rekal rekal psl rekal; echo \"${{COMPREPLY[*]}}\""
    );
    let output = Command::new("bash").args(["--norc", "-c", &test]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "pslist\n");
}

#[test]
fn manual_pages_are_written_one_per_command() {
    let scratch = Scratch::new();
    let run = scratch.run(&["man"]);
    assert!(run.stdout.contains(".TH rekal 1"), "{}", run.stdout);
    let dir = scratch.path("man");
    fs::create_dir(&dir).unwrap();
    assert_eq!(scratch.run(&["man", "--dir", &dir]).code, 0);
    let page = fs::read_to_string(Path::new(&dir).join("rekal-pslist.1")).unwrap();
    assert!(page.contains(".TH rekal-pslist 1"), "{page}");
    assert!(Path::new(&dir).join("rekal.1").is_file());
    assert_eq!(scratch.run(&["man", "--dir", &dir]).code, 2);
}

#[test]
fn a_repository_is_made_with_symlink_and_inventory() {
    let scratch = Scratch::new();
    let repository = scratch.path("profiles");
    let run = scratch.run(&[
        "-F",
        "ndjson",
        "make_symlink",
        "Linux/alias",
        "Linux/real",
        "--repository",
        &repository,
    ]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.starts_with("rekal: note: the symlink points to nothing yet"), "{}", run.stderr);
    let path = serde_json::from_str::<Value>(&run.stdout).unwrap()["path"].as_str().unwrap().to_owned();
    assert!(path.ends_with("profiles/v1.0/Linux/alias.gz"), "{path}");
    let run = scratch.run(&["-F", "ndjson", "build_inventory", &repository]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<Value>(&run.stdout).unwrap()["documents"], 1);
    assert!(Path::new(&repository).join("v1.0/inventory.gz").is_file());
}

#[test]
fn a_source_that_cannot_be_converted_fails_with_1_and_leaves_no_file() {
    let scratch = Scratch::new();
    let source = scratch.write("not-a-kernel", b"hello");
    let out = scratch.path("profile.json");
    let run = scratch.run(&["convert_profile", &source, &out]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(run.stderr.starts_with("rekal: error: "), "{}", run.stderr);
    assert!(!Path::new(&out).exists());
    let run = scratch.run(&["convert_profile", &source]);
    assert_eq!(run.code, 2);
    let run = scratch.run(&["convert_profile", &source, &source]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("file exists"), "{}", run.stderr);
}
