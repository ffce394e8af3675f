//! Maple trees: ranges of indexes to pointers (lib/maple_tree.c, include/linux/maple_tree.h; from v6.1).
//!
//! ```text
//! ma_root ─► node: parent | pivot[0..n-1] | slot[0..n]      slot i holds first..=pivot[i], the last slot up to the
//!              │                                            node's own maximum; first is the previous pivot + 1
//!              └► slot: child node (inner types) or entry (leaf types)
//! ```
//! Nodes are aligned to 256 bytes; bits 3 to 6 of a pointer to a node hold its type. A pivot of 0 behind the first
//! ends the node early.

use std::collections::HashSet;

use object::walk::End;
use object::{Absent, Missing, Ptr, Read, Target, layout, little_endian};
use profile::Type;

/// Most nodes one tree may have; 2^18 leaves hold about 4 million ranges.
const MAX_TREE_NODES: usize = 1 << 18;
/// Most levels (`MAPLE_HEIGHT_MAX`).
const MAX_DEPTH: usize = 31;
/// Bytes of a node, and its alignment (`MAPLE_NODE_MASK` + 1).
const NODE_BYTES: usize = 256;
const NODE_SIZE: u64 = NODE_BYTES as u64;

layout! {
    struct Tree / TreeLayout = "maple_tree" {
        ma_root: Ptr = "ma_root",
    }
}

/// An entry: a pointer kept for all indexes `first..=last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// First index.
    pub first: u64,
    /// Last index, inclusive.
    pub last: u64,
    /// The pointer.
    pub value: u64,
}

/// The entries of the `maple_tree` at `tree`, ascending, and how the walk ended.
///
/// Subtrees that cannot be read are skipped; the end then tells the first of them.
#[must_use]
pub fn entries(target: &Target, tree: u64) -> (Vec<Entry>, End) {
    let start = || Ok((Tree::at(target, tree).ma_root()?.0, Shapes::of(target)?));
    match start() {
        Ok((root, shapes)) => {
            Walk { target, shapes, found: Vec::new(), end: End::Complete, found_before_trouble: 0 }.run(root)
        }
        Err(why) => (Vec::new(), End::Broken { node: tree, why, recovered: 0 }),
    }
}

/// `enum maple_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dense,
    Leaf,
    Range,
    AllocationRange,
}

impl Kind {
    fn of(node: u64) -> Option<Self> {
        [Self::Dense, Self::Leaf, Self::Range, Self::AllocationRange]
            .get(usize::try_from(node >> 3 & 0xf).ok()?)
            .copied()
    }
}

/// An array member: offset in its node, number of elements.
#[derive(Debug, Clone, Copy)]
struct Array {
    offset: u64,
    count: usize,
}

impl Array {
    fn resolve(target: &Target, structure: &str, field: &str) -> Result<Self, Missing> {
        let found = target.types().resolve(structure, field)?;
        let width = u64::from(target.types().model().pointer_size());
        let count = match &found.ty {
            Type::Array { count: Some(count), .. } => *count,
            Type::Array { size: Some(size), .. } => size / width,
            _ => 0,
        };
        let fits = found.offset.saturating_add(count.saturating_mul(width)) <= NODE_SIZE;
        let count = usize::try_from(count).ok().filter(|count| *count > 0 && fits);
        let count = count
            .ok_or_else(|| Missing::Damaged(format!("{structure}.{field} is no array in a node").into()))?;
        Ok(Self { offset: found.offset, count })
    }
}

/// Where the kinds of nodes keep pivots and slots.
struct Shapes {
    dense: Array,
    range: (Array, Array),
    allocation_range: (Array, Array),
}

impl Shapes {
    fn of(target: &Target) -> Result<Self, Missing> {
        let pair = |structure| {
            Ok::<_, Missing>((
                Array::resolve(target, structure, "pivot")?,
                Array::resolve(target, structure, "slot")?,
            ))
        };
        Ok(Self {
            dense: Array::resolve(target, "maple_node", "slot")?,
            range: pair("maple_range_64")?,
            allocation_range: pair("maple_arange_64")?,
        })
    }
}

