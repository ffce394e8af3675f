//! What stores answered before: a store that does not have a file today need not be asked again at once.
//!
//! One small file per answer, `<directory>/<hash>.json`, so that processes that work side by side do not overwrite each
//! other's. Only answers about the file are kept, never trouble with the network.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::answer::Answer;

/// Largest record in bytes.
const MAX_RECORD: u64 = 8192;
/// Most records looked at when expired ones are removed.
const MAX_PRUNED: usize = 20_000;

/// A remembered answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// Store and file.
    question: String,
    miss: Miss,
    /// Seconds since 1970 after which the store is asked again.
    expires: u64,
}

/// What is worth remembering.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Miss {
    /// The store does not have the file.
    NotThere,
    /// The store keeps the file back.
    Withheld(String),
    /// The store has another file in its place.
    Wrong(String),
}

impl Miss {
    /// The answer as far as it may be remembered.
    pub(super) fn of(answer: &Answer) -> Option<Self> {
        match answer {
            Answer::NotThere => Some(Self::NotThere),
            Answer::Withheld(message) => Some(Self::Withheld(message.clone())),
            Answer::Wrong(reason) => Some(Self::Wrong(reason.clone())),
            _ => None,
        }
    }

    pub(super) fn answer(self) -> Answer {
        match self {
            Self::NotThere => Answer::NotThere,
            Self::Withheld(message) => Answer::Withheld(message),
            Self::Wrong(reason) => Answer::Wrong(reason),
        }
    }
}

/// The remembered answers.
#[derive(Debug, Default)]
pub(super) struct Misses {
    directory: Option<PathBuf>,
    known: Mutex<HashMap<String, Record>>,
}

impl Misses {
    /// Answers kept in a directory, or only as long as this lives.
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        if let Some(directory) = &directory {
            prune(directory);
        }
        Self { directory, known: Mutex::default() }
    }

    /// The answer to a question, if one is remembered and not expired.
    pub(super) fn get(&self, question: &str) -> Option<Miss> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let record = match known.get(question) {
            Some(record) => record.clone(),
            None => read(&self.path(question)?)?,
        };
        if record.question != question || !is_current(record.expires) {
            known.remove(question);
            return None;
        }
        Some(record.miss)
    }

    /// Remembers an answer for a time. That it cannot be written costs no more than asking again.
    pub(super) fn put(&self, question: &str, miss: Miss, time: Duration) {
        let expires = now().saturating_add(time.as_secs());
        let record = Record { question: question.to_owned(), miss, expires };
        if let (Some(path), Ok(text)) = (self.path(question), serde_json::to_vec(&record)) {
            let _ = transport::atomic::write(&path, &text);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MAX_PRUNED {
            known.insert(question.to_owned(), record);
        }
    }

    /// Forgets an answer: the file is there now.
    pub(super) fn remove(&self, question: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(question);
        if let Some(path) = self.path(question) {
            let _ = fs::remove_file(path);
        }
    }

    fn path(&self, question: &str) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(format!("{}.json", hash(question))))
    }
}

/// Removes expired records, so that the directory does not grow for ever.
fn prune(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().take(MAX_PRUNED) {
        let path = entry.path();
        let is_record = path.extension().is_some_and(|extension| extension == "json");
        if is_record && read(&path).is_none_or(|record| !is_current(record.expires)) {
            let _ = fs::remove_file(path);
        }
    }
}

fn read(path: &Path) -> Option<Record> {
    let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let text = (metadata.len() <= MAX_RECORD).then(|| fs::read(path).ok())??;
    serde_json::from_slice(&text).ok()
}

/// Half of the SHA-256 in hex: a file name for any question.
pub(super) fn hash(question: &str) -> String {
    Sha256::digest(question.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn is_current(expires: u64) -> bool {
    now() < expires
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_remembered_across_runs_until_they_expire() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Misses::new(Some(directory.path().join("missing")));
        let misses = open();
        assert_eq!(misses.get("a"), None);
        misses.put("a", Miss::NotThere, Duration::from_secs(60));
        misses.put("b", Miss::Wrong("another build".to_owned()), Duration::ZERO);
        assert_eq!(misses.get("a"), Some(Miss::NotThere));
        assert_eq!(misses.get("b"), None);
        let again = open();
        assert_eq!(again.get("a"), Some(Miss::NotThere));
        assert_eq!(fs::read_dir(directory.path().join("missing")).unwrap().count(), 1, "b is removed");
        again.remove("a");
        assert_eq!((again.get("a"), open().get("a")), (None, None));
    }

    #[test]
    fn damaged_records_count_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let misses = Misses::new(Some(directory.path().to_owned()));
        fs::write(misses.path("a").unwrap(), b"{").unwrap();
        assert_eq!(misses.get("a"), None);
    }

    #[test]
    fn trouble_is_not_remembered() {
        for answer in [Answer::Unreachable(String::new()), Answer::Refused(String::new()), Answer::Offline] {
            assert_eq!(Miss::of(&answer), None);
        }
    }
}
