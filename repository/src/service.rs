//! What a repo-server does beyond a static repository: it is asked by evidence, and makes profiles that are missing.
//!
//! A server that does is told by the header `Rekal-Inventory` of its inventory, and describes itself at
//! `/.well-known/rekal-repository`; so static repositories are never asked for what original clients would not ask for.
//!
//! ```text
//! GET <base>/.well-known/rekal-repository   {"version": 1, "lookup": "/lookup", "build_on_demand": true}
//! GET <base>/lookup?build_id=3b43fad5...    {"names": [{"name": "Linux/BuildID/3b43fad5...", "by": ["build_id"]}]}
//! GET <base>/v1.0/nt/GUID/<GUID><AGE>.gz    200, or 202 with Retry-After while it is being made, or 404 with a reason
//! ```

use std::time::{Duration, Instant};

use profile::names::ProfileName;
use serde::Deserialize;
use serde_json::Value;
use transport::plain;

use crate::find::{LinuxEvidence, Reason};
use crate::trace::Answer;

/// Most profiles taken from one answer.
const MAX_MATCHES: usize = 32;

/// Longest pause between two questions for a profile that is being made.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Shortest pause, whatever the server says.
const MIN_PAUSE: Duration = Duration::from_millis(200);

/// A repo-server's description of itself. Unknown members are left alone: later versions have more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Description {
    /// 1; a client that does not know the number asks only what every static repository answers.
    version: u32,
    /// Path of the question by evidence, below the base URL.
    #[serde(default)]
    lookup: Option<String>,
    /// Whether a profile that is not listed is made when it is asked for.
    #[serde(default)]
    build_on_demand: bool,
}

impl Description {
    /// Reads a description; `None` where it is none or of an unknown version.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|description: &Self| description.version == 1)
    }

    /// Whether asking for a name that is not listed may make the server build it: names of PDBs, and of build-ids.
    pub(crate) fn builds(&self, name: &ProfileName) -> bool {
        let parts: Vec<&str> = name.as_str().split('/').collect();
        let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        self.build_on_demand
            && match parts.as_slice() {
                [_, "GUID", id] => (33..=40).contains(&id.len()) && hex(id),
                _ => false,
            }
    }

    /// The path of the question by evidence, as components.
    pub(crate) fn lookup(&self) -> Option<Vec<&str>> {
        let parts: Vec<&str> = self.lookup.as_deref()?.trim_matches('/').split('/').collect();
        let harmless = |part: &&str| !part.is_empty() && *part != "." && *part != "..";
        parts.iter().all(harmless).then_some(parts)
    }
}

/// The query of a kernel's evidence.
pub(crate) fn query(evidence: &LinuxEvidence) -> Vec<(&'static str, String)> {
    let id = evidence.build_id.as_ref().map(|id| ("build_id", id.to_string()));
    let banner = evidence.banner.as_ref().map(|banner| ("banner", banner.trim().to_owned()));
    let release = evidence.release.as_ref().map(|release| ("release", release.trim().to_owned()));
    id.into_iter().chain(banner).chain(release).collect()
}

/// The profiles in an answer to a question by evidence, with why each fits. Names and reasons that are not known are
/// left out: they cannot be asked for.
pub(crate) fn matches(answer: &[u8]) -> Option<Vec<(ProfileName, Reason)>> {
    #[derive(Deserialize)]
    struct Found {
        names: Vec<Name>,
    }
    #[derive(Deserialize)]
    struct Name {
        name: String,
        by: Vec<String>,
    }
    let answer: Found = serde_json::from_slice(answer).ok()?;
    let known = answer.names.into_iter().take(MAX_MATCHES).filter_map(|found| {
        let reasons = found.by.iter().filter_map(|by| match by.as_str() {
            "build_id" => Some(Reason::BuildId),
            "banner" => Some(Reason::Banner),
            "release" => Some(Reason::Release),
            _ => None,
        });
        Some((ProfileName::new(&found.name).ok()?, reasons.min()?))
    });
    Some(known.collect())
}

/// Why a server does not have a profile, from the JSON it answers 404 with.
pub(crate) fn refusal(json: Option<&Value>) -> Answer {
    let reason = json.and_then(|json| json.get("error")).and_then(Value::as_str);
    reason.map_or(Answer::NotFound, |reason| Answer::refused(plain(reason)))
}

/// The pauses while a profile is being made, up to a deadline.
pub(crate) struct Waiting {
    deadline: Instant,
}

impl Waiting {
    pub(crate) fn until(deadline: Duration) -> Self {
        Self { deadline: Instant::now() + deadline }
    }

    /// Pauses as long as the server says, within bounds; `false` once the deadline would pass.
    pub(crate) fn pause(&self, retry_after: Option<Duration>) -> bool {
        let pause = retry_after.unwrap_or(Duration::from_secs(1)).clamp(MIN_PAUSE, MAX_PAUSE);
        if Instant::now() + pause > self.deadline {
            return false;
        }
        std::thread::sleep(pause);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_versions_are_spoken_with() {
        let text = br#"{"version": 1, "lookup": "/lookup", "build_on_demand": true, "mirrors": []}"#;
        let description = Description::parse(text).expect("a description");
        assert_eq!(description.lookup(), Some(vec!["lookup"]));
        assert_eq!(Description::parse(br#"{"version": 2}"#), None);
        assert_eq!(Description::parse(b"<html>"), None);
        let outside =
            Description::parse(br#"{"version": 1, "lookup": "/../../etc"}"#).expect("a description");
        assert_eq!(outside.lookup(), None);
    }

    #[test]
    fn only_names_that_say_what_to_build_are_asked_for() {
        let description = Description::parse(br#"{"version": 1, "build_on_demand": true}"#).expect("one");
        let builds = |name| description.builds(&ProfileName::new(name).expect("a name"));
        assert!(builds("nt/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942"));
        assert!(!builds("nt/GUID/F8E2") && !builds("Linux/5.10") && !builds("GUID/x"));
        assert!(!Description::parse(br#"{"version": 1}"#).expect("one").build_on_demand);
    }

    #[test]
    fn matches_that_mean_nothing_are_left_out() {
        let answer = br#"{"names": [{"name": "../x", "by": ["build_id"]}, {"name": "a", "by": ["guess"]},
            {"name": "Linux/a", "by": ["release", "banner"], "size": 1}], "tried": []}"#;
        let name = ProfileName::new("Linux/a").expect("a name");
        assert_eq!(matches(answer), Some(vec![(name, Reason::Banner)]));
        assert_eq!(matches(b"[]"), None);
    }
}
