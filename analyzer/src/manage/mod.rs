//! Building a whole repository from its sources.
//!
//! ```text
//! config.yaml ─► entries ─► what is missing ─► worker processes, several at once ─► profiles ─► indexes, inventory
//!                                                    └─► what can never be built: <guids>.rejects
//! ```
//! A run that was stopped goes on where it was: what is there is not built again, and what a symbol store does not have, or
//! what cannot be converted, is remembered with the reason. Sources are converted in processes with limits.

mod build;
mod config;
mod guids;

use std::fs;
use std::path::{Path, PathBuf};

use profile::names::ProfileName;
use profile::{Document, Profile};
use profile_gen::symbol_server::SymbolServer;
use profile_gen::worker::Worker;
use repository::Directory;
use repository::index::{IndexSpec, build_index};

use crate::error::Error;
use crate::profile_file::Report;
use crate::session::Session;
use build::{Failure, Task};
use config::{Entry, Kind};

/// Deepest folder below the sources of Linux profiles.
const MAX_DEPTH: usize = 16;

/// What the user asks of a run.
pub struct Request<'a> {
    /// The entry of `config.yaml` to build; all by default.
    pub target: Option<&'a str>,
    /// `build` and `add_guid` with identities, or `build_all`; nothing is `build_all`.
    pub arguments: &'a [String],
    /// Build indexes even where no profile is new.
    pub force_index: bool,
    /// Conversions at once.
    pub processes: usize,
}

/// A repository that is being built.
pub struct Manager<'a> {
    session: &'a Session,
    /// The directory of names, `<root>/v1.0`.
    root: PathBuf,
    directory: Directory,
    worker: Worker,
    server: &'a SymbolServer,
}

impl<'a> Manager<'a> {
    /// Over the repository in a directory.
    #[must_use]
    pub fn new(session: &'a Session, root: &Path, worker: Worker) -> Self {
        let directory = Directory::new(root, repository::Limits::default());
        let versioned = root.join(repository::LAYOUT);
        let root = if versioned.is_dir() { versioned } else { root.to_owned() };
        Self { session, root, directory, worker, server: session.symbol_server() }
    }

    /// Builds what is missing and tells each result.
    pub fn run(
        &self,
        request: &Request<'_>,
        told: &mut dyn FnMut(Report) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let entries = config::read(&self.root)?;
        if let Some(target) = request.target
            && !entries.iter().any(|entry| entry.prefix.as_str() == target)
        {
            let known: Vec<&str> = entries.iter().map(|entry| entry.prefix.as_str()).collect();
            return Err(Error::usage(format!("config.yaml has no entry {target}"))
                .with_hint(format!("its entries: {}", known.join(", "))));
        }
        for entry in &entries {
            if request.target.is_none_or(|target| target == entry.prefix.as_str()) {
                let built = self.entry(entry, request, told)?;
                if built > 0 || request.force_index {
                    self.indexes(entry, told)?;
                }
            }
        }
        let inventory = repository::build_inventory(&self.root, &repository::Limits::default())
            .map_err(|error| Error::analysis(error.to_string()))?;
        for (name, reason) in &inventory.skipped {
            self.session
                .notes
                .partial(format!("not in the inventory, as it cannot be read: {name}: {reason}"));
        }
        told(Report::count("inventory", inventory.listed, inventory.path.display().to_string()))
    }

    /// Builds one entry; returns the number of new profiles.
    fn entry(
        &self,
        entry: &Entry,
        request: &Request<'_>,
        told: &mut dyn FnMut(Report) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        match &entry.kind {
            Kind::WindowsGuids { guids, class, candidates } => {
                self.windows(entry, &guids::Files::open(guids)?, class.as_deref(), candidates, request, told)
            }
            Kind::Copy { source } => {
                if self.is_newer(&entry.prefix, source) {
                    return Ok(0);
                }
                let value: serde_json::Value = config::yaml(source)?
                    .ok_or_else(|| Error::usage(format!("no such file: {}", source.display())))?;
                let read = || Profile::parse_text(value.to_string())?.to_document();
                let document =
                    read().map_err(|error| Error::analysis(format!("{error}: {}", source.display())))?;
                let path = self.put(&entry.prefix, document, entry).map_err(Error::analysis)?;
                told(Report::text("built", path.display().to_string()))?;
                Ok(1)
            }
            Kind::Linux { folder } => {
                let mut zips = Vec::new();
                find_zips(folder, "", 0, &mut zips);
                let mut tasks = Vec::new();
                for (relative, path) in zips {
                    let name = config::name(&format!("{}/{relative}", entry.prefix))?;
                    if !self.has(&name) {
                        tasks.push(Task::linux(name, path));
                    }
                }
                let mut built = 0;
                self.all(&tasks, entry, request.processes, &mut |_, result| match result {
                    Ok(done) => {
                        built += 1;
                        told(Report::text("built", done.path.display().to_string()))
                    }
                    Err(failure) => self.failed(&failure, told),
                })?;
                Ok(built)
            }
            Kind::Unknown(kind) => {
                self.session.notes.partial(format!("{} is not built: unknown type: {kind}", entry.prefix));
                Ok(0)
            }
        }
    }

