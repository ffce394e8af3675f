//! Zeroes pages of a guest's raw dump at random and runs all commands over what is left: each must end, say what is missing,
//! and `pslist` must still show every process whose own pages survived.
//!
//! For each guest, percentage and seed: a copy of the dump with so many of its pages zeroed, one run of `rekal batch` with a limit
//! of time. Prints one line for each run; exit code 1 when anything failed.

#![expect(clippy::print_stdout, reason = "a report on standard output is what this program is for")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use rekal_tests::lab::{Guest, Lab, ProfileSource};
use rekal_tests::rekal::{Rekal, program_beside};
use rekal_tests::truth::Machine;
use serde_json::Value;

const PAGE: u64 = 4096;
/// Bytes of a `task_struct`, rounded up: of distribution kernels none is larger.
const TASK: u64 = 10 << 10;

/// Run all commands over damaged images
#[derive(Debug, Parser)]
struct Options {
    /// The lab folder [default: $GUEST_LAB, else rekal-guest-lab in the cache directory]
    #[arg(long, value_name = "DIR")]
    lab: Option<PathBuf>,
    /// The guests
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_values_t = ["6.1-kaslr".to_owned(), "6.12-kaslr".to_owned()])]
    guest: Vec<String>,
    /// Percentages of pages that are zeroed
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 5, 20])]
    percent: Vec<u64>,
    /// Number of seeds for each
    #[arg(long, value_name = "N", default_value_t = 20)]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    first: u64,
    /// Longest run of all commands together
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    seconds: u64,
    /// The program [default: rekal beside this one]
    #[arg(long, value_name = "FILE")]
    rekal: Option<PathBuf>,
}

/// A guest whose image is damaged, and what its intact image has.
struct Subject {
    guest: Guest,
    repository: PathBuf,
    processes: Vec<Process>,
}

/// A process of the intact image.
struct Process {
    address: String,
    pages: Vec<u64>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let lab = Lab::open(options.lab.clone().unwrap_or_else(Lab::default_folder))?;
    let program = program_beside(options.rekal.as_deref())?;
    let scratch = tempfile::tempdir()?;
    let mut failures = 0;
    let mut runs = 0;
    for name in &options.guest {
        let guest = lab.guests()?.into_iter().find(|guest| guest.name == *name);
        let guest = guest.with_context(|| format!("no such guest: {name}"))?;
        // The image of another machine has less: no BTF (i386), no names of data (arm64).
        let source = match guest.truth()?.machine()? {
            Machine::Amd64 => ProfileSource::Image,
            Machine::I386 | Machine::Arm64 => ProfileSource::Vmlinux,
        };
        let repository = lab.repository(&program, &guest, source, scratch.path())?;
        let intact =
            Rekal { program: program.clone(), image: guest.raw(), repository: Some(repository.clone()) };
        let subject = Subject { processes: processes(&intact, guest.ram_start()?)?, guest, repository };
        let seeds = options.first..options.first.saturating_add(options.seeds);
        let jobs: Vec<(u64, u64)> =
            options.percent.iter().flat_map(|percent| seeds.clone().map(|seed| (*percent, seed))).collect();
        runs += jobs.len();
        let next = AtomicUsize::new(0);
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let work = &|worker: usize| {
            let image = scratch.path().join(format!("damaged-{worker}.raw"));
            fs::copy(subject.guest.raw(), &image)?;
            let mut failures = 0;
            while let Some(&(percent, seed)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                failures += usize::from(!try_one(&options, &program, &subject, &image, percent, seed)?);
            }
            Ok(failures)
        };
        failures += std::thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| bail!("a worker panicked")))
                .sum::<Result<usize>>()
        })?;
    }
    println!("{} passed, {failures} failed", runs.saturating_sub(failures));
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Damages the worker's image, runs everything, and puts the pages back; whether all was well.
fn try_one(
    options: &Options,
    program: &Path,
    subject: &Subject,
    image: &Path,
    percent: u64,
    seed: u64,
) -> Result<bool> {
    let zeroed = zero_pages(image, percent, seed)?;
    let output = image.with_extension("out");
    fs::create_dir(&output)?;
    let wanted: Vec<&str> = subject
        .processes
        .iter()
        .filter(|process| process.pages.iter().all(|page| !zeroed.contains(page)))
        .map(|process| process.address.as_str())
        .collect();
    let outcome = run(program, image, &subject.repository, &output, Duration::from_secs(options.seconds))
        .and_then(|run| Ok((missing(&output, &wanted).with_context(|| run.to_string())?, run)));
    let name = format!("{}, {percent} %, seed {seed}", subject.guest.name);
    let good = match outcome {
        Ok((lost, run)) if lost.is_empty() && run.errors.is_empty() && run.code == 3 => {
            println!("ok    {name}: {run}, {} processes kept", wanted.len());
            true
        }
        Ok((lost, run)) => {
            println!("FAIL  {name}: {run}, lost {} of {} processes", lost.len(), wanted.len());
            false
        }
        Err(error) => {
            println!("FAIL  {name}: {error:#}");
            false
        }
    };
    fs::remove_dir_all(&output)?;
    restore(image, &subject.guest.raw(), &zeroed)?;
    Ok(good)
}

