//! Hash tables of the network stack: arrays of buckets, each the head of a singly linked chain.
//!
//! One walker serves `hlist_head` and `hlist_nulls_head` (include/linux/list.h, list_nulls.h: a link with its low bit
//! set ends a chain), `rhashtable` buckets (include/linux/rhashtable.h: the low bit of a head is its lock) and plain
//! `next` chains. How many buckets there are is a number of the image, so it is capped; nodes are counted once over
//! all buckets, so that no arrangement of links makes the walk longer than [`walk::MAX_NODES`].

use std::collections::HashSet;

use object::walk::MAX_NODES;
use object::{Absent, Target};

use crate::notes::Notes;

/// Most buckets of a table that are walked; the kernel's own limit for TCP is 2^19 unless the administrator says more
/// (`thash_entries`, net/ipv4/tcp.c).
pub(super) const MAX_BUCKETS: u64 = 1 << 24;

/// Bytes of buckets read at a time.
const CHUNK: u64 = 64 << 10;

/// Where a hash table is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'n> {
    /// Name for notes.
    pub(super) name: &'n str,
    /// Address of the head pointer in the first bucket.
    pub(super) first: u64,
    /// Number of buckets, as the image says.
    pub(super) buckets: u64,
    /// Bytes from one bucket to the next.
    pub(super) stride: u64,
    /// Offset of the link in a node.
    pub(super) link: u64,
    /// Whether the low bit of a head is a lock, not the end of the chain.
    pub(super) locked_heads: bool,
}

/// What is wrong with a table.
#[derive(Default)]
struct Damage {
    unreadable_buckets: u64,
    broken_chains: u64,
    looping_chains: u64,
    first: Option<Absent>,
}

/// Addresses of all nodes, bucket by bucket. Damage is reported in the notes, once per table.
pub(super) fn nodes(target: &Target, notes: &Notes, table: &Table<'_>) -> Vec<u64> {
    let mut damage = Damage::default();
    let count = table.buckets.min(MAX_BUCKETS);
    if count < table.buckets {
        notes.partial(format!("{} claims {} buckets; only {count} were walked", table.name, table.buckets));
    }
    let mut nodes = Vec::new();
    let mut seen = HashSet::new();
    let truncated = each_head(target, table, count, &mut damage, |head, damage| {
        let head = if table.locked_heads { head & !1 } else { head };
        let mut node = head;
        while node != 0 && node & 1 == 0 {
            if nodes.len() >= MAX_NODES {
                return false;
            }
            if !seen.insert(node) {
                damage.looping_chains = damage.looping_chains.saturating_add(1);
                break;
            }
            match target.read_ptr(node.wrapping_add(table.link)) {
                Ok(next) => {
                    nodes.push(node);
                    node = next;
                }
                Err(why) => {
                    damage.broken_chains = damage.broken_chains.saturating_add(1);
                    damage.first.get_or_insert(why);
                    break;
                }
            }
        }
        true
    });
    if truncated {
        notes.partial(format!("{} was cut off after {MAX_NODES} nodes", table.name));
    }
    damage.report(notes, table.name, count);
    nodes
}

/// Calls `visit` with the head pointer of each bucket until it says `false`; tells whether it did.
fn each_head(
    target: &Target,
    table: &Table<'_>,
    count: u64,
    damage: &mut Damage,
    mut visit: impl FnMut(u64, &mut Damage) -> bool,
) -> bool {
    let width = u64::from(target.types().model().pointer_size());
    let stride = table.stride.max(width);
    let per_chunk = (CHUNK / stride).max(1);
    let mut bucket = 0;
    while bucket < count {
        let here = per_chunk.min(count.saturating_sub(bucket));
        let start = table.first.wrapping_add(bucket.wrapping_mul(stride));
        // The last bucket may end where memory does: read only its head.
        let len = (here - 1).saturating_mul(stride).saturating_add(width);
        let chunk = target.space().read_vec(start, len, CHUNK as usize).ok();
        for index in 0..here {
            let offset = index.saturating_mul(stride);
            let head = match &chunk {
                Some(bytes) => {
                    pointer_at(bytes, offset, width).ok_or(Absent::Malformed("bucket outside its table"))
                }
                None => target.read_ptr(start.wrapping_add(offset)),
            };
            match head {
                Ok(head) if !visit(head, damage) => return true,
                Ok(_) => {}
                Err(why) => {
                    damage.unreadable_buckets = damage.unreadable_buckets.saturating_add(1);
                    damage.first.get_or_insert(why);
                }
            }
        }
        bucket = bucket.saturating_add(here);
    }
    false
}

fn pointer_at(bytes: &[u8], offset: u64, width: u64) -> Option<u64> {
    let start = usize::try_from(offset).ok()?;
    let bytes = bytes.get(start..start.checked_add(usize::try_from(width).ok()?)?)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

impl Damage {
    fn report(self, notes: &Notes, name: &str, count: u64) {
        let mut parts = Vec::new();
        if self.unreadable_buckets > 0 {
            parts.push(format!("{} of {count} buckets cannot be read", self.unreadable_buckets));
        }
        if self.broken_chains > 0 {
            parts.push(format!("{} chains are broken", self.broken_chains));
        }
        if self.looping_chains > 0 {
            parts.push(format!("{} chains run into a node seen before", self.looping_chains));
        }
        if parts.is_empty() {
            return;
        }
        let why = self.first.map(|why| format!(" (first: {why})")).unwrap_or_default();
        notes.partial(format!("hash table {name}: {}{why}", parts.join(", ")));
    }
}
