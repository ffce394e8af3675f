//! Conversions in a child process, for sources that strangers sent.
//!
//! A defect of a parser can end in memory without end, a stack without end or a loop. Limits of the operating system
//! stop all three, and they stop the child only. The child is the program itself, started with [`ARGUMENT`]; its `main`
//! calls [`serve_if_asked`] before anything else. The request goes in by standard input; the answer comes back by
//! standard output: one line of JSON, then the text of the document.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::pdb::{ConvertReport, PdbError, PdbOptions, convert_pdb_file};
use crate::{LinuxOptions, convert_linux};

/// The first argument by which a program is asked to be a worker. Not for people, so no help shows it.
pub const ARGUMENT: &str = "--conversion-worker";

/// Largest request in bytes; options are short.
const MAX_REQUEST: u64 = 1 << 20;
/// Longest first line of an answer in bytes.
const MAX_HEADER: usize = 1 << 20;
/// How much of the worker's standard error is kept: enough for the message of a panic.
const MAX_COMPLAINT: u64 = 16 << 10;
/// How often an ending worker is looked at.
const POLL: Duration = Duration::from_millis(2);

/// What one conversion may use. Address space counts reservations too, so it is larger than the memory used.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct WorkerLimits {
    /// Largest source file in bytes.
    pub input: u64,
    /// Address space in bytes.
    pub memory: u64,
    /// CPU seconds of all threads together.
    pub cpu_seconds: u64,
    /// Time from start to answer, whatever the worker does.
    pub wall: Duration,
    /// Largest document in bytes of JSON text.
    pub output: u64,
    /// Threads that convert.
    pub threads: usize,
}

impl Default for WorkerLimits {
    /// Four times what the largest real sources need: a kernel with DWARF of 600 MB takes 4 CPU seconds and 300 MB.
    fn default() -> Self {
        Self {
            input: 2 << 30,
            memory: 3 << 30,
            cpu_seconds: 60,
            wall: Duration::from_secs(180),
            output: profile::Limits::default().max_text as u64,
            threads: 2,
        }
    }
}

/// What to convert the source as.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Conversion {
    /// A PDB file, see [`convert_pdb_file`].
    Pdb(PdbOptions),
    /// Symbols of a Linux kernel, see [`convert_linux`].
    Linux(LinuxOptions),
}

/// What a worker made.
#[derive(Debug)]
pub struct WorkerAnswer {
    /// The document's canonical JSON text.
    pub json: String,
    /// Whether any plugin can work with it; of Linux profiles [`crate::FitnessReport::usable`], else true.
    pub usable: bool,
    /// What the conversion found, of a PDB.
    pub pdb: Option<ConvertReport>,
    /// Things to know about the source, and what the profile lacks; one sentence each.
    pub remarks: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The program cannot be started, or not be talked to.
    #[error("cannot start a conversion worker: {0}")]
    Start(io::Error),
    /// The source cannot be converted: malformed, unreadable or of an unknown kind.
    #[error("{0}")]
    Refused(String),
    /// The source is larger than allowed.
    #[error("the source is larger than the limit of {0} bytes")]
    InputTooLarge(u64),
    /// The document is larger than allowed.
    #[error("the profile is larger than the limit of {0} bytes")]
    OutputTooLarge(u64),
    /// The worker needed more address space than allowed.
    #[error("stopped: the conversion needs more than the limit of {} MB of memory", .0 >> 20)]
    Memory(u64),
    /// The worker needed more CPU time than allowed.
    #[error("stopped: the conversion needs more than the limit of {0} CPU seconds")]
    Cpu(u64),
    /// The worker did not answer in time.
    #[error("stopped: the conversion took longer than {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The worker died of something else: a defect of the converter.
    #[error("the conversion worker died ({status}): {complaint}")]
    Died {
        /// How it ended.
        status: ExitStatus,
        /// The last line it wrote to standard error.
        complaint: String,
    },
}

/// Starts workers. Cheap to clone; conversions of several threads run at once.
#[derive(Debug, Clone)]
pub struct Worker {
    program: PathBuf,
    limits: WorkerLimits,
}

impl Worker {
    /// Workers of a program whose `main` calls [`serve_if_asked`].
    #[must_use]
    pub fn new(program: PathBuf, limits: WorkerLimits) -> Self {
        Self { program, limits }
    }

    /// Workers of the running program.
    ///
    /// # Errors
    /// [`WorkerError::Start`] where its file is unknown.
    pub fn this_program(limits: WorkerLimits) -> Result<Self, WorkerError> {
        std::env::current_exe().map(|program| Self::new(program, limits)).map_err(WorkerError::Start)
    }