    fn windows(
        &self,
        entry: &Entry,
        known: &guids::Files,
        class: Option<&str>,
        candidates: &[String],
        request: &Request<'_>,
        told: &mut dyn FnMut(Report) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        let (command, identities) =
            request.arguments.split_first().map_or(("build_all", &[][..]), |(c, i)| (c, i));
        let mut known = known.clone();
        let wanted = match command {
            "build_all" => known.all(),
            "build" | "add_guid" => known.named(identities, candidates)?,
            other => {
                return Err(Error::usage(format!("unknown builder command: {other}"))
                    .with_hint("the commands are build_all, build and add_guid"));
            }
        };
        for junk in &wanted.unusable {
            self.session.notes.info(format!("no identity of a PDB, passed over: {junk}"));
        }
        let mut tasks = Vec::new();
        for (id, files) in wanted.files {
            let name = config::name(&format!("{}/{id}", entry.prefix))?;
            // What is asked for by name is tried again.
            let rejected = command == "build_all" && known.rejects.contains_key(&id);
            if !rejected && !self.has(&name) {
                tasks.push(Task::windows(name, id, files, class));
            }
        }
        let mut built = 0;
        let result = self.all(&tasks, entry, request.processes, &mut |task, result| match result {
            Ok(done) => {
                built += 1;
                known.built(done.pdb.as_ref(), command == "add_guid");
                told(Report::text("built", done.path.display().to_string()))
            }
            Err(failure) => {
                if failure.permanent {
                    known.rejected(task, &failure.reason);
                }
                self.failed(&failure, told)
            }
        });
        // What is known by now is kept, however the run ended.
        known.save()?;
        result.map(|()| built)
    }

    fn failed(
        &self,
        failure: &Failure,
        told: &mut dyn FnMut(Report) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.session.notes.partial(format!("not built: {}: {}", failure.name, failure.reason));
        let item = if failure.permanent { "rejected" } else { "failed" };
        told(Report::text(item, format!("{}: {}", failure.name, failure.reason)))
    }

    fn indexes(&self, entry: &Entry, told: &mut dyn FnMut(Report) -> Result<(), Error>) -> Result<(), Error> {
        for (spec, name) in &entry.indexes {
            let failed =
                |error: &dyn std::fmt::Display| Error::analysis(format!("{error}: {}", spec.display()));
            let text = fs::read_to_string(spec).map_err(|error| failed(&error))?;
            let spec = IndexSpec::parse(&text).map_err(|error| failed(&error))?;
            let index = build_index(&self.directory, &spec).map_err(|error| failed(&error))?;
            self.directory.put(name, &index.document).map_err(|error| failed(&error))?;
            told(Report::count("index", index.indexed, name.to_string()))?;
        }
        Ok(())
    }

    fn has(&self, name: &ProfileName) -> bool {
        self.modified(name).is_some()
    }

    fn is_newer(&self, name: &ProfileName, source: &Path) -> bool {
        let source = fs::metadata(source).and_then(|metadata| metadata.modified()).ok();
        self.modified(name).zip(source).is_some_and(|(made, source)| made >= source)
    }

    fn modified(&self, name: &ProfileName) -> Option<std::time::SystemTime> {
        let of = |path: PathBuf| fs::metadata(path).ok()?.modified().ok();
        of(self.root.join(format!("{name}.gz"))).or_else(|| of(self.root.join(name.as_str())))
    }

    fn put(&self, name: &ProfileName, mut document: Document, entry: &Entry) -> Result<PathBuf, String> {
        if !entry.merge.is_empty() {
            document.merge.clone_from(&entry.merge);
        }
        self.directory.put(name, &document).map_err(|error| error.to_string())
    }
}

/// Zips below a folder: names relative to it, without the extension, and paths. Symbolic links are not followed.
fn find_zips(folder: &Path, below: &str, depth: usize, out: &mut Vec<(String, PathBuf)>) {
    let mut entries: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let relative = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth < MAX_DEPTH => {
                find_zips(&entry.path(), &relative, depth + 1, out);
            }
            Ok(kind) if kind.is_file() => {
                if let Some(stem) = relative.strip_suffix(".zip") {
                    out.push((stem.to_owned(), entry.path()));
                }
            }
            _ => {}
        }
    }
}
