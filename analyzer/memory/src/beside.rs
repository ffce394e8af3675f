//! The files next to an image: further segments, snapshot states, members of a directory.
//!
//! A name comes from the image's own file name, never from what an image says.

use crate::{AddressSpace, FileSpace, Limits};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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
}