/// A node that is still to be visited: encoded pointer, the indexes it holds, its depth.
struct Pending {
    node: u64,
    first: u64,
    last: u64,
    depth: usize,
}

struct Walk<'t> {
    target: &'t Target,
    shapes: Shapes,
    found: Vec<Entry>,
    end: End,
    found_before_trouble: usize,
}

impl Walk<'_> {
    fn run(mut self, root: u64) -> (Vec<Entry>, End) {
        let top = match self.target.types().model().pointer_size() {
            4 => u64::from(u32::MAX),
            _ => u64::MAX,
        };
        if !is_internal(root) {
            // A tree of one entry at index 0 keeps it in the root itself.
            self.add(0, 0, root);
            return (self.found, self.end);
        }
        let mut seen = HashSet::new();
        let mut stack = vec![Pending { node: root, first: 0, last: top, depth: 0 }];
        while let Some(pending) = stack.pop() {
            let address = pending.node & !(NODE_SIZE - 1);
            if seen.len() >= MAX_TREE_NODES {
                self.report(End::Truncated { limit: MAX_TREE_NODES });
                break;
            }
            if !seen.insert(address) {
                self.report(End::Cycle { node: address });
                continue;
            }
            if let Err(why) = self.visit(address, &pending, &mut stack) {
                self.report(End::Broken { node: address, why, recovered: 0 });
            }
        }
        if let End::Broken { recovered, .. } = &mut self.end {
            *recovered = self.found.len().saturating_sub(self.found_before_trouble);
        }
        (self.found, self.end)
    }

    /// Keeps the first trouble.
    fn report(&mut self, end: End) {
        if self.end == End::Complete {
            self.end = end;
            self.found_before_trouble = self.found.len();
        }
    }

    fn add(&mut self, first: u64, last: u64, value: u64) {
        // Reserved entries (XA_ZERO_ENTRY) mark ranges that are empty to users.
        if value != 0 && !is_internal(value) {
            self.found.push(Entry { first, last, value });
        }
    }

    fn visit(&mut self, address: u64, pending: &Pending, stack: &mut Vec<Pending>) -> Read<()> {
        let kind = Kind::of(pending.node).ok_or(Absent::Malformed("maple node of unknown type"))?;
        if address == 0 || pending.depth >= MAX_DEPTH {
            return Err(Absent::Malformed("maple tree too deep"));
        }
        let bytes = self.target.read_bytes(address, NODE_SIZE, NODE_BYTES)?;
        let node = Words { bytes: &bytes, width: usize::from(self.target.types().model().pointer_size()) };
        // A node that is being freed is its own parent (ma_dead_node).
        if node.word(0)? & !(NODE_SIZE - 1) == address {
            return Err(Absent::Malformed("maple node was freed"));
        }
        let (pivots, slots) = match kind {
            Kind::Dense => {
                for index in 0..self.shapes.dense.count {
                    let at = pending.first.saturating_add(index as u64);
                    if at > pending.last {
                        break;
                    }
                    self.add(at, at, node.element(self.shapes.dense, index)?);
                }
                return Ok(());
            }
            Kind::Leaf | Kind::Range => self.shapes.range,
            Kind::AllocationRange => self.shapes.allocation_range,
        };
        let mut children = Vec::new();
        let mut first = pending.first;
        for index in 0..slots.count {
            let last = if index < pivots.count { node.element(pivots, index)? } else { pending.last };
            if last == 0 && index > 0 {
                break;
            }
            if last > pending.last || last < first {
                stack.extend(children.into_iter().rev());
                return Err(Absent::Malformed("pivots of a maple node do not ascend"));
            }
            let slot = node.element(slots, index)?;
            if kind == Kind::Leaf {
                self.add(first, last, slot);
            } else if slot != 0 {
                children.push(Pending { node: slot, first, last, depth: pending.depth + 1 });
            }
            if last == pending.last {
                break;
            }
            first = last + 1;
        }
        stack.extend(children.into_iter().rev());
        Ok(())
    }
}

