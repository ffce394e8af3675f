//! The files next to an image: further segments, snapshot states, members of a directory.
//!
//! A name comes from the image's own file name or from reading its folder, never from what an image says.

use crate::{AddressSpace, FileSpace, Limits};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Most files of a folder that are looked at.
const MAX_FILES: usize = 4096;

/// The folder of an image, as seen from the image.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    path: Option<PathBuf>,
}

impl Beside {
    /// No folder: for buffers, pipes and upper layers.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The folder of the image of that path.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        Self { path: Some(path.to_owned()) }
    }

    /// The image's own file name without its last extension, and that extension; `None` for a name that has
    /// none or is no UTF-8.
    #[must_use]
    pub fn name(&self) -> Option<(&str, &str)> {
        let path = self.path.as_deref()?;
        Some((path.file_stem()?.to_str()?, path.extension()?.to_str()?))
    }

    /// Opens the regular file of the same name with another extension. Letter case is as given.
    #[must_use]
    pub fn with_extension(&self, extension: &str, limits: &Limits) -> Option<Arc<dyn AddressSpace>> {
        let path = self.path.as_deref()?.with_extension(extension);
        if path == *self.path.as_deref()? || !path.metadata().ok()?.is_file() {
            return None;
        }
        Some(Arc::new(FileSpace::open(&path, limits).ok()?))
    }

    /// Opens the other files of the folder whose name begins with the image's name without its extension,
    /// with their names, in order.
    pub fn same_stem<'a>(
        &'a self,
        limits: &'a Limits,
    ) -> impl Iterator<Item = (String, Arc<dyn AddressSpace>)> + 'a {
        let own = self.path.as_deref();
        let stem = self.name().map(|(stem, _)| stem.to_owned());
        let folder = own.and_then(Path::parent).map(|folder| match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        });
        let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok());
        let mut paths: Vec<PathBuf> = entries
            .into_iter()
            .flatten()
            .take(MAX_FILES)
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.file_name() != own.and_then(Path::file_name))
            .collect();
        paths.sort();
        paths.into_iter().filter_map(move |path| {
            let name = path.file_name()?.to_str()?.to_owned();
            if !name.starts_with(stem.as_deref()?) || !path.metadata().ok()?.is_file() {
                return None;
            }
            Some((name, Arc::new(FileSpace::open(&path, limits).ok()?) as Arc<dyn AddressSpace>))
        })
    }
}