/// The processes of the intact image, whose first byte has the physical address `ram_start`, with the pages of the file that
/// their structures are in.
fn processes(intact: &Rekal, ram_start: u64) -> Result<Vec<Process>> {
    let rows = intact.run(&["pslist"])?.rows;
    let address = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16);
    let first = rows.first().context("no process")?.object("proc", "address");
    let steps = intact.run(&["vtop", &first])?.rows;
    let physical = steps.iter().find(|row| row.text("step") == "physical").context("no physical address")?;
    let shift = address(&first)?.wrapping_sub(address(&physical.text("address"))?).wrapping_add(ram_start);
    rows.iter()
        .map(|row| {
            let text = row.object("proc", "address");
            let start = address(&text)?.wrapping_sub(shift);
            Ok(Process { address: text, pages: (start / PAGE..=(start + TASK) / PAGE).collect() })
        })
        .collect()
}

/// Zeroes a share of the pages of a file, chosen by the seed; which.
fn zero_pages(image: &Path, percent: u64, seed: u64) -> Result<BTreeSet<u64>> {
    let mut file = File::options().write(true).open(image)?;
    let count = file.seek(SeekFrom::End(0))? / PAGE;
    // The generator of Marsaglia, "Xorshift RNGs", 2003.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut zeroed = BTreeSet::new();
    for page in 0..count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if state % 100 < percent {
            zeroed.insert(page);
            file.seek(SeekFrom::Start(page * PAGE))?;
            file.write_all(&[0; 4096])?;
        }
    }
    Ok(zeroed)
}

/// Writes the pages of the intact file over those of its copy.
fn restore(image: &Path, intact: &Path, pages: &BTreeSet<u64>) -> Result<()> {
    let mut from = File::open(intact)?;
    let mut to = File::options().write(true).open(image)?;
    let mut bytes = [0; 4096];
    for page in pages {
        from.seek(SeekFrom::Start(page * PAGE))?;
        from.read_exact(&mut bytes)?;
        to.seek(SeekFrom::Start(page * PAGE))?;
        to.write_all(&bytes)?;
    }
    Ok(())
}

/// What became of a run of all commands.
struct Run {
    code: i32,
    commands: usize,
    seconds: f64,
    /// What went wrong with commands that neither ended well nor with less than everything.
    errors: Vec<String>,
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} commands, exit code {}, {:.1} s", self.commands, self.code, self.seconds)?;
        self.errors.iter().try_for_each(|error| write!(f, "; {error}"))
    }
}

fn run(program: &Path, image: &Path, repository: &Path, output: &Path, limit: Duration) -> Result<Run> {
    let started = Instant::now();
    let (lines, errors) = (output.join("lines"), output.join("errors"));
    let mut child = Command::new(program)
        .args(["--format", "json", "--offline", "--repository_path"])
        .arg(repository)
        .arg("--output_dir")
        .arg(output)
        .arg("-f")
        .arg(image)
        .arg("batch")
        .env("HOME", "/nonexistent")
        .stdin(Stdio::null())
        .stdout(File::create(&lines)?)
        .stderr(File::create(&errors)?)
        .spawn()?;
    let code = wait(&mut child, limit)?;
    let text = fs::read_to_string(&lines)?;
    let results: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.next()?))
        })
        .collect();
    let mut errors: Vec<String> = fs::read_to_string(&errors)?
        .lines()
        .filter_map(|line| line.strip_prefix("rekal: error: ").map(str::to_owned))
        .collect();
    let bad = results.iter().filter(|(_, code)| !["0", "3"].contains(code));
    errors.extend(bad.map(|(name, code)| format!("{name} has exit code {code}")));
    Ok(Run { code, commands: results.len(), seconds: started.elapsed().as_secs_f64(), errors })
}

fn wait(child: &mut Child, limit: Duration) -> Result<i32> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return status.code().context("killed by a signal");
        }
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            ensure!(false, "not done after {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes that pslist should have shown and did not.
fn missing<'a>(output: &Path, wanted: &[&'a str]) -> Result<Vec<&'a str>> {
    let file = output.join("pslist.json");
    let document: Value = serde_json::from_slice(&fs::read(&file).context("no output of pslist")?)?;
    let rows = document.get("rows").and_then(Value::as_array).context("no rows of pslist")?;
    let shown: BTreeSet<&str> =
        rows.iter().filter_map(|row| row.get("proc")?.get("address")?.as_str()).collect();
    Ok(wanted.iter().copied().filter(|address| !shown.contains(address)).collect())
}
