//! Where unpacked bytes go: memory first, an unlinked temporary file when they become many.

use crate::FileSpace;
use crate::bytes::to_u64;
use crate::image::Limits;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};

/// Zeros are left out of the temporary file in pieces of this size, in bytes.
const PIECE: usize = 64 << 10;

/// A bounded sink for unpacked bytes.
pub(crate) struct Spool {
    limits: Limits,
    buffer: Vec<u8>,
    file: Option<File>,
    len: u64,
}

impl Spool {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self { limits: *limits, buffer: Vec::new(), file: None, len: 0 }
    }

    /// Bytes taken so far.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Everything written, as a space.
    pub(crate) fn finish(mut self) -> io::Result<FileSpace> {
        let Some(mut file) = self.file.take() else { return Ok(FileSpace::from_vec(self.buffer)) };
        write_sparse(&mut file, &self.buffer)?;
        file.set_len(self.len)?;
        FileSpace::from_file(file)
    }
}

/// Writes `bytes` at the position of the file and leaves holes where they are zeros.
fn write_sparse(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(PIECE) {
        if piece.iter().all(|byte| *byte == 0) {
            file.seek(SeekFrom::Current(i64::try_from(piece.len()).unwrap_or(0)))?;
        } else {
            file.write_all(piece)?;
        }
    }
    Ok(())
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.len.saturating_add(to_u64(bytes.len()));
        if len > self.limits.max_unpacked {
            let message = format!("more than the limit of {} bytes", self.limits.max_unpacked);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        self.len = len;
        if self.file.is_none() && len > self.limits.max_in_memory {
            let mut file = tempfile::tempfile()?;
            write_sparse(&mut file, &std::mem::take(&mut self.buffer))?;
            self.file = Some(file);
        }
        self.buffer.extend_from_slice(bytes);
        if let Some(file) = &mut self.file
            && self.buffer.len() >= 16 * PIECE
        {
            write_sparse(file, &self.buffer)?;
            self.buffer.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AddressSpace;

    #[test]
    fn long_output_goes_to_a_file_and_reads_back_the_same() {
        let limits = Limits { max_in_memory: 100_000, max_unpacked: 5_000_000, ..Limits::default() };
        let bytes: Vec<u8> =
            (0..3_000_000u32).map(|n| if n % 1_000_000 < 700_000 { 0 } else { n.to_le_bytes()[0] }).collect();
        let mut spool = Spool::new(&limits);
        for part in bytes.chunks(70_001) {
            spool.write_all(part).unwrap();
        }
        assert!(spool.file.is_some());
        let space = spool.finish().unwrap();
        assert_eq!(space.read_vec(0, 3_000_000, 3_000_000).unwrap(), bytes);
        assert_eq!(space.end(), 3_000_000);
        let mut bomb = Spool::new(&limits);
        assert_eq!(
            std::io::copy(&mut std::io::repeat(1), &mut bomb).unwrap_err().kind(),
            io::ErrorKind::FileTooLarge
        );
    }
}
