//! A client of symbol servers: PDBs and executables by what a debugger asks for.
//!
//! ```text
//! SymbolPath ──► chains of stores, asked left to right; what is found is copied to the directories left of it
//!    │              ├── directory.rs   <root>/[two letters/]<name>/<GUID age>/<name>, and loose files
//!    │              └── http.rs        the same as URLs: retried, resumed (partial.rs), misses remembered (misses.rs)
//!    └── of each: the file, its compressed form (a cabinet), file.ptr (pointer.rs)
//! bytes ──► check.rs: the GUID, or time stamp and size, must be those asked for
//! ```
//! Stores are untrusted: sizes and times are bounded, no path comes from their data, and a `file.ptr` leads only to
//! http(s) addresses and into directories of the symbol path. A store's directory holds whole, checked files or nothing.
//!
//! Truth: Microsoft's documentation of `SymSrv` and `symstore`; the layout of its public server.

mod answer;
mod check;
mod directory;
mod http;
mod id;
mod misses;
mod partial;
mod path;
mod pointer;
mod search;

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use answer::{Answer, Asked};
pub use id::{ExecutableFile, IdError, PdbFile};
pub use path::{Defaults, MICROSOFT, SymbolPath};
pub use pointer::Pointer;
pub use transport::Guard;

use check::Wanted;
use directory::Directory;
use http::Server;
use misses::Misses;
use path::Place;
use search::{Found, Search};

/// Told of what the client does, while it does it.
pub trait Listener: Send + Sync {
    /// This URL is asked now; redirects are told one by one. Without credentials and query.
    fn asking(&self, url: &str);

    /// So many bytes of a file are there, of so many where the server says.
    fn progress(&self, _done: u64, _total: Option<u64>) {}

    /// A server is asked again after a pause.
    fn waiting(&self, _server: &str, _reason: &str, _pause: Duration) {}
}

/// How to ask.
#[derive(Clone, Default)]
pub struct Options {
    /// Use only directories; no socket is opened.
    pub offline: bool,
    /// Where downloads under way and remembered misses are kept; without it they end with the client.
    pub state_dir: Option<PathBuf>,
    /// Ask stores that are remembered not to have a file, too.
    pub ask_again: bool,
    /// Bounds on sizes and times.
    pub limits: Limits,
    /// Told of every request.
    pub listener: Option<Arc<dyn Listener>>,
    /// Decides which addresses may be reached, for servers that fetch on behalf of strangers.
    pub guard: Option<Arc<dyn Guard>>,
}

/// Bounds on what a store may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest file in bytes, as transferred and as expanded.
    pub max_file: u64,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest silence of a server while it answers.
    pub read_timeout: Duration,
    /// Longest time for one file.
    pub deadline: Duration,
    /// Longest chain of redirects.
    pub max_redirects: usize,
    /// Most failures in a row that bring no byte.
    pub attempts: u32,
    /// Pause before the second attempt; it doubles with every further one.
    pub first_pause: Duration,
    /// Longest pause. A server that asks for a longer one is left alone that long.
    pub longest_pause: Duration,
    /// Time for which a server is believed not to have a file.
    pub remember_missing: Duration,
    /// Time for which a server is believed to have a wrong file.
    pub remember_wrong: Duration,
}

impl Default for Limits {
    /// 1 GiB, 10 s for a connection, 30 s of silence, 30 min for a file, 5 redirects, 4 attempts half a second to a minute
    /// apart; missing files are remembered for a day, wrong ones for an hour.
    fn default() -> Self {
        Self {
            max_file: 1 << 30,
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(30 * 60),
            max_redirects: 5,
            attempts: 4,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
            remember_missing: Duration::from_secs(24 * 3600),
            remember_wrong: Duration::from_secs(3600),
        }
    }
}

/// A file that was found.
#[derive(Debug)]
pub struct Fetched {
    /// The file, expanded and checked.
    pub bytes: Vec<u8>,
    /// Where a store on this machine has it now; absent where no directory of the chain keeps it.
    pub path: Option<PathBuf>,
    /// The file or URL that gave it.
    pub source: String,
    /// Who was asked on the way.
    pub trace: Vec<Asked>,
    /// What went wrong beside it, such as a cache that cannot be written.
    pub warnings: Vec<String>,
}

/// Why a file was not found, and who was asked.
#[derive(Debug, Clone)]
pub struct FetchError {
    /// Name and identifier asked for.
    pub wanted: String,
    /// What went wrong.
    pub failure: Failure,
    /// Who was asked, and what each one answered.
    pub trace: Vec<Asked>,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The symbol path names no store.
    NoStores,
    /// Every store that answered says that it does not have the file.
    NotFound,
    /// Nobody on this machine has it, and the network may not be used.
    Offline,
    /// A store keeps the file back, with this message.
    Withheld(String),
    /// A store has another file in its place; the first reason.
    Wrong(String),
    /// A store could not be asked or did not answer; the first reason.
    Unreachable(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = &self.wanted;
        match &self.failure {
            Failure::NoStores => write!(f, "the symbol path names no store to ask for {wanted}"),
            Failure::NotFound => write!(f, "no symbol store has {wanted}"),
            Failure::Offline => write!(f, "not on this machine, and offline: {wanted}"),
            Failure::Withheld(message) => {
                write!(f, "the symbol store does not give {wanted} away: {message}")
            }
            Failure::Wrong(reason) => write!(f, "the symbol store has something else for {wanted}: {reason}"),
            Failure::Unreachable(reason) => write!(f, "cannot ask for {wanted}: {reason}"),
        }
    }
}

