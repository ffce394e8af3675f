//! A bounded cache of decompressed blocks that many threads share.

use crate::bytes::to_usize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Blocks in a set; within a set the least recently used one goes first.
const WAYS: usize = 8;
/// Most blocks in a cache, however small they are.
const MAX_BLOCKS: usize = 1 << 16;

/// A set-associative cache: a block has one set, each set has its own lock.
pub(crate) struct BlockCache {
    sets: Vec<Mutex<Vec<Line>>>,
    ways: usize,
    clock: AtomicU64,
}

struct Line {
    key: u64,
    used: u64,
    block: Arc<[u8]>,
}

impl BlockCache {
    /// A cache of about `capacity` bytes for blocks of at most `block` bytes, but of two blocks at least.
    pub(crate) fn new(capacity: usize, block: usize) -> Self {
        let blocks = capacity.checked_div(block).unwrap_or(0).clamp(2, MAX_BLOCKS);
        let sets = blocks.div_ceil(WAYS);
        let sets = std::iter::repeat_with(Mutex::default).take(sets).collect();
        Self { sets, ways: blocks.min(WAYS), clock: AtomicU64::new(0) }
    }

    fn set(&self, key: u64) -> Option<&Mutex<Vec<Line>>> {
        // Fibonacci hashing: keys are file offsets, whose low bits say little.
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
        self.sets.get(to_usize(hash).checked_rem(self.sets.len())?)
    }

    /// The block of that key, if it is still there.
    pub(crate) fn get(&self, key: u64) -> Option<Arc<[u8]>> {
        let mut lines = self.set(key)?.lock().unwrap_or_else(PoisonError::into_inner);
        let line = lines.iter_mut().find(|line| line.key == key)?;
        line.used = self.clock.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(&line.block))
    }

    /// Keeps a block, in place of the least recently used one of its set.
    pub(crate) fn put(&self, key: u64, block: Arc<[u8]>) {
        let Some(set) = self.set(key) else { return };
        let mut lines = set.lock().unwrap_or_else(PoisonError::into_inner);
        let line = Line { key, used: self.clock.fetch_add(1, Ordering::Relaxed), block };
        let slot = if lines.len() < self.ways {
            lines.iter_mut().find(|line| line.key == key)
        } else {
            lines.iter_mut().min_by_key(|line| if line.key == key { 0 } else { line.used.saturating_add(1) })
        };
        match slot {
            Some(slot) => *slot = line,
            None => lines.push(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_block_goes_first() {
        let cache = BlockCache::new(3, 1);
        for key in 0..3 {
            cache.put(key, Arc::from([0u8]));
        }
        assert!(cache.get(0).is_some());
        cache.put(9, Arc::from([9u8]));
        assert!(cache.get(1).is_none());
        assert_eq!(cache.get(9).as_deref(), Some(&[9u8][..]));
        assert!(cache.get(0).is_some() && cache.get(2).is_some());
    }
}
