//! The symlinks of a search path, and whether each leads to a profile.

use profile::Kind;
use profile::names::ProfileName;

use crate::config::Limits;
use crate::directory::{Directory, StoreError};
use crate::search_path::{LoadFailure, SearchPath};
use crate::source;

/// Largest file looked into, in bytes: a symlink is two short texts.
const MAX_SYMLINK: usize = 16 << 10;

/// A document that gives a profile another name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symlink {
    /// Its name.
    pub name: ProfileName,
    /// The name it stands for, as written in it.
    pub target: String,
    /// Name of the profile at the end of all symlinks, or why there is none.
    pub resolved: Result<String, LoadFailure>,
}

impl SearchPath {
    /// The symlinks in the directories of the search path, by directory, then by name. Each is followed through the whole
    /// path, as when it is loaded. Archives and URLs are not listed: theirs are somebody else's.
    pub fn symlinks(&self) -> Result<Vec<Symlink>, StoreError> {
        let mut links = Vec::new();
        for directory in self.directories() {
            for (name, target) in in_directory(&Directory::new(directory, *self.limits()))? {
                let resolved = match self.load_named(&name) {
                    Ok(loaded) => Ok(loaded.name),
                    Err(error) => Err(error.failure),
                };
                links.push(Symlink { name, target, resolved });
            }
        }
        Ok(links)
    }
}

/// Names and targets of the symlinks of a directory, sorted. Only small files are read.
fn in_directory(directory: &Directory) -> Result<Vec<(ProfileName, String)>, StoreError> {
    let names = directory.names_below("")?;
    let small = Limits { max_text: MAX_SYMLINK, ..*directory.limits() };
    let target = |name: &ProfileName| {
        let stored = directory.get_small(name, MAX_SYMLINK)?;
        match source::decode(&stored, &small).ok()?.kind() {
            Kind::Symlink { target } => Some(target),
            _ => None,
        }
    };
    Ok(names.into_iter().filter_map(|name| target(&name).map(|target| (name, target))).collect())
}
