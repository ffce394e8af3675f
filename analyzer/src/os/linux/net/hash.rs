//! Hash tables of the network stack: arrays of buckets, each the head of a singly linked chain.
//!
//! One walker serves `hlist_head` and `hlist_nulls_head` (include/linux/list.h, list_nulls.h: a link with its low bit
//! set ends a chain), `rhashtable` buckets (include/linux/rhashtable.h: the low bit of a head is its lock) and plain
//! `next` chains. How many buckets there are is a number of the image, and so is every link: within a table each node
//! counts once, and a budget of buckets and nodes over all tables ends the walk of any arrangement.

use std::collections::HashSet;

use object::walk::MAX_NODES;
use object::{Absent, Target, little_endian};

use crate::notes::Notes;

/// Most buckets that one walker visits. The kernel's own limit for the largest table, TCP's, is 2^19 unless the
/// administrator says more (`thash_entries`, net/ipv4/tcp.c).
const MAX_BUCKETS: u64 = 1 << 24;

/// Bytes of buckets read at a time.
const CHUNK: usize = 64 << 10;
/// Smallest unit of memory that is there or not.
const PAGE: u64 = 4096;

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

impl<'n> Table<'n> {
    /// A table of list heads that follow each other, whose nodes start with their link.
    pub(super) fn of_heads(target: &Target, name: &'n str, first: u64, buckets: u64) -> Self {
        let stride = u64::from(target.types().model().pointer_size());
        Self { name, first, buckets, stride, link: 0, locked_heads: false }
    }
}

/// Walks tables within a budget.
pub(super) struct Walker<'t> {
    target: &'t Target,
    notes: &'t Notes,
    buckets_left: u64,
    nodes_left: usize,
}

/// What is wrong with a table.
#[derive(Default)]
struct Damage {
    unreadable_buckets: u64,
    broken_chains: u64,
    looping_chains: u64,
    first: Option<Absent>,
}

impl<'t> Walker<'t> {
    pub(super) fn new(target: &'t Target, notes: &'t Notes) -> Self {
        Self { target, notes, buckets_left: MAX_BUCKETS, nodes_left: MAX_NODES }
    }

    /// The memory it walks.
    pub(super) fn target(&self) -> &'t Target {
        self.target
    }

    /// Where damage is reported.
    pub(super) fn notes(&self) -> &'t Notes {
        self.notes
    }

    /// Addresses of all nodes, bucket by bucket. Damage is reported in the notes, once per table.
    pub(super) fn nodes(&mut self, table: &Table<'_>) -> Vec<u64> {
        let count = table.buckets.min(self.buckets_left);
        if count < table.buckets {
            self.notes.partial(format!(
                "hash table {} claims {} buckets; only {count} were walked",
                table.name, table.buckets
            ));
        }
        self.buckets_left = self.buckets_left.saturating_sub(count);
        let mut damage = Damage::default();
        let mut nodes = Vec::new();
        let mut seen = HashSet::new();
        each_head(self.target, table, count, &mut damage, |head, damage| {
            let mut node = if table.locked_heads { head & !1 } else { head };
            while node != 0 && node & 1 == 0 && self.nodes_left > 0 {
                if !seen.insert(node) {
                    damage.looping_chains = damage.looping_chains.saturating_add(1);
                    break;
                }
                match self.target.read_ptr(node.wrapping_add(table.link)) {
                    Ok(next) => {
                        nodes.push(node);
                        self.nodes_left = self.nodes_left.saturating_sub(1);
                        node = next;
                    }
                    Err(why) => {
                        damage.broken_chains = damage.broken_chains.saturating_add(1);
                        damage.first.get_or_insert(why);
                        break;
                    }
                }
            }
            self.nodes_left > 0
        });
        if self.nodes_left == 0 {
            self.notes.partial(format!("hash table {} was cut off after {MAX_NODES} nodes", table.name));
        }
        damage.report(self.notes, table.name, count);
        nodes
    }
}

/// Calls `visit` with the head pointer of each bucket until it says `false`.
fn each_head(
    target: &Target,
    table: &Table<'_>,
    count: u64,
    damage: &mut Damage,
    mut visit: impl FnMut(u64, &mut Damage) -> bool,
) {
    let width = u64::from(target.types().model().pointer_size());
    let stride = table.stride.max(width);
    let per_chunk = (CHUNK as u64 / stride).max(1);
    let mut missing_page = None;
    let mut bucket = 0;
    while bucket < count {
        let here = per_chunk.min(count.saturating_sub(bucket));
        let start = table.first.wrapping_add(bucket.wrapping_mul(stride));
        // The last bucket may end where memory does: read only its head.
        let len = (here - 1).saturating_mul(stride).saturating_add(width);
        let chunk = target.space().read_vec(start, len, CHUNK).ok();
        for index in 0..here {
            let offset = index.saturating_mul(stride);
            let addr = start.wrapping_add(offset);
            let head = match &chunk {
                Some(bytes) => {
                    pointer_at(bytes, offset, width).ok_or(Absent::Malformed("bucket outside its table"))
                }
                None if missing_page == Some(addr / PAGE) => Err(Absent::Malformed("page of the table")),
                None => target.read_ptr(addr),
            };
            match head {
                Ok(head) if !visit(head, damage) => return,
                Ok(_) => {}
                Err(why) => {
                    missing_page = Some(addr / PAGE);
                    damage.unreadable_buckets = damage.unreadable_buckets.saturating_add(1);
                    damage.first.get_or_insert(why);
                }
            }
        }
        bucket = bucket.saturating_add(here);
    }
}

fn pointer_at(bytes: &[u8], offset: u64, width: u64) -> Option<u64> {
    let start = usize::try_from(offset).ok()?;
    let bytes = bytes.get(start..start.checked_add(usize::try_from(width).ok()?)?)?;
    Some(little_endian(bytes))
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

#[cfg(test)]
mod tests;
