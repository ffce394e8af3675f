//! Values that are not there, with the reason.

use std::fmt;

use memory::Fault;

use crate::types::Missing;

/// A value read from the image, or why there is none.
pub type Read<T> = Result<T, Absent>;

/// Why a value is absent. Absent is never zero, empty or `-1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// The memory that holds it cannot be read.
    Unreadable {
        /// Address of the value.
        addr: u64,
        /// Why the read failed.
        fault: Fault,
    },
    /// The profile lacks the struct, field or symbol that is needed.
    NoProfile(Missing),
    /// The bytes are there but make no sense.
    Malformed(&'static str),
    /// The question does not apply to this row (a kernel thread has no command line).
    NotApplicable(&'static str),
}

impl Absent {
    /// Whether evidence is missing: unreadable or damaged, as opposed to not applicable.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        !matches!(self, Self::NotApplicable(_))
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { addr, fault } => write!(f, "unreadable at {addr:#x}: {fault}"),
            Self::NoProfile(missing) => write!(f, "{missing}"),
            Self::Malformed(what) => write!(f, "malformed: {what}"),
            Self::NotApplicable(why) => write!(f, "not applicable: {why}"),
        }
    }
}

impl std::error::Error for Absent {}

impl From<Missing> for Absent {
    fn from(missing: Missing) -> Self {
        Self::NoProfile(missing)
    }
}
