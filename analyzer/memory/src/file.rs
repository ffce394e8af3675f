//! The lowest space: the bytes of a file, device, pipe or buffer.

use crate::bytes::{to_u64, to_usize};
use crate::{AddressSpace, Fault, Limits, Run, mmap};
use memmap2::Mmap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Where the bytes of a [`FileSpace`] are.
enum Bytes {
    /// A mapped file or block device: reads are copies, borrows are free.
    Mapped(Mmap),
    /// A file that cannot be mapped; each read is a system call.
    Positioned(File),
    /// Bytes this process made: a decompressed image, a pipe, a test.
    Buffer(Vec<u8>),
}

/// The bytes of a file, device, pipe or buffer, addressed by offset from 0.
pub struct FileSpace {
    name: &'static str,
    bytes: Bytes,
    len: u64,
}

impl FileSpace {
    /// Opens a file, mapped where the operating system can map it; a pipe is read to its end first.
    ///
    /// # Errors
    /// The error of the operating system; [`io::ErrorKind::FileTooLarge`] for a pipe longer than
    /// [`Limits::max_in_memory`], [`io::ErrorKind::IsADirectory`] for a directory.
    pub fn open(path: &Path, limits: &Limits) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file()
            && let Err(error) = file.seek(SeekFrom::Start(0))
        {
            return if error.kind() == io::ErrorKind::NotSeekable {
                Self::from_pipe(file, limits)
            } else {
                Err(error)
            };
        }
        Self::from_file(file)
    }

    /// Whether a file or device can be read by position.
    pub(crate) fn is_seekable(path: &Path) -> bool {
        File::open(path).is_ok_and(|mut file| file.seek(SeekFrom::Start(0)).is_ok())
    }

    /// Takes a seekable file. The length is where the file ends now; block devices report it by seeking.
    ///
    /// # Errors
    /// The error of the operating system when the length cannot be told.
    pub fn from_file(mut file: File) -> io::Result<Self> {
        let len = file.seek(SeekFrom::End(0))?;
        let bytes = match usize::try_from(len) {
            Ok(size) if size > 0 => mmap::map(&file, size).map_or(Bytes::Positioned(file), Bytes::Mapped),
            _ => Bytes::Positioned(file),
        };
        Ok(Self { name: "file", bytes, len })
    }

    /// Takes a device that has no end of its own; `len` bytes of it are read by position.
    pub(crate) fn from_device(file: File, len: u64) -> Self {
        Self { name: "device", bytes: Bytes::Positioned(file), len }
    }

    /// Takes bytes in memory.
    #[must_use]
    pub fn from_vec(bytes: Vec<u8>) -> Self {
        let len = to_u64(bytes.len());
        Self { name: "buffer", bytes: Bytes::Buffer(bytes), len }
    }

    /// Gives it another name: what it was unpacked from.
    pub(crate) fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    fn from_pipe(file: File, limits: &Limits) -> io::Result<Self> {
        let mut bytes = Vec::new();
        file.take(limits.max_in_memory.saturating_add(1)).read_to_end(&mut bytes)?;
        if to_u64(bytes.len()) > limits.max_in_memory {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Self::from_vec(bytes))
    }

    /// The whole contents, when they are in memory or mapped.
    fn slice(&self) -> Option<&[u8]> {
        match &self.bytes {
            Bytes::Mapped(map) => Some(map),
            Bytes::Buffer(bytes) => Some(bytes),
            Bytes::Positioned(_) => None,
        }
    }
}

/// Reads a space as a stream, from its start until it is told to go elsewhere.
pub(crate) struct SpaceReader<'a> {
    space: &'a dyn AddressSpace,
    at: u64,
}

impl<'a> SpaceReader<'a> {
    pub(crate) fn new(space: &'a dyn AddressSpace) -> Self {
        Self { space, at: 0 }
    }
}

impl Read for SpaceReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = to_usize(self.space.end().saturating_sub(self.at));
        let size = left.min(buf.len());
        let (buf, _) = buf.split_at_mut(size);
        self.space.read_at(self.at, buf).map_err(io::Error::other)?;
        self.at = self.at.saturating_add(to_u64(size));
        Ok(size)
    }
}

impl Seek for SpaceReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.space.end().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buf, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, buf, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buf = buf.get_mut(read..).unwrap_or_default();
        offset = offset.saturating_add(to_u64(read));
    }
    Ok(())
}

impl AddressSpace for FileSpace {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn read_at(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let end = addr.checked_add(to_u64(buf.len())).ok_or(Fault::OutOfRange { addr })?;
        if end > self.len {
            return Err(Fault::Truncated { offset: addr.max(self.len) });
        }
        match (self.borrow(addr, buf.len()), &self.bytes) {
            (Some(bytes), _) => {
                buf.copy_from_slice(bytes);
                Ok(())
            }
            (None, Bytes::Positioned(file)) => {
                read_exact_at(file, buf, addr).map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => Fault::Truncated { offset: addr },
                    _ => Fault::Io { offset: addr },
                })
            }
            (None, _) => Err(Fault::Truncated { offset: addr }),
        }
    }

    fn translate(&self, addr: u64) -> Result<u64, Fault> {
        if addr < self.len { Ok(addr) } else { Err(Fault::Truncated { offset: addr }) }
    }

    fn runs(&self, start: u64, end: u64) -> Box<dyn Iterator<Item = Run> + '_> {
        Box::new(Run { start: 0, len: self.len, target: 0 }.clipped(start, end).into_iter())
    }

    fn end(&self) -> u64 {
        self.len
    }

    fn bits(&self) -> u8 {
        64
    }

    fn base(&self) -> Option<&dyn AddressSpace> {
        None
    }

    fn borrow(&self, addr: u64, len: usize) -> Option<&[u8]> {
        let start = to_usize(addr);
        self.slice()?.get(start..start.checked_add(len)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gaps;

    #[test]
    fn reads_end_at_the_last_byte() {
        let space = FileSpace::from_vec(vec![1, 2, 3]);
        assert_eq!(space.read_u16(1), Ok(0x0302));
        assert_eq!(space.read_u16(2), Err(Fault::Truncated { offset: 3 }));
        assert_eq!(space.read_u8(u64::MAX), Err(Fault::OutOfRange { addr: u64::MAX }));
        assert_eq!(space.borrow(1, 3), None);
        assert_eq!(space.runs(1, u64::MAX).collect::<Vec<_>>(), [Run { start: 1, len: 2, target: 1 }]);
    }

    #[test]
    fn a_device_that_cannot_be_mapped_is_read_by_position() {
        let file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut &file, b"abcdef").unwrap();
        let space = FileSpace { name: "file", bytes: Bytes::Positioned(file), len: 6 };
        assert_eq!(space.read_u16(2), Ok(0x6463));
        assert_eq!(space.borrow(0, 1), None);
    }

    #[test]
    fn strings_stop_at_the_nul_and_padded_reads_say_what_is_missing() {
        let mut bytes = vec![b'a'; 4100];
        bytes[4098] = 0;
        let space = FileSpace::from_vec(bytes);
        assert_eq!(space.read_cstr(4095, 3).unwrap(), b"aaa");
        assert_eq!(space.read_cstr(4096, 4).unwrap(), b"aa");
        let mut buf = [9; 8192];
        let gaps = space.read_padded(0, &mut buf);
        assert_eq!(gaps, Gaps { missing: 4096, first: Some((4096, Fault::Truncated { offset: 4100 })) });
        assert!(buf[4096..].iter().all(|byte| *byte == 0) && buf[4095] == b'a');
    }
}
