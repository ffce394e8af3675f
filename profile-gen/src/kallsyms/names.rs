//! The compressed names: token table, stream, markers.

use memchr::memmem;
use rayon::prelude::*;

use super::{BEFORE, BLOCK, COUNTS, Memory, little_endian};

/// Longest token; the compressor joins pairs, so long common prefixes may be one token.
const MAX_TOKEN: usize = 255;
/// `KSYM_NAME_LEN` since v6.1, with the letter of the kind in front.
const MAX_NAME: usize = 513;
/// Byte value of the first digit.
const ZERO: usize = b'0' as usize;

/// The 256 tokens.
pub(super) struct Tokens<'m> {
    tokens: Vec<&'m [u8]>,
    /// Where the table begins and where the index behind it ends.
    pub(super) start: usize,
    pub(super) end: usize,
}

impl<'m> Tokens<'m> {
    /// The table whose digits are at `hit`; its index, 256 offsets of 2 bytes, must agree with it.
    pub(super) fn at(memory: Memory<'m>, hit: usize) -> Option<Self> {
        let mut end = hit;
        for _ in ZERO..256 {
            let rest = memory.bytes.get(end..)?;
            end += rest.iter().take(MAX_TOKEN + 1).position(|&byte| byte == 0)? + 1;
        }
        [8usize, 4, 2].into_iter().find_map(|align| {
            let index = end.checked_next_multiple_of(align)?;
            let index_end = index.checked_add(512)?;
            let offsets: Vec<usize> = memory
                .get(index..index_end)?
                .as_chunks::<2>()
                .0
                .iter()
                .map(|offset| u16::from_le_bytes(*offset).into())
                .collect();
            let start = hit.checked_sub(*offsets.get(ZERO)?)?;
            let table = memory.get(start..end)?;
            let mut tokens = Vec::with_capacity(256);
            let mut at = 0;
            for &offset in &offsets {
                if offset != at {
                    return None;
                }
                let rest = table.get(at..)?;
                let len = rest.iter().position(|&byte| byte == 0)?;
                tokens.push(rest.get(..len)?);
                at += len + 1;
            }
            Some(Self { tokens, start, end: index_end })
        })
    }

    /// Expands the entry at the start of `stream`: kind, name, and bytes used.
    fn expand(&self, stream: &[u8]) -> Option<(u8, String, usize)> {
        let (len, head) = match *stream.first()? {
            0 => return None,
            // Two bytes since v6.1, for names that compress to more than 127.
            first if first & 0x80 != 0 => (usize::from(first & 0x7f) | usize::from(*stream.get(1)?) << 7, 2),
            first => (usize::from(first), 1),
        };
        let codes = stream.get(head..)?.get(..len)?;
        let mut text = Vec::with_capacity(len * 3);
        for &code in codes {
            text.extend_from_slice(self.tokens.get(usize::from(code))?);
            if text.len() > MAX_NAME {
                return None;
            }
        }
        let (&kind, name) = text.split_first()?;
        let plausible = (kind.is_ascii_alphabetic() || kind == b'?' || kind == b'-')
            && !name.is_empty()
            && name.iter().all(u8::is_ascii_graphic);
        plausible.then(|| Some((kind, String::from_utf8(name.to_vec()).ok()?, head + len)))?
    }
}

/// The stream of names and its markers.
pub(super) struct Stream {
    /// Where `num_syms` stands.
    pub(super) head: usize,
    /// Number of symbols.
    pub(super) count: usize,
    /// Where the names begin.
    start: usize,
    /// Offset in the stream of every block; `None` where it is missing.
    markers: Vec<Option<usize>>,
    /// Where the markers begin, behind the last name.
    end: usize,
}

impl Stream {
    /// Searches backward from the tokens for a count that is followed by names and their markers.
    pub(super) fn before(memory: Memory<'_>, tokens: &Tokens<'_>, width: usize) -> Option<Self> {
        let first = tokens.start.saturating_sub(BEFORE);
        let mut head = tokens.start / width * width;
        while head > first {
            head -= width;
            let Some(count) = memory.bytes.get(head..head + width).map(little_endian) else { continue };
            let Some(count) = usize::try_from(count).ok().filter(|count| COUNTS.contains(count)) else {
                continue;
            };
            if let Some(stream) = Self::at(memory, tokens, head, count, width) {
                return Some(stream);
            }
        }
        None
    }

    fn at(memory: Memory<'_>, tokens: &Tokens<'_>, head: usize, count: usize, width: usize) -> Option<Self> {
        let start = head + width;
        // The first block must be whole: its length is what the markers are recognised by.
        let mut len = 0;
        for _ in 0..BLOCK {
            let entry = start + len;
            let bytes = memory.bytes.get(entry..(entry + MAX_NAME + 2).min(tokens.start))?;
            len += tokens.expand(bytes)?.2;
        }
        memory.get(start..start + len)?;
        let blocks = count.div_ceil(BLOCK);
        let sizes: &[usize] = if width == 8 { &[8, 4] } else { &[4] };
        sizes.iter().find_map(|&size| {
            let mut pattern = vec![0; size];
            pattern.extend(len.to_le_bytes().get(..size)?);
            let from = start + len;
            let space = memory.bytes.get(from..tokens.start)?;
            memmem::find_iter(space, &pattern).find_map(|at| {
                let end = from + at;
                let markers = Self::markers(memory, end, blocks, size, end - start)?;
                end.is_multiple_of(width).then_some(Self { head, count, start, markers, end })
            })
        })
    }

    /// Markers at `at`, ascending below `limit`; those that are missing are `None`.
    fn markers(
        memory: Memory<'_>,
        at: usize,
        blocks: usize,
        size: usize,
        limit: usize,
    ) -> Option<Vec<Option<usize>>> {
        let mut last = 0;
        let mut markers = Vec::with_capacity(blocks);
        for block in 0..blocks {
            let marker = memory.word(at + block * size, size).and_then(|word| usize::try_from(word).ok());
            if let Some(marker) = marker {
                // Every name has at least two bytes.
                if marker >= limit || (block > 0 && marker <= last) {
                    return None;
                }
                last = marker;
            }
            markers.push(marker);
        }
        Some(markers)
    }

    /// All names with their kinds, `None` for those that cannot be read.
    pub(super) fn names(&self, memory: Memory<'_>, tokens: &Tokens<'_>) -> Vec<Option<(u8, String)>> {
        let blocks: Vec<Vec<Option<(u8, String)>>> = (0..self.markers.len())
            .into_par_iter()
            .map(|block| {
                let own = BLOCK.min(self.count - block * BLOCK);
                self.block(memory, tokens, block, own).unwrap_or_else(|| vec![None; own])
            })
            .collect();
        blocks.into_iter().flatten().collect()
    }

    /// One block; `None` when any of it is missing or does not end where the next one begins.
    fn block(
        &self,
        memory: Memory<'_>,
        tokens: &Tokens<'_>,
        block: usize,
        own: usize,
    ) -> Option<Vec<Option<(u8, String)>>> {
        let at = self.start + (*self.markers.get(block)?)?;
        let next = self.markers.get(block + 1).copied().flatten().map(|marker| self.start + marker);
        // Without the next marker the names must still lie in front of the markers.
        let stream = memory.bytes.get(at..next.unwrap_or(self.end))?;
        let mut used = 0;
        let mut names = Vec::with_capacity(own);
        for _ in 0..own {
            let (kind, name, len) = tokens.expand(stream.get(used..)?)?;
            names.push(Some((kind, name)));
            used += len;
        }
        memory.get(at..at + used)?;
        (next.is_none() || used == stream.len()).then_some(names)
    }
}
