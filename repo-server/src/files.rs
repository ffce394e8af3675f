//! Files too large to keep in memory: sent as they are read, recognised by their content all the same.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};

use crate::blob::Hash;
use crate::blobs::Stamp;

/// Most files whose hash is remembered.
const MAX_HASHES: usize = 10_000;

/// Hashes of files by what they were when they were hashed.
pub(crate) struct Files {
    hashes: Cache<PathBuf, (Stamp, Hash)>,
}

/// An open file and what it holds.
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) stamp: Stamp,
    pub(crate) hash: Hash,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self { hashes: Cache::new(MAX_HASHES) }
    }

    /// Opens a file; `None` where there is none. Hashes it when it is first opened, and after it changed. Blocks.
    pub(crate) fn open(&self, path: &Path) -> io::Result<Option<Opened>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let stamp = Stamp::of(&metadata);
        let hash = match self.hashes.get(path) {
            Some((of, hash)) if of == stamp => hash,
            _ => {
                let hash = hash(&mut file)?;
                self.hashes.insert(path.to_owned(), (stamp, hash));
                hash
            }
        };
        Ok(Some(Opened { file, stamp, hash }))
    }
}

fn hash(file: &mut File) -> io::Result<Hash> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}
