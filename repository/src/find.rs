//! Which profiles may fit a Linux kernel that was recognised in an image.

use std::collections::BTreeSet;
use std::fmt;

use profile::names::{BuildId, ProfileName, release_of_banner};

use crate::directory::{is_kernel, may_be_linux};
use crate::inventory::{InventoryEntry, build_id_in};
use crate::search_path::SearchPath;
use crate::source::Source;
use crate::trace::{Answer, Asked, Trace};

/// Most candidates returned.
const MAX_CANDIDATES: usize = 32;

/// Shortest text taken as a release that may stand inside a name: `5.4.0`.
const MIN_RELEASE: usize = 5;

/// What an image tells about its Linux kernel. Everything may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinuxEvidence {
    /// GNU build-id (from VMCOREINFO or the kernel's notes): names one build exactly.
    pub build_id: Option<BuildId>,
    /// The whole text of `linux_banner`: `Linux version 6.1.0-56-cloud-amd64 (...) #1 SMP ...`.
    pub banner: Option<String>,
    /// `uname -r`; taken from the banner where absent.
    pub release: Option<String>,
}

/// A profile that may fit, best first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name; load it with [`SearchPath::load_named`].
    pub name: ProfileName,
    /// The repository that has it.
    pub entry: String,
    /// Why it may fit.
    pub reason: Reason,
}

/// Why a profile may fit a kernel, from certain to a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is stored under the kernel's build-id.
    BuildIdName,
    /// The inventory records the kernel's build-id for it.
    BuildId,
    /// The inventory records the kernel's banner for it, word for word.
    Banner,
    /// It is for the same release: the last part of the name or the inventory says so. Another build may differ.
    Release,
    /// The release stands somewhere in the name.
    ReleaseInName,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BuildIdName => "stored under the kernel's build-id",
            Self::BuildId => "made for the kernel's build-id",
            Self::Banner => "made for a kernel with the same banner",
            Self::Release => "made for the same release",
            Self::ReleaseInName => "the release is part of its name",
        })
    }
}

/// No repository has a profile that may fit.
#[derive(Debug, thiserror::Error)]
#[error("no profile for this kernel in any repository: {}", wanted(.evidence))]
pub struct FindError {
    /// What was looked for.
    pub evidence: LinuxEvidence,
    /// Who was asked, and what each one answered.
    pub trace: Vec<Asked>,
}

fn wanted(evidence: &LinuxEvidence) -> String {
    let LinuxEvidence { build_id, banner, release } = evidence;
    let id = build_id.as_ref().map(|id| format!("build-id {id}"));
    let release = release.as_deref().or_else(|| banner.as_deref().and_then(release_of_banner));
    let release = release.map(|release| format!("release {}", transport::plain(release)));
    let parts: Vec<String> = id.into_iter().chain(release).collect();
    if parts.is_empty() { "neither build-id nor release is known".to_owned() } else { parts.join(", ") }
}

impl SearchPath {
    /// The profiles that may fit a kernel, best first; never empty.
    ///
    /// A build-id names the exact build, so when a profile is found by it, on the first repository that has one,
    /// nothing else is looked for. Otherwise come profiles recorded with the same banner, then those of the same
    /// release; among equals the order is that of the search path, then that of the names.
    /// Ask again without the build-id to get the others too.
    pub fn find_linux(&self, evidence: &LinuxEvidence) -> Result<Vec<Candidate>, FindError> {
        let mut trace = Trace::default();
        let candidates = self.candidates(evidence, &mut trace);
        self.remember(&trace);
        if candidates.is_empty() {
            return Err(FindError { evidence: evidence.clone(), trace: trace.0 });
        }
        Ok(candidates)
    }

    fn candidates(&self, evidence: &LinuxEvidence, trace: &mut Trace) -> Vec<Candidate> {
        if let Some(id) = &evidence.build_id {
            let name = ProfileName::linux_build_id(id);
            for source in self.sources() {
                let answer = source.has(&name);
                trace.add(source.label(), &name, answer.clone());
                if answer == Answer::Found {
                    let entry = source.label().to_owned();
                    return vec![Candidate { name, entry, reason: Reason::BuildIdName }];
                }
            }
        }
        let matcher = Matcher::new(evidence);
        let mut candidates = Vec::new();
        let mut names = BTreeSet::new();
        for source in self.sources() {
            for candidate in matcher.search(source, trace) {
                // The first repository that has a name is the one it is loaded from.
                if names.insert(candidate.name.clone()) {
                    candidates.push(candidate);
                }
            }
        }
        candidates.sort_by_key(|candidate| candidate.reason);
        candidates.truncate(MAX_CANDIDATES);
        candidates
    }
}

