//! Runs the built program and reads its JSON.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

use crate::table::Record;

/// The program of the build profile that the running test belongs to. `cargo nextest run --workspace` brings it up to date, as
/// its own package has tests too; where another package alone is tested it may have to be built.
pub fn program() -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let profile = test.ancestors().nth(2).context("tests lie in PROFILE/deps")?;
    let program = profile.join("rekal");
    if !program.is_file() {
        bail!("build it first: cargo build --bin rekal: {}", program.display());
    }
    Ok(program)
}

/// The program that was named, else the one beside the running program.
pub fn program_beside(named: Option<&Path>) -> Result<PathBuf> {
    Ok(match named {
        Some(program) => program.to_path_buf(),
        None => std::env::current_exe()?.with_file_name("rekal"),
    })
}

/// How to run `rekal` on one image.
#[derive(Debug, Clone)]
pub struct Rekal {
    /// The program.
    pub program: PathBuf,
    /// The image.
    pub image: PathBuf,
    /// Where profiles are; `None` for the bundled repository.
    pub repository: Option<PathBuf>,
}

/// What a command printed: the JSON contract of the program.
#[derive(Debug, Clone)]
pub struct Output {
    /// The rows, each by column name.
    pub rows: Vec<Row>,
    /// Messages about what is incomplete.
    pub notes: Vec<Value>,
    /// Whether everything could be read.
    pub complete: bool,
    /// Standard output as it came.
    pub bytes: Vec<u8>,
}

/// One row.
#[derive(Debug, Clone)]
pub struct Row(Map<String, Value>);

impl Rekal {
    /// Runs a command with arguments and reads its table. Exit codes other than 0 and 3 (partial) are errors.
    pub fn run(&self, command: &[&str]) -> Result<Output> {
        self.run_with(command, &[])
    }

    /// The same with environment variables.
    pub fn run_with(&self, command: &[&str], environment: &[(&str, &str)]) -> Result<Output> {
        let mut process = Command::new(&self.program);
        process.args(["--format", "json", "--offline", "-f"]).arg(&self.image);
        // A user's own configuration must not change what is tested.
        process.env("HOME", "/nonexistent").env_remove("XDG_CONFIG_HOME").env_remove("XDG_CACHE_HOME");
        if let Some(repository) = &self.repository {
            process.arg("--repository_path").arg(repository);
        }
        process.args(command).envs(environment.iter().copied()).stdin(Stdio::null());
        let output = process.output().with_context(|| format!("cannot run: {}", self.program.display()))?;
        if !matches!(output.status.code(), Some(0 | 3)) {
            bail!(
                "rekal {} on {}: {}: {}",
                command.join(" "),
                self.image.display(),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let mut document: Map<String, Value> =
            serde_json::from_slice(&output.stdout).context("standard output is not one JSON object")?;
        let Some(Value::Array(rows)) = document.remove("rows") else { bail!("no array \"rows\"") };
        let Some(Value::Array(notes)) = document.remove("notes") else { bail!("no array \"notes\"") };
        let Some(Value::Bool(complete)) = document.remove("complete") else { bail!("no \"complete\"") };
        let rows = rows
            .into_iter()
            .map(|row| match row {
                Value::Object(cells) => Ok(Row(cells)),
                other => bail!("a row is not an object: {other}"),
            })
            .collect::<Result<_>>()?;
        Ok(Output { rows, notes, complete, bytes: output.stdout })
    }
}

/// Runs a program that makes something and says nothing worth reading; its standard error is the error.
pub fn run_quietly(program: &Path, arguments: &[&Path]) -> Result<Duration> {
    let start = std::time::Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run: {}", program.display()))?;
    if !output.status.success() {
        bail!("{}: {}: {}", program.display(), output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(start.elapsed())
}

impl Row {
    /// A cell as text: numbers in decimal, lists joined by commas; `<absent: reason>` for an absent one.
    #[must_use]
    pub fn text(&self, column: &str) -> String {
        match self.0.get(column) {
            None => "<no such column>".into(),
            Some(Value::Null) => format!("<absent: {}>", self.reason(column).unwrap_or("no reason")),
            Some(value) => plain(value),
        }
    }

    /// A cell as text, where an absent one stands for no text at all (an anonymous mapping has no path).
    #[must_use]
    pub fn text_or_empty(&self, column: &str) -> String {
        if self.is_not_applicable(column) { String::new() } else { self.text(column) }
    }

    /// Whether the cell is absent because it does not apply to the row, not because it could not be read.
    #[must_use]
    pub fn is_not_applicable(&self, column: &str) -> bool {
        self.0.get(column).is_some_and(Value::is_null)
            && self.reason(column).is_some_and(|reason| reason.starts_with("not applicable"))
    }

    /// A row of another program's JSON.
    pub(crate) fn of(cells: Map<String, Value>) -> Self {
        Self(cells)
    }

    /// The row with some cells more, or others.
    pub(crate) fn with(&self, cells: &[(&str, Value)]) -> Self {
        let mut row = self.0.clone();
        row.extend(cells.iter().map(|(column, value)| ((*column).to_owned(), value.clone())));
        Self(row)
    }

    /// A cell as text; empty where there is none, whatever the reason.
    pub(crate) fn text_unless_absent(&self, column: &str) -> String {
        self.0.get(column).filter(|value| !value.is_null()).map_or_else(String::new, plain)
    }

    /// Why a cell is absent.
    #[must_use]
    pub fn reason(&self, column: &str) -> Option<&str> {
        self.0.get("_absent")?.get(column)?.as_str()
    }

    /// A field of an object cell, e.g. `("proc", "pid")`.
    #[must_use]
    pub fn object(&self, column: &str, field: &str) -> String {
        self.0.get(column).and_then(|object| object.get(field)).map_or("<no such field>".into(), plain)
    }

    /// An unsigned integer.
    #[must_use]
    pub fn number(&self, column: &str) -> Option<u64> {
        self.0.get(column)?.as_u64()
    }

    /// An array.
    #[must_use]
    pub fn list(&self, column: &str) -> Vec<String> {
        self.0
            .get(column)
            .and_then(Value::as_array)
            .map_or(Vec::new(), |list| list.iter().map(plain).collect())
    }

    /// A record with these columns as they are.
    #[must_use]
    pub fn record(&self, key: String, columns: &[&'static str]) -> Record {
        let cells: BTreeMap<_, _> = columns.iter().map(|column| (*column, self.text(column))).collect();
        Record { key, cells }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}
