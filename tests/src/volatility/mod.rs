//! Volatility 3 on the images of the guests: what it says beside what `rekal` says, row by row.
//!
//! - [`Volatility`] runs its plugins with the symbol table (ISF) that `rekal` writes of the same kernel.
//! - [`pairs`] says which plugin stands beside which command, and which columns mean the same.
//! - [`explained`] lists every difference there is, with its reason. A difference that is not in the list is a failure.

mod clean;
pub mod explained;
pub mod pairs;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::lab::{Guest, Lab, ProfileSource};
use crate::rekal::{Row, run_quietly};

/// Deepest tree of rows that is followed.
const MAX_DEPTH: u64 = 64;

/// How to run Volatility 3 on one image.
#[derive(Debug, Clone)]
pub struct Volatility {
    /// The program.
    pub program: PathBuf,
    /// The folder of symbol tables.
    pub symbols: PathBuf,
    /// Where it keeps what it has found out before.
    pub cache: PathBuf,
    /// The image.
    pub image: PathBuf,
}

/// What a plugin answered.
#[derive(Debug, Clone)]
pub enum Answer {
    /// Rows; those of a tree in its order, each with its depth as `_depth`.
    Rows(Vec<Row>),
    /// It ended with an error: the last line of what it said.
    Failed(String),
}

impl Volatility {
    /// Runs a plugin, named without `linux.`, unless its answer lies in a folder already; leaves it there.
    pub fn kept(&self, plugin: &str, folder: &Path) -> Result<Answer> {
        let (answer, failure) =
            (folder.join(format!("{plugin}.json")), folder.join(format!("{plugin}.failed")));
        if !answer.is_file() && !failure.is_file() {
            std::fs::create_dir_all(folder)?;
            let output = self.run(plugin)?;
            let said = String::from_utf8_lossy(&output.stderr);
            let version = said.lines().find_map(|line| line.strip_prefix("Volatility 3 Framework "));
            if let Some(other) = version.filter(|version| *version != explained::VERSION) {
                bail!(
                    "the explained differences are those of Volatility {}, not: {other}",
                    explained::VERSION
                );
            }
            if output.status.success() {
                std::fs::write(&answer, output.stdout)?;
            } else {
                std::fs::write(&failure, reason(&output.stderr))?;
            }
        }
        if failure.is_file() {
            return Ok(Answer::Failed(std::fs::read_to_string(failure)?));
        }
        Self::answer(&std::fs::read(answer)?).with_context(|| plugin.to_owned())
    }

    fn run(&self, plugin: &str) -> Result<Output> {
        Command::new(&self.program)
            .args(["--quiet", "--offline", "--renderer", "json", "--cache-path"])
            .arg(&self.cache)
            .arg("--symbol-dirs")
            .arg(&self.symbols)
            .arg("--file")
            .arg(&self.image)
            .arg(format!("linux.{plugin}"))
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run: {}", self.program.display()))
    }

    fn answer(json: &[u8]) -> Result<Answer> {
        let Value::Array(trees) = serde_json::from_slice(json).context("standard output is no JSON")? else {
            bail!("standard output is no JSON array");
        };
        let mut rows = Vec::new();
        flatten(trees, 0, &mut rows)?;
        Ok(Answer::Rows(rows))
    }
}

/// The line that says why: the exception's, or the one below the notice of a problem with symbols.
fn reason(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let told = lines().skip_while(|line| !line.starts_with("Volatility experienced")).nth(1);
    told.or_else(|| lines().next_back()).unwrap_or_default().to_owned()
}

fn flatten(trees: Vec<Value>, depth: u64, rows: &mut Vec<Row>) -> Result<()> {
    for tree in trees {
        let Value::Object(mut cells) = tree else { bail!("a row is not an object: {tree}") };
        let children = cells.remove("__children");
        cells.insert("_depth".to_owned(), Value::from(depth));
        rows.push(Row::of(cells));
        if let Some(Value::Array(below)) = children
            && depth < MAX_DEPTH
        {
            flatten(below, depth + 1, rows)?;
        }
    }
    Ok(())
}

/// A folder of symbol tables with that of the guest's kernel, written by `rekal` in `into`.
pub fn symbols(lab: &Lab, program: &Path, guest: &Guest, into: &Path) -> Result<PathBuf> {
    let folder = into.join(format!("{}-isf", guest.release));
    let table = folder.join("linux").join(format!("{}.json", guest.release));
    if !table.is_file() {
        let repository = lab.repository(program, guest, ProfileSource::Vmlinux, into)?;
        let profile =
            repository.join("v1.0/Linux/BuildID").join(format!("{}.gz", guest.truth()?.build_id()?));
        std::fs::create_dir_all(folder.join("linux"))?;
        let option = Path::new;
        run_quietly(program, &[option("convert_profile"), option("--to"), option("isf"), &profile, &table])?;
    }
    Ok(folder)
}
