//! Downloads under way: kept apart from the stores, so that those hold whole files only, and resumed by a later run.
//!
//! ```text
//! <directory>/<hash of the URL>.part    the bytes so far, locked while a process writes
//!                              .json    what the server gave to recognise them by
//! ```

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use transport::{Head, Receiver, Url, Validators};

use super::Listener;
use super::misses::hash;

/// Age at which a download that nobody resumed is removed.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);

/// A download: a file and what is known about its contents.
pub(super) struct Partial {
    file: File,
    /// Present where the bytes outlive this process.
    kept: Option<Kept>,
    validators: Validators,
    have: u64,
    /// Bytes of the whole, where the server said so.
    total: Option<u64>,
    /// Whether bytes of an earlier exchange are part of it.
    pub(super) resumed: bool,
    listener: Option<Arc<dyn Listener>>,
}

struct Kept {
    part: PathBuf,
    record: PathBuf,
}

impl Partial {
    /// Continues the download of a URL that an earlier run left in the directory, or starts one. Without a directory that
    /// can be written, and where another process is at it, the bytes do not outlive this process.
    pub(super) fn open(
        directory: Option<&Path>,
        url: &Url,
        listener: Option<Arc<dyn Listener>>,
    ) -> io::Result<Self> {
        let kept = directory.and_then(|directory| open_kept(directory, url).ok().flatten());
        let Some((file, kept)) = kept else {
            let file = tempfile::tempfile()?;
            return Ok(Self::new(file, None, Validators::default(), 0, listener));
        };
        let validators: Validators = fs::read(&kept.record)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or_default();
        let have = if validators.strong().is_some() { file.metadata()?.len() } else { 0 };
        Ok(Self::new(file, Some(kept), validators, have, listener))
    }

    fn new(
        file: File,
        kept: Option<Kept>,
        validators: Validators,
        have: u64,
        listener: Option<Arc<dyn Listener>>,
    ) -> Self {
        Self { file, kept, validators, have, total: None, resumed: false, listener }
    }

    /// What to tell the server about the bytes that are there already.
    pub(super) fn resume(&self) -> (u64, Validators) {
        (self.have, self.validators.clone())
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.have
    }

    /// Whether everything is there, as far as the server said how much that is.
    pub(super) fn is_whole(&self) -> bool {
        self.total.is_none_or(|total| total == self.have)
    }

    /// Starts over.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.have = 0;
        self.resumed = false;
        self.validators = Validators::default();
        Ok(())
    }

    /// The bytes; nothing of the download stays behind.
    pub(super) fn finish(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(0))?;
        (&self.file).take(self.have).read_to_end(&mut bytes)?;
        self.discard();
        Ok(bytes)
    }

    /// Removes the download.
    pub(super) fn discard(self) {
        self.remove();
    }

    fn remove(&self) {
        if let Some(Kept { part, record }) = &self.kept {
            let _ = fs::remove_file(part);
            let _ = fs::remove_file(record);
        }
    }
}

impl Receiver for Partial {
    fn begin(&mut self, head: &Head) -> io::Result<()> {
        if head.start != 0 && head.start != self.have {
            return Err(io::Error::other("the server sent another part than that asked for"));
        }
        self.resumed = head.start > 0;
        self.have = head.start;
        self.total = head.total;
        self.file.set_len(self.have)?;
        self.file.seek(SeekFrom::Start(self.have))?;
        self.validators = head.validators.clone();
        let record = serde_json::to_vec(&self.validators)?;
        if self.kept.as_ref().is_some_and(|kept| transport::atomic::write(&kept.record, &record).is_err()) {
            // Bytes that a later run would take for those of another answer must not stay.
            self.remove();
            self.kept = None;
        }
        Ok(())
    }

    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.have = self.have.saturating_add(bytes.len() as u64);
        if let Some(listener) = &self.listener {
            listener.progress(self.have, self.total);
        }
        Ok(())
    }
}

/// The locked file of a URL; `None` where another process has it.
fn open_kept(directory: &Path, url: &Url) -> io::Result<Option<(File, Kept)>> {
    fs::create_dir_all(directory)?;
    remove_abandoned(directory);
    let stem = hash(url.as_str());
    let part = directory.join(format!("{stem}.part"));
    let file = File::options().create(true).truncate(false).read(true).write(true).open(&part)?;
    if file.try_lock().is_err() {
        return Ok(None);
    }
    // The process that had it may have finished and removed it between our opening and locking.
    if !part.exists() {
        return Ok(None);
    }
    Ok(Some((file, Kept { part, record: directory.join(format!("{stem}.json")) })))
}

fn remove_abandoned(directory: &Path) {
    let now = SystemTime::now();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().take(1000) {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = age.and_then(|time| now.duration_since(time).ok());
        if age.is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
