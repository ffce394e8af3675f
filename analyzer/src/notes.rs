//! Notes: what the user must know about a result besides its rows. Partial output is never silent.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Good to know; the result is complete.
    Info,
    /// Something is missing from the result; the run ends with exit code 3.
    Partial,
    /// The run stopped in the middle of the table; only the runner adds this one.
    Error,
}

/// One note.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Note {
    /// How much it matters.
    pub severity: Severity,
    /// One sentence, lower case, no full stop.
    pub text: String,
}

/// Most notes kept; a hostile image must not fill the memory with complaints about it.
const MAX_NOTES: usize = 1000;

/// The notes of a run, in order, without repetitions; beyond a thousand they are only counted.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    notes: Vec<Note>,
    /// The same notes, to find repetitions.
    known: HashSet<Note>,
    /// Number of notes left out, repetitions included.
    left_out: u64,
}

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

    /// How many notes there are, for [`Notes::since`].
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).notes.len()
    }

    /// The notes added after there were so many.
    #[must_use]
    pub fn since(&self, count: usize) -> Vec<Note> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.notes.get(count..).unwrap_or_default().to_vec()
    }

    /// Adds notes made earlier, as far as they are not there.
    pub fn repeat(&self, notes: &[Note]) {
        for note in notes {
            self.add(note.severity, note.text.clone());
        }
    }

    /// All notes so far, emptying the list.
    pub fn take(&self) -> Vec<Note> {
        let kept = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut notes = kept.notes;
        if kept.left_out > 0 {
            let text = format!("{} more notes are left out", kept.left_out);
            notes.push(Note { severity: Severity::Partial, text });
        }
        notes
    }

    fn add(&self, severity: Severity, text: String) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let note = Note { severity, text };
        if kept.known.contains(&note) {
            return;
        }
        if kept.notes.len() >= MAX_NOTES {
            kept.left_out = kept.left_out.saturating_add(1);
        } else {
            kept.known.insert(note.clone());
            kept.notes.push(note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_dropped_and_order_stays() {
        let notes = Notes::default();
        notes.partial("b");
        notes.info("a");
        notes.partial("b");
        let texts: Vec<String> = notes.take().into_iter().map(|note| note.text).collect();
        assert_eq!(texts, ["b", "a"]);
        assert_eq!(notes.take(), []);
    }

    #[test]
    fn a_flood_of_notes_is_counted_not_kept() {
        let notes = Notes::default();
        for n in 0..5000 {
            notes.info(format!("note {n}"));
        }
        let taken = notes.take();
        assert_eq!(taken.len(), 1001);
        let last = Note { severity: Severity::Partial, text: "4000 more notes are left out".into() };
        assert_eq!(taken.last(), Some(&last));
    }
}
