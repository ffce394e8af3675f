//! Who was asked for what, and what each one answered: the raw material of a diagnosis.

use std::fmt;

use transport::plain;

/// What one repository said when asked for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has a usable document of this name.
    Found,
    /// Its inventory does not list the name, so it was not asked further.
    NotListed,
    /// It does not have the name.
    NotFound,
    /// It may not or will not be used: no such directory, permission denied, no valid inventory, leaves the root.
    Refused(String),
    /// It did not answer.
    Unreachable(String),
    /// It is a URL, its cache does not have the name, and `--offline` forbids asking.
    Offline,
    /// It has the name, but what it holds cannot be read.
    Damaged(String),
}

impl Answer {
    pub(crate) fn refused(reason: impl fmt::Display) -> Self {
        Self::Refused(plain(&reason.to_string()))
    }

    pub(crate) fn unreachable(reason: impl fmt::Display) -> Self {
        Self::Unreachable(plain(&reason.to_string()))
    }

    pub(crate) fn damaged(reason: impl fmt::Display) -> Self {
        Self::Damaged(plain(&reason.to_string()))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found => f.write_str("found"),
            Self::NotListed => f.write_str("not in its inventory"),
            Self::NotFound => f.write_str("not there"),
            Self::Refused(reason) => write!(f, "not usable: {reason}"),
            Self::Unreachable(reason) => write!(f, "did not answer: {reason}"),
            Self::Offline => f.write_str("not asked: offline and not in the cache"),
            Self::Damaged(reason) => write!(f, "damaged: {reason}"),
        }
    }
}

/// One question to one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The repository, as configured (URLs without password and query).
    pub entry: String,
    /// The profile name asked for.
    pub name: String,
    /// What it said.
    pub answer: Answer,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.entry, self.name, self.answer)
    }
}

/// The questions of one call, in the order they were asked.
#[derive(Debug, Default)]
pub(crate) struct Trace(pub(crate) Vec<Asked>);

impl Trace {
    pub(crate) fn add(&mut self, entry: &str, name: impl fmt::Display, answer: Answer) {
        self.0.push(Asked { entry: entry.to_owned(), name: name.to_string(), answer });
    }
}