    /// Converts a file in a child process and waits for the answer. The child is dead when this returns.
    ///
    /// # Errors
    /// [`WorkerError`], one for each way a source or a limit can stop it.
    pub fn convert(&self, source: &Path, conversion: &Conversion) -> Result<WorkerAnswer, WorkerError> {
        let request =
            Request { source: source.to_owned(), conversion: conversion.clone(), limits: self.limits };
        let request = serde_json::to_vec(&request).map_err(|e| WorkerError::Start(e.into()))?;
        let deadline = Instant::now() + self.limits.wall;
        let mut child = Running(
            Command::new(&self.program)
                .arg(ARGUMENT)
                .env_clear()
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(WorkerError::Start)?,
        );
        if let Some(mut input) = child.0.stdin.take() {
            // A worker that dies first breaks the pipe; how it died says more.
            let _ = input.write_all(&request);
        }
        let complaint = collect(child.0.stderr.take(), MAX_COMPLAINT);
        let most = self.limits.output.saturating_add(MAX_HEADER as u64);
        let output =
            match collect(child.0.stdout.take(), most.saturating_add(1)).recv_timeout(self.limits.wall) {
                Ok(output) => output.map_err(WorkerError::Start)?,
                Err(RecvTimeoutError::Timeout) => return Err(WorkerError::TimedOut(self.limits.wall)),
                Err(RecvTimeoutError::Disconnected) => Vec::new(),
            };
        if output.len() as u64 > most {
            return Err(WorkerError::OutputTooLarge(self.limits.output));
        }
        let Some(status) = child.ended(deadline).map_err(WorkerError::Start)? else {
            return Err(WorkerError::TimedOut(self.limits.wall));
        };
        if status.success()
            && let Some(answer) = self.answer(&output)
        {
            return answer;
        }
        let complaint = complaint.recv_timeout(POLL * 50).ok().and_then(Result::ok).unwrap_or_default();
        Err(self.death(status, &String::from_utf8_lossy(&complaint)))
    }

    /// Takes an answer apart; `None` where it is none.
    fn answer(&self, output: &[u8]) -> Option<Result<WorkerAnswer, WorkerError>> {
        let end = output.iter().take(MAX_HEADER).position(|&byte| byte == b'\n')?;
        let (header, json) = (output.get(..end)?, output.get(end + 1..)?);
        Some(match serde_json::from_slice(header).ok()? {
            Header::Failed(Failure::Refused(reason)) => Err(WorkerError::Refused(reason)),
            Header::Failed(Failure::InputTooLarge) => Err(WorkerError::InputTooLarge(self.limits.input)),
            Header::Failed(Failure::Memory) => Err(WorkerError::Memory(self.limits.memory)),
            Header::Done { .. } if json.len() as u64 > self.limits.output => {
                Err(WorkerError::OutputTooLarge(self.limits.output))
            }
            Header::Done { usable, pdb, remarks } => {
                let json = std::str::from_utf8(json).ok()?.to_owned();
                Ok(WorkerAnswer { json, usable, pdb, remarks })
            }
        })
    }

    /// What a worker died of.
    fn death(&self, status: ExitStatus, complaint: &str) -> WorkerError {
        if ran_out_of_time(status) {
            return WorkerError::Cpu(self.limits.cpu_seconds);
        }
        // What the allocator says before it aborts.
        if complaint.contains("memory allocation of") {
            return WorkerError::Memory(self.limits.memory);
        }
        let mut lines = complaint.lines().rev().filter(|line| !line.starts_with("note: "));
        let last = lines.next().unwrap_or("no word of why");
        WorkerError::Died { status, complaint: last.chars().filter(|c| !c.is_control()).take(200).collect() }
    }
}

/// A child that does not outlive its owner.
struct Running(Child);

