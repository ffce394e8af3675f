//! The symbol server client against a server on the loopback that speaks every form and misbehaves in every way.
//!
//! Truth: Microsoft's documentation of symbol stores for the forms, RFC 9110 for HTTP, `cabextract` for cabinets.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

mod cabinets;
mod forms;
mod hostile;
mod real;
mod samples;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use profile_gen::symbol_server::{
    Answer, Defaults, FetchError, Fetched, Limits, Listener, Options, PdbFile, SymbolPath, SymbolServer,
};
use tempfile::TempDir;

/// Where the sample lies on a server.
const AT: &str = "/a.pdb/0123456789ABCDEF00112233445566771/a.pdb";
const AT_COMPRESSED: &str = "/a.pdb/0123456789ABCDEF00112233445566771/a.pd_";
const AT_POINTER: &str = "/a.pdb/0123456789ABCDEF00112233445566771/file.ptr";

/// The sample: asked for with age 1, which is not the age inside.
fn wanted() -> PdbFile {
    PdbFile::parse("a.pdb", &format!("{}1", samples::GUID)).expect("an identifier")
}

/// A client with a store and a place for its state of its own.
struct Lab {
    scratch: TempDir,
    options: Options,
    asked: Arc<Mutex<Vec<String>>>,
}

struct Log(Arc<Mutex<Vec<String>>>);

impl Listener for Log {
    fn asking(&self, url: &str) {
        self.0.lock().expect("a lock").push(url.to_owned());
    }

    fn waiting(&self, _server: &str, reason: &str, pause: Duration) {
        self.0.lock().expect("a lock").push(format!("{reason}, waiting {} ms", pause.as_millis()));
    }
}

impl Lab {
    fn new() -> Self {
        let scratch = tempfile::tempdir().expect("scratch directory");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let options = Options {
            state_dir: Some(scratch.path().join("state")),
            limits: quick(),
            listener: Some(Arc::new(Log(Arc::clone(&asked)))),
            ..Options::default()
        };
        Self { scratch, options, asked }
    }

    fn below(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// A client of a symbol path in which `@` stands for the scratch directory.
    fn client(&self, path: &str) -> SymbolServer {
        let path = path.replace('@', &self.scratch.path().display().to_string());
        SymbolServer::new(&SymbolPath::parse(&path, &Defaults::default()), self.options.clone())
    }

    /// A fresh client of a server behind a store, as a new run of the program is.
    fn fetch(&self, base: &str) -> Result<Fetched, FetchError> {
        self.client(&format!("srv*@/store*{base}")).fetch_pdb(&wanted())
    }

    /// The files in the store.
    fn stored(&self) -> Vec<String> {
        files_below(&self.below("store"))
    }

    /// The downloads under way.
    fn partial(&self) -> Vec<String> {
        files_below(&self.below("state/partial"))
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("a lock"))
    }
}

/// Limits with short waits.
fn quick() -> Limits {
    Limits {
        connect_timeout: Duration::from_secs(2),
        read_timeout: Duration::from_millis(400),
        deadline: Duration::from_secs(3),
        first_pause: Duration::from_millis(10),
        longest_pause: Duration::from_secs(1),
        ..Limits::default()
    }
}

/// Every file below a directory, relative to it, sorted.
fn files_below(directory: &Path) -> Vec<String> {
    let mut pending = vec![directory.to_owned()];
    let mut files = Vec::new();
    while let Some(next) = pending.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else {
                let relative = path.strip_prefix(directory).expect("below");
                files.push(relative.display().to_string());
            }
        }
    }
    files.sort();
    files
}

fn answers(error: &FetchError) -> Vec<&Answer> {
    error.trace.iter().map(|asked| &asked.answer).collect()
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    fs::write(path, bytes).expect("a file");
}