/// Whether a pointer is the tree's own: a node in the root, or a reserved entry (`xa_is_internal`).
fn is_internal(entry: u64) -> bool {
    entry & 3 == 2
}

/// The bytes of a node as native words.
struct Words<'b> {
    bytes: &'b [u8],
    width: usize,
}

impl Words<'_> {
    fn word(&self, offset: usize) -> Read<u64> {
        let bytes = self.bytes.get(offset..).and_then(|rest| rest.get(..self.width));
        let bytes = bytes.ok_or(Absent::Malformed("element beyond its maple node"))?;
        Ok(little_endian(bytes))
    }

    fn element(&self, array: Array, index: usize) -> Read<u64> {
        let offset = usize::try_from(array.offset).unwrap_or(usize::MAX);
        self.word(offset.saturating_add(index.saturating_mul(self.width)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::linux::testkit::Memory;

    /// Offsets and counts of v6.1 on amd64, as pahole prints them.
    const STRUCTS: &str = r#"{
        "maple_tree": [24, {"ma_root": [8, ["Pointer", {"target": "Void"}]]}],
        "maple_node": [256, {"slot": [8, ["Array", {"count": 31, "target": "Pointer", "target_args": {"target": "Void"}}]]}],
        "maple_range_64": [256, {
            "pivot": [8, ["Array", {"count": 15, "target": "long unsigned int"}]],
            "slot": [128, ["Array", {"count": 16, "target": "Pointer", "target_args": {"target": "Void"}}]]}],
        "maple_arange_64": [248, {
            "pivot": [8, ["Array", {"count": 9, "target": "long unsigned int"}]],
            "slot": [80, ["Array", {"count": 10, "target": "Pointer", "target_args": {"target": "Void"}}]]}]
    }"#;
    const TREE: u64 = 0x1000;
    const DENSE: u64 = 0;
    const LEAF: u64 = 1;
    const RANGE: u64 = 2;
    const ALLOCATION: u64 = 3;

    /// A pointer to a node as other nodes keep it (`mt_mk_node`).
    fn child(node: u64, kind: u64) -> u64 {
        node | kind << 3 | 4
    }

    /// A pointer to the topmost node as the tree keeps it (`mte_mk_root`).
    fn root(node: u64, kind: u64) -> u64 {
        node | kind << 3 | 2
    }

    fn leaf(memory: &mut Memory, at: u64, pivots: &[u64], slots: &[u64]) {
        memory.word(at, 0x4242_4200).words(at + 8, pivots).words(at + 128, slots).word(at + 248, 0);
    }

    fn walk(memory: &Memory) -> (Vec<(u64, u64, u64)>, End) {
        let (found, end) = entries(&memory.target(STRUCTS, &[]), TREE);
        (found.iter().map(|entry| (entry.first, entry.last, entry.value)).collect(), end)
    }

    #[test]
    fn an_empty_tree_and_a_tree_of_one_entry_need_no_node() {
        assert_eq!(walk(Memory::default().word(TREE + 8, 0)), (vec![], End::Complete));
        assert_eq!(walk(Memory::default().word(TREE + 8, 0x8000)), (vec![(0, 0, 0x8000)], End::Complete));
    }

    #[test]
    fn ranges_come_in_order_through_both_inner_kinds() {
        let mut memory = Memory::default();
        memory.word(TREE + 8, root(0x2000, ALLOCATION));
        memory.word(0x2000, TREE | 1).words(0x2008, &[0x5fff, u64::MAX]);
        memory.words(0x2050, &[child(0x2100, RANGE), child(0x2300, LEAF)]).word(0x20f0, 1);
        leaf(&mut memory, 0x2100, &[0x2fff, 0x5fff], &[child(0x2200, LEAF), child(0x2400, DENSE)]);
        // Nothing up to 0xfff, an entry, a reserved entry (XA_ZERO_ENTRY).
        leaf(&mut memory, 0x2200, &[0xfff, 0x1fff, 0x2fff], &[0, 0x8000, 257 << 2 | 2]);
        memory.word(0x2400, 0x4242_4200).words(0x2408, &[0, 0x8100]).word(0x24f8, 0);
        leaf(&mut memory, 0x2300, &[0x6fff], &[0x8200, 0x8300]);
        // The second slot has no pivot behind it: a pivot of 0 ends the node.
        assert_eq!(
            walk(&memory),
            (
                vec![(0x1000, 0x1fff, 0x8000), (0x3001, 0x3001, 0x8100), (0x6000, 0x6fff, 0x8200)],
                End::Complete
            )
        );
    }

    #[test]
    fn the_last_slot_of_a_full_node_reaches_to_its_maximum() {
        let mut memory = Memory::default();
        let pivots: Vec<u64> = (1..=15).collect();
        let slots: Vec<u64> = (1..=16).map(|n| n << 12).collect();
        memory.word(TREE + 8, root(0x2000, LEAF));
        memory.word(0x2000, TREE | 1).words(0x2008, &pivots).words(0x2080, &slots);
        let (found, end) = walk(&memory);
        assert_eq!(
            (found.len(), found[0], found[15], end),
            (16, (0, 1, 0x1000), (16, u64::MAX, 0x10000), End::Complete)
        );
    }

    #[test]
    fn a_node_that_is_its_own_descendant_is_a_cycle() {
        let mut memory = Memory::default();
        memory.word(TREE + 8, root(0x2000, RANGE));
        leaf(&mut memory, 0x2000, &[0xfff, u64::MAX], &[child(0x2000, RANGE), child(0x2100, LEAF)]);
        leaf(&mut memory, 0x2100, &[u64::MAX], &[0x8000]);
        assert_eq!(walk(&memory), (vec![(0x1000, u64::MAX, 0x8000)], End::Cycle { node: 0x2000 }));
    }

    #[test]
    fn a_torn_subtree_does_not_hide_its_neighbours() {
        let mut memory = Memory::default();
        memory.word(TREE + 8, root(0x2000, RANGE));
        leaf(&mut memory, 0x2000, &[0xfff, u64::MAX], &[child(0x9000, LEAF), child(0x2100, LEAF)]);
        leaf(&mut memory, 0x2100, &[u64::MAX], &[0x8000]);
        let (found, end) = walk(&memory);
        assert_eq!(found, [(0x1000, u64::MAX, 0x8000)]);
        assert!(
            matches!(end, End::Broken { node: 0x9000, why: Absent::Unreadable { .. }, recovered: 1 }),
            "{end:?}"
        );
    }

    #[test]
    fn nodes_that_cannot_be_nodes_are_refused() {
        let broken = |build: &dyn Fn(&mut Memory)| {
            let mut memory = Memory::default();
            build(&mut memory);
            match walk(&memory) {
                (found, End::Broken { why, .. }) if found.is_empty() => why,
                other => panic!("{other:?}"),
            }
        };
        let unknown_type = broken(&|memory| {
            memory.word(TREE + 8, root(0x2000, 9)).word(0x2000, 0).word(0x20f8, 0);
        });
        assert_eq!(unknown_type, Absent::Malformed("maple node of unknown type"));
        let freed = broken(&|memory| {
            memory.word(TREE + 8, root(0x2000, LEAF)).word(0x2000, 0x2000).word(0x20f8, 0);
        });
        assert_eq!(freed, Absent::Malformed("maple node was freed"));
        let unsorted = broken(&|memory| {
            memory.word(TREE + 8, root(0x2000, RANGE));
            leaf(memory, 0x2000, &[0x2fff, 0x1fff], &[child(0x2100, LEAF), child(0x2100, LEAF)]);
            memory.word(0x2100, 0x2100);
        });
        assert!(matches!(unsorted, Absent::Malformed(_)), "{unsorted:?}");
    }
}
