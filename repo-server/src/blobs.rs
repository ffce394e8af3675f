//! Where the bytes of a repository lie: a directory, or a bucket.
//!
//! Paths are those below the layout directory, made from checked names: `nt/GUID/F8E2....gz`. Calls block.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use repository::LAYOUT;
use transport::atomic;

/// Deepest directory below the tree that is looked into.
const MAX_DEPTH: usize = 16;

/// Most files and directories looked at in one walk.
pub(crate) const MAX_FILES: usize = 1_000_000;

/// What tells one state of a file from the next, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    /// Time of the last change in nanoseconds since 1970-01-01 UTC.
    pub(crate) modified: u64,
    /// Length in bytes.
    pub(crate) len: u64,
    /// What changes when a file is replaced: the inode.
    pub(crate) id: u64,
}

impl Stamp {
    /// That of an open or found file.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        #[cfg(unix)]
        let id = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let id = 0;
        Self { modified, len: metadata.len(), id }
    }

    /// Time of the last change.
    pub(crate) fn time(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.modified)
    }

    /// The same in seconds since 1970-01-01 UTC, as inventories have it.
    pub(crate) fn seconds(&self) -> f64 {
        Duration::from_nanos(self.modified).as_secs_f64()
    }
}

/// The files of a repository.
pub(crate) trait Blobs: Send + Sync {
    /// The state of a file; `None` where there is none, or where it lies outside the repository.
    fn stamp(&self, path: &str) -> io::Result<Option<Stamp>>;

    /// The bytes of a file and their state; an error of kind `FileTooLarge` above `max` bytes.
    fn read(&self, path: &str, max: usize) -> io::Result<Option<(Vec<u8>, Stamp)>>;

    /// The file itself; `None` where there is none, as in a bucket.
    fn open(&self, path: &str) -> Option<File>;

    /// Creates or replaces a file in one step; when it returns, the file outlives a crash.
    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// Removes a file; whether it was there.
    fn remove(&self, path: &str) -> io::Result<bool>;

    /// Every file, in no order. Names that start with a dot and `src/` (what profiles are made from) are left out.
    fn walk(&self, each: &mut dyn FnMut(&str, Stamp)) -> io::Result<()>;
}

/// A directory.
pub(crate) struct Disk {
    root: PathBuf,
    names: PathBuf,
}

impl Disk {
    /// A repository at `root`, which holds `v1.0/`, will hold it (when it is empty), or is that directory.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let root = fs::canonicalize(root)?;
        if !root.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let versioned = root.join(LAYOUT);
        let empty = || fs::read_dir(&root).is_ok_and(|mut entries| entries.next().is_none());
        let names = match fs::canonicalize(&versioned) {
            Ok(path) if !path.starts_with(&root) => {
                return Err(io::Error::other(format!("{LAYOUT} leads out of the repository")));
            }
            Ok(path) if path.is_dir() => path,
            _ if empty() => versioned,
            _ => root.clone(),
        };
        Ok(Self { root, names })
    }

    /// Where things that are no profiles may lie; `None` where the root itself holds the names.
    pub(crate) fn beside(&self) -> Option<PathBuf> {
        (self.root != self.names).then(|| self.root.clone())
    }

    /// The file of a path with symbolic links resolved; `None` where there is none inside the repository.
    fn locate(&self, path: &str) -> io::Result<Option<PathBuf>> {
        match fs::canonicalize(self.names.join(path)) {
            Ok(file) if file.starts_with(&self.root) => Ok(Some(file)),
            Ok(_) => Ok(None),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Refuses a path to be written whose existing part leads out of the repository.
    fn confine(&self, file: &Path) -> io::Result<()> {
        let existing = file.ancestors().skip(1).find_map(|ancestor| fs::canonicalize(ancestor).ok());
        match existing {
            Some(existing) if existing.starts_with(&self.root) => Ok(()),
            _ => Err(io::Error::other("a symbolic link leaves the repository")),
        }
    }
}

impl Blobs for Disk {
    fn stamp(&self, path: &str) -> io::Result<Option<Stamp>> {
        let Some(file) = self.locate(path)? else { return Ok(None) };
        let metadata = fs::metadata(file)?;
        Ok(metadata.is_file().then(|| Stamp::of(&metadata)))
    }

    fn read(&self, path: &str, max: usize) -> io::Result<Option<(Vec<u8>, Stamp)>> {
        let Some(file) = self.locate(path)? else { return Ok(None) };
        let mut file = File::open(file)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(max).min(max));
        (&mut file).take(max as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Some((bytes, Stamp::of(&metadata))))
    }

    fn open(&self, path: &str) -> Option<File> {
        File::open(self.locate(path).ok()??).ok()
    }

    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.names.join(path);
        self.confine(&file)?;
        atomic::write(&file, bytes)
    }

    fn remove(&self, path: &str) -> io::Result<bool> {
        let file = self.names.join(path);
        self.confine(&file)?;
        match fs::remove_file(&file) {
            Ok(()) => Ok(true),
            Err(error) if is_absence(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn walk(&self, each: &mut dyn FnMut(&str, Stamp)) -> io::Result<()> {
        let mut left = MAX_FILES;
        let mut pending = vec![(self.names.clone(), String::new(), 0)];
        while let Some((directory, prefix, depth)) = pending.pop() {
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                // Removed in between, or the tree is not there yet.
                Err(error) if is_absence(&error) => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                left = left.checked_sub(1).ok_or(io::ErrorKind::QuotaExceeded)?;
                let name = entry.file_name();
                let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
                let path = format!("{prefix}{name}");
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    // Symbolic links to directories are not walked: they may form loops.
                    if depth < MAX_DEPTH && path != "src" {
                        pending.push((entry.path(), format!("{path}/"), depth + 1));
                    }
                } else if kind.is_file() {
                    if let Ok(metadata) = entry.metadata() {
                        each(&path, Stamp::of(&metadata));
                    }
                } else if let Ok(Some(stamp)) = self.stamp(&path) {
                    each(&path, stamp);
                }
            }
        }
        Ok(())
    }
}

fn is_absence(error: &io::Error) -> bool {
    // A name longer than the file system's longest is no file's name either.
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidFilename)
}
