//! Notes: what the user must know about a result besides its rows. Partial output is never silent.

use std::sync::Mutex;

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know; the result is complete.
    Info,
    /// Something is missing from the result; the run ends with exit code 3.
    Partial,
    /// The run stopped in the middle of the table; only the runner adds this one.
    Error,
}

/// One note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub severity: Severity,
    /// One sentence, lower case, no full stop.
    pub text: String,
}

/// The notes of a run, in order, without repetitions.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Vec<Note>>);

impl Notes {
    /// Adds a note that leaves the result complete.
    pub fn info(&self, text: impl Into<String>) {
        self.add(Severity::Info, text.into());
    }

    /// Adds a note that says what is missing.
    pub fn partial(&self, text: impl Into<String>) {
        self.add(Severity::Partial, text.into());
    }

    /// Notes how a walk ended, unless it is complete. `what` names the list: `"init_task.tasks"`.
    pub fn walk(&self, what: &str, end: &object::walk::End) {
        if *end != object::walk::End::Complete {
            self.partial(format!("list {what} {end}"));
        }
    }

    /// All notes so far, emptying the list.
    pub fn take(&self) -> Vec<Note> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn add(&self, severity: Severity, text: String) {
        let mut notes = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let note = Note { severity, text };
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
}
