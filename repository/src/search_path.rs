//! The ordered list of repositories: loading by name, following symlinks, storing.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use profile::names::{NameError, ProfileName};
use profile::{Document, Kind, Profile};
use transport::plain;

use crate::LAYOUT;
use crate::archive::Archive;
use crate::config::{Config, Limits};
use crate::directory::{self, Directory, StoreError};
use crate::remote::{Remote, Shared};
use crate::source::{self, Found, Source};
use crate::trace::{Answer, Asked, Trace};
use crate::trusted::{self, Trusted};

/// Most entries of a search path.
const MAX_ENTRIES: usize = 64;

/// Most questions remembered for [`SearchPath::asked`].
const MAX_ASKED: usize = 4096;

/// Label of the step that takes a name as a file name.
const LOCAL_FILE: &str = "local file";

/// Why a search path cannot be used at all. A single bad entry never is a reason.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// More entries than anyone lists by hand.
    #[error("more than {MAX_ENTRIES} repositories in the search path: {0}")]
    TooMany(usize),
}

/// The repositories to search, in order; the first that has a name wins.
pub struct SearchPath {
    sources: Vec<Box<dyn Source>>,
    /// Directories that may be written, in order: those configured, then the cache directory.
    directories: Vec<PathBuf>,
    cache_dir: Option<PathBuf>,
    limits: Limits,
    shared: Arc<Shared>,
    asked: Mutex<Vec<Asked>>,
}

/// A profile that was found.
#[derive(Debug)]
pub struct Loaded {
    /// The name it was found under, after all symlinks; for local files the path as given.
    pub name: String,
    /// The profile.
    pub profile: Profile,
    /// The file, archive member or URL that held it.
    pub source: String,
    /// Names of the symlinks followed, in order; empty where the name asked for was the profile itself.
    pub chain: Vec<String>,
    /// Who was asked on the way.
    pub trace: Vec<Asked>,
}

/// Why a profile was not loaded, and who was asked.
#[derive(Debug)]
pub struct LoadError {
    /// The name that could not be loaded: the one asked for, or what the last symlink points to.
    pub name: String,
    /// What went wrong.
    pub failure: LoadFailure,
    /// Names of the symlinks followed before it went wrong, in order.
    pub chain: Vec<String>,
    /// Who was asked, and what each one answered.
    pub trace: Vec<Asked>,
}

/// What went wrong when a profile was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadFailure {
    /// The text is neither an existing file nor a profile name.
    Name(NameError),
    /// No repository has it.
    NotFound,
    /// It was found, but no copy of it can be read; the reason is that of the first.
    Damaged(String),
    /// Symlinks lead back to one that was followed before.
    Loop,
    /// More symlinks in a row than allowed.
    TooManySymlinks(usize),
    /// A symlink's target is no profile name.
    Target(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = plain(&self.name);
        match &self.failure {
            LoadFailure::Name(error) => write!(f, "no such file, and not a profile name ({error}): {name}"),
            LoadFailure::NotFound => write!(f, "profile not found in any repository: {name}"),
            LoadFailure::Damaged(reason) => write!(f, "profile found but not usable ({reason}): {name}"),
            LoadFailure::Loop => write!(f, "symlinks form a loop: {}", self.chain.join(" -> ")),
            LoadFailure::TooManySymlinks(max) => {
                write!(f, "more than {max} symlinks in a row: {}", self.chain.join(" -> "))
            }
            LoadFailure::Target(target) => write!(f, "symlink {name} points to no profile name: {target}"),
        }?;
        if self.chain.is_empty()
            || matches!(self.failure, LoadFailure::Loop | LoadFailure::TooManySymlinks(_))
        {
            return Ok(());
        }
        write!(f, " (by way of {})", self.chain.join(" -> "))
    }
}

impl std::error::Error for LoadError {}

