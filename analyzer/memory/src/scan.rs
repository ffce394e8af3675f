//! Scanning a whole space on all cores, with results in address order whatever the number of threads.

use crate::bytes::{to_u64, to_usize};
use crate::{AddressSpace, Gaps, Run};
use memchr::memmem;
use rayon::prelude::*;

/// Bytes one task looks at, unless the caller knows better.
pub const CHUNK: usize = 1 << 20;

/// What a scanner looks at in one go.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Address of the first byte.
    pub addr: u64,
    /// The bytes: `own` of this piece, then up to `overlap` of what follows in the same run.
    pub bytes: &'a [u8],
    /// Number of bytes that belong to this piece; what starts behind them belongs to the next one.
    pub own: usize,
}

/// Ranges of at most `chunk` bytes with the bytes that follow contiguously: start, own length, whole length.
fn pieces(space: &dyn AddressSpace, chunk: usize, overlap: usize) -> Vec<(u64, usize, usize)> {
    let chunk = to_u64(chunk.max(1));
    let mut merged: Vec<Run> = Vec::new();
    for run in space.runs(0, u64::MAX) {
        match merged.last_mut() {
            // Contiguous here is enough, wherever the base keeps it.
            Some(last) if last.start.checked_add(last.len) == Some(run.start) => {
                last.len = last.len.saturating_add(run.len);
            }
            _ => merged.push(run),
        }
    }
    let mut pieces = Vec::new();
    for run in merged {
        let mut done = 0;
        while done < run.len {
            let left = run.len.saturating_sub(done);
            let own = left.min(chunk);
            let whole = own.saturating_add(to_u64(overlap)).min(left);
            pieces.push((run.start.wrapping_add(done), to_usize(own), to_usize(whole)));
            done = done.saturating_add(own);
        }
    }
    pieces
}

/// Reads a piece, without a copy where possible, and hands it to `f`.
fn with_piece<T>(
    space: &dyn AddressSpace,
    (addr, own, whole): (u64, usize, usize),
    buffer: &mut Vec<u8>,
    f: impl FnOnce(Piece<'_>) -> T,
) -> (T, Gaps) {
    if let Some(bytes) = space.borrow(addr, whole) {
        return (f(Piece { addr, bytes, own }), Gaps::default());
    }
    buffer.resize(whole, 0);
    let gaps = space.read_padded(addr, buffer);
    (f(Piece { addr, bytes: buffer, own }), gaps)
}

/// Calls `f` for every piece of the space and gives all results in address order, with what could not be read
/// (such bytes are zeros in the piece).
pub fn scan<T: Send>(
    space: &dyn AddressSpace,
    chunk: usize,
    overlap: usize,
    f: impl Fn(Piece<'_>) -> Vec<T> + Sync,
) -> (Vec<T>, Gaps) {
    let found: Vec<(Vec<T>, Gaps)> = pieces(space, chunk, overlap)
        .into_par_iter()
        .map_init(Vec::new, |buffer, piece| with_piece(space, piece, buffer, &f))
        .collect();
    let mut all = Vec::new();
    let mut gaps = Gaps::default();
    for (results, missing) in found {
        all.extend(results);
        gaps.missing = gaps.missing.saturating_add(missing.missing);
        gaps.first = gaps.first.or(missing.first);
    }
    (all, gaps)
}

/// As [`scan`], but ends at the result with the lowest address.
pub fn scan_first<T: Send>(
    space: &dyn AddressSpace,
    chunk: usize,
    overlap: usize,
    f: impl Fn(Piece<'_>) -> Option<T> + Sync,
) -> Option<T> {
    pieces(space, chunk, overlap)
        .into_par_iter()
        .map_init(Vec::new, |buffer, piece| with_piece(space, piece, buffer, &f).0)
        .find_map_first(|found| found)
}

/// Addresses where `needle` stands, ascending, at most `max` of them; also across pages that are contiguous
/// in the space. Occurrences that overlap an earlier one may be left out. An empty needle stands nowhere.
#[must_use]
pub fn find_bytes(space: &dyn AddressSpace, needle: &[u8], max: usize) -> Vec<u64> {
    if needle.is_empty() {
        return Vec::new();
    }
    let finder = memmem::Finder::new(needle);
    let (mut found, _) = scan(space, CHUNK, needle.len().saturating_sub(1), |piece| {
        let hits = finder.find_iter(piece.bytes).take_while(|at| *at < piece.own).take(max);
        hits.map(|at| piece.addr.wrapping_add(to_u64(at))).collect()
    });
    found.truncate(max);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FileSpace, Overlap, RunSpace};
    use std::sync::Arc;

    fn space() -> RunSpace {
        let mut bytes = vec![b'.'; 10_000];
        for at in [0, 997, 998, 5_000, 9_997] {
            bytes[at..at + 3].copy_from_slice(b"aaa");
        }
        let runs = vec![
            Run { start: 0, len: 1_000, target: 0 },
            Run { start: 1_000, len: 4_000, target: 1_000 },
            Run { start: 9_000, len: 5_000, target: 5_000 },
        ];
        RunSpace::new("t", Arc::new(FileSpace::from_vec(bytes)), runs, Overlap::FirstWins)
    }

    #[test]
    fn matches_across_pieces_are_found_once_and_in_order() {
        let space = space();
        let expected = [0, 997, 9_000, 13_997];
        assert_eq!(find_bytes(&space, b"aaa", 10), expected);
        for chunk in [1, 7, 1_000, 4_096] {
            let finder = |piece: Piece<'_>| -> Vec<u64> {
                (0..piece.own)
                    .filter(|at| piece.bytes[*at..].starts_with(b"aaa"))
                    .map(|at| piece.addr + at as u64)
                    .collect()
            };
            assert_eq!(scan(&space, chunk, 2, finder).0, [0, 997, 998, 9_000, 13_997]);
            let first = scan_first(&space, chunk, 2, |piece| finder(piece).into_iter().find(|at| *at > 0));
            assert_eq!(first, Some(997));
        }
    }

    #[test]
    fn the_number_of_hits_is_bounded() {
        assert_eq!(find_bytes(&space(), b".", 3), [3, 4, 5]);
        assert!(find_bytes(&space(), b"", 3).is_empty());
    }
}
