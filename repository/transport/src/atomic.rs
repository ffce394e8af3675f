//! Files that are either the old one or the new one, never half of each.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Start of the names of files that are not written yet; a crash may leave one behind, nothing ever reads it.
const TEMPORARY: &str = ".rekal-";

/// End of their names.
const SUFFIX: &str = ".tmp";

/// Replaces `path` by `bytes` in one step, which outlives a crash once this returns. Missing directories are created.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    stage(path, bytes)?.persist(path)?;
    // The name is on the disk only after its directory is; where directories cannot be opened (Windows) it always is.
    if let Some(directory) = path.parent().and_then(|parent| File::open(parent).ok()) {
        directory.sync_all()?;
    }
    Ok(())
}

/// Whether a file of this name is one that was not written to its end.
#[must_use]
pub fn is_temporary(file_name: &str) -> bool {
    file_name.starts_with(TEMPORARY) && file_name.ends_with(SUFFIX)
}

/// Writes `bytes` to a temporary file beside `path` and flushes it to the disk.
fn stage(path: &Path, bytes: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(parent)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY).suffix(SUFFIX);
    #[cfg(unix)]
    {
        // Readable by all as the umask allows: repositories are shared, the default of 0600 is for secrets.
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(parent)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Holds the writers' lock of a directory until dropped.
pub fn lock(directory: &Path) -> io::Result<File> {
    let hold = |file: File| file.lock().map(|()| file);
    // Where directories cannot be opened or locked (Windows, some network file systems), a file stands in for it; it
    // must stay, because removing it would race with the next writer.
    File::open(directory).and_then(hold).or_else(|_| {
        File::options().create(true).truncate(false).write(true).open(directory.join(".lock")).and_then(hold)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_before_the_rename_leaves_the_old_file() {
        let directory = tempfile::tempdir().expect("scratch directory");
        let path = directory.path().join("profile.gz");
        write(&path, b"old").expect("first write");
        let staged = stage(&path, b"new").expect("staging");
        // What a killed process leaves: the temporary file, without the rename and without the clean-up.
        let left_over = staged.into_temp_path().keep().expect("keeping the file");
        assert!(left_over.exists());
        assert_eq!(fs::read(&path).expect("the old file"), b"old");
        write(&path, b"newer").expect("the next writer is not disturbed");
        assert_eq!(fs::read(&path).expect("the new file"), b"newer");
    }

    #[test]
    fn missing_directories_are_created() {
        let directory = tempfile::tempdir().expect("scratch directory");
        let path = directory.path().join("a/b/c.gz");
        write(&path, b"x").expect("write");
        assert_eq!(fs::read(path).expect("the file"), b"x");
    }
}
