//! Writers of image formats. Each follows public descriptions of its format and none shares code with a reader.

mod crash;
mod elf;
mod hiber;
mod vmware;
pub(crate) mod xpress;

pub use crash::CrashDump;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use crate::image::Snapshot;
use crate::physical::PAGE;

impl Snapshot {
    /// Writes a raw image: byte n of the file is byte n of physical memory. Frames that hold nothing are holes in the file.
    pub fn write_raw(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.set_len(self.end())?;
        self.write_frames(&mut file, Some)
    }

    /// Writes every frame in use at the place in the file that `place` tells.
    fn write_frames(&self, file: &mut File, place: impl Fn(u64) -> Option<u64>) -> io::Result<()> {
        for (frame, bytes) in self.machine.physical.frames() {
            if let Some(at) = place(frame * PAGE) {
                file.seek(SeekFrom::Start(at))?;
                file.write_all(bytes)?;
            }
        }
        Ok(())
    }

    /// Where a physical address stands in a file that holds all runs back to back from `start` on.
    fn packed(&self, start: u64, address: u64) -> Option<u64> {
        let mut at = start;
        for &(first, len) in &self.runs {
            if address >= first && address - first < len {
                return Some(at + (address - first));
            }
            at += len;
        }
        None
    }

    /// Frames in use inside the runs, ascending: those written to, and the zero pages of the kernel's image.
    fn present(&self) -> Vec<(u64, &[u8])> {
        const ZERO: &[u8] = &[0; 4096];
        let image = self.machine.tables.large_frames().map(|frame| (frame, ZERO));
        let mut present: BTreeMap<u64, &[u8]> = image.collect();
        present.extend(self.machine.physical.frames());
        present.retain(|&frame, _| self.packed(0, frame * PAGE).is_some());
        present.into_iter().collect()
    }

    /// Bytes of all runs together.
    fn total(&self) -> u64 {
        self.runs.iter().map(|&(_, len)| len).sum()
    }
}

/// A block of bytes that is filled at offsets.
struct Block(Vec<u8>);

impl Block {
    fn u16(&mut self, at: usize, value: u16) -> &mut Self {
        self.bytes(at, &value.to_le_bytes())
    }

    fn u32(&mut self, at: usize, value: u32) -> &mut Self {
        self.bytes(at, &value.to_le_bytes())
    }

    fn u64(&mut self, at: usize, value: u64) -> &mut Self {
        self.bytes(at, &value.to_le_bytes())
    }

    fn bytes(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }
}
