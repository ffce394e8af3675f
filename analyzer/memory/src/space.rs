//! [`AddressSpace`]: what every layer of an image looks like, from the file up to a process.

use crate::Fault;
use crate::bytes::{to_u64, to_usize};

/// Granularity of [`AddressSpace::read_padded`] and [`AddressSpace::read_cstr`], in bytes: the smallest page
/// of every supported architecture.
const PAGE: u64 = 4096;

/// One contiguous mapped extent of an address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First address.
    pub start: u64,
    /// Length in bytes, never 0.
    pub len: u64,
    /// Address of `start` in the base space: physical for virtual spaces, file offset for images stored
    /// plainly. A compressed image has no byte-for-byte offset: there it equals `start`.
    pub target: u64,
}

impl Run {
    /// Exclusive end; saturates at `u64::MAX` for a run that reaches the top of the address space.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }

    /// The part of the run inside `start..end`, if any. `end == u64::MAX` means no upper bound.
    #[must_use]
    pub fn clipped(self, start: u64, end: u64) -> Option<Self> {
        let from = self.start.max(start);
        // Inclusive last addresses: a run may end exactly at 2^64.
        let own_last = self.start.checked_add(self.len.checked_sub(1)?)?;
        let last = if end == u64::MAX { own_last } else { own_last.min(end.checked_sub(1)?) };
        let skipped = from.checked_sub(self.start)?;
        let len = last.checked_sub(from)?.saturating_add(1);
        Some(Self { start: from, len, target: self.target.wrapping_add(skipped) })
    }

    /// Whether `next` continues this run both in its own addresses and in the base space.
    #[must_use]
    pub fn joins(&self, next: &Self) -> bool {
        self.start.checked_add(self.len) == Some(next.start)
            && self.target.checked_add(self.len) == Some(next.target)
    }
}

/// How a space keeps a byte in the space below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// As it is, at this address of the base.
    Plain(u64),
    /// In a compressed block of the base.
    Compressed {
        /// Where the block begins in the base.
        block: u64,
        /// Bytes of the block as stored.
        len: u64,
    },
}

/// What [`AddressSpace::read_padded`] could not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// Number of bytes that were filled with zeros.
    pub missing: u64,
    /// Address and reason of the first missing page; `None` when everything was read.
    pub first: Option<(u64, Fault)>,
}

impl Gaps {
    /// Whether every byte was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.missing == 0
    }
}

/// Bytes at addresses: a file, a physical memory or a virtual one.
///
/// Spaces are immutable and shared: all methods take `&self` and may be called from several threads.
pub trait AddressSpace: Send + Sync {
    /// Short name for people: `"raw"`, `"LiME"`, `"kdump (zlib)"`, `"x64 DTB 0x1000"`.
    fn name(&self) -> String;