impl std::error::Error for FetchError {}

/// A client over the stores of a symbol path. Calls block; it may be shared by threads.
pub struct SymbolServer {
    stores: Vec<(Place, Store)>,
    /// Numbers of stores, per element of the path.
    chains: Vec<Vec<usize>>,
    options: Options,
    misses: Misses,
}

enum Store {
    Directory(Directory),
    Server(Box<Server>),
    Unusable { text: String, reason: &'static str },
}

impl SymbolServer {
    /// Prepares the stores of a path; nothing is opened before the first question.
    #[must_use]
    pub fn new(path: &SymbolPath, options: Options) -> Self {
        let mut stores: Vec<(Place, Store)> = Vec::new();
        let mut number = |place: &Place| {
            if let Some(known) = stores.iter().position(|(other, _)| other == place) {
                return known;
            }
            let store = match place {
                Place::Store(root) => Store::Directory(Directory::new(root.clone(), false)),
                Place::Folder(root) => Store::Directory(Directory::new(root.clone(), true)),
                Place::Server(url) => Store::Server(Box::new(Server::new((**url).clone(), options.clone()))),
                Place::Unusable { text, reason } => Store::Unusable { text: text.clone(), reason },
            };
            stores.push((place.clone(), store));
            stores.len() - 1
        };
        let chains = path.chains.iter().map(|chain| chain.iter().map(&mut number).collect()).collect();
        let misses = Misses::new(options.state_dir.as_ref().map(|directory| directory.join("missing")));
        Self { stores, chains, options, misses }
    }

    /// Fetches a PDB. Its GUID is that asked for; its age may be another, as linkers and tools raise it: a profile made
    /// of it is filed under what was asked.
    pub fn fetch_pdb(&self, file: &PdbFile) -> Result<Fetched, FetchError> {
        self.fetch(&Wanted::Pdb(file.clone()), file.to_string())
    }

    /// Fetches an executable with the time stamp and size asked for.
    pub fn fetch_executable(&self, file: &ExecutableFile) -> Result<Fetched, FetchError> {
        self.fetch(&Wanted::Executable(file.clone()), file.to_string())
    }

    fn fetch(&self, wanted: &Wanted, label: String) -> Result<Fetched, FetchError> {
        let mut search = Search::new(self, wanted);
        let mut asked = HashSet::new();
        for chain in &self.chains {
            for (position, number) in chain.iter().enumerate() {
                let store = self.stores.get(*number).filter(|_| asked.insert(*number));
                let Some(Found { bytes, source, path }) = store.and_then(|(_, store)| search.ask(store))
                else {
                    continue;
                };
                let mut warnings = Vec::new();
                let left = chain.get(..position).unwrap_or_default();
                let kept = self.keep(left, wanted, &bytes, &mut warnings);
                return Ok(Fetched { bytes, path: kept.or(path), source, trace: search.trace, warnings });
            }
        }
        let failure = if self.stores.is_empty() { Failure::NoStores } else { failure(&search.trace) };
        Err(FetchError { wanted: label, failure, trace: search.trace })
    }

    /// Copies a file to the directories of a chain; returns where the first one has it.
    fn keep(
        &self,
        left: &[usize],
        wanted: &Wanted,
        bytes: &[u8],
        warnings: &mut Vec<String>,
    ) -> Option<PathBuf> {
        let mut first = None;
        for (_, store) in left.iter().filter_map(|number| self.stores.get(*number)) {
            let Store::Directory(directory) = store else { continue };
            match directory.keep(wanted, bytes) {
                Ok(path) => first = first.or(Some(path)),
                Err(error) => {
                    warnings.push(format!("cannot keep it in {}: {error}", directory.root.display()));
                }
            }
        }
        first
    }
    /// Whether a path is inside one of the directories.
    fn holds(&self, path: &Path) -> bool {
        self.stores.iter().any(|(_, store)| match store {
            Store::Directory(directory) => directory.contains(path),
            Store::Server(_) | Store::Unusable { .. } => false,
        })
    }
}

/// The answer that says most.
fn failure(trace: &[Asked]) -> Failure {
    let ranked = trace.iter().map(|asked| match &asked.answer {
        Answer::Wrong(reason) => (0, Failure::Wrong(reason.clone())),
        Answer::Withheld(message) => (1, Failure::Withheld(message.clone())),
        answer @ (Answer::Unreachable(_) | Answer::Refused(_) | Answer::WebPage) => {
            (2, Failure::Unreachable(answer.to_string()))
        }
        Answer::Offline => (3, Failure::Offline),
        Answer::Found | Answer::NotThere | Answer::Remembered(_) | Answer::Other(_) => (4, Failure::NotFound),
    });
    ranked.min_by_key(|(rank, _)| *rank).map_or(Failure::NotFound, |(_, failure)| failure)
}
