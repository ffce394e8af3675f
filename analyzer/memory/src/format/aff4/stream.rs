//! Streams of a volume: images (compressed chunks in "bevies") and maps over other streams.
//!
//! ```text
//! image   NAME/00000000 ...         chunks of the first 1024 (or as told), one behind the other
//!         NAME/00000000.index       standard: offset u64, size u32 per chunk
//!         NAME/00000000/index       pmem before the standard: offset u32 per chunk
//!         NAME                      where nothing is compressed: the bytes
//! map     NAME/map                  28 bytes each: address u64, length u64, offset in target u64, target u32
//!         NAME/idx                  names of the targets, one a line
//! ```

use super::turtle::{Graph, local};
use super::volume::{Member, Volume};
use crate::blocks::{Block, BlockList, BlockSpace};
use crate::bytes::{to_u64, to_usize, u32_at, u64_at};
use crate::codec::{Codec, decompress};
use crate::format::{Refused, Yields};
use crate::image::Limits;
use crate::join::JoinSpace;
use crate::zeros::Zeros;
use crate::{AddressSpace, Overlap, Run, RunSpace};
use std::sync::Arc;

/// Largest chunk, in bytes; writers use 32 KiB.
const MAX_CHUNK: u64 = 16 << 20;
/// Most bevies of a stream, and most targets of a map.
const MAX_BEVIES: u64 = 1 << 22;
const MAX_TARGETS: usize = 1024;

/// How the chunks of a stream are stored.
fn codec(graph: &Graph, urn: &str) -> Result<Option<Codec>, Refused> {
    let method = graph.objects(urn, &["compression", "compressionMethod"]).next().unwrap_or("stored");
    let known = [
        ("rfc1950", Some(Codec::Zlib)),
        ("rfc1951", Some(Codec::Deflate)),
        ("snappy", Some(Codec::Snappy)),
        ("lz4", Some(Codec::Lz4)),
        ("stored", None),
        ("NullCompressor", None),
    ];
    let codec = known.into_iter().find(|(name, _)| method.contains(name)).map(|(_, codec)| codec);
    codec.ok_or_else(|| "chunks are compressed in an unknown way".into())
}

/// Opens an image stream.
pub(super) fn image(
    volume: &Volume,
    graph: &Graph,
    urn: &str,
    limits: &Limits,
    warnings: &mut Vec<String>,
) -> Result<Arc<dyn AddressSpace>, Refused> {
    // A stream that is not compressed may be one member, as it is.
    if let Some(member) = volume.member(urn).filter(Member::is_plain) {
        let run = Run { start: 0, len: member.stored, target: member.offset };
        let base = Arc::clone(&volume.space);
        return Ok(Arc::new(RunSpace::new("AFF4 member", base, vec![run], Overlap::FirstWins)));
    }
    let size = graph.number(urn, &["size"]).ok_or("a stream without a size")?;
    let chunk = graph.number(urn, &["chunk_size", "chunkSize"]).unwrap_or(32 << 10);
    let per_bevy = graph.number(urn, &["chunks_per_segment", "chunksInSegment"]).unwrap_or(1024);
    if chunk == 0 || chunk > MAX_CHUNK || per_bevy == 0 {
        return Err(format!("unlikely chunk size: {chunk}").into());
    }
    let codec = codec(graph, urn)?;
    let chunks = size.div_ceil(chunk);
    if chunks > to_u64(limits.max_runs) {
        return Err(format!("more chunks than the limit: {chunks}").into());
    }
    let mut blocks = Vec::new();
    let mut missing = 0u64;
    for bevy in 0..chunks.div_ceil(per_bevy).min(MAX_BEVIES) {
        let name = format!("{urn}/{bevy:08}");
        let first = bevy.saturating_mul(per_bevy);
        let count = per_bevy.min(chunks.saturating_sub(first));
        let places = bevy_chunks(volume, &name, count, limits);
        missing = missing.saturating_add(count.saturating_sub(to_u64(places.len())));
        for (index, (offset, stored)) in (first..).zip(places) {
            let start = index.saturating_mul(chunk);
            let len = to_usize(chunk.min(size.saturating_sub(start)));
            // A chunk that did not become shorter is stored as it is.
            let codec = codec.filter(|_| stored != chunk);
            let fits = codec.is_some() || stored >= to_u64(len);
            let stored = to_usize(stored.min(chunk.saturating_mul(2)));
            if fits {
                blocks.push(Block { start, len, offset, stored, codec });
            }
        }
    }
    if missing > 0 {
        warnings.push(format!("chunks that are missing or beyond the end of the file: {missing}"));
    }
    if let Some(last) = blocks.last_mut() {
        widen(&*volume.space, last, to_usize(chunk));
    }
    let list = BlockList::new("AFF4 stream", Yields::File, blocks);
    Ok(Arc::new(BlockSpace::new(Arc::clone(&volume.space), list, limits.cache)))
}

