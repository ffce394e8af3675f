//! Files written by commands: either whole or not there, and never over an existing one unasked.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::Error;
use crate::session::Session;

/// A file that is being written. It appears under its name when it is committed; dropped before, it leaves nothing.
#[derive(Debug)]
pub struct OutputFile {
    file: NamedTempFile,
    path: PathBuf,
    overwrite: bool,
}

impl OutputFile {
    /// Starts a file. Fails early when it exists and may not be overwritten, and when its directory is missing.
    pub fn create(path: &Path, overwrite: bool) -> Result<Self, Error> {
        if !overwrite && path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
        // Putting the file in its place would replace a device or pipe, not write to it.
        if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return Err(Error::usage(format!("not a regular file: {}", path.display())));
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".rekal-").suffix(".tmp");
        #[cfg(unix)]
        {
            // As the umask allows, like any other file; the default of 0600 is for secrets.
            use std::os::unix::fs::PermissionsExt as _;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let file = builder.tempfile_in(directory).map_err(|error| cannot(path, &error))?;
        Ok(Self { file, path: path.to_owned(), overwrite })
    }

    /// Where the file will appear.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file this long; what was not written reads as zeros and takes no room where the file system allows.
    pub fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.as_file().set_len(len)
    }

    /// A second handle of the file, with the same position.
    pub fn handle(&self) -> io::Result<File> {
        self.file.as_file().try_clone()
    }

    /// Puts the file in its place.
    pub fn commit(self) -> Result<(), Error> {
        let Self { file, path, overwrite } = self;
        file.as_file().sync_all().map_err(|error| cannot(&path, &error))?;
        let done = if overwrite { file.persist(&path) } else { file.persist_noclobber(&path) };
        match done {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists(&path)),
            Err(error) => Err(cannot(&path, &error.error)),
        }
    }
}

impl Write for OutputFile {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for OutputFile {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        self.file.seek(pos)
    }
}

fn exists(path: &Path) -> Error {
    Error::usage(format!("file exists: {}", path.display()))
        .with_hint("choose another name, or put --overwrite before the command")
}

fn cannot(path: &Path, error: &io::Error) -> Error {
    Error::output(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

impl Session {
    /// Starts a file that the user named. A relative name is below `--output_dir`.
    pub fn create_file(&self, name: &Path) -> Result<OutputFile, Error> {
        let path = match &self.config.output_dir {
            Some(directory) => directory.join(name),
            None => name.to_owned(),
        };
        OutputFile::create(&path, self.config.overwrite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::fs;

    #[test]
    fn a_file_appears_only_when_committed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows.json");
        let mut file = OutputFile::create(&path, false).unwrap();
        file.write_all(b"[]").unwrap();
        assert!(!path.exists());
        drop(file);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        let mut file = OutputFile::create(&path, false).unwrap();
        file.write_all(b"[]").unwrap();
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"[]");
    }

    #[test]
    fn existing_files_stay_unless_overwriting() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evidence");
        fs::write(&path, b"old").unwrap();
        assert_eq!(OutputFile::create(&path, false).unwrap_err().kind(), ErrorKind::Usage);
        let mut file = OutputFile::create(&path, true).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        file.commit().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_directories_are_never_replaced() {
        let directory = tempfile::tempdir().unwrap();
        for path in [Path::new("/dev/null"), directory.path()] {
            assert_eq!(OutputFile::create(path, true).unwrap_err().kind(), ErrorKind::Usage);
        }
    }

    #[test]
    fn a_file_that_came_in_between_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("evidence");
        let file = OutputFile::create(&path, false).unwrap();
        fs::write(&path, b"other").unwrap();
        assert_eq!(file.commit().unwrap_err().kind(), ErrorKind::Usage);
        assert_eq!(fs::read(&path).unwrap(), b"other");
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_the_file() {
        let error = OutputFile::create(Path::new("/nonexistent/dir/file"), false).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Output);
        assert!(error.to_string().contains("/nonexistent/dir/file"), "{error}");
    }
}
