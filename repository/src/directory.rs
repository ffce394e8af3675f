//! A repository that is a directory: `<root>/v1.0/<name>` or `<root>/v1.0/<name>.gz`, or the `v1.0` tree itself.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use profile::names::ProfileName;
use profile::{Document, Profile};
use rayon::prelude::*;
use transport::atomic;

use crate::LAYOUT;
use crate::config::Limits;
use crate::inventory::{self, Inventory, InventoryEntry};
use crate::signature::{MAX_SIGNATURE, SIGNATURE_FILE};
use crate::source::{self, Found, Signed, Source};
use crate::trace::{Answer, Trace};

/// Deepest directory below the tree that is looked into.
const MAX_DEPTH: usize = 16;

/// A directory of profiles. Opening does nothing; what is wrong with it is said when it is asked.
pub struct Directory {
    root: PathBuf,
    label: String,
    limits: Limits,
    tree: OnceLock<Result<Tree, String>>,
    inventory: OnceLock<Inventory>,
}

/// The canonical paths of the root and of the directory that holds the names.
struct Tree {
    root: PathBuf,
    names: PathBuf,
}

/// A document as it lies in a directory.
#[derive(Debug)]
pub struct Stored {
    /// The bytes, gzip-compressed or plain (told by their start).
    pub bytes: Vec<u8>,
    /// The file, symbolic links resolved.
    pub path: PathBuf,
    /// Time of the file's last change in seconds since 1970-01-01 UTC.
    pub last_modified: f64,
}

/// Why a document was not written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Neither a configured directory nor the cache directory could be written.
    #[error("no repository can be written: add a directory to the repository path: {0}")]
    Nowhere(String),
    /// The target of a symlink is the symlink itself.
    #[error("a symlink cannot point to itself: {0}")]
    SelfLink(ProfileName),
    /// The name is that of the inventory, or a part of it starts with a dot; such files are no documents.
    #[error("reserved name: {0}")]
    Reserved(ProfileName),
    /// The directory is no usable repository.
    #[error("not a usable repository: {0}")]
    Directory(String),
    /// The way to the file leads out of the repository.
    #[error("a symbolic link leaves the repository: {0}")]
    Escapes(PathBuf),
    /// Writing failed.
    #[error("cannot write {path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// What [`build_inventory`] did.
#[derive(Debug)]
pub struct BuiltInventory {
    /// The file written.
    pub path: PathBuf,
    /// Number of documents listed.
    pub listed: usize,
    /// Files that look like documents but cannot be read, with the reason, sorted by name.
    pub skipped: Vec<(String, String)>,
}

/// Reads every document below `root` and writes `inventory.gz`.
pub fn build_inventory(root: &Path, limits: &Limits) -> Result<BuiltInventory, StoreError> {
    let directory = Directory::new(root, *limits);
    let tree = directory.tree().map_err(|reason| StoreError::Directory(reason.to_owned()))?;
    let io_error = |error| StoreError::Io { path: tree.names.clone(), error };
    let _lock = atomic::lock(&tree.names).map_err(io_error)?;
    let (inventory, skipped) = directory.complete(Inventory::default(), usize::MAX, |_| true);
    let path = tree.names.join("inventory.gz");
    atomic::write(&path, &inventory.to_gzip())
        .map_err(|error| StoreError::Io { path: path.clone(), error })?;
    Ok(BuiltInventory { path, listed: inventory.entries.len(), skipped })
}