/// Some writers fill the last chunk up to full size: takes that size if only that decodes.
fn widen(space: &dyn AddressSpace, block: &mut Block, full: usize) {
    let Some(codec) = block.codec else { return };
    let Ok(stored) = space.read_vec(block.offset, to_u64(block.stored), block.stored) else { return };
    if decompress(codec, &stored, &mut vec![0; block.len]).is_none()
        && decompress(codec, &stored, &mut vec![0; full]).is_some()
    {
        block.len = full;
    }
}

/// Offset in the volume and stored size of the chunks of a bevy, as far as they are there.
fn bevy_chunks(volume: &Volume, name: &str, count: u64, limits: &Limits) -> Vec<(u64, u64)> {
    let Some(bevy) = volume.member(name).filter(Member::is_plain) else { return Vec::new() };
    let index = |suffix: &str| volume.read(&format!("{name}{suffix}"), limits.max_table).ok();
    let places: Vec<(u64, u64)> = if let Some(index) = index(".index") {
        let entry = |entry: &[u8]| Some((u64_at(entry, 0)?, u64::from(u32_at(entry, 8)?)));
        index.chunks_exact(12).filter_map(entry).collect()
    } else if let Some(index) = index("/index") {
        let starts: Vec<u64> =
            index.chunks_exact(4).filter_map(|entry| u32_at(entry, 0).map(u64::from)).collect();
        let ends = starts.iter().skip(1).copied().chain([bevy.stored]);
        starts.iter().zip(ends).map(|(start, end)| (*start, end.saturating_sub(*start))).collect()
    } else {
        Vec::new()
    };
    let there = |(offset, len): &(u64, u64)| offset.saturating_add(*len) <= bevy.stored && *len > 0;
    let places = places.into_iter().take(to_usize(count)).take_while(there);
    places.map(|(offset, len)| (bevy.offset.saturating_add(offset), len)).collect()
}

/// Opens a map.
pub(super) fn map(
    volume: &Volume,
    graph: &Graph,
    urn: &str,
    limits: &Limits,
    warnings: &mut Vec<String>,
) -> Result<Arc<dyn AddressSpace>, Refused> {
    let list =
        volume.read(&format!("{urn}/idx"), limits.max_table).map_err(|_| "a map without its targets")?;
    let list = String::from_utf8_lossy(&list).into_owned();
    let names: Vec<&str> =
        list.lines().map(str::trim).filter(|name| !name.is_empty()).take(MAX_TARGETS).collect();
    let (mut parts, mut targets) = (Vec::new(), Vec::new());
    let mut end = 0u64;
    for name in names {
        let target: Option<Arc<dyn AddressSpace>> = match local(name) {
            "Zero" => Some(Arc::new(Zeros)),
            // What could not be read or was never asked for is not in the image.
            "UnknownData" | "UnreadableData" => None,
            _ if graph.is_a(name, "map") => return Err("a map over a map".into()),
            _ => Some(image(volume, graph, name, limits, warnings)?),
        };
        let len = target.as_ref().map_or(0, |target| target.end());
        targets.push((end, len));
        end = end.saturating_add(len);
        parts.extend(target);
    }
    let entries =
        volume.read(&format!("{urn}/map"), limits.max_table).map_err(|_| "a map without its entries")?;
    if entries.len() / 28 > limits.max_runs {
        return Err(format!("more map entries than the limit: {}", entries.len() / 28).into());
    }
    let mut cut = 0u64;
    let entry = |entry: &[u8]| {
        let (start, len, offset) = (u64_at(entry, 0)?, u64_at(entry, 8)?, u64_at(entry, 16)?);
        let (base, end) = targets.get(usize::try_from(u32_at(entry, 24)?).ok()?)?;
        let stored = len.min(end.saturating_sub(offset));
        cut = cut.saturating_add(len.saturating_sub(stored));
        Some(Run { start, len: stored, target: base.checked_add(offset)? })
    };
    let runs: Vec<Run> = entries.chunks_exact(28).filter_map(entry).collect();
    if cut > 0 {
        warnings.push(format!("bytes of the map that no stream holds: {cut}"));
    }
    let base: Arc<dyn AddressSpace> = match <[_; 1]>::try_from(parts) {
        Ok([only]) => only,
        Err(parts) => Arc::new(JoinSpace::new("AFF4 streams", parts)),
    };
    Ok(Arc::new(RunSpace::new("AFF4 map", base, runs, Overlap::FirstWins)))
}