struct Matcher<'a> {
    evidence: &'a LinuxEvidence,
    build_id: Option<&'a BuildId>,
    banner: Option<&'a str>,
    release: Option<&'a str>,
}

impl<'a> Matcher<'a> {
    fn new(evidence: &'a LinuxEvidence) -> Self {
        let banner = evidence.banner.as_deref().map(trimmed).filter(|banner| !banner.is_empty());
        let release = evidence.release.as_deref().map(trimmed).filter(|release| !release.is_empty());
        let release = release.or_else(|| banner.and_then(release_of_banner));
        Self { evidence, build_id: evidence.build_id.as_ref(), banner, release }
    }

    fn search(&self, source: &dyn Source, trace: &mut Trace) -> Vec<Candidate> {
        let asked = self
            .release
            .map_or("inventory".to_owned(), |release| format!("release {}", transport::plain(release)));
        let inventory = match source.inventory() {
            Ok(inventory) => inventory,
            Err(answer) => {
                trace.add(source.label(), &asked, answer);
                return Vec::new();
            }
        };
        let candidates: Vec<Candidate> = inventory
            .entries
            .iter()
            .filter(|(name, entry)| may_be_linux(name) && is_kernel(entry))
            .filter_map(|(name, entry)| {
                let reason = self.reason(name, entry)?;
                Some(Candidate { name: name.clone(), entry: source.label().to_owned(), reason })
            })
            .collect();
        let answer = if candidates.is_empty() { Answer::NotListed } else { Answer::Found };
        trace.add(source.label(), &asked, answer);
        if !candidates.is_empty() {
            return candidates;
        }
        match source.ask(self.evidence) {
            Ok(asked_for) if asked_for.is_empty() => Vec::new(),
            Ok(asked_for) => {
                trace.add(source.label(), asked, Answer::Found);
                asked_for
            }
            Err(answer) => {
                trace.add(source.label(), asked, answer);
                Vec::new()
            }
        }
    }

    fn reason(&self, name: &ProfileName, entry: &InventoryEntry) -> Option<Reason> {
        let recorded_id = entry.build_id().or_else(|| build_id_in(name.as_str()));
        if let (Some(wanted), Some(recorded)) = (self.build_id, &recorded_id) {
            // The inventory names the exact build: a different one is no candidate, whatever its name says.
            return (wanted == recorded).then_some(Reason::BuildId);
        }
        if let (Some(banner), Some(recorded)) = (self.banner, entry.text("Banner"))
            && trimmed(recorded) == banner
        {
            return Some(Reason::Banner);
        }
        let release = self.release?;
        let last = name.as_str().rsplit('/').next();
        if last == Some(release) || entry.release() == Some(release) {
            return Some(Reason::Release);
        }
        contains_word(name.as_str(), release).then_some(Reason::ReleaseInName)
    }
}

/// Banners end in a newline, and in memory in a NUL.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
}

/// Whether `word` stands in `text` with no letter or digit at either side.
fn contains_word(text: &str, word: &str) -> bool {
    word.len() >= MIN_RELEASE
        && text.match_indices(word).any(|(at, _)| {
            let before = text.get(..at).and_then(|text| text.chars().next_back());
            let after = text.get(at + word.len()..).and_then(|text| text.chars().next());
            !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
        })
}

#[cfg(test)]
mod tests {
    use super::contains_word;

    #[test]
    fn a_release_is_part_of_a_name_only_as_a_whole() {
        assert!(contains_word("Linux/6.1.0-56-amd64-dbg/x", "6.1.0-56-amd64"));
        assert!(!contains_word("Linux/16.1.0-56-amd64", "6.1.0-56-amd64"));
        assert!(!contains_word("Linux/6.1.0-56-amd64x", "6.1.0-56-amd64"));
        assert!(!contains_word("Linux/6.1", "6.1"), "too short to mean anything");
    }
}
