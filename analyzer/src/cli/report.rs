//! What goes to standard error: notes and errors.

use std::io::Write as _;

use crate::error::Error;
use crate::notes::{Note, Severity};
use crate::progress;
use crate::render::escape::escape;

/// Prints one line.
pub(crate) fn line(kind: &str, text: &str) {
    progress::clear();
    // Nothing can be done about a standard error that is gone.
    let _ = writeln!(std::io::stderr().lock(), "rekal: {kind}: {}", escape(text));
}

/// Prints a note.
pub(crate) fn note(note: &Note) {
    let kind = match note.severity {
        Severity::Info => "note",
        Severity::Partial => "partial",
        Severity::Error => "error",
    };
    line(kind, &note.text);
}

/// Prints an error with its details and the next step.
pub(crate) fn error(error: &Error) {
    line("error", &error.to_string());
    let mut stderr = std::io::stderr().lock();
    for detail in error.details() {
        let _ = writeln!(stderr, "    {}", escape(detail));
    }
    if let Some(hint) = error.hint() {
        let _ = writeln!(stderr, "hint: {}", escape(hint));
    }
}
