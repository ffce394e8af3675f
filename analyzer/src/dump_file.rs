//! Files that commands make of memory: where they go, what they are called, and how memory is copied into them.
//!
//! Names are made of numbers and of text with everything but letters, digits and `._-` replaced, so no name from an image
//! leaves the directory. What cannot be read is a hole of zeros in the file, and counted.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use memory::{AddressSpace, Fault};

use crate::error::Error;
use crate::output::OutputFile;
use crate::session::Session;

/// Bytes copied in one go.
const CHUNK: u64 = 1 << 20;
/// Longest file, in bytes, holes included: reserved but unused ranges of a process may cover half its address space.
pub const MAX_FILE: u64 = 1 << 40;
/// Bytes of a name that are kept.
const MAX_NAME: usize = 150;

/// The option, for commands to flatten into theirs.
#[derive(Debug, Clone, clap::Args)]
pub struct DumpArgs {
    /// Directory to write files into [default: that of --output_dir]
    #[arg(short = 'D', long, value_name = "DIR")]
    pub dump_dir: Option<PathBuf>,
    /// Most bytes of memory that are written into one file
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 30)]
    pub max_size: u64,
    /// Names that this run used.
    #[arg(skip)]
    pub taken: RefCell<HashSet<String>>,
}

impl DumpArgs {
    /// Starts a file with this name in the directory. Characters that may not stand in names are replaced; a name that this run
    /// used already, such as that of two processes with one id, gets a number.
    pub fn create(&self, session: &Session, name: &str) -> Result<DumpFile, Error> {
        let directory = self.dump_dir.clone().unwrap_or_default();
        let safe = safe_name(name.as_bytes());
        let mut unique = safe.clone();
        let mut number = 2;
        while !self.taken.borrow_mut().insert(unique.clone()) {
            unique = match safe.rsplit_once('.') {
                Some((stem, extension)) => format!("{stem}-{number}.{extension}"),
                None => format!("{safe}-{number}"),
            };
            number += 1;
        }
        let output = session.create_file(&directory.join(unique))?;
        Ok(DumpFile { output, end: 0, lost: Lost::default(), left: self.max_size, cut: false })
    }
}

/// Text as a part of a file name: letters, digits, `.`, `-` and `_` stay, slashes become `_`, all else `%` and hex digits.
/// Never empty, never `.` or `..`, at most 150 characters of the text.
#[must_use]
pub fn safe_name(text: &[u8]) -> String {
    let name: String = text
        .iter()
        .take(MAX_NAME)
        .map(|&byte| match byte {
            b'/' | b'\\' => "_".to_owned(),
            b'.' | b'-' | b'_' => char::from(byte).to_string(),
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02x}"),
        })
        .collect();
    if name.bytes().all(|byte| byte == b'.') { format!("_{name}") } else { name }
}

/// Bytes that could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub bytes: u64,
    /// Address and reason of the first.
    pub first: Option<(u64, Fault)>,
}

/// A file in the making; it appears under its name when it is committed.
#[derive(Debug)]
pub struct DumpFile {
    output: OutputFile,
    end: u64,
    lost: Lost,
    /// Bytes of memory that may still be written.
    left: u64,
    /// Whether something was left out because of a limit.
    cut: bool,
}

