//! Frames of .zst files: where they are, and one after the other as a stream.
//!
//! ```text
//! frame:  magic u32 | descriptor u8 | window u8? | dictionary 0-4 | content size 0-8 | blocks | checksum u32?
//! block:  header of 3 bytes (last: bit 0, type: bits 1-2, size: bits 3-23), then size bytes, or 1 for type RLE
//! ```
//! Source: RFC 8878, section 3.1. Skippable frames (0x184D2A5?) carry no content.

use crate::AddressSpace;
use crate::blocks::Block;
use crate::bytes::array_at;
use crate::codec::Codec;
use crate::image::Limits;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, Read};

const MAGIC: u32 = 0xfd2f_b528;
/// Skippable frames have this magic with any lowest 4 bits.
const SKIP: u32 = 0x184d_2a50;
/// Bytes of a frame decoded in one go.
const STEP: usize = 1 << 20;
/// Largest window, in bytes (`--long=28`).
const WINDOW: u64 = 256 << 20;

/// Whether a file that begins with this is zstd.
pub(crate) fn is_magic(magic: u32) -> bool {
    magic == MAGIC || is_skippable(magic)
}

fn is_skippable(magic: u32) -> bool {
    magic & !0xf == SKIP
}

/// The frames of a file, if all say how much they hold; walks block headers, decodes nothing.
pub(crate) fn blocks(base: &dyn AddressSpace, limits: &Limits) -> Option<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    // Every step looks at a few bytes of the file and goes on behind them; cap the steps as well as the
    // frames.
    let mut steps = limits.max_runs;
    let mut at = 0u64;
    let mut start = 0u64;
    while at < base.end() {
        steps = steps.checked_sub(1)?;
        let magic = base.read_u32(at).ok()?;
        if is_skippable(magic) {
            let len = base.read_u32(at.checked_add(4)?).ok()?;
            at = at.checked_add(8)?.checked_add(u64::from(len))?;
            continue;
        }
        let (content, end) = (magic == MAGIC).then(|| frame(base, at, &mut steps))??;
        let len = usize::try_from(content).ok()?;
        let stored = usize::try_from(end.checked_sub(at)?).ok()?;
        if len > 0 {
            blocks.push(Block { start, len, offset: at, stored, codec: Some(Codec::Zstd) });
        }
        start = start.checked_add(content)?;
        at = end;
    }
    (at == base.end()).then_some(blocks)
}

/// Content size and end of the frame at `at`.
fn frame(base: &dyn AddressSpace, at: u64, steps: &mut usize) -> Option<(u64, u64)> {
    let descriptor = base.read_u8(at.checked_add(4)?).ok()?;
    let single = descriptor >> 5 & 1;
    let dictionary = [0u64, 1, 2, 4].get(usize::from(descriptor & 3))?;
    let size_at = at.checked_add(5)?.checked_add(u64::from(1 - single))?.checked_add(*dictionary)?;
    let (content, size) = match (descriptor >> 6, single) {
        (0, 0) => return None,
        (0, _) => (u64::from(base.read_u8(size_at).ok()?), 1u64),
        (1, _) => (u64::from(base.read_u16(size_at).ok()?).checked_add(256)?, 2),
        (2, _) => (u64::from(base.read_u32(size_at).ok()?), 4),
        _ => (base.read_u64(size_at).ok()?, 8),
    };
    let mut next = size_at.checked_add(size)?;
    loop {
        *steps = steps.checked_sub(1)?;
        let mut bytes = [0; 4];
        base.read_at(next, bytes.get_mut(..3)?).ok()?;
        let header = u32::from_le_bytes(array_at(&bytes, 0)?);
        let stored = match header >> 1 & 3 {
            1 => 1,
            0 | 2 => header >> 3,
            _ => return None,
        };
        next = next.checked_add(3)?.checked_add(u64::from(stored))?;
        if header & 1 != 0 {
            break;
        }
    }
    Some((content, next.checked_add(u64::from(descriptor >> 2 & 1) * 4)?))
}

/// All frames of a zstd file, one after the other.
pub(crate) struct ZstdReader<R> {
    from: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> ZstdReader<R> {
    pub(crate) fn new(from: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW);
        Self { from, decoder, in_frame: false }
    }

    /// Starts the next frame; `false` at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            let mut magic = [0; 4];
            if self.from.fill_buf()?.is_empty() {
                return Ok(false);
            }
            self.from.read_exact(&mut magic)?;
            if is_skippable(u32::from_le_bytes(magic)) {
                let mut len = [0; 4];
                self.from.read_exact(&mut len)?;
                let len = u64::from(u32::from_le_bytes(len));
                if io::copy(&mut self.from.by_ref().take(len), &mut io::sink())? < len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            self.decoder.init(magic.chain(&mut self.from)).map_err(io::Error::other)?;
            return Ok(true);
        }
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buf);
            }
            if self.decoder.is_finished() {
                self.in_frame = false;
                let (stored, found) =
                    (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum());
                if stored.is_some() && stored != found {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "checksum mismatch"));
                }
                continue;
            }
            let step = BlockDecodingStrategy::UptoBytes(STEP);
            self.decoder.decode_blocks(&mut self.from, step).map_err(io::Error::other)?;
        }
    }
}
