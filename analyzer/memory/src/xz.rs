//! Blocks of .xz files: where they are, and how one is decoded by itself.
//!
//! ```text
//! stream: header 12 | blocks, each padded to 4 | index | footer 12      file: streams, with zero padding between
//! index:  0x00, number of records, (unpadded size, uncompressed size) per block, padding to 4, CRC32
//! footer: CRC32, backward size u32 (index size / 4 - 1), flags u16, "YZ"
//! ```
//! Source: "The .xz File Format" 1.2.1, sections 2 to 4. Integers of the index are little endian in groups of
//! 7 bits.

use crate::AddressSpace;
use crate::blocks::Block;
use crate::bytes::{array_at, to_u64, u32_at};
use crate::codec::Codec;
use crate::image::Limits;
use lzma_rust2::XzReader;
use std::io::Read;

pub(crate) const MAGIC: &[u8] = b"\xfd7zXZ\0";
/// Size of stream header and footer, in bytes.
const EDGE: u64 = 12;
/// Most memory of one LZMA2 decoder, in KiB: dictionaries above this are refused.
pub(crate) const MEMORY_KIB: u32 = 512 << 10;
/// Most padding looked through between streams, in bytes.
const MAX_PADDING: u64 = 1 << 20;

fn crc32(bytes: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

/// Decodes one block, as it is stored with its padding and check, by wrapping it into a stream of its own.
pub(crate) fn decode_block(stored: &[u8], check: u8, padding: u8, out: &mut [u8]) -> Option<usize> {
    let flags = [0, check];
    let mut header = MAGIC.to_vec();
    header.extend(flags);
    header.extend(crc32(&flags));
    let mut tail = vec![0, 1];
    push_number(&mut tail, to_u64(stored.len()).checked_sub(u64::from(padding))?);
    push_number(&mut tail, to_u64(out.len()));
    tail.resize(tail.len().checked_next_multiple_of(4)?, 0);
    tail.extend(crc32(&tail));
    let mut footer = u32::try_from(tail.len() / 4).ok()?.checked_sub(1)?.to_le_bytes().to_vec();
    footer.extend(flags);
    tail.extend(crc32(&footer));
    tail.extend(footer);
    tail.extend(b"YZ");
    let stream = header.chain(stored).chain(tail.as_slice());
    let mut reader = XzReader::new_mem_limit(stream, false, MEMORY_KIB);
    reader.read_exact(out).ok()?;
    // The end verifies the check.
    (reader.read(&mut [0]).ok()? == 0).then_some(out.len())
}

fn push_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// The blocks of a file, ascending, from the indexes at its end; `None` when those are damaged, cut off or
/// beyond the limits.
pub(crate) fn blocks(base: &dyn AddressSpace, limits: &Limits) -> Option<Vec<Block>> {
    let mut streams = Vec::new();
    let mut count = 0usize;
    let mut end = base.end();
    while end > 0 {
        let left = limits.max_runs.checked_sub(count)?;
        let (start, blocks) = stream_before(base, end, left, limits.max_table)?;
        count = count.checked_add(blocks.len())?;
        streams.push(blocks);
        end = start;
    }
    let mut at = 0u64;
    let mut blocks: Vec<Block> = streams.into_iter().rev().flatten().filter(|block| block.len > 0).collect();
    for block in &mut blocks {
        block.start = at;
        at = at.checked_add(to_u64(block.len))?;
    }
    Some(blocks)
}

/// Start and blocks (without addresses) of the stream that ends at `end`, padding included.
fn stream_before(
    base: &dyn AddressSpace,
    end: u64,
    max_blocks: usize,
    max_table: usize,
) -> Option<(u64, Vec<Block>)> {
    let lowest = end.saturating_sub(MAX_PADDING);
    let mut end = end;
    while end >= lowest.checked_add(4)? && base.read_u32(end.checked_sub(4)?).ok()? == 0 {
        end = end.checked_sub(4)?;
    }
    let mut footer = [0; 12];
    base.read_at(end.checked_sub(EDGE)?, &mut footer).ok()?;
    let sized = footer.get(4..10)?;
    if !footer.ends_with(b"YZ") || array_at(&footer, 0)? != crc32(sized) {
        return None;
    }
    let flags: [u8; 2] = array_at(&footer, 8)?;
    let [_, check] = flags;
    let index_size = u64::from(u32_at(&footer, 4)?).checked_add(1)?.checked_mul(4)?;
    let index_start = end.checked_sub(EDGE)?.checked_sub(index_size)?;
    let index = base.read_vec(index_start, index_size, max_table).ok()?;
    let (body, crc) = index.split_at_checked(index.len().checked_sub(4)?)?;
    let mut body = body.strip_prefix(&[0])?;
    if crc != crc32(index.get(..index.len().checked_sub(4)?)?) {
        return None;
    }
    let records = take_number(&mut body)?;
    let mut blocks = Vec::new();
    let mut used = 0u64;
    for _ in 0..records {
        if blocks.len() >= max_blocks {
            return None;
        }
        let unpadded = take_number(&mut body)?;
        let len = usize::try_from(take_number(&mut body)?).ok()?;
        let stored = unpadded.checked_next_multiple_of(4)?;
        let padding = u8::try_from(stored.checked_sub(unpadded)?).ok()?;
        let codec = Some(Codec::Xz { check, padding });
        blocks.push(Block { start: 0, len, offset: used, stored: usize::try_from(stored).ok()?, codec });
        used = used.checked_add(stored)?;
    }
    let first = index_start.checked_sub(used)?;
    let start = first.checked_sub(EDGE)?;
    let mut header = [0; 12];
    base.read_at(start, &mut header).ok()?;
    if !header.starts_with(MAGIC) || array_at(&header, 6)? != flags {
        return None;
    }
    for block in &mut blocks {
        block.offset = block.offset.checked_add(first)?;
    }
    Some((start, blocks))
}