impl DumpFile {
    /// Length so far in bytes: where [`DumpFile::append`] writes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == 0
    }

    /// What could not be read so far.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.lost
    }

    /// Writes bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.write_at(self.end, bytes)
    }

    /// Copies what `space` maps inside `start..start + len` to the end of the file, which grows by `len`: what is not mapped
    /// stays a hole of zeros, and so does what is mapped but cannot be read, which is counted as lost. How many bytes were
    /// read. Beyond `--max_size`, and beyond [`MAX_FILE`] with all holes, nothing is copied any more.
    pub fn copy(&mut self, space: &dyn AddressSpace, start: u64, len: u64) -> Result<u64, Error> {
        let base = self.end;
        let Some(end) = base.checked_add(len).filter(|end| *end <= MAX_FILE) else {
            self.cut = true;
            return Ok(0);
        };
        self.output.set_len(end).map_err(Error::output)?;
        self.end = end;
        let mut copied = 0u64;
        for run in space.runs(start, start.saturating_add(len)) {
            let at = base.saturating_add(run.start.wrapping_sub(start));
            copied = copied.saturating_add(self.copy_to(at, space, run.start, run.len)?);
        }
        Ok(copied)
    }

    /// Copies `len` bytes from `start` of a space to a place of the file. What cannot be read is zeros and counted as lost. How
    /// many bytes were read; beyond `--max_size` nothing is copied any more.
    pub fn copy_to(&mut self, at: u64, space: &dyn AddressSpace, start: u64, len: u64) -> Result<u64, Error> {
        let (mut copied, mut done) = (0u64, 0u64);
        let mut buffer = Vec::new();
        while done < len {
            let now = len.saturating_sub(done).min(CHUNK);
            if now > self.left {
                self.cut = true;
                break;
            }
            self.left -= now;
            let from = start.wrapping_add(done);
            buffer.resize(usize::try_from(now).unwrap_or(0), 0);
            let gaps = space.read_padded(from, &mut buffer);
            self.lost.bytes = self.lost.bytes.saturating_add(gaps.missing);
            self.lost.first = self.lost.first.or(gaps.first);
            self.write_at(at.saturating_add(done), &buffer)?;
            copied = copied.saturating_add(now.saturating_sub(gaps.missing));
            done = done.saturating_add(now);
        }
        Ok(copied)
    }

    /// Makes the file at least `len` bytes long; what was not written reads as zeros.
    pub fn skip_to(&mut self, len: u64) -> Result<(), Error> {
        if len > MAX_FILE {
            self.cut = true;
        } else if len > self.end {
            self.output.set_len(len).map_err(Error::output)?;
            self.end = len;
        }
        Ok(())
    }

    /// Writes bytes at a place of the file, which grows where it must.
    pub fn write_at(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        let end = at.saturating_add(bytes.len() as u64);
        if end > MAX_FILE {
            self.cut = true;
            return Ok(());
        }
        self.put(at, bytes)?;
        self.end = self.end.max(end);
        Ok(())
    }

    /// Lets `write` fill an empty file: it gets the file, the most bytes it may have, and says how many it has.
    pub fn fill<T>(
        &mut self,
        write: impl FnOnce(&mut OutputFile, u64) -> io::Result<(u64, T)>,
    ) -> Result<T, Error> {
        let (len, told) = write(&mut self.output, self.left.min(MAX_FILE)).map_err(Error::output)?;
        self.end = self.end.max(len);
        Ok(told)
    }

    fn put(&mut self, at: u64, bytes: &[u8]) -> Result<(), Error> {
        self.output
            .seek(SeekFrom::Start(at))
            .and_then(|_| self.output.write_all(bytes))
            .map_err(Error::output)
    }

    /// Puts the file in its place; what it is called, for the table. Notes what could not be read.
    pub fn commit(mut self, session: &Session) -> Result<String, Error> {
        self.output.flush().map_err(Error::output)?;
        let name = self.output.path().display().to_string();
        if let Lost { bytes, first: Some((addr, fault)) } = self.lost {
            session.notes.partial(format!(
                "{name}: {bytes} bytes cannot be read and are zeros, first at {addr:#x}: {fault}"
            ));
        }
        if self.cut {
            session.notes.partial(format!("{name}: cut off, larger than its limit"));
        }
        self.output.commit()?;
        Ok(name)
    }
}

/// A dump of pieces of an address space, one behind the other, and the index that says which is where.
///
/// The index is text: a header, then a line for each piece with its place in the file, its length and its virtual address,
/// in hexadecimal, separated by tabs.
#[derive(Debug)]
pub struct IndexedDump {
    dump: DumpFile,
    index: DumpFile,
    /// The piece that still grows: place in the file, virtual address, length.
    piece: Option<(u64, u64, u64)>,
}

/// The two files of an [`IndexedDump`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indexed {
    /// Bytes of the dump.
    pub size: u64,
    /// Name of the dump.
    pub dump_name: String,
    /// Name of its index.
    pub index_name: String,
}

impl IndexedDump {
    /// Starts `NAME.dmp` and `NAME.dmp.idx`.
    pub fn create(args: &DumpArgs, session: &Session, name: &str) -> Result<Self, Error> {
        let dump = args.create(session, &format!("{name}.dmp"))?;
        let mut index = args.create(session, &format!("{name}.dmp.idx"))?;
        index.append(b"File Address\tLength\tVirtual\n")?;
        Ok(Self { dump, index, piece: None })
    }

