//! Who was asked for what, and what each store answered: the raw material of a diagnosis.

use std::fmt;

/// What one store said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has the file.
    Found,
    /// It does not have the file.
    NotThere,
    /// It was not asked, because an earlier answer still holds; that answer.
    Remembered(String),
    /// It was not asked, because the network may not be used.
    Offline,
    /// It does not give the file away, and says why.
    Withheld(String),
    /// It cannot be used: a bad address, permission denied, an HTTP error.
    Refused(String),
    /// It did not answer, or broke off.
    Unreachable(String),
    /// It answered with a web page: a captive portal, a proxy or a login is in the way.
    WebPage,
    /// It has a file in this place, but not the one asked for: another build, or damaged.
    Wrong(String),
    /// A directory that is no store has a file of this name, which is another build or damaged, as may well be.
    Other(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Found => f.write_str("found"),
            Self::NotThere => f.write_str("not there"),
            Self::Remembered(answer) => write!(f, "not asked again: {answer}, as it said before"),
            Self::Offline => f.write_str("not asked: offline"),
            Self::Withheld(message) => write!(f, "not given away: {message}"),
            Self::Refused(reason) => write!(f, "not usable: {reason}"),
            Self::Unreachable(reason) => write!(f, "did not answer: {reason}"),
            Self::WebPage => {
                f.write_str("answered with a web page: a captive portal, a proxy or a login is in the way")
            }
            Self::Wrong(reason) => write!(f, "has something else there: {reason}"),
            Self::Other(reason) => write!(f, "another file of this name: {reason}"),
        }
    }
}

/// One question to one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The file or URL asked for, or the store where it was not asked; without password and query.
    pub place: String,
    /// What it said.
    pub answer: Answer,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.answer)
    }
}
