//! What remains in physical memory: one pass on all cores for every tag any scanner asks for.
//!
//! Pool headers are aligned, so a tag is looked for only where one can stand. The hits are kept for the session: the second
//! scanner reads no memory but that of its own hits.

use std::collections::BTreeMap;
use std::sync::Arc;

use memory::{CHUNK, scan};
use object::{Absent, Read};

use super::{Kernel, KernelFact};
use crate::error::Error;
use crate::session::{Fact, Session};

/// A tag of pool memory, in the order of its bytes.
pub type Tag = [u8; 4];

/// Tags of all scanners. Up to Windows 7 tags of objects have the high bit of their last byte set.
pub const TAGS: &[Tag] = &[
    *b"Proc",
    *b"Pro\xe3", // _EPROCESS
    *b"Thre",
    *b"Thr\xe5", // _ETHREAD
    *b"File",
    *b"Fil\xe5", // _FILE_OBJECT
    *b"Driv",
    *b"Dri\xf6", // _DRIVER_OBJECT
    *b"Muta",
    *b"Mut\xe1", // _KMUTANT
    *b"Symb",
    *b"Sym\xe2", // _OBJECT_SYMBOLIC_LINK
    *b"MmLd",    // _LDR_DATA_TABLE_ENTRY
    *b"TcpL",
    *b"TcpE",
    *b"TTcb",
    *b"UdpA", // network, from Vista on
    *b"TCPT",
    *b"TCPA", // network, XP
    *b"AtmT", // atom tables
    *b"IoFs",
    *b"IoSh",
    *b"Cbrb",
    *b"DbCb",
    *b"CMcb",
    *b"Pnp9",
    *b"PnpD",
    *b"PnpC", // callbacks
    *b"CM10", // _CMHIVE
];

/// Most hits of one tag that are kept.
const MAX_HITS: usize = 1 << 20;

/// Where pool headers with the tags of [`TAGS`] stand in physical memory.
pub struct PoolHits {
    by_tag: BTreeMap<Tag, Vec<u64>>,
    /// Bytes of memory that could not be read.
    pub missing: u64,
}

impl PoolHits {
    /// Physical addresses of the pool headers with one of some tags, ascending. Tags must be of [`TAGS`].
    #[must_use]
    pub fn of(&self, tags: &[Tag]) -> Vec<u64> {
        let mut found: Vec<u64> =
            tags.iter().filter_map(|tag| self.by_tag.get(tag)).flatten().copied().collect();
        found.sort_unstable();
        found
    }
}

/// The hits of the session's image.
pub struct PoolHitsFact;

impl Fact for PoolHitsFact {
    type Value = PoolHits;
    const NAME: &'static str = "pool tags in physical memory";

    fn compute(session: &Session) -> Result<PoolHits, Error> {
        let kernel = session.fact::<KernelFact>()?;
        let hits = pool_hits(session, &kernel)?;
        if hits.missing > 0 {
            session.notes.partial(format!("{} bytes of physical memory could not be scanned", hits.missing));
        }
        Ok(hits)
    }
}

/// A quick test of a word against all tags: one bit of a table for each value of a hash.
struct Filter {
    bits: Box<[u64; 1024]>,
    tags: Vec<u32>,
}

impl Filter {
    fn new(tags: &[Tag]) -> Self {
        let mut tags: Vec<u32> = tags.iter().map(|tag| u32::from_le_bytes(*tag)).collect();
        tags.sort_unstable();
        let mut filter = Self { bits: Box::new([0; 1024]), tags: Vec::new() };
        for tag in &tags {
            let hash = Self::hash(*tag);
            if let Some(word) = filter.bits.get_mut(hash >> 6) {
                *word |= 1 << (hash & 63);
            }
        }
        filter.tags = tags;
        filter
    }

    fn hash(tag: u32) -> usize {
        ((tag ^ (tag >> 15)) & 0xffff) as usize
    }

    fn holds(&self, tag: u32) -> bool {
        let hash = Self::hash(tag);
        let likely = self.bits.get(hash >> 6).is_some_and(|word| word >> (hash & 63) & 1 == 1);
        likely && self.tags.binary_search(&tag).is_ok()
    }
}

fn pool_hits(session: &Session, kernel: &Kernel) -> Read<PoolHits> {
    let offset = kernel.target().offset_of("_POOL_HEADER", "PoolTag")?;
    let alignment = kernel.pool_alignment();
    if offset != 4 {
        return Err(Absent::Malformed("place of _POOL_HEADER.PoolTag in the profile"));
    }
    let space = Arc::clone(kernel.physical());
    let total = space.runs(0, u64::MAX).map(|run| run.len).sum();
    let progress = session.progress("scanning physical memory", total);
    let filter = Filter::new(TAGS);
    let (hits, gaps) = scan(&*space, CHUNK, 0, |piece| {
        progress.add(piece.own as u64);
        let skip = piece.addr.wrapping_neg() % alignment;
        let bytes = usize::try_from(skip).ok().and_then(|skip| piece.bytes.get(skip..)).unwrap_or_default();
        let start = piece.addr.wrapping_add(skip);
        let mut found = Vec::new();
        // The tag is the second word of a header; the size of blocks in the first is never 0 for one in use.
        if alignment == 16 {
            for (n, block) in bytes.as_chunks::<16>().0.iter().enumerate() {
                let [_, _, size, _, tag @ .., _, _, _, _, _, _, _, _] = block;
                if filter.holds(u32::from_le_bytes(*tag)) && *size != 0 {
                    found.push((*tag, start.wrapping_add(n as u64 * 16)));
                }
            }
        } else {
            for (n, block) in bytes.as_chunks::<8>().0.iter().enumerate() {
                let [_, _, size, high, tag @ ..] = block;
                if filter.holds(u32::from_le_bytes(*tag)) && (*size != 0 || *high & 1 != 0) {
                    found.push((*tag, start.wrapping_add(n as u64 * 8)));
                }
            }
        }
        found
    });
    let mut by_tag: BTreeMap<Tag, Vec<u64>> = BTreeMap::new();
    for (tag, addr) in hits {
        let of_tag = by_tag.entry(tag).or_default();
        if of_tag.len() < MAX_HITS {
            of_tag.push(addr);
        }
    }
    Ok(PoolHits { by_tag, missing: gaps.missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_knows_its_tags_and_no_other() {
        let filter = Filter::new(TAGS);
        for tag in TAGS {
            assert!(filter.holds(u32::from_le_bytes(*tag)));
        }
        for tag in [0, 1, u32::MAX, u32::from_le_bytes(*b"Prod"), u32::from_le_bytes(*b"corP")] {
            assert!(!filter.holds(tag));
        }
    }
}
