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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use clap::Parser;
use rekal_tests::checks;
use rekal_tests::checks::beside::Subject;
use rekal_tests::lab::{Guest, Lab, ProfileSource};
use rekal_tests::rekal::{Rekal, program_beside};
use rekal_tests::table::Comparison;
use rekal_tests::truth::Truth;
use tempfile::TempDir;

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

/// Commands that need a struct that no header of the kernel tells or that the module does not include, so the module zip
/// cannot have it: `proc_dir_entry`, `kthread`, `module_sect_attrs`, `mod_tree_node`, `perf_event`.
const NOT_IN_HEADERS: [&str; 5] =
    ["check_proc_fops", "kthreads", "lsmod_sections", "modxview", "perf_events"];

/// Everything a comparison needs; guests are compared side by side.
struct Comparing {
    lab: Lab,
    program: PathBuf,
    options: Options,
    scratch: TempDir,
    /// Profiles are made one after another: two guests may have one kernel.
    profiles: Mutex<PathBuf>,
    tally: Mutex<Tally>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let lab = Lab::open(options.lab.clone().unwrap_or_else(Lab::default_folder))?;
    let program = program_beside(options.rekal.as_deref())?;
    let scratch = tempfile::tempdir()?;
    let profiles = Mutex::new(options.profiles.clone().unwrap_or_else(|| scratch.path().to_path_buf()));
    let mut guests = lab.guests()?;
    guests.retain(|guest| guest.name.starts_with(&options.guest));
    // Those that are compared most thoroughly first, so that no worker is left alone with one.
    guests.sort_by_key(|guest| !guest.name.ends_with("-kaslr"));
    let comparing =
        Comparing { lab, program, options, scratch, profiles, tally: Mutex::new(Tally::default()) };
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(guest) = guests.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = comparing.guest(guest) {
                comparing.add(&guest.name, Err(error));
            }
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let tally = comparing.tally.into_inner().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 && tally.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Comparing {
    fn add(&self, what: &str, outcome: Result<Comparison>) {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).add(what, outcome);
    }

    /// Those of the commands that are wanted.
    fn wanted<'a>(&self, names: impl Iterator<Item = &'a str>) -> impl Iterator<Item = &'a str> {
        names.filter(|name| self.options.command.as_deref().is_none_or(|only| only == *name))
    }

    fn repository(&self, guest: &Guest, source: ProfileSource) -> Result<PathBuf> {
        let profiles = self.profiles.lock().unwrap_or_else(PoisonError::into_inner);
        self.lab.repository(&self.program, guest, source, &profiles)
    }

    fn rekal(&self, image: PathBuf, repository: PathBuf) -> Rekal {
        Rekal { program: self.program.clone(), image, repository: Some(repository) }
    }

    /// All comparisons of a guest.
    fn guest(&self, guest: &Guest) -> Result<()> {
        let repository = self.repository(guest, ProfileSource::Vmlinux)?;
        let truth = guest.truth()?;
        for image in guest.dumps()? {
            let file = image.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            // The formats hold the same of a kernel that was not moved as of its twin that was.
            let is_twin =
                guest.name.ends_with("-nokaslr") && self.options.dump.is_empty() && file != "mem.raw";
            if !is_twin && file.starts_with(&self.options.dump) {
                self.dump(guest, &truth, &file, &self.rekal(image, repository.clone()));
            }
        }
        if guest.name == WRAPPED_GUEST {
            self.wrapped(guest, &truth, &repository)?;
        }
        if guest.name.ends_with("-kaslr") && "mem.raw".starts_with(&self.options.dump) {
            self.profiles(guest, &truth)?;
        }
        Ok(())
    }

    /// One dump: every command, and what only some guests have.
    fn dump(&self, guest: &Guest, truth: &Truth, file: &str, rekal: &Rekal) {
        let name = &guest.name;
        if checks::hostile::is_hostile(name) {
            for command in self.wanted(checks::hostile::names()) {
                let outcome = checks::hostile::check(command, rekal, truth);
                self.add(&format!("{name} {file} {command} finds what was done"), outcome);
            }
            return;
        }
        if checks::swap::is_swapped(name) {
            for command in self.wanted(checks::swap::names()) {
                let outcome = checks::swap::check(command, rekal, truth);
                self.add(&format!("{name} {file} {command} of what was paged out"), outcome);
            }
        }
        self.commands(&format!("{name} {file}"), rekal, truth);
        if file != "mem.raw" {
            return;
        }
        for command in self.wanted(checks::beside::names()) {
            let subject = Subject { lab: &self.lab, guest, truth, rekal };
            let what = format!("{name} {file} {command} beside what is known");
            match checks::beside::check(command, &subject).transpose() {
                Some(outcome) => self.add(&what, outcome),
                None => println!("skip  {what}: built without YARA"),
            }
        }
    }

    fn commands(&self, what: &str, rekal: &Rekal, truth: &Truth) {
        for command in self.wanted(checks::names()) {
            self.add(&format!("{what} {command}"), checks::check(command, rekal, truth));
        }
    }

    /// The raw dump in containers.
    fn wrapped(&self, guest: &Guest, truth: &Truth, repository: &Path) -> Result<()> {
        for wrapper in &WRAPPERS {
            let file = format!("mem.raw.{}", wrapper.suffix);
            if !file.starts_with(&self.options.dump) {
                continue;
            }
            let folder = tempfile::tempdir_in(self.scratch.path())?;
            let image = folder.path().join(&file);
            wrapper.wrap(&guest.raw(), &image)?;
            let rekal = self.rekal(image, repository.to_path_buf());
            self.commands(&format!("{} {file}", guest.name), &rekal, truth);
        }
        Ok(())
    }

    /// The raw dump with every profile, and with none.
    fn profiles(&self, guest: &Guest, truth: &Truth) -> Result<()> {
        let name = &guest.name;
        for command in self.wanted(checks::names()).filter(|command| !checks::writes(command)) {
            let what = format!("{name} {command}: same rows from every profile and number of threads");
            self.add(&what, self.same_rows(guest, command));
        }
        let empty = self.scratch.path().join("empty");
        std::fs::create_dir_all(&empty)?;
        self.commands(&format!("{name} no profile anywhere:"), &self.rekal(guest.raw(), empty), truth);
        Ok(())
    }

    /// Runs a command with each profile, and with one and two threads, and compares the output byte by byte.
    fn same_rows(&self, guest: &Guest, command: &str) -> Result<Comparison> {
        let mut outcome = Comparison::default();
        let mut first: Option<Vec<u8>> = None;
        for source in ProfileSource::ALL {
            if source == ProfileSource::Zip && NOT_IN_HEADERS.contains(&command) {
                continue;
            }
            let rekal = self.rekal(guest.raw(), self.repository(guest, source)?);
            for threads in ["1", "2"] {
                let arguments = [&[command], checks::arguments(command)].concat();
                let output = rekal.run_with(&arguments, &[("RAYON_NUM_THREADS", threads)])?;
                outcome.rows += output.rows.len();
                if first.get_or_insert_with(|| output.bytes.clone()) != &output.bytes {
                    let difference = format!("other output: profile from {source:?}, {threads} threads");
                    outcome.differences.push(difference);
                }
            }
        }
        Ok(outcome)
    }
}
