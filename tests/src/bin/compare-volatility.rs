//! Compares `rekal` with Volatility 3 on the raw dump of a guest, row by row, and prints every difference that nobody has explained.
//!
//! Volatility gets the symbol table that `rekal` writes. Where the guest's own report covers a command, `rekal` is compared with
//! that too, so that a difference is known to be Volatility's. The differences and their reasons are in
//! `docs/volatility-differences.md`, which `--document` writes. Ends with the line `N passed, N failed`; exit code 1 when anything failed.

#![expect(clippy::print_stdout, reason = "a report on standard output is what this program is for")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::Result;
use clap::Parser;
use rekal_tests::checks;
use rekal_tests::lab::{Guest, Lab, ProfileSource};
use rekal_tests::rekal::{Rekal, program_beside};
use rekal_tests::table::Comparison;
use rekal_tests::volatility::explained::{self, Explanation};
use rekal_tests::volatility::pairs::{PAIRS, Pair};
use rekal_tests::volatility::{Answer, Volatility, symbols};

/// Differences of one plugin that are printed; the rest is counted.
const SHOWN: usize = 40;

/// Compare rekal with Volatility 3 on a guest in the lab
#[derive(Debug, Parser)]
struct Options {
    /// The lab folder [default: $GUEST_LAB, else rekal-guest-lab in the cache directory]
    #[arg(long, value_name = "DIR")]
    lab: Option<PathBuf>,
    /// Only guests whose name starts with this, e.g. 6.12-kaslr
    #[arg(long, value_name = "NAME", default_value = "6.1-kaslr")]
    guest: String,
    /// Only plugins whose name starts with this, e.g. pslist or malware.
    #[arg(long, value_name = "NAME", default_value = "")]
    plugin: String,
    /// Keep profiles, symbol tables and what Volatility answers here, and use what is here already
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// The program [default: rekal beside this one]
    #[arg(long, value_name = "FILE")]
    rekal: Option<PathBuf>,
    /// Volatility 3
    #[arg(long, value_name = "FILE", default_value = "vol")]
    volatility: PathBuf,
    /// Plugins of Volatility that run at the same time
    #[arg(long, value_name = "N", default_value_t = 2)]
    jobs: usize,
    /// Write the list of explained differences to this file, and do nothing else
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    if let Some(file) = &options.document {
        std::fs::write(file, explained::document())?;
        return Ok(ExitCode::SUCCESS);
    }
    let lab = Lab::open(options.lab.clone().unwrap_or_else(Lab::default_folder))?;
    let program = program_beside(options.rekal.as_deref())?;
    let scratch = tempfile::tempdir()?;
    let folder = options.keep.as_deref().unwrap_or(scratch.path());
    let (mut passed, mut failed) = (0, 0);
    for guest in lab.guests()?.iter().filter(|guest| guest.name.starts_with(&options.guest)) {
        let pairs: Vec<&Pair> =
            PAIRS.iter().filter(|pair| pair.plugin.starts_with(&options.plugin)).collect();
        let repository = lab.repository(&program, guest, ProfileSource::Vmlinux, folder)?;
        let rekal = Rekal { program: program.clone(), image: guest.raw(), repository: Some(repository) };
        let volatility = Volatility {
            program: options.volatility.clone(),
            symbols: symbols(&lab, &program, guest, folder)?,
            cache: folder.join("cache"),
            image: guest.raw(),
        };
        std::fs::create_dir_all(&volatility.cache)?;
        let mut unseen: BTreeSet<&str> = explained::ALL.iter().map(|explanation| explanation.name).collect();
        for (pair, answer) in answers(&volatility, guest, &pairs, folder, options.jobs) {
            match answer.and_then(|answer| judge(pair, &answer, &rekal, guest)) {
                Ok(verdict) if verdict.unexplained.is_empty() => {
                    passed += 1;
                    println!("ok    {} {}: {}", guest.name, pair.plugin, verdict.text);
                    unseen.retain(|name| !verdict.explained.contains_key(name));
                }
                Ok(verdict) => {
                    failed += 1;
                    println!("FAIL  {} {}: {}", guest.name, pair.plugin, verdict.text);
                    for difference in verdict.unexplained.iter().take(SHOWN) {
                        println!("        {difference}");
                    }
                    if verdict.unexplained.len() > SHOWN {
                        println!("        and {} more", verdict.unexplained.len() - SHOWN);
                    }
                }
                Err(error) => {
                    failed += 1;
                    println!("FAIL  {} {}: {error:#}", guest.name, pair.plugin);
                }
            }
        }
        println!("not seen in {}: {}", guest.name, unseen.into_iter().collect::<Vec<_>>().join(", "));
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the plugins, some at the same time; the answers are in the order of the plugins.
fn answers<'p>(
    volatility: &Volatility,
    guest: &Guest,
    pairs: &[&'p Pair],
    folder: &Path,
    jobs: usize,
) -> Vec<(&'p Pair, Result<Answer>)> {
    let kept = folder.join(format!("{}-answers", guest.name));
    // The first run looks at all symbol tables; those after it find that in the cache.
    let mut answers: Vec<(usize, Result<Answer>)> =
        pairs.iter().take(1).map(|pair| (0, volatility.kept(pair.plugin, &kept))).collect();
    let queue = Mutex::new(pairs.iter().enumerate().skip(1));
    let next = || queue.lock().ok()?.next();
    std::thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            while let Some((at, pair)) = next() {
                done.push((at, volatility.kept(pair.plugin, &kept)));
            }
            done
        };
        let workers: Vec<_> = (0..jobs.max(1)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            answers.extend(worker.join().unwrap_or_default());
        }
    });
    answers.sort_by_key(|(at, _)| *at);
    pairs.iter().copied().zip(answers.into_iter().map(|(_, answer)| answer)).collect()
}

/// What came out of one comparison.
struct Verdict {
    text: String,
    /// Explanations and how many differences each covers.
    explained: BTreeMap<&'static str, usize>,
    unexplained: Vec<String>,
}

fn judge(pair: &Pair, answer: &Answer, rekal: &Rekal, guest: &Guest) -> Result<Verdict> {
    let ours = rekal.run(pair.command)?;
    let (differences, mut text) = match answer {
        Answer::Rows(rows) => {
            let (theirs, ours) = (pair.theirs(rows), pair.ours(&ours.rows));
            let counts = format!("{} rows of Volatility, {} of rekal", theirs.len(), ours.len());
            let Comparison { cells, differences, .. } = Comparison::with("Volatility", theirs, ours);
            (differences, format!("{counts}, {cells} cells"))
        }
        Answer::Failed(line) => {
            (vec![format!("fails: {line}")], format!("no row of Volatility, {} of rekal", ours.rows.len()))
        }
    };
    let mut explained: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut unexplained = Vec::new();
    for difference in differences {
        match explained::find(pair.plugin, &difference) {
            Some(Explanation { name, .. }) => *explained.entry(name).or_default() += 1,
            None => unexplained.push(difference),
        }
    }
    for (name, count) in &explained {
        text.push_str(&format!("; {count} x {name}"));
    }
    let [command, ..] = pair.command else { return Ok(Verdict { text, explained, unexplained }) };
    if checks::names().any(|name| name == *command) {
        let report = checks::check(command, rekal, &guest.truth()?)?;
        if report.differences.is_empty() {
            text.push_str("; the guest's report agrees with rekal");
        } else {
            unexplained.extend(report.differences.into_iter().map(|line| format!("guest's report: {line}")));
        }
    }
    Ok(Verdict { text, explained, unexplained })
}
