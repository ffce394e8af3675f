//! A terminal with a pager for output that is longer than a screen.

use std::io::{self, StdoutLock, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::progress;

/// Standard output on a terminal. Output of up to `limit` lines is written as it is, longer output goes to the pager.
pub(crate) struct Terminal {
    state: State,
    command: Vec<String>,
}

enum State {
    /// Not long enough for the pager yet.
    Waiting { held: Vec<u8>, lines: usize, limit: usize },
    /// The pager has it.
    Paging { child: Child, stdin: Option<ChildStdin> },
    /// No pager.
    Direct(StdoutLock<'static>),
}

impl Terminal {
    /// Pages with `command` (program and arguments) beyond `limit` lines; never when the command is empty or the limit 0.
    pub(crate) fn new(command: &str, limit: usize) -> Self {
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        let state = if command.is_empty() || limit == 0 {
            State::Direct(io::stdout().lock())
        } else {
            State::Waiting { held: Vec::new(), lines: 0, limit }
        };
        Self { state, command }
    }

    /// Stops waiting: to the pager, or to the terminal where it cannot be started.
    fn start_pager(&mut self) -> io::Result<()> {
        let State::Waiting { held, .. } = &mut self.state else { return Ok(()) };
        let held = std::mem::take(held);
        let Some((program, arguments)) = self.command.split_first() else { return Ok(()) };
        let child = Command::new(program).args(arguments).stdin(Stdio::piped()).spawn();
        self.state = match child {
            Ok(mut child) => {
                progress::forbid();
                let stdin = child.stdin.take();
                State::Paging { child, stdin }
            }
            Err(_) => State::Direct(io::stdout().lock()),
        };
        self.write_all(&held)
    }
}

impl Write for Terminal {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Waiting { held, lines, limit } => {
                held.extend_from_slice(buf);
                *lines = lines.saturating_add(memchr::memchr_iter(b'\n', buf).count());
                if *lines > *limit {
                    self.start_pager()?;
                }
                Ok(buf.len())
            }
            State::Paging { stdin: Some(stdin), .. } => stdin.write(buf),
            State::Paging { stdin: None, .. } => Err(io::ErrorKind::BrokenPipe.into()),
            State::Direct(stdout) => {
                progress::clear();
                stdout.write(buf)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.state {
            State::Waiting { .. } => Ok(()),
            State::Paging { stdin, .. } => stdin.as_mut().map_or(Ok(()), Write::flush),
            State::Direct(stdout) => stdout.flush(),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        match &mut self.state {
            State::Waiting { held, .. } => {
                progress::clear();
                let mut stdout = io::stdout().lock();
                let _ = stdout.write_all(held).and_then(|()| stdout.flush());
            }
            State::Paging { child, stdin } => {
                drop(stdin.take());
                let _ = child.wait();
            }
            State::Direct(stdout) => drop(stdout.flush()),
        }
    }
}
