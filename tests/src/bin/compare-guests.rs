//! Compares `rekal` with the truth of every guest in the lab, in every format, and prints counts and differences.
//!
//! Besides, for the raw dump of each kernel: profiles from `vmlinux`, BTF, the module zip and the image itself must give the
//! same rows, and so must one thread and many; without any profile, the rows must still be right; and for one kernel, the raw dump inside gzip, xz, zstd and EWF is
//! compared too.
//! In the guest whose kernel was attacked, the attacks must be found, and nothing else. Ends with the line `N passed, N failed`; exit code 1 when anything failed.

#![expect(clippy::print_stdout, reason = "a report on standard output is what this program is for")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result};
use clap::Parser;
use rekal_tests::checks;
use rekal_tests::checks::beside::Subject;
use rekal_tests::lab::{Guest, Lab, ProfileSource};
use rekal_tests::rekal::Rekal;
use rekal_tests::table::Comparison;

/// Differences of one comparison that are printed; the rest is counted.
const SHOWN: usize = 40;

/// Compare rekal with the truth of the guests in the lab
#[derive(Debug, Parser)]
struct Options {
    /// The lab folder [default: $GUEST_LAB, else rekal-guest-lab in the cache directory]
    #[arg(long, value_name = "DIR")]
    lab: Option<PathBuf>,
    /// Only guests whose name starts with this, e.g. 6.1 or 6.12-kaslr
    #[arg(long, value_name = "NAME", default_value = "")]
    guest: String,
    /// Only dumps whose file name starts with this, e.g. mem.kdump [default: all; of guests without KASLR the raw one]
    #[arg(long, value_name = "FILE", default_value = "")]
    dump: String,
    /// Only this command
    #[arg(long, value_name = "NAME")]
    command: Option<String>,
    /// Keep the profiles that are made here, and use those that are here already
    #[arg(long, value_name = "DIR")]
    profiles: Option<PathBuf>,
    /// The program [default: rekal beside this one]
    #[arg(long, value_name = "FILE")]
    rekal: Option<PathBuf>,
}

/// The guest whose raw dump is also compared in the containers that other programs make of it.
const WRAPPED_GUEST: &str = "6.1-kaslr";

/// A program that puts a dump into a container, fast rather than small.
struct Wrapper {
    suffix: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
    /// Whether the program reads and writes files by name; otherwise it filters its input.
    by_name: bool,
}

const WRAPPERS: [Wrapper; 4] = [
    Wrapper { suffix: "gz", program: "gzip", arguments: &["-1"], by_name: false },
    Wrapper { suffix: "xz", program: "xz", arguments: &["-0", "-T0"], by_name: false },
    Wrapper { suffix: "zst", program: "zstd", arguments: &["-q", "-1"], by_name: false },
    // In segments of 64 MiB: .E01 and those that follow.
    Wrapper {
        suffix: "E01",
        program: "ewfacquire",
        arguments: &["-q", "-u", "-f", "encase6", "-c", "fast", "-S", "67108864", "-t"],
        by_name: true,
    },
];

impl Wrapper {
    fn wrap(&self, from: &Path, to: &Path) -> Result<()> {
        let mut command = Command::new(self.program);
        command.args(self.arguments);
        if self.by_name {
            // The program adds the suffix itself.
            command.arg(to.with_extension("")).arg(from).stdin(Stdio::null()).stdout(Stdio::null());
        } else {
            command.stdin(File::open(from)?).stdout(File::create(to)?);
        }
        let status = command.status().with_context(|| format!("cannot run: {}", self.program))?;
        anyhow::ensure!(status.success(), "{}: {status}", self.program);
        Ok(())
    }
}

