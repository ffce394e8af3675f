//! Why a command cannot go on, with the exit code and what to do next.

use std::fmt;
use std::io;
use std::sync::Arc;

/// Exit code of a complete run.
pub const EXIT_COMPLETE: u8 = 0;
/// Exit code of a usage error.
pub const EXIT_USAGE: u8 = 2;
/// Exit code of a run whose result is partial; the notes say what is missing.
pub const EXIT_PARTIAL: u8 = 3;
/// Exit code where the image cannot be opened or its system or profile cannot be identified.
pub const EXIT_IDENTIFY: u8 = 4;
/// Exit code of every other failure: output that cannot be written, a conversion that fails.
pub const EXIT_FAILURE: u8 = 1;

/// An error of a command. Cheap to clone, because a failed fact is remembered.
#[derive(Debug, Clone)]
pub struct Error {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    /// Longer explanation, line by line: the diagnosis.
    details: Vec<String>,
    hint: Option<String>,
}

/// What sort of error it is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The command line is wrong.
    Usage,
    /// The image cannot be opened or identified, or no profile fits.
    Identify,
    /// The profile lacks what the plugin cannot do without, or what is asked for does not exist.
    Analysis,
    /// The machine has nothing of what is asked for: an interrupt descriptor table where the processor is no x86.
    NotApplicable,
    /// Memory that the plugin cannot do without is missing or damaged: what it found before is its result, which is partial.
    Damaged,
    /// The output cannot be written.
    Output,
    /// The reader of the output went away (a closed pipe); not a failure.
    Stopped,
}

impl Error {
    /// A wrong command line.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// An image that cannot be opened or identified.
    #[must_use]
    pub fn identify(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Identify, message)
    }

    /// A plugin that cannot go on.
    #[must_use]
    pub fn analysis(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Analysis, message)
    }

    /// A plugin that has no sense for this machine.
    #[must_use]
    pub fn not_applicable(message: impl fmt::Display) -> Self {
        Self::new(ErrorKind::NotApplicable, format!("not applicable: {message}"))
    }

    /// A plugin that cannot go on because the image lost what it walks.
    #[must_use]
    pub fn damaged(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Damaged, message)
    }

    /// Output that cannot be written; a closed pipe is only a stop.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "used as map_err(Error::output)")]
    pub fn output(error: io::Error) -> Self {
        let kind =
            if error.kind() == io::ErrorKind::BrokenPipe { ErrorKind::Stopped } else { ErrorKind::Output };
        Self::new(kind, format!("cannot write output: {error}"))
    }

    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { inner: Arc::new(Inner { kind, message: message.into(), details: Vec::new(), hint: None }) }
    }

    /// Adds the next step for the user.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        let Inner { kind, message, details, .. } = &*self.inner;
        let (message, details) = (message.clone(), details.clone());
        Self { inner: Arc::new(Inner { kind: *kind, message, details, hint: Some(hint.into()) }) }
    }

    /// Adds the lines of a diagnosis.
    #[must_use]
    pub fn with_details(self, details: Vec<String>) -> Self {
        let Inner { kind, message, hint, .. } = &*self.inner;
        let (message, hint) = (message.clone(), hint.clone());
        Self { inner: Arc::new(Inner { kind: *kind, message, details, hint }) }
    }

    /// What sort of error it is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The lines of the diagnosis; empty for simple errors.
    #[must_use]
    pub fn details(&self) -> &[String] {
        &self.inner.details
    }

    /// The next step for the user, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// The documented exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.inner.kind {
            ErrorKind::Usage => EXIT_USAGE,
            ErrorKind::Identify => EXIT_IDENTIFY,
            ErrorKind::Analysis | ErrorKind::NotApplicable | ErrorKind::Output => EXIT_FAILURE,
            ErrorKind::Damaged => EXIT_PARTIAL,
            ErrorKind::Stopped => EXIT_COMPLETE,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)
    }
}

impl std::error::Error for Error {}

impl From<object::Missing> for Error {
    fn from(missing: object::Missing) -> Self {
        Self::analysis(missing.to_string()).with_hint(
            "make a fuller profile of this kernel with `rekal convert_profile`, from vmlinux or BTF",
        )
    }
}

impl From<object::Absent> for Error {
    fn from(absent: object::Absent) -> Self {
        match absent {
            object::Absent::NoProfile(missing) => missing.into(),
            object::Absent::NotApplicable(reason) => Self::not_applicable(reason),
            object::Absent::Unreadable { .. } | object::Absent::Malformed(_) => {
                Self::damaged(absent.to_string())
            }
        }
    }
}
