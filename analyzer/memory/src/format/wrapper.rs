//! gzip, xz and zstd around any other format.
//!
//! An .xz of many small blocks or a .zst of many small frames is read block by block when needed; everything
//! else is unpacked once, to memory or (above [`Limits::max_in_memory`]) to an unlinked temporary file.
//! Damage in the middle keeps what came before it.

use crate::blocks::{Block, BlockList, BlockSpace};
use crate::bytes::{array_at, to_u64, to_usize};
use crate::codec::decompress;
use crate::file::SpaceReader;
use crate::format::{Layer, Opened, Refused, Yields, expect_magic};
use crate::image::Limits;
use crate::spool::Spool;
use crate::zstd::{self, ZstdReader};
use crate::{AddressSpace, FileSpace, xz};
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use rayon::prelude::*;
use std::io::{self, BufReader, Read};
use std::sync::Arc;

/// Largest block that is decoded on demand, in bytes: a page walk that touches a new block pays this much.
const LAZY_BLOCK: usize = 4 << 20;
/// Bytes unpacked in one go.
const STEP: usize = 1 << 20;

pub(super) fn probe_gzip(layer: &Layer<'_>) -> Result<(), &'static str> {
    expect_magic(layer, b"\x1f\x8b\x08", "no gzip signature at the start")
}

pub(super) fn probe_xz(layer: &Layer<'_>) -> Result<(), &'static str> {
    expect_magic(layer, xz::MAGIC, "no xz signature at the start")
}

pub(super) fn probe_zstd(layer: &Layer<'_>) -> Result<(), &'static str> {
    let magic = array_at(layer.head, 0).map(u32::from_le_bytes).unwrap_or(0);
    if zstd::is_magic(magic) { Ok(()) } else { Err("no zstd signature at the start") }
}

pub(super) fn open_gzip(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let Layer { base, limits, .. } = *layer;
    unpack("gzip", MultiGzDecoder::new(reader(&**base)), limits)
}

pub(super) fn open_xz(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let Layer { base, limits, .. } = *layer;
    match xz::blocks(&**base, limits).map(|blocks| open_blocks("xz", base, blocks, limits)) {
        Some(Ok(Some(opened))) => Ok(opened),
        Some(Err(refused)) => Err(refused),
        _ => unpack("xz", XzReader::new_mem_limit(reader(&**base), true, xz::MEMORY_KIB), limits),
    }
}

pub(super) fn open_zstd(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let Layer { base, limits, .. } = *layer;
    match zstd::blocks(&**base, limits).map(|blocks| open_blocks("zstd", base, blocks, limits)) {
        Some(Ok(Some(opened))) => Ok(opened),
        Some(Err(refused)) => Err(refused),
        _ => unpack("zstd", ZstdReader::new(reader(&**base)), limits),
    }
}

/// Opens a file of many blocks that decode by themselves: on demand when they are small, else on all cores;
/// `None` when it must be read from front to back after all.
fn open_blocks(
    name: &'static str,
    base: &Arc<dyn AddressSpace>,
    blocks: Vec<Block>,
    limits: &Limits,
) -> Result<Option<Opened>, Refused> {
    let len = blocks.last().map_or(0, Block::end);
    if len > limits.max_unpacked {
        return Err(format!("more than the limit of {} bytes: {len}", limits.max_unpacked).into());
    }
    if blocks.len() < 2 {
        return Ok(None);
    }
    let space: Arc<dyn AddressSpace> = if blocks.iter().all(|block| block.len <= LAZY_BLOCK) {
        // Decoded blocks are kept as if the file had been unpacked to memory: decoding is dear.
        let list = BlockList::new(name, Yields::File, blocks);
        Arc::new(BlockSpace::new(Arc::clone(base), list, to_usize(limits.max_in_memory)))
    } else if len <= limits.max_in_memory
        && let Some(bytes) = unpack_parallel(&**base, &blocks, to_usize(len))
    {
        Arc::new(FileSpace::from_vec(bytes).named(name))
    } else {
        return Ok(None);
    };
    Ok(Some(Opened::new(space)))
}

/// Decodes all blocks on all cores; `None` when one is damaged.
fn unpack_parallel(base: &dyn AddressSpace, blocks: &[Block], len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut rest = bytes.as_mut_slice();
    let mut parts = Vec::with_capacity(blocks.len());
    for block in blocks {
        let (part, tail) = rest.split_at_mut_checked(block.len)?;
        parts.push((block, part));
        rest = tail;
    }
    let decoded = parts.into_par_iter().map(|(block, part)| {
        let stored = base.read_vec(block.offset, to_u64(block.stored), to_usize(base.end())).ok()?;
        decompress(block.codec?, &stored, part)
    });
    decoded.collect::<Option<()>>()?;
    Some(bytes)
}

fn reader(base: &dyn AddressSpace) -> BufReader<SpaceReader<'_>> {
    BufReader::with_capacity(256 << 10, SpaceReader::new(base))
}

/// Unpacks a stream; what an early end leaves is kept with a warning.
fn unpack(name: &'static str, mut from: impl Read, limits: &Limits) -> Result<Opened, Refused> {
    let mut spool = Spool::new(limits);
    let mut warnings = Vec::new();
    let mut piece = vec![0; STEP];
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if spool.len() > 0 => {
                warnings.push(format!("damaged or cut off after {} unpacked bytes: {error}", spool.len()));
                break;
            }
            Err(error) => return Err(format!("cannot be unpacked: {error}").into()),
        };
        let unpacked = io::Write::write_all(&mut spool, piece.get(..read).unwrap_or_default());
        unpacked.map_err(|error| format!("cannot keep what it unpacks to: {error}"))?;
    }
    if spool.len() == 0 {
        return Err("unpacks to nothing".into());
    }
    let space = spool.finish().map_err(|error| format!("cannot keep what it unpacks to: {error}"))?;
    Ok(Opened::new(Arc::new(space.named(name))).warnings(warnings))
}
