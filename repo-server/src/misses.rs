//! What cannot be had, why, and until when that is believed.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use axum::http::header::RETRY_AFTER;
use serde_json::json;

use crate::answer::{self, Answer};
use crate::config::Build;

/// Most misses remembered.
const MAX_MISSES: usize = 20_000;

/// Kinds of misses; each is believed for a time of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Every upstream server says that it does not have the symbols.
    NotFound,
    /// What was fetched is not what was asked for, or no profile can be made of it.
    Malformed,
    /// An upstream server does not give it away, or it is not on the list of allowed PDBs.
    Refused,
    /// An upstream server does not answer.
    Down,
    /// This server has too much to do; never remembered.
    Busy,
}

impl Kind {
    /// The word for it in answers, logs and counters.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NotFound => "not found",
            Self::Malformed => "malformed",
            Self::Refused => "refused",
            Self::Down => "upstream down",
            Self::Busy => "busy",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::NotFound | Self::Refused => StatusCode::NOT_FOUND,
            Self::Malformed => StatusCode::BAD_GATEWAY,
            Self::Down | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Why something cannot be had.
#[derive(Debug, Clone)]
pub(crate) struct Miss {
    pub(crate) kind: Kind,
    pub(crate) reason: String,
    /// Who was asked upstream, and what each one said.
    pub(crate) tried: Vec<String>,
    /// When it may be asked for again.
    until: Instant,
}

impl Miss {
    /// What the client is told.
    pub(crate) fn answer(&self) -> Answer {
        let left = self.until.saturating_duration_since(Instant::now()).as_secs().max(1);
        let body = json!({
            "error": self.reason,
            "kind": self.kind.name(),
            "tried": self.tried,
            "retry_after_seconds": left,
        });
        let mut answer = answer::document(self.kind.status(), &body);
        answer.headers_mut().insert(RETRY_AFTER, left.into());
        answer
    }
}

/// Remembered misses.
pub(crate) struct Misses<K> {
    known: Mutex<HashMap<K, Miss>>,
    not_found: Duration,
    malformed: Duration,
    down: Duration,
}

impl<K: Hash + Eq> Misses<K> {
    pub(crate) fn new(config: &Build) -> Self {
        Self {
            known: Mutex::default(),
            not_found: Duration::from_secs(config.not_found_seconds),
            malformed: Duration::from_secs(config.malformed_seconds),
            down: Duration::from_secs(config.down_seconds),
        }
    }

    /// A miss as of now.
    pub(crate) fn miss(&self, kind: Kind, reason: impl Into<String>, tried: Vec<String>) -> Miss {
        let life = match kind {
            Kind::NotFound | Kind::Refused => self.not_found,
            Kind::Malformed => self.malformed,
            Kind::Down => self.down,
            Kind::Busy => Duration::from_secs(1),
        };
        Miss { kind, reason: reason.into(), tried, until: Instant::now() + life }
    }

    /// Remembers a miss.
    pub(crate) fn remember(&self, key: K, miss: Miss) -> Miss {
        if miss.kind != Kind::Busy {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MAX_MISSES {
                let now = Instant::now();
                known.retain(|_, miss| miss.until > now);
            }
            if known.len() >= MAX_MISSES {
                // Nothing is lost but time.
                known.clear();
            }
            known.insert(key, miss.clone());
        }
        miss
    }

    /// The miss that is still believed.
    pub(crate) fn get(&self, key: &K) -> Option<Miss> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|miss| miss.until > Instant::now()).cloned()
    }

    /// Forgets a miss, because what was missing came another way.
    pub(crate) fn forget(&self, key: &K) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}
