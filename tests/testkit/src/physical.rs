//! Physical memory under construction: frames that were written to, and what each frame is used for.

use std::collections::BTreeMap;

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// What a frame holds; the page frame database is made from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// The top table of an address space; its process is told later.
    Root { space: usize },
    /// Mapped by the page table entry at `pte`, for `va`. A table below the root is mapped too: at its place in the self-map.
    Mapped { pte: u64, va: u64, space: usize },
    /// Mapped by the same kind of entry, but on the standby list.
    Standby { pte: u64, va: u64, space: usize },
    /// Shared through the prototype entry at virtual address `va`, which stands at physical `pte`.
    Prototype { pte: u64, va: u64 },
}

/// Sparse physical memory.
#[derive(Debug, Default)]
pub struct Physical {
    frames: BTreeMap<u64, Box<[u8]>>,
    pub(crate) uses: BTreeMap<u64, Use>,
    allocated: u64,
}

/// Frames below this one belong to firmware, the low stub, the first page table and the kernel's image.
const FIRST_FRAME: u64 = 0x2000;

impl Physical {
    /// A frame nobody uses. Neighbouring pages get scattered frames, so that nothing may rely on them being contiguous.
    pub(crate) fn allocate(&mut self) -> u64 {
        let (chunk, index) = (self.allocated / 256, self.allocated % 256);
        self.allocated += 1;
        // 97 is odd, so it permutes the 256 frames of a chunk.
        let frame = FIRST_FRAME + chunk * 256 + (index * 97 + 13) % 256;
        self.frames.entry(frame).or_insert_with(|| vec![0; 4096].into());
        frame
    }

    /// Writes bytes, across frames where needed.
    pub fn write(&mut self, address: u64, bytes: &[u8]) {
        let mut address = address;
        let mut bytes = bytes;
        while !bytes.is_empty() {
            let offset = usize::try_from(address % PAGE).expect("offset in a page");
            let (now, later) = bytes.split_at(bytes.len().min(4096 - offset));
            let frame = self.frames.entry(address / PAGE).or_insert_with(|| vec![0; 4096].into());
            frame[offset..offset + now.len()].copy_from_slice(now);
            address += now.len() as u64;
            bytes = later;
        }
    }

    /// Reads bytes; frames never written to are zero.
    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len);
        let mut address = address;
        while out.len() < len {
            let offset = usize::try_from(address % PAGE).expect("offset in a page");
            let take = (len - out.len()).min(4096 - offset);
            match self.frames.get(&(address / PAGE)) {
                Some(frame) => out.extend_from_slice(&frame[offset..offset + take]),
                None => out.resize(out.len() + take, 0),
            }
            address += take as u64;
        }
        out
    }

    /// A little-endian integer of `size` bytes.
    pub(crate) fn word(&self, address: u64, size: usize) -> u64 {
        self.read(address, size).iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
    }

    /// Frames that were written to, ascending.
    pub fn frames(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.frames.iter().map(|(&frame, bytes)| (frame, bytes.as_ref()))
    }

    /// Fills a frame with zeros: a page that was reused between two moments of the acquisition.
    pub fn zero(&mut self, frame: u64) {
        self.frames.remove(&frame);
    }

    /// One past the highest frame in use.
    pub(crate) fn end(&self) -> u64 {
        self.frames.keys().next_back().map_or(0, |frame| frame + 1)
    }
}