impl Running {
    /// Waits for the end; `None` where there is none until the deadline.
    fn ended(&mut self, deadline: Instant) -> io::Result<Option<ExitStatus>> {
        loop {
            match self.0.try_wait()? {
                None if Instant::now() < deadline => thread::sleep(POLL),
                status => return Ok(status),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only where it is over already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Reads a pipe to its end on a thread of its own, at most so many bytes.
fn collect(pipe: Option<impl Read + Send + 'static>, most: u64) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (send, receive) = mpsc::sync_channel(1);
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = pipe.map_or(Ok(0), |pipe| pipe.take(most).read_to_end(&mut bytes));
        // Nobody listens after a timeout.
        let _ = send.send(read.map(|_| bytes));
    });
    receive
}

#[derive(Serialize, Deserialize)]
struct Request {
    source: PathBuf,
    conversion: Conversion,
    limits: WorkerLimits,
}

/// The first line of an answer.
#[derive(Serialize, Deserialize)]
enum Header {
    Done { usable: bool, pdb: Option<ConvertReport>, remarks: Vec<String> },
    Failed(Failure),
}

/// Why a worker that lives has no document.
#[derive(Serialize, Deserialize)]
enum Failure {
    Refused(String),
    InputTooLarge,
    Memory,
}

/// Where the program was started with [`ARGUMENT`], does one conversion and returns the exit code. `main` calls this
/// before it starts threads or reads its arguments.
#[must_use]
pub fn serve_if_asked() -> Option<ExitCode> {
    let asked = std::env::args_os().nth(1) == Some(OsString::from(ARGUMENT));
    asked.then(|| match serve(io::stdin().lock(), io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    })
}

fn serve(input: impl Read, mut output: impl Write) -> io::Result<()> {
    let mut request = Vec::new();
    input.take(MAX_REQUEST).read_to_end(&mut request)?;
    let Request { source, conversion, limits } = serde_json::from_slice(&request)?;
    // Threads first: one that cannot be started for want of memory reports something else.
    rayon::ThreadPoolBuilder::new()
        .num_threads(limits.threads.max(1))
        .build_global()
        .map_err(io::Error::other)?;
    confine(&limits)?;
    let (header, json) = match convert(&source, &conversion, &limits) {
        Ok((header, json)) => (header, json),
        Err(failure) => (Header::Failed(failure), String::new()),
    };
    serde_json::to_writer(&mut output, &header)?;
    output.write_all(b"\n")?;
    output.write_all(json.as_bytes())?;
    output.flush()
}

fn convert(
    source: &Path,
    conversion: &Conversion,
    limits: &WorkerLimits,
) -> Result<(Header, String), Failure> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::OutOfMemory => Failure::Memory,
        _ => Failure::Refused(format!("cannot read the source: {error}")),
    };
    let metadata = source.metadata().map_err(unreadable)?;
    if metadata.is_file() && metadata.len() > limits.input {
        return Err(Failure::InputTooLarge);
    }
    match conversion {
        Conversion::Pdb(options) => {
            let converted = convert_pdb_file(source, options).map_err(|error| match error {
                PdbError::Io(error) => unreadable(error),
                error => Failure::Refused(error.to_string()),
            })?;
            let mut remarks = converted.report.losses();
            remarks.extend(converted.report.remarks());
            let header = Header::Done { usable: true, pdb: Some(converted.report), remarks };
            Ok((header, converted.json))
        }
        Conversion::Linux(options) => {
            let converted = convert_linux(source, options).map_err(|e| Failure::Refused(e.to_string()))?;
            let report = converted.report;
            let missing = report.missing.iter().map(|missing| {
                let items = missing.items.join(", ");
                format!("{} lacks {items}; needed by {}", missing.need, missing.plugins.join(", "))
            });
            let remarks = report.warnings.iter().cloned().chain(missing).collect();
            let header = Header::Done { usable: report.usable, pdb: None, remarks };
            Ok((header, converted.document.to_canonical_json()))
        }
    }
}

/// Sets the limits of this process.
#[cfg(unix)]
fn confine(limits: &WorkerLimits) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let both = |value| Rlimit { current: Some(value), maximum: Some(value) };
    setrlimit(Resource::As, both(limits.memory))?;
    // The signal of the lower limit is told from a kill; the higher one is for whoever ignores it.
    let cpu =
        Rlimit { current: Some(limits.cpu_seconds), maximum: Some(limits.cpu_seconds.saturating_add(1)) };
    setrlimit(Resource::Cpu, cpu)?;
    // It writes no files, not even when it dies.
    setrlimit(Resource::Core, both(0))?;
    setrlimit(Resource::Fsize, both(0))?;
    Ok(())
}

/// Elsewhere only the time-out and the sizes of input and output are limited.
#[cfg(not(unix))]
fn confine(_: &WorkerLimits) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn ran_out_of_time(status: ExitStatus) -> bool {
    use std::os::unix::process::ExitStatusExt as _;
    status.signal() == Some(rustix::process::Signal::XCPU.as_raw())
}

#[cfg(not(unix))]
fn ran_out_of_time(_: ExitStatus) -> bool {
    false
}