    /// Fills `buf` from `addr`, or says why not; on an error the contents of `buf` are unspecified.
    ///
    /// # Errors
    /// The first reason in address order why a byte of the range is missing.
    fn read_at(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault>;

    /// The address in the base space that holds `addr`.
    ///
    /// # Errors
    /// The reason why `addr` is not mapped.
    fn translate(&self, addr: u64) -> Result<u64, Fault>;

    /// How the byte at `addr` is kept in the base space; unlike [`AddressSpace::translate`] it tells
    /// compressed bytes.
    ///
    /// # Errors
    /// The reason why `addr` is not mapped.
    fn stored(&self, addr: u64) -> Result<Stored, Fault> {
        self.translate(addr).map(Stored::Plain)
    }

    /// The mapped runs inside `start..end`, ascending, merged where contiguous both here and in the base
    /// space, and clipped to the bounds. `end == u64::MAX` means no upper bound.
    fn runs(&self, start: u64, end: u64) -> Box<dyn Iterator<Item = Run> + '_>;

    /// Exclusive upper bound of all runs, 0 for an empty space. Exact for images; for virtual spaces the end
    /// of the address width (saturating at `u64::MAX`).
    fn end(&self) -> u64;

    /// Width of an address in bits.
    fn bits(&self) -> u8;

    /// The space below, `None` for a file or buffer.
    fn base(&self) -> Option<&dyn AddressSpace>;

    /// The bytes themselves, without a copy, when the whole range lies in mapped memory in one piece. `None`
    /// says nothing about readability.
    fn borrow(&self, _addr: u64, _len: usize) -> Option<&[u8]> {
        None
    }

    /// Fills `buf` from `addr`, with zeros in place of every 4096-byte page that cannot be read in full, and
    /// says what was missing.
    fn read_padded(&self, addr: u64, buf: &mut [u8]) -> Gaps {
        let mut gaps = Gaps::default();
        if self.read_at(addr, buf).is_ok() {
            return gaps;
        }
        let mut rest = buf;
        let mut at = addr;
        let mut wrapped = false;
        while !rest.is_empty() {
            let in_page = PAGE.wrapping_sub(at % PAGE);
            let (page, tail) = rest.split_at_mut(to_usize(in_page).min(rest.len()));
            let read = if wrapped { Err(Fault::OutOfRange { addr: at }) } else { self.read_at(at, page) };
            if let Err(fault) = read {
                page.fill(0);
                gaps.missing = gaps.missing.saturating_add(to_u64(page.len()));
                gaps.first.get_or_insert((at, fault));
            }
            let (next, overflow) = at.overflowing_add(in_page);
            wrapped |= overflow;
            at = next;
            rest = tail;
        }
        gaps
    }

    /// Reads `len` bytes into a new vector. The only allocation whose size may come from the image, hence
    /// `cap`.
    ///
    /// # Errors
    /// [`Fault::TooLong`] when `len` is more than `cap`, else as [`AddressSpace::read_at`].
    fn read_vec(&self, addr: u64, len: u64, cap: usize) -> Result<Vec<u8>, Fault> {
        let Some(size) = usize::try_from(len).ok().filter(|size| *size <= cap) else {
            return Err(Fault::TooLong { addr, len });
        };
        let mut buf = vec![0; size];
        self.read_at(addr, &mut buf)?;
        Ok(buf)
    }

    /// The byte at `addr`.
    ///
    /// # Errors
    /// As [`AddressSpace::read_at`].
    fn read_u8(&self, addr: u64) -> Result<u8, Fault> {
        let mut buf = [0; 1];
        self.read_at(addr, &mut buf)?;
        Ok(u8::from_le_bytes(buf))
    }

    /// The little-endian `u16` at `addr`.
    ///
    /// # Errors
    /// As [`AddressSpace::read_at`].
    fn read_u16(&self, addr: u64) -> Result<u16, Fault> {
        let mut buf = [0; 2];
        self.read_at(addr, &mut buf)?;
        Ok(u16::from_le_bytes(buf))
    }

    /// The little-endian `u32` at `addr`.
    ///
    /// # Errors
    /// As [`AddressSpace::read_at`].
    fn read_u32(&self, addr: u64) -> Result<u32, Fault> {
        let mut buf = [0; 4];
        self.read_at(addr, &mut buf)?;
        Ok(u32::from_le_bytes(buf))
    }

    /// The little-endian `u64` at `addr`.
    ///
    /// # Errors
    /// As [`AddressSpace::read_at`].
    fn read_u64(&self, addr: u64) -> Result<u64, Fault> {
        let mut buf = [0; 8];
        self.read_at(addr, &mut buf)?;
        Ok(u64::from_le_bytes(buf))
    }

    /// The bytes from `addr` up to, not including, the first NUL, or `max` bytes when there is none. Needs no
    /// byte beyond the page of the NUL.
    ///
    /// # Errors
    /// As [`AddressSpace::read_at`], when a page before the NUL cannot be read.
    fn read_cstr(&self, addr: u64, max: usize) -> Result<Vec<u8>, Fault> {
        let mut text = Vec::new();
        let mut at = addr;
        let mut page = [0; 4096];
        while text.len() < max {
            let in_page = PAGE.wrapping_sub(at % PAGE);
            let wanted = to_usize(in_page).min(max.saturating_sub(text.len()));
            let Some(chunk) = page.get_mut(..wanted) else { break };
            self.read_at(at, chunk)?;
            if let Some(nul) = chunk.iter().position(|byte| *byte == 0) {
                text.extend(chunk.iter().take(nul));
                return Ok(text);
            }
            text.extend_from_slice(chunk);
            at = match at.checked_add(in_page) {
                Some(next) => next,
                None if text.len() < max => return Err(Fault::OutOfRange { addr: u64::MAX }),
                None => break,
            };
        }
        Ok(text)
    }
}

/// Fills `buf` from `addr` in pieces, each by `read`; none goes beyond a page of `page` bytes.
///
/// # Errors
/// The first of `read`; [`Fault::OutOfRange`] where more is asked for behind the highest address.
pub fn read_by_page(
    addr: u64,
    page: u64,
    buf: &mut [u8],
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let page = page.max(1);
    let (mut at, mut rest) = (addr, buf);
    while !rest.is_empty() {
        let (now, later) = rest.split_at_mut(to_usize(page - at % page).min(rest.len()));
        read(at, now)?;
        at = match at.checked_add(to_u64(now.len())) {
            Some(next) => next,
            None if later.is_empty() => return Ok(()),
            None => return Err(Fault::OutOfRange { addr }),
        };
        rest = later;
    }
    Ok(())
}