/// Counts, for the last line.
#[derive(Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn add(&mut self, what: &str, outcome: Result<Comparison>) {
        let outcome = outcome.unwrap_or_else(|error| Comparison {
            differences: vec![format!("{error:#}")],
            ..Comparison::default()
        });
        let Comparison { rows, cells, differences } = outcome;
        if differences.is_empty() {
            self.passed += 1;
            println!("ok    {what}: {rows} rows, {cells} cells");
            return;
        }
        self.failed += 1;
        println!("FAIL  {what}: {rows} rows, {cells} cells, {} differences", differences.len());
        for difference in differences.iter().take(SHOWN) {
            println!("        {difference}");
        }
        if differences.len() > SHOWN {
            println!("        and {} more", differences.len() - SHOWN);
        }
    }
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let lab = Lab::open(options.lab.clone().unwrap_or_else(Lab::default_folder))?;
    let program = match &options.rekal {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.parent().context("no folder")?.join("rekal"),
    };
    let scratch = tempfile::tempdir()?;
    let profiles = options.profiles.as_deref().unwrap_or(scratch.path());
    let is_wanted = |name: &&str| options.command.as_deref().is_none_or(|only| only == *name);
    let commands: Vec<&str> = checks::names().filter(is_wanted).collect();
    let findings: Vec<&str> = checks::hostile::names().filter(is_wanted).collect();
    let beside: Vec<&str> = checks::beside::names().filter(is_wanted).collect();
    let swapped: Vec<&str> = checks::swap::names().filter(is_wanted).collect();
    let mut tally = Tally::default();
    for guest in lab.guests()?.iter().filter(|guest| guest.name.starts_with(&options.guest)) {
        let repository = match lab.repository(&program, guest, ProfileSource::Vmlinux, profiles) {
            Ok(repository) => repository,
            Err(error) => {
                tally.add(&guest.name, Err(error));
                continue;
            }
        };
        let truth = guest.truth()?;
        for image in guest.dumps()? {
            let file = image.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            // The formats hold the same of a kernel that was not moved as of its twin that was.
            let is_twin = guest.name.ends_with("-nokaslr") && options.dump.is_empty() && file != "mem.raw";
            if is_twin || !file.starts_with(&options.dump) {
                continue;
            }
            let rekal = Rekal { program: program.clone(), image, repository: Some(repository.clone()) };
            if checks::hostile::is_hostile(&guest.name) {
                for command in &findings {
                    let outcome = checks::hostile::check(command, &rekal, &truth);
                    tally.add(&format!("{} {file} {command} finds what was done", guest.name), outcome);
                }
                continue;
            }
            for command in swapped.iter().filter(|_| checks::swap::is_swapped(&guest.name)) {
                let outcome = checks::swap::check(command, &rekal, &truth);
                tally.add(&format!("{} {file} {command} of what was paged out", guest.name), outcome);
            }
            for command in &commands {
                tally
                    .add(&format!("{} {file} {command}", guest.name), checks::check(command, &rekal, &truth));
            }
            for command in beside.iter().filter(|_| file == "mem.raw") {
                let subject = Subject { lab: &lab, guest, truth: &truth, rekal: &rekal };
                let what = format!("{} {file} {command} beside what is known", guest.name);
                match checks::beside::check(command, &subject).transpose() {
                    Some(outcome) => tally.add(&what, outcome),
                    None => println!("skip  {what}: built without YARA"),
                }
            }
        }
        for wrapper in WRAPPERS.iter().filter(|_| guest.name == WRAPPED_GUEST) {
            let file = format!("mem.raw.{}", wrapper.suffix);
            if !file.starts_with(&options.dump) {
                continue;
            }
            let folder = tempfile::tempdir_in(scratch.path())?;
            let image = folder.path().join(&file);
            if let Err(error) = wrapper.wrap(&guest.raw(), &image) {
                tally.add(&file, Err(error));
                continue;
            }
            let rekal = Rekal { program: program.clone(), image, repository: Some(repository.clone()) };
            for command in &commands {
                tally
                    .add(&format!("{} {file} {command}", guest.name), checks::check(command, &rekal, &truth));
            }
        }
        if guest.name.ends_with("-kaslr") && "mem.raw".starts_with(&options.dump) {
            for command in commands.iter().filter(|command| !checks::writes(command)) {
                let what =
                    format!("{} {command}: same rows from every profile and number of threads", guest.name);
                tally.add(&what, same_rows(&lab, &program, guest, command, profiles));
            }
            let empty = scratch.path().join("empty");
            std::fs::create_dir_all(&empty)?;
            let rekal = Rekal { program: program.clone(), image: guest.raw(), repository: Some(empty) };
            for command in &commands {
                let what = format!("{} {command}, no profile anywhere", guest.name);
                tally.add(&what, checks::check(command, &rekal, &truth));
            }
        }
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 && tally.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Commands that need a struct that no header of the kernel tells or that the module does not include, so the module zip
/// cannot have it: `proc_dir_entry`, `kthread`, `module_sect_attrs`, `mod_tree_node`, `perf_event`.
const NOT_IN_HEADERS: [&str; 5] =
    ["check_proc_fops", "kthreads", "lsmod_sections", "modxview", "perf_events"];

/// Runs a command with each profile, and with one and two threads, and compares the output byte by byte.
fn same_rows(lab: &Lab, program: &Path, guest: &Guest, command: &str, profiles: &Path) -> Result<Comparison> {
    let mut outcome = Comparison::default();
    let mut first: Option<Vec<u8>> = None;
    for source in ProfileSource::ALL {
        if source == ProfileSource::Zip && NOT_IN_HEADERS.contains(&command) {
            continue;
        }
        let repository = lab.repository(program, guest, source, profiles)?;
        let rekal =
            Rekal { program: program.to_path_buf(), image: guest.raw(), repository: Some(repository) };
        for threads in ["1", "2"] {
            let arguments = [&[command], checks::arguments(command)].concat();
            let output = rekal.run_with(&arguments, &[("RAYON_NUM_THREADS", threads)])?;
            outcome.rows += output.rows.len();
            if first.get_or_insert_with(|| output.bytes.clone()) != &output.bytes {
                outcome.differences.push(format!("other output: profile from {source:?}, {threads} threads"));
            }
        }
    }
    Ok(outcome)
}
