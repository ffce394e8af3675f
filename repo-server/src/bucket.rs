//! A repository in an S3-compatible bucket, for those who outgrow one disk.
//!
//! `s3://BUCKET/PREFIX` holds the same tree as a directory: `PREFIX/v1.0/<name>.gz`. Endpoint, region and credentials come
//! from the environment as every tool of that world reads them (`AWS_ENDPOINT`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, ...).

use std::fs::File;
use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::sync::Arc;

use futures_util::StreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore, ObjectStoreExt as _};
use repository::LAYOUT;
use tokio::runtime::{Builder, Runtime};

use crate::blobs::{Blobs, MAX_FILES, Stamp};

/// A bucket, and the runtime that talks to it.
pub(crate) struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// What stands before every name, with a slash at its end.
    prefix: String,
    /// Present until dropped.
    runtime: Option<Runtime>,
}

impl Bucket {
    /// The bucket of `BUCKET/PREFIX`.
    pub(crate) fn open(place: &str) -> io::Result<Self> {
        // An error means that there is a provider already; that one serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let store = AmazonS3Builder::from_env().with_bucket_name(bucket).build().map_err(io::Error::other)?;
        Self::over(Arc::new(store), prefix)
    }

    fn over(store: Arc<dyn ObjectStore>, prefix: &str) -> io::Result<Self> {
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { format!("{LAYOUT}/") } else { format!("{prefix}/{LAYOUT}/") };
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        Ok(Self { store, prefix, runtime: Some(runtime) })
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> io::Result<T> {
        self.runtime.as_ref().map(|runtime| runtime.block_on(work)).ok_or_else(|| io::Error::other("closed"))
    }

    /// The key of a path; `None` where no key is spelt so.
    fn key(&self, path: &str) -> Option<Path> {
        Path::parse(format!("{}{path}", self.prefix)).ok()
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop panics inside an async task.
            runtime.shutdown_background();
        }
    }
}

impl Blobs for Bucket {
    fn stamp(&self, path: &str) -> io::Result<Option<Stamp>> {
        let Some(key) = self.key(path) else { return Ok(None) };
        Ok(found(self.run(self.store.head(&key))?)?.map(|meta| stamp(&meta)))
    }

    fn read(&self, path: &str, max: usize) -> io::Result<Option<(Vec<u8>, Stamp)>> {
        let Some(key) = self.key(path) else { return Ok(None) };
        self.run(async {
            let Some(found) = found(self.store.get(&key).await)? else { return Ok(None) };
            let stamp = stamp(&found.meta);
            if stamp.len > max as u64 {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            // The library ends the body where the length it announced ends.
            let bytes = found.bytes().await.map_err(io::Error::other)?;
            Ok(Some((bytes.to_vec(), stamp)))
        })?
    }

    fn open(&self, _: &str) -> Option<File> {
        None
    }

    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let key = self.key(path).ok_or(io::ErrorKind::InvalidFilename)?;
        self.run(self.store.put(&key, bytes.to_vec().into()))?.map_err(io::Error::other)?;
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<bool> {
        // Buckets do not say whether there was anything to remove.
        let was_there = self.stamp(path)?.is_some();
        if let Some(key) = self.key(path).filter(|_| was_there) {
            found(self.run(self.store.delete(&key))?)?;
        }
        Ok(was_there)
    }

    fn walk(&self, each: &mut dyn FnMut(&str, Stamp)) -> io::Result<()> {
        let prefix = Path::parse(&self.prefix).map_err(io::Error::other)?;
        let mut list = self.store.list(Some(&prefix));
        self.run(async {
            let mut left = MAX_FILES;
            while let Some(meta) = list.next().await {
                let meta = meta.map_err(io::Error::other)?;
                left = left.checked_sub(1).ok_or(io::ErrorKind::QuotaExceeded)?;
                if let Some(path) = meta.location.as_ref().strip_prefix(&self.prefix)
                    && is_listed(path)
                {
                    each(path, stamp(&meta));
                }
            }
            Ok(())
        })?
    }
}

/// Whether a file is one of the repository's, see [`Blobs::walk`].
fn is_listed(path: &str) -> bool {
    !path.starts_with("src/") && !path.split('/').any(|part| part.starts_with('.'))
}

fn found<T>(result: object_store::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn stamp(meta: &ObjectMeta) -> Stamp {
    let mut hasher = DefaultHasher::new();
    (&meta.e_tag, &meta.version).hash(&mut hasher);
    let modified = meta.last_modified.timestamp_nanos_opt().unwrap_or_default();
    Stamp { modified: u64::try_from(modified).unwrap_or_default(), len: meta.size, id: hasher.finish() }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn a_bucket_is_a_tree_of_files() {
        let bucket = Bucket::over(Arc::new(InMemory::new()), "/lab/").expect("a bucket");
        assert_eq!(bucket.stamp("nt/GUID/x.gz").expect("an answer"), None);
        bucket.write("nt/GUID/x.gz", b"one").expect("written");
        bucket.write("src/y", b"two").expect("written");
        bucket.write("nt/.hidden", b"three").expect("written");
        let (bytes, stamp) = bucket.read("nt/GUID/x.gz", 3).expect("an answer").expect("there");
        assert_eq!(
            (bytes.as_slice(), Some(stamp)),
            (&b"one"[..], bucket.stamp("nt/GUID/x.gz").expect("an answer"))
        );
        assert!(
            bucket.read("nt/GUID/x.gz", 2).is_err_and(|error| error.kind() == io::ErrorKind::FileTooLarge)
        );
        let mut walked = Vec::new();
        bucket.walk(&mut |path, stamp| walked.push((path.to_owned(), stamp))).expect("walked");
        assert_eq!(walked, [("nt/GUID/x.gz".to_owned(), stamp)]);
        bucket.write("nt/GUID/x.gz", b"two").expect("replaced");
        assert_ne!(bucket.stamp("nt/GUID/x.gz").expect("an answer"), Some(stamp));
        assert!(
            bucket.remove("nt/GUID/x.gz").expect("removed") && !bucket.remove("nt/GUID/x.gz").expect("gone")
        );
        assert_eq!(bucket.read("a\nb", 9).expect("an answer"), None);
    }
}
