//! Progress of long operations, on standard error, only when it is a terminal and only after a second.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::session::Session;

/// Operations shorter than this show nothing.
const DELAY: Duration = Duration::from_secs(1);
/// Time between two updates of the line.
const INTERVAL: Duration = Duration::from_millis(200);

/// Whether anything may be drawn: there is one terminal per process. Off until the command line allows it.
static ALLOWED: AtomicBool = AtomicBool::new(false);
/// Whether the terminal's current line holds a progress text.
static DRAWN: AtomicBool = AtomicBool::new(false);

/// Allows progress lines, if standard error is a terminal.
pub(crate) fn allow() {
    ALLOWED.store(std::io::stderr().is_terminal(), Ordering::Relaxed);
}

/// Forbids progress lines from now on: a pager has the terminal.
pub(crate) fn forbid() {
    clear();
    ALLOWED.store(false, Ordering::Relaxed);
}

/// Removes the progress line before something else is printed.
pub(crate) fn clear() {
    if DRAWN.swap(false, Ordering::Relaxed) {
        // Nothing can be done about a terminal that is gone.
        let _ = std::io::stderr().write_all(b"\r\x1b[K");
    }
}

/// An operation under way. Shared by the threads that work on it; the line goes away when it is dropped.
#[derive(Debug)]
pub struct Progress {
    what: String,
    total: u64,
    done: AtomicU64,
    started: Instant,
    drawn: Mutex<Option<Instant>>,
}

impl Session {
    /// Starts to show the progress of an operation of `total` steps (usually bytes).
    #[must_use]
    pub fn progress(&self, what: impl Into<String>, total: u64) -> Progress {
        Progress::new(what, total)
    }
}

impl Progress {
    /// The same where no session is at hand.
    #[must_use]
    pub fn new(what: impl Into<String>, total: u64) -> Self {
        Self {
            what: what.into(),
            total,
            done: AtomicU64::new(0),
            started: Instant::now(),
            drawn: Mutex::new(None),
        }
    }

    /// Some more steps are done. Cheap, but not free: call it per chunk, not per byte.
    pub fn add(&self, steps: u64) {
        let done = self.done.fetch_add(steps, Ordering::Relaxed).saturating_add(steps);
        if !ALLOWED.load(Ordering::Relaxed) || self.started.elapsed() < DELAY {
            return;
        }
        // Another thread is drawing: good enough.
        let Ok(mut drawn) = self.drawn.try_lock() else { return };
        if drawn.is_none_or(|last| last.elapsed() >= INTERVAL) {
            *drawn = Some(Instant::now());
            let _ = write!(std::io::stderr(), "\r{}\x1b[K", self.line(done));
            DRAWN.store(true, Ordering::Relaxed);
        }
    }

    fn line(&self, done: u64) -> String {
        let percent = match self.total {
            0 => 100,
            total => u128::from(done.min(total)) * 100 / u128::from(total),
        };
        format!("{}: {percent} %", self.what)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Config;

    #[test]
    fn the_line_tells_percent_and_survives_bad_totals() {
        let session = Session::new(Config::default());
        assert_eq!(session.progress("scanning", 200).line(50), "scanning: 25 %");
        assert_eq!(session.progress("scanning", 0).line(0), "scanning: 100 %");
        assert_eq!(session.progress("scanning", 10).line(20), "scanning: 100 %");
        assert_eq!(session.progress("scanning", u64::MAX).line(u64::MAX), "scanning: 100 %");
    }
}
