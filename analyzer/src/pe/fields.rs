//! Little-endian fields of a block of bytes that was read in one piece.

use object::{Absent, Read};

/// A block of bytes; what lies beyond its end is malformed.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(self, at: usize) -> Read<[u8; N]> {
        let bytes = at.checked_add(N).and_then(|end| self.0.get(at..end));
        bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(Absent::Malformed("header is too short"))
    }

    pub(super) fn u8(self, at: usize) -> Read<u8> {
        self.array(at).map(u8::from_le_bytes)
    }

    pub(super) fn u16(self, at: usize) -> Read<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    pub(super) fn u32(self, at: usize) -> Read<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(super) fn u64(self, at: usize) -> Read<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    /// A `u64` in a 64-bit executable, a `u32` in a 32-bit one.
    pub(super) fn word(self, at: usize, wide: bool) -> Read<u64> {
        if wide { self.u64(at) } else { self.u32(at).map(u64::from) }
    }
}
