//! Writing physical memory into files of other tools: raw, LiME, ELF core, Windows crash dump, EWF, AFF4.
//!
//! Every writer streams: it reads a piece, writes it, and keeps nothing of it. What cannot be read becomes zeros
//! and is reported for each run. The same space gives the same bytes.

mod aff4;
mod crash;
mod ewf;
mod plain;

pub use aff4::{Compression, aff4};
pub use crash::crash_dump;
pub use ewf::ewf;
pub use plain::{elf_core, lime, raw};

use crate::bytes::{to_u64, to_usize};
use crate::{AddressSpace, Gaps, Run};
use flate2::{Compress, FlushCompress, Status};
use std::io;

/// Bytes read at once, and the granularity of progress.
const PIECE: usize = 1 << 20;

/// What became of one run of memory.
#[derive(Clone, Copy, Debug)]
pub struct Copied {
    /// The run, as the space has it.
    pub run: Run,
    /// What of it could not be read and is zeros in the file.
    pub gaps: Gaps,
}

/// Told of the number of bytes that were copied since the last call.
pub type Progress<'a> = &'a dyn Fn(u64);

/// The runs of a space as address ranges, joined where they touch: how the image stores them does not matter
/// here.
fn ranges(space: &dyn AddressSpace) -> Vec<Run> {
    let mut ranges: Vec<Run> = Vec::new();
    for run in space.runs(0, u64::MAX) {
        match ranges.last_mut() {
            Some(last) if last.end() == run.start => last.len = last.len.saturating_add(run.len),
            _ => ranges.push(run),
        }
    }
    ranges
}

/// Hands a run to `write` piece by piece, with the address of each.
fn pieces(
    space: &dyn AddressSpace,
    run: Run,
    progress: Progress<'_>,
    mut write: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> io::Result<Copied> {
    let mut buffer = vec![0; to_usize(run.len).min(PIECE)];
    let mut gaps = Gaps::default();
    let mut at = run.start;
    let mut left = run.len;
    while left > 0 {
        let size = to_usize(left).min(buffer.len());
        let (piece, _) = buffer.split_at_mut(size);
        let missing = space.read_padded(at, piece);
        gaps.missing = gaps.missing.saturating_add(missing.missing);
        gaps.first = gaps.first.or(missing.first);
        write(at, piece)?;
        at = at.saturating_add(to_u64(size));
        left = left.saturating_sub(to_u64(size));
        progress(to_u64(size));
    }
    Ok(Copied { run, gaps })
}

/// A zlib stream, made fast. Room for twice the input is more than any level needs: the fastest one spends 9 bits on
/// a byte that it cannot match.
fn zlib(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut packed = Vec::with_capacity(bytes.len().saturating_mul(2).saturating_add(1024));
    let mut stream = Compress::new(flate2::Compression::fast(), true);
    match stream.compress_vec(bytes, &mut packed, FlushCompress::Finish) {
        Ok(Status::StreamEnd) => Ok(packed),
        other => Err(io::Error::other(format!("a chunk does not compress: {other:?}"))),
    }
}

#[cfg(test)]
mod tests;