impl Directory {
    /// A repository at `root`, which holds `v1.0/` or is that directory.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, limits: Limits) -> Self {
        let root = root.into();
        let label = root.display().to_string();
        Self { root, label, limits, tree: OnceLock::new(), inventory: OnceLock::new() }
    }

    fn tree(&self) -> Result<&Tree, &str> {
        let open = || {
            let root = fs::canonicalize(&self.root).map_err(|error| io_reason(&error))?;
            if !root.is_dir() {
                return Err("not a directory".to_owned());
            }
            let versioned = root.join(LAYOUT);
            let names = match fs::canonicalize(&versioned) {
                Ok(path) if !path.starts_with(&root) => return Err(format!("{LAYOUT} leads out of it")),
                Ok(path) if path.is_dir() => path,
                _ => root.clone(),
            };
            Ok(Tree { root, names })
        };
        self.tree.get_or_init(open).as_ref().map_err(String::as_str)
    }

    /// The file that holds `name`: the plain one first, then `.gz`, as in the original.
    fn locate(&self, name: &ProfileName) -> Result<(PathBuf, Metadata), Answer> {
        let tree = self.tree().map_err(Answer::refused)?;
        if is_hidden(name) {
            return Err(Answer::NotFound);
        }
        for extension in ["", ".gz"] {
            let file = match fs::canonicalize(tree.names.join(format!("{name}{extension}"))) {
                Ok(file) => file,
                Err(error) if is_absence(&error) => continue,
                Err(error) => return Err(Answer::refused(io_reason(&error))),
            };
            if !file.starts_with(&tree.root) {
                return Err(Answer::refused("a symbolic link leaves the repository"));
            }
            let metadata = fs::metadata(&file).map_err(|error| Answer::refused(io_reason(&error)))?;
            if metadata.is_file() {
                return Ok((file, metadata));
            }
        }
        Err(Answer::NotFound)
    }

    /// Reads a document's bytes as stored, at most [`Limits::max_text`] of them.
    pub fn get(&self, name: &ProfileName) -> Result<Stored, Answer> {
        let (path, metadata) = self.locate(name)?;
        let bytes = read_file(&path, self.limits.max_text)?;
        Ok(Stored { bytes, last_modified: modified(&metadata), path })
    }

    /// The directory that holds the names.
    pub(crate) fn names_directory(&self) -> Result<PathBuf, StoreError> {
        self.tree().map(|tree| tree.names.clone()).map_err(|reason| StoreError::Directory(reason.to_owned()))
    }

    /// Removes the files of a document, not its entry in the inventory. That there is none is no error.
    pub(crate) fn remove_files(&self, name: &ProfileName) -> io::Result<()> {
        let tree = self.tree().map_err(|reason| io::Error::other(reason.to_owned()))?;
        for extension in ["", ".gz"] {
            match fs::remove_file(tree.names.join(format!("{name}{extension}"))) {
                Err(error) if !is_absence(&error) && error.kind() != io::ErrorKind::IsADirectory => {
                    return Err(error);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes a document as canonical, reproducibly compressed `.gz`, and its entry in `inventory.gz`, each in one
    /// step. A plain file of the same name is removed, because readers would prefer it.
    pub fn put(&self, name: &ProfileName, document: &Document) -> Result<PathBuf, StoreError> {
        if is_hidden(name) || name.as_str() == inventory::NAME {
            return Err(StoreError::Reserved(name.clone()));
        }
        // `v1.0/` may have been made since this directory was opened, by the first document.
        let names = Self::new(&self.root, self.limits).writable_tree()?;
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::Io { path, error }
        };
        let root = fs::canonicalize(&self.root).map_err(io_error(&self.root))?;
        let path = names.join(format!("{name}.gz"));
        confine(&root, &path)?;
        fs::create_dir_all(&names).map_err(io_error(&names))?;
        let _lock = atomic::lock(&names).map_err(io_error(&names))?;

        let text = document.to_canonical_json();
        atomic::write(&path, &profile::gzip(text.as_bytes())).map_err(io_error(&path))?;
        let plain = names.join(name.as_str());
        if plain.is_file() {
            fs::remove_file(&plain).map_err(io_error(&plain))?;
        }

        // Other processes may have written since this directory was opened, so nothing remembered is used.
        let now = Self::new(&self.root, self.limits);
        let listed = match now.stored_inventory() {
            Some((listed, _)) => listed,
            None => now.complete(Inventory::default(), self.limits.max_reads, |_| true).0,
        };
        let inventory = now.with_entry(listed, name, &text);
        let inventory_path = names.join("inventory.gz");
        atomic::write(&inventory_path, &inventory.to_gzip()).map_err(io_error(&inventory_path))?;
        Ok(path)
    }

    fn with_entry(&self, mut inventory: Inventory, name: &ProfileName, text: &str) -> Inventory {
        let last_modified = self.locate(name).map_or(0.0, |(_, metadata)| modified(&metadata));
        let entry = match Profile::parse_text(text.to_owned()) {
            Ok(profile) => {
                InventoryEntry::describe(&profile, last_modified, &source::sha256_hex(text.as_bytes()))
            }
            Err(_) => InventoryEntry { last_modified, ..InventoryEntry::default() },
        };
        inventory.entries.insert(name.clone(), entry);
        inventory
    }

    /// Where new documents go: into `v1.0/`, which is made in an empty directory.
    fn writable_tree(&self) -> Result<PathBuf, StoreError> {
        let tree = self.tree().map_err(|reason| StoreError::Directory(reason.to_owned()))?;
        let is_tree = tree.names != tree.root || tree.root.ends_with(LAYOUT);
        let empty = || fs::read_dir(&tree.root).is_ok_and(|mut entries| entries.next().is_none());
        // Another writer may have made `v1.0/` since it was looked for.
        let layout = tree.root.join(LAYOUT);
        Ok(if !is_tree && (empty() || layout.is_dir()) { layout } else { tree.names.clone() })
    }

    /// The stored inventory and the time it was written.
    fn stored_inventory(&self) -> Option<(Inventory, f64)> {
        let name = ProfileName::new(inventory::NAME).ok()?;
        let stored = self.get(&name).ok()?;
        let inventory = Inventory::parse(&stored.bytes, self.limits.max_inventory).ok()?;
        Some((inventory, stored.last_modified))
    }

    /// What the directory holds now: the stored inventory without the files that are gone, completed by those that
    /// are not listed or were replaced since. `earlier` is an answer of this function, so that only what changed in
    /// between is read; at first it is empty.
    #[must_use]
    pub fn full_inventory(&self, earlier: &Inventory) -> Inventory {
        let (stored, written) = self.stored_inventory().unwrap_or_default();
        let unchanged = |name: &ProfileName, since: f64| {
            self.locate(name).is_ok_and(|(_, metadata)| modified(&metadata) <= since)
        };
        let mut known = Inventory::default();
        for (name, entry) in stored.entries {
            if unchanged(&name, written.max(entry.last_modified)) {
                known.entries.insert(name, entry);
            }
        }
        for (name, entry) in &earlier.entries {
            if !known.entries.contains_key(name) && unchanged(name, entry.last_modified) {
                known.entries.insert(name.clone(), entry.clone());
            }
        }
        self.complete(known, usize::MAX, |_| true).0
    }

    /// Adds the files `inventory` does not list. Of these, at most `max_reads` that are `wanted` are opened for their
    /// metadata; the others are listed with their time only. Files that are no documents are returned with the reason.
    fn complete(
        &self,
        mut inventory: Inventory,
        max_reads: usize,
        wanted: impl Fn(&ProfileName) -> bool,
    ) -> (Inventory, Vec<(String, String)>) {
        let mut unlisted = self.names();
        unlisted.retain(|name| !inventory.entries.contains_key(name));
        let (read, mut unread): (Vec<_>, Vec<_>) = unlisted.into_iter().partition(wanted);
        unread.extend(read.iter().skip(max_reads).cloned());
        let described: Vec<_> =
            read.par_iter().take(max_reads).map(|name| (name, self.describe(name))).collect();
        let mut skipped = Vec::new();
        for (name, entry) in described {
            match entry {
                Ok(entry) => {
                    inventory.entries.insert(name.clone(), entry);
                }
                Err(reason) => skipped.push((name.to_string(), reason.to_string())),
            }
        }
        for name in unread {
            if let Ok((_, metadata)) = self.locate(&name) {
                let entry =
                    InventoryEntry { last_modified: modified(&metadata), ..InventoryEntry::default() };
                inventory.entries.insert(name, entry);
            }
        }
        (inventory, skipped)
    }

    fn describe(&self, name: &ProfileName) -> Result<InventoryEntry, Answer> {
        let stored = self.get(name)?;
        let (profile, sha256) = source::decode_hashed(&stored.bytes, &self.limits)?;
        if profile.metadata().is_empty() {
            return Err(Answer::damaged("no $METADATA section"));
        }
        Ok(InventoryEntry::describe(&profile, stored.last_modified, &sha256))
    }

    /// Names of the files below a folder that may be documents, sorted; with an empty folder all of them.
    pub(crate) fn names_below(&self, folder: &str) -> Result<Vec<ProfileName>, StoreError> {
        self.tree().map_err(|reason| StoreError::Directory(reason.to_owned()))?;
        let is_below = |name: &ProfileName| {
            folder.is_empty() || name.as_str().strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
        };
        Ok(self.names().into_iter().filter(is_below).collect())
    }

    /// The bytes of a document of at most `max` bytes; larger ones are not read at all.
    pub(crate) fn get_small(&self, name: &ProfileName, max: usize) -> Option<Vec<u8>> {
        let (path, metadata) = self.locate(name).ok()?;
        if metadata.len() > max as u64 { None } else { read_file(&path, max).ok() }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Names of all files that may be documents, sorted; at most [`Limits::max_tree`] files are looked at.
    pub(crate) fn names(&self) -> Vec<ProfileName> {
        let Ok(tree) = self.tree() else { return Vec::new() };
        let mut names = Vec::new();
        let mut left = self.limits.max_tree;
        let mut pending = vec![(tree.names.clone(), String::new(), 0)];
        while let Some((path, prefix, depth)) = pending.pop() {
            for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                if left == 0 {
                    break;
                }
                left -= 1;
                let file_name = entry.file_name();
                let Some(file_name) = file_name.to_str().filter(|name| !name.starts_with('.')) else {
                    continue;
                };
                let name = format!("{prefix}{file_name}");
                // `src/` holds what profiles are made from. Symbolic links to directories are not walked: loops.
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    if depth < MAX_DEPTH && name != "src" {
                        pending.push((entry.path(), format!("{name}/"), depth + 1));
                    }
                } else if may_be_document(file_name)
                    && let Ok(name) = ProfileName::new(&name)
                    && name.as_str() != inventory::NAME
                {
                    names.push(name);
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl Source for Directory {
    fn label(&self) -> &str {
        &self.label
    }

    fn read(&self, name: &ProfileName, trace: &mut Trace) -> Option<Found> {
        let read = || {
            let stored = self.get(name)?;
            let profile = source::decode(&stored.bytes, &self.limits)?;
            Ok(Found { profile, source: stored.path.display().to_string() })
        };
        match read() {
            Ok(found) => {
                trace.add(&self.label, name, Answer::Found);
                Some(found)
            }
            Err(answer) => {
                trace.add(&self.label, name, answer);
                None
            }
        }
    }

    fn has(&self, name: &ProfileName) -> Answer {
        self.locate(name).map_or_else(|answer| answer, |_| Answer::Found)
    }

    fn inventory(&self) -> Result<&Inventory, Answer> {
        self.tree().map_err(Answer::refused)?;
        Ok(self.inventory.get_or_init(|| {
            let stored = self.stored_inventory().unwrap_or_default().0;
            let (mut inventory, _) = self.complete(stored, self.limits.max_reads, may_be_linux);
            // Copies of a part of a repository keep the inventory of the whole.
            inventory.entries.retain(|name, _| !may_be_linux(name) || self.locate(name).is_ok());
            inventory
        }))
    }

    fn signed_inventory(&self) -> Result<Signed, Answer> {
        let tree = self.tree().map_err(Answer::refused)?;
        let inventory = read_file(&tree.names.join("inventory.gz"), self.limits.max_inventory)?;
        let signature = read_file(&tree.names.join(SIGNATURE_FILE), MAX_SIGNATURE).ok();
        Ok(Signed { inventory, signature: signature.and_then(|bytes| String::from_utf8(bytes).ok()) })
    }
}

/// Whether a name may be that of a Linux kernel; the folders of other systems are known.
pub(crate) fn may_be_linux(name: &ProfileName) -> bool {
    const OTHERS: [&str; 13] = [
        "nt",
        "OSX",
        "win32k",
        "tcpip",
        "ntdll",
        "ndis",
        "wdigest",
        "lsasrv",
        "dnsrslvr",
        "conhost",
        "ahcache",
        "mimikatz",
        "artifacts",
    ];
    let mut parts = name.as_str().split('/');
    parts.next().is_some_and(|first| !OTHERS.contains(&first)) && parts.all(|part| part != "GUID")
}

/// Whether a file of this name may hold a document: `.gz`, or plain without the extension of something else.
#[must_use]
pub fn may_be_document(file_name: &str) -> bool {
    const OTHERS: [&str; 13] =
        ["yaml", "yml", "md", "html", "htm", "txt", "zip", "rejects", "pdb", "sig", "minisig", "tmp", "py"];
    match file_name.rsplit_once('.') {
        Some((_, extension)) => !OTHERS.contains(&extension.to_ascii_lowercase().as_str()),
        None => true,
    }
}

/// Lock, temporary and version-control files start with a dot; no document does.
fn is_hidden(name: &ProfileName) -> bool {
    name.as_str().split('/').any(|part| part.starts_with('.'))
}

/// Reads a file of at most `max` bytes.
pub(crate) fn read_file(path: &Path, max: usize) -> Result<Vec<u8>, Answer> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(max as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| Answer::refused(io_reason(&error)))?;
    if bytes.len() > max {
        return Err(Answer::damaged(format!("larger than the limit of {max} bytes")));
    }
    Ok(bytes)
}

/// Refuses a path whose existing part leads out of `root` by a symbolic link.
fn confine(root: &Path, path: &Path) -> Result<(), StoreError> {
    let existing = path.ancestors().skip(1).find_map(|ancestor| fs::canonicalize(ancestor).ok());
    match existing {
        Some(existing) if existing.starts_with(root) => Ok(()),
        _ => Err(StoreError::Escapes(path.to_owned())),
    }
}

fn modified(metadata: &Metadata) -> f64 {
    let time = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    time.map_or(0.0, |time| time.as_secs_f64())
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn io_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// Whether the kind of document may be a kernel's profile (and not an index or an inventory).
pub(crate) fn is_kernel(entry: &InventoryEntry) -> bool {
    let class = entry.text("ProfileClass").unwrap_or_default();
    let symlink = entry.text("Type") == Some("Symlink");
    symlink || class.is_empty() || class.starts_with("Linux") && !class.ends_with("Index")
}
