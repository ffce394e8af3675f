//! Directories as stores: the layout of symbol servers, in one or two tiers, and files that simply lie there.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::check::Wanted;

/// The file whose presence in a store's root says that names stand below their first two letters.
pub(super) const TWO_TIERS: &str = "index2.txt";
/// The file that says where a file really is.
pub(super) const POINTER: &str = "file.ptr";
/// Most entries of a directory that are compared when a name is looked for in any case.
const MAX_ENTRIES: usize = 200_000;

/// A file that may be the one wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Candidate {
    /// The file, plain or compressed, where the store's layout puts it.
    InStore(PathBuf),
    /// The pointer file where the store's layout puts it.
    Pointer(PathBuf),
    /// A file of the same name in a plain directory, whose build is not known yet.
    Loose(PathBuf),
}

/// A directory.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) root: PathBuf,
    /// Whether files may lie in it without the layout of a store.
    plain: bool,
}

impl Directory {
    pub(super) fn new(root: PathBuf, plain: bool) -> Self {
        Self { root, plain }
    }

    /// The files that may be the one wanted, in the order to try them. Names are compared in any case, because stores
    /// are filled on Windows.
    pub(super) fn candidates(&self, wanted: &Wanted) -> Vec<Candidate> {
        let mut out = Vec::new();
        let names = [wanted.name().to_owned(), wanted.compressed_name()];
        let tiers = if self.has_two_tiers() { &[true, false][..] } else { &[false] };
        for two in tiers {
            let Some(directory) = descend(&self.root, &tier(wanted, *two)) else { continue };
            for name in &names {
                out.extend(file_in(&directory, name).map(Candidate::InStore));
            }
            out.extend(file_in(&directory, POINTER).map(Candidate::Pointer));
        }
        if self.plain {
            // Where DbgHelp looks: the directory, below the extension, below `symbols`.
            let extension = wanted.name().rsplit_once('.').map_or("", |(_, extension)| extension);
            for below in [&[][..], &[extension], &["symbols", extension]] {
                let below: Vec<String> = below.iter().map(|part| (*part).to_owned()).collect();
                let Some(directory) = descend(&self.root, &below) else { continue };
                out.extend(names.iter().filter_map(|name| file_in(&directory, name)).map(Candidate::Loose));
            }
        }
        out
    }

    /// Keeps a file, in the layout that the store has.
    pub(super) fn keep(&self, wanted: &Wanted, bytes: &[u8]) -> io::Result<PathBuf> {
        let mut path = self.root.clone();
        path.extend(tier(wanted, self.has_two_tiers()));
        path.push(wanted.name());
        transport::atomic::write(&path, bytes)?;
        Ok(path)
    }

    fn has_two_tiers(&self) -> bool {
        self.root.join(TWO_TIERS).is_file()
    }

    /// Whether a path, which must exist, is inside this directory, links resolved.
    pub(super) fn contains(&self, path: &Path) -> bool {
        let root = fs::canonicalize(&self.root);
        let path = fs::canonicalize(path);
        matches!((root, path), (Ok(root), Ok(path)) if path.starts_with(&root))
    }
}

/// The directories of a file below a store's root.
pub(super) fn tier(wanted: &Wanted, two: bool) -> Vec<String> {
    let first: String = wanted.name().chars().take(2).collect();
    let first = two.then_some(first);
    first.into_iter().chain([wanted.name().to_owned(), wanted.key()]).collect()
}

fn descend(root: &Path, parts: &[String]) -> Option<PathBuf> {
    let start = root.is_dir().then(|| root.to_owned())?;
    parts.iter().try_fold(start, |path, part| entry(&path, part, Path::is_dir))
}

fn file_in(directory: &Path, name: &str) -> Option<PathBuf> {
    entry(directory, name, Path::is_file)
}

/// The entry of a directory with this name, else one that differs from it in case only.
fn entry(directory: &Path, name: &str, fits: fn(&Path) -> bool) -> Option<PathBuf> {
    let exact = directory.join(name);
    if fits(&exact) {
        return Some(exact);
    }
    let entries = fs::read_dir(directory).ok()?.flatten().take(MAX_ENTRIES);
    let mut same =
        entries.filter(|entry| entry.file_name().to_str().is_some_and(|n| n.eq_ignore_ascii_case(name)));
    same.find_map(|entry| Some(entry.path()).filter(|path| fits(path)))
}

/// Reads a file of at most `max` bytes.
pub(super) fn read_file(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(max.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > max {
        return Err(format!("larger than the limit of {max} bytes"));
    }
    Ok(bytes)
}