    /// Appends memory; pieces come in ascending order, and neighbours become one.
    pub fn copy(&mut self, space: &dyn AddressSpace, start: u64, len: u64) -> Result<(), Error> {
        let at = self.dump.len();
        self.dump.copy(space, start, len)?;
        match &mut self.piece {
            Some((_, first, known)) if first.checked_add(*known) == Some(start) => {
                *known = known.saturating_add(len);
            }
            piece => {
                if let Some(done) = piece.replace((at, start, len)) {
                    self.line(done)?;
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, (at, start, len): (u64, u64, u64)) -> Result<(), Error> {
        self.index.append(format!("{at:#x}\t{len:#x}\t{start:#x}\n").as_bytes())
    }

    /// Puts both files in their places.
    pub fn commit(mut self, session: &Session) -> Result<Indexed, Error> {
        if let Some(last) = self.piece.take() {
            self.line(last)?;
        }
        let size = self.dump.len();
        Ok(Indexed { size, dump_name: self.dump.commit(session)?, index_name: self.index.commit(session)? })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use memory::{FileSpace, Overlap, Run, RunSpace};

    use super::*;
    use crate::session::Config;

    #[test]
    fn names_cannot_leave_the_directory() {
        assert_eq!(safe_name(b"/../../x y\n"), "_.._.._x%20y%0a");
        assert_eq!(safe_name(b"..\\..\\boot.ini"), ".._.._boot.ini");
        assert_eq!((safe_name(b".."), safe_name(b"")), ("_..".to_owned(), "_".to_owned()));
        assert_eq!(safe_name(&[b'a'; 1000]).len(), 150);
    }

    #[test]
    fn names_of_one_run_differ() {
        let folder = tempfile::tempdir().unwrap();
        let session = Session::new(Config::default());
        let dump_dir = Some(folder.path().to_owned());
        let args = DumpArgs { dump_dir, max_size: 1, taken: RefCell::default() };
        for written in ["a.exe", "a-2.exe", "a-3.exe"] {
            let name = args.create(&session, "a.exe").unwrap().commit(&session).unwrap();
            assert_eq!(std::path::Path::new(&name), folder.path().join(written));
        }
    }

    #[test]
    fn holes_of_the_memory_are_holes_of_the_file() {
        let base = Arc::new(FileSpace::from_vec(b"abcdefgh".to_vec()));
        let runs = vec![Run { start: 0x10, len: 4, target: 0 }, Run { start: 0x16, len: 4, target: 4 }];
        let space = RunSpace::new("test", base, runs, Overlap::FirstWins);
        let folder = tempfile::tempdir().unwrap();
        let session = Session::new(Config::default());
        let args = DumpArgs {
            dump_dir: Some(folder.path().to_owned()),
            max_size: 1 << 20,
            taken: RefCell::default(),
        };
        let mut file = args.create(&session, "a/b").unwrap();
        file.append(b">").unwrap();
        assert_eq!(file.copy(&space, 0x11, 7).unwrap(), 5);
        file.append(b"<").unwrap();
        assert_eq!((file.len(), file.lost()), (9, Lost::default()));
        assert_eq!(file.copy(&space, 0, MAX_FILE).unwrap(), 0);
        let name = file.commit(&session).unwrap();
        assert_eq!(session.take_notes().len(), 1);
        assert_eq!(std::fs::read(&name).unwrap(), b">bcd\0\0ef<");
        assert!(name.ends_with("/a_b"), "{name}");
    }

    #[test]
    fn an_index_tells_where_each_piece_is() {
        let base = Arc::new(FileSpace::from_vec(b"abcdefgh".to_vec()));
        let runs = vec![Run { start: 0x10, len: 4, target: 0 }, Run { start: 0x20, len: 4, target: 4 }];
        let space = RunSpace::new("test", base, runs, Overlap::FirstWins);
        let folder = tempfile::tempdir().unwrap();
        let session = Session::new(Config::default());
        let args =
            DumpArgs { dump_dir: Some(folder.path().to_owned()), max_size: 7, taken: RefCell::default() };
        let mut dump = IndexedDump::create(&args, &session, "x").unwrap();
        for (start, len) in [(0x10, 1), (0x11, 3), (0x20, 4)] {
            dump.copy(&space, start, len).unwrap();
        }
        let written = dump.commit(&session).unwrap();
        let index = std::fs::read_to_string(written.index_name).unwrap();
        assert_eq!(index, "File Address\tLength\tVirtual\n0x0\t0x4\t0x10\n0x4\t0x4\t0x20\n");
        assert_eq!(std::fs::read(written.dump_name).unwrap(), b"abcd\0\0\0\0");
        assert_eq!(session.take_notes().len(), 1, "the limit was reached");
    }
}