impl SearchPath {
    /// Prepares the search path. Nothing is opened yet, and an entry that turns out unusable only answers so.
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        if config.entries.len() > MAX_ENTRIES {
            return Err(OpenError::TooMany(config.entries.len()));
        }
        let limits = config.limits;
        let shared = Arc::new(Shared::default());
        let mut sources: Vec<Box<dyn Source>> = Vec::new();
        let mut directories = Vec::new();
        // The cache directory is a repository too, of what was stored there; it stands in front of the URLs.
        let stored = config.cache_dir.as_ref().filter(|directory| directory.join(LAYOUT).is_dir());
        let mut stored = stored.map(|directory| Box::new(Directory::new(directory, limits)));
        for entry in &config.entries {
            let (place, key) = trusted::split(entry);
            let source: Box<dyn Source> = if Remote::is_url(place) {
                sources.extend(stored.take().map(|directory| directory as Box<dyn Source>));
                Box::new(Remote::new(place, config, Arc::clone(&shared)))
            } else if fs::metadata(place).is_ok_and(|metadata| metadata.is_file()) {
                Box::new(Archive::new(place.into(), limits))
            } else {
                // What is stored here would not be signed, so it goes where no key is required.
                directories.extend((key.is_none() && !config.read_only).then(|| PathBuf::from(place)));
                Box::new(Directory::new(place, limits))
            };
            sources.push(match key {
                Some(key) => Box::new(Trusted::new(source, key, limits)),
                None => source,
            });
        }
        sources.extend(stored.map(|directory| directory as Box<dyn Source>));
        let cache_dir = config.cache_dir.clone();
        Ok(Self { sources, directories, cache_dir, limits, shared, asked: Mutex::default() })
    }

    /// Calls `listener` with the URL before each network request, so that none is made unseen. The first listener
    /// stays.
    #[must_use]
    pub fn on_network(self, listener: impl Fn(&str) + Send + Sync + 'static) -> Self {
        let _ = self.shared.on_network.set(Box::new(listener));
        self
    }

    /// What the user should know about the repositories (one that was switched off, a cache that cannot be written),
    /// since the last call.
    pub fn take_notes(&self) -> Vec<String> {
        self.shared.take_notes()
    }

    /// Loads a profile. The name is first taken as a file name (as given, then with `.gz`), then asked of every
    /// repository in order. Symlinks are followed through the whole path again.
    pub fn load(&self, name: &str) -> Result<Loaded, LoadError> {
        self.resolve(name, Start::LocalFile)
    }

    /// Loads a profile from the repositories only. For names that no user typed: a file that happens to lie in the
    /// current directory must not answer for them.
    pub fn load_named(&self, name: &ProfileName) -> Result<Loaded, LoadError> {
        self.resolve(name.as_str(), Start::Repositories)
    }

    /// Everything asked since the search path was opened, by all calls, in order; at most the first few thousand.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes a document into the first configured directory that can be written, else into the cache directory.
    pub fn store(&self, name: &ProfileName, document: &Document) -> Result<PathBuf, StoreError> {
        let mut refusals = Vec::new();
        for directory in &self.directories {
            match Directory::new(directory, self.limits).put(name, document) {
                Ok(path) => return Ok(path),
                Err(error) => refusals.push(error.to_string()),
            }
        }
        match &self.cache_dir {
            Some(_) => self.keep(name, document),
            None => Err(StoreError::Nowhere(refusals.join("; "))),
        }
    }

    /// Writes a document into the cache directory only: for what was made on the way and nobody asked to be stored.
    pub fn keep(&self, name: &ProfileName, document: &Document) -> Result<PathBuf, StoreError> {
        let cache =
            self.cache_dir.as_ref().ok_or_else(|| StoreError::Nowhere("no cache directory".to_owned()))?;
        let io_error = |error| StoreError::Io { path: cache.clone(), error };
        fs::create_dir_all(cache.join(LAYOUT)).map_err(io_error)?;
        Directory::new(cache, self.limits).put(name, document)
    }

    /// Stores the document that makes `name` another name of `target`.
    pub fn make_symlink(&self, name: &ProfileName, target: &ProfileName) -> Result<PathBuf, StoreError> {
        if name == target {
            return Err(StoreError::SelfLink(name.clone()));
        }
        self.store(name, &Document::symlink(target.as_str()))
    }

    /// The directories among the repositories, in order.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &Path> {
        self.directories.iter().map(PathBuf::as_path)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn sources(&self) -> impl Iterator<Item = &dyn Source> {
        self.sources.iter().map(AsRef::as_ref)
    }

    pub(crate) fn remember(&self, trace: &Trace) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_ASKED.saturating_sub(asked.len());
        asked.extend(trace.0.iter().take(room).cloned());
    }

    fn resolve(&self, asked_for: &str, start: Start) -> Result<Loaded, LoadError> {
        let mut trace = Trace::default();
        let mut chain = Vec::new();
        let result = self.follow(asked_for, start, &mut chain, &mut trace);
        self.remember(&trace);
        let trace = trace.0;
        match result {
            Ok((name, found)) => {
                Ok(Loaded { name, profile: found.profile, source: found.source, chain, trace })
            }
            Err((name, failure)) => Err(LoadError { name, failure, chain, trace }),
        }
    }

    fn follow(
        &self,
        asked_for: &str,
        mut start: Start,
        chain: &mut Vec<String>,
        trace: &mut Trace,
    ) -> Result<(String, Found), (String, LoadFailure)> {
        let mut name = asked_for.to_owned();
        loop {
            let (found, from) = match self.find(&name, start, trace) {
                Ok(found) => found,
                Err(failure) => return Err((name, failure)),
            };
            let Kind::Symlink { target } = found.profile.kind() else { return Ok((name, found)) };
            chain.push(plain(&name));
            let Ok(target) = ProfileName::new(&target) else {
                return Err((name, LoadFailure::Target(format!("{:?}", plain(&target)))));
            };
            if chain.iter().any(|followed| followed == target.as_str()) {
                chain.push(target.to_string());
                return Err((name, LoadFailure::Loop));
            }
            if chain.len() > self.limits.max_symlinks {
                return Err((name, LoadFailure::TooManySymlinks(self.limits.max_symlinks)));
            }
            name = target.to_string();
            // What a repository wrote must not choose files of the current directory; what the user's own file
            // says may.
            start = from;
        }
    }

    fn find(&self, name: &str, start: Start, trace: &mut Trace) -> Result<(Found, Start), LoadFailure> {
        let first = trace.0.len();
        if start == Start::LocalFile {
            match local_file(name, &self.limits) {
                Ok(found) => {
                    trace.add(LOCAL_FILE, plain(name), Answer::Found);
                    return Ok((found, Start::LocalFile));
                }
                Err(answer) => trace.add(LOCAL_FILE, plain(name), answer.clone()),
            }
            // A file that is there but unreadable is what the user meant; no repository may stand in for it.
            if let Some(Asked { answer: Answer::Damaged(reason) | Answer::Refused(reason), .. }) =
                trace.0.last()
            {
                return Err(LoadFailure::Damaged(reason.clone()));
            }
        }
        let profile_name = ProfileName::new(name).map_err(LoadFailure::Name)?;
        if let Some(found) = self.sources().find_map(|source| source.read(&profile_name, trace)) {
            return Ok((found, Start::Repositories));
        }
        let damage = trace.0.iter().skip(first).find_map(|asked| match &asked.answer {
            Answer::Damaged(reason) => Some(reason.clone()),
            _ => None,
        });
        Err(damage.map_or(LoadFailure::NotFound, LoadFailure::Damaged))
    }
}

/// Where the search for a name begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    LocalFile,
    Repositories,
}

/// Takes the name as a path: the file itself, then with `.gz` appended.
fn local_file(name: &str, limits: &Limits) -> Result<Found, Answer> {
    let compressed = format!("{name}.gz");
    let path = [name, compressed.as_str()]
        .into_iter()
        .map(Path::new)
        .find(|path| fs::metadata(path).is_ok_and(|metadata| metadata.is_file()))
        .ok_or(Answer::NotFound)?;
    let bytes = directory::read_file(path, limits.max_text)?;
    let profile = source::decode(&bytes, limits)?;
    Ok(Found { profile, source: path.display().to_string() })
}

#[cfg(test)]
mod tests;
