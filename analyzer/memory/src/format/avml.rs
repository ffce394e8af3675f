//! AVML version 2: ranges as in LiME, compressed. (AVML version 1 is LiME.)
//!
//! ```text
//! 0  header   32 bytes as in LiME, magic "AVML", version 2
//! 32 frames   snappy framing format: a stream identifier, then chunks that decode to at most 64 KiB each
//!    length   u64, bytes of frames; then the next header
//! ```
//! The length stands behind the frames, so they are walked chunk by chunk; nothing is decompressed until it
//! is read. The writer cuts ranges into blocks of 16 MiB and leaves out blocks that are all zeros. A block
//! that was left out cannot be told from a hole of the machine: both are "not in the image".
//! Source: `src/image.rs` of microsoft/avml; the snappy framing format description.

use crate::blocks::{Block, BlockList, BlockSpace};
use crate::bytes::{array_at, to_u64, to_usize};
use crate::codec::Codec;
use crate::format::lime::{HEADER, RangeHeader};
use crate::format::{Layer, Opened, Refused, Yields, expect_magic};
use crate::image::Limits;
use crate::{AddressSpace, Fault};
use std::sync::Arc;

const MAGIC: &[u8] = b"AVML";
/// Most bytes a chunk may decode to.
const CHUNK: u64 = 65536;
/// Snappy chunk types.
const COMPRESSED: u8 = 0x00;
const PLAIN: u8 = 0x01;
const STREAM: u8 = 0xff;

pub(super) fn probe(layer: &Layer<'_>) -> Result<(), &'static str> {
    expect_magic(layer, MAGIC, "no \"AVML\" signature at the start")
}

pub(super) fn open(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let Layer { base, limits, .. } = *layer;
    let mut chunks = Vec::new();
    let mut warnings = Vec::new();
    let file_end = base.end();
    let mut at = 0u64;
    while at < file_end {
        match walk_range(&**base, at, limits, &mut chunks) {
            Ok(next) => at = next,
            Err(reason) if chunks.is_empty() => return Err(reason.into()),
            Err(reason) => {
                warnings.push(format!("ranges end early, {reason} in the range at file offset: {at:#x}"));
                break;
            }
        }
    }
    chunks.sort_by_key(|block: &Block| block.start);
    let all = chunks.len();
    let mut end = 0;
    chunks.retain(|block| {
        let fits = block.start >= end;
        if fits {
            end = block.end();
        }
        fits
    });
    if chunks.len() < all {
        warnings.push(format!("chunks dropped because ranges overlap: {}", all.saturating_sub(chunks.len())));
    }
    let space =
        BlockSpace::new(Arc::clone(base), BlockList::new("AVML", Yields::Memory, chunks), limits.cache);
    Ok(Opened::new(Arc::new(space)).warnings(warnings))
}

/// Adds the chunks of the range whose header is at `at`, and gives the offset of the next header.
fn walk_range(
    base: &dyn AddressSpace,
    at: u64,
    limits: &Limits,
    chunks: &mut Vec<Block>,
) -> Result<u64, String> {
    let cut_off = |_: Fault| "the file is cut off".to_owned();
    let mut header = [0; 32];
    base.read_at(at, &mut header).map_err(cut_off)?;
    let range = RangeHeader::parse(&header, MAGIC, 2)?;
    let range_end = range.start.checked_add(range.len).ok_or("the range wraps around")?;
    let frames = at.saturating_add(HEADER);
    let (mut at, mut phys) = (frames, range.start);
    while phys < range_end {
        if chunks.len() >= limits.max_runs {
            return Err(format!("more chunks than the limit: {}", limits.max_runs));
        }
        let chunk = Chunk::read(base, at).map_err(cut_off)??;
        if chunk.data > 0 {
            if chunk.data > range_end.saturating_sub(phys) {
                return Err("the frames hold more than the range".to_owned());
            }
            if at.saturating_add(chunk.size) > base.end() {
                return Err("the file is cut off".to_owned());
            }
            chunks.push(chunk.block(at, phys));
            phys = phys.saturating_add(chunk.data);
        }
        at = at.saturating_add(chunk.size);
    }
    let length = base.read_u64(at).map_err(cut_off)?;
    if length != at.saturating_sub(frames) {
        return Err(format!(
            "the frames are {} bytes, their length says: {length}",
            at.saturating_sub(frames)
        ));
    }
    Ok(at.saturating_add(8))
}

/// One chunk of the snappy framing format.
struct Chunk {
    kind: u8,
    /// Size with the 4-byte header.
    size: u64,
    /// Number of memory bytes it holds; 0 for chunks without any.
    data: u64,
}

impl Chunk {
    fn read(base: &dyn AddressSpace, at: u64) -> Result<Result<Self, String>, Fault> {
        // Header, checksum, and the first bytes of the data, which say how long it becomes.
        let mut bytes = [0; 13];
        let len = to_usize(base.end().saturating_sub(at)).min(bytes.len());
        let (bytes, _) = bytes.split_at_mut(len);
        base.read_at(at, bytes)?;
        let Some([kind, a, b, c]) = array_at::<4>(bytes, 0) else {
            return Err(Fault::Truncated { offset: at });
        };
        let body = u64::from(u32::from_le_bytes([a, b, c, 0]));
        let data = match kind {
            COMPRESSED => snap::raw::decompress_len(bytes.get(8..).unwrap_or_default()).map(to_u64).ok(),
            PLAIN => body.checked_sub(4),
            STREAM | 0x80..=0xfe => Some(0),
            _ => None,
        };
        Ok(match data {
            Some(data) if data <= CHUNK => Ok(Self { kind, size: body.saturating_add(4), data }),
            _ => Err("a snappy chunk is corrupt".to_owned()),
        })
    }

    fn block(&self, at: u64, start: u64) -> Block {
        let len = to_usize(self.data);
        if self.kind == PLAIN {
            Block { start, len, offset: at.saturating_add(8), stored: len, codec: None }
        } else {
            Block { start, len, offset: at, stored: to_usize(self.size), codec: Some(Codec::SnappyFrame) }
        }
    }
}
