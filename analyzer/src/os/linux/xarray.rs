//! XArrays, and the radix trees and IDRs they grew from (include/linux/xarray.h, lib/xarray.c, lib/radix-tree.c).
//!
//! ```text
//! xa_head ─► node (shift 6) ─► node (shift 0) ─► entry        index = slot of each level, 6 bits per level
//!            slots[0..64]      slots[0..64]
//! ```
//! The head and the slots hold 0, an entry, or a pointer to a node, told by its low bits. From v4.20 (Linux commit
//! 02c02bf12c5d) a node has low bits `10` and internal values below 4096 are marks (`xa_is_node`); before, a node has
//! bit 0 (`RADIX_TREE_INTERNAL_NODE`, Linux commit 91d9c05ac6c7, v4.7). The shift is kept in each node from v4.7.

use std::collections::HashSet;

use object::walk::End;
use object::{Absent, Missing, Ptr, Read, Target, layout, little_endian};
use profile::Type;

/// Most nodes of one tree that are read.
const MAX_NODES: usize = 1 << 20;
/// Most entries of one tree: as many as there can be pids, or 16 GiB of pages of a file.
const MAX_ENTRIES: usize = 4 << 20;
/// Most slots of a node: `XA_CHUNK_SIZE` is 64, or 16 with `CONFIG_BASE_SMALL`.
const MAX_SLOTS: u64 = 64;
/// Most bytes of the slots of a node.
const MAX_SLOT_BYTES: usize = 512;
/// Internal entries up to here are no nodes (`xa_is_node`).
const MAX_INTERNAL: u64 = 4096;

layout! {
    struct Root / RootLayout = "xarray" {
        head: Ptr = "xa_head",
    }

    struct OldRoot / OldRootLayout = "radix_tree_root" {
        head: Ptr = "rnode",
    }

    struct Node / NodeLayout = "xa_node" {
        shift: u8 = "shift",
    }

    struct OldNode / OldNodeLayout = "radix_tree_node" {
        shift: u8 = "shift",
    }
}

/// The entries of a tree and how the walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// Index and entry, ascending by index; entries are pointers or, with bit 0 set, values. An entry that stands for
    /// several indexes (a large folio of the page cache) is given for each of them.
    pub entries: Vec<(u64, u64)>,
    /// How the walk ended; entries beside a broken node are still found.
    pub end: End,
}

/// How nodes of this kernel look.
struct Shape {
    node: &'static str,
    tag_mask: u64,
    tag: u64,
    slots_offset: u64,
    slots: u64,
}

impl Shape {
    fn of(target: &Target) -> Result<Self, Missing> {
        let types = target.types();
        let (node, tag_mask, tag) = if types.has_field(Node::STRUCT, "slots") {
            (Node::STRUCT, 3, 2)
        } else {
            (OldNode::STRUCT, 3, 1)
        };
        let place = types.resolve(node, "slots")?;
        match place.ty {
            Type::Array { count: Some(slots), .. }
                if (1..=MAX_SLOTS).contains(&slots) && slots.is_power_of_two() =>
            {
                Ok(Self { node, tag_mask, tag, slots_offset: place.offset, slots })
            }
            _ => Err(Missing::Field { structure: node.into(), field: "slots".into() }),
        }
    }

    fn node_of(&self, entry: u64) -> Option<u64> {
        let is_node = entry & self.tag_mask == self.tag && entry > MAX_INTERNAL;
        is_node.then_some(entry & !self.tag_mask)
    }

    fn shift_of(&self, target: &Target, node: u64) -> Read<u8> {
        if self.node == Node::STRUCT {
            Node::at(target, node).shift()
        } else {
            OldNode::at(target, node).shift()
        }
    }
}

/// The entries of the `xarray` (or `radix_tree_root`, before v4.20) at `root`.
///
/// # Errors
/// What the profile lacks, or why the head cannot be read. Damage below the head is in the end state.
pub fn entries(target: &Target, root: u64) -> Read<Entries> {
    let shape = Shape::of(target)?;
    let Ptr(head) = match Root::at(target, root).head() {
        Err(Absent::NoProfile(_)) => OldRoot::at(target, root).head()?,
        head => head?,
    };
    let mut walk = Walk { target, shape, seen: HashSet::new(), entries: Vec::new(), end: End::Complete };
    walk.slot(head, 0, 64, 0);
    walk.entries.sort_unstable();
    Ok(Entries { entries: walk.entries, end: walk.end })
}

/// The entry of one index; `None` where there is none.
///
/// # Errors
/// As [`entries`], and where a node on the way cannot be read.
pub fn find(target: &Target, root: u64, index: u64) -> Read<Option<u64>> {
    let shape = Shape::of(target)?;
    let Ptr(mut entry) = match Root::at(target, root).head() {
        Err(Absent::NoProfile(_)) => OldRoot::at(target, root).head()?,
        head => head?,
    };
    let width = u64::from(target.types().model().pointer_size());
    let mut above = 64;
    while let Some(node) = shape.node_of(entry) {
        let shift = shape.shift_of(target, node)?;
        if shift >= above {
            return Err(Absent::Malformed("node of a tree with a shift not below its parent's"));
        }
        let slot = |number: u64| {
            target.read_ptr(node.wrapping_add(shape.slots_offset).wrapping_add(number.wrapping_mul(width)))
        };
        let number = index >> shift;
        if above == 64 && number >= shape.slots {
            return Ok(None);
        }
        entry = slot(number & (shape.slots - 1))?;
        let sibling = entry >> 2;
        if shape.tag == 2 && entry & 3 == 2 && sibling < shape.slots {
            entry = slot(sibling)?;
        }
        above = shift;
    }
    let is_value = entry != 0 && entry & shape.tag_mask != shape.tag;
    // Without a node there is the entry of index 0 only.
    Ok((is_value && (above < 64 || index == 0)).then_some(entry))
}

struct Walk<'t> {
    target: &'t Target,
    shape: Shape,
    seen: HashSet<u64>,
    entries: Vec<(u64, u64)>,
    end: End,
}

impl Walk<'_> {
    /// Takes what a slot holds. `above` is the shift of the node the slot is in: those below have a smaller one, so the
    /// recursion is at most 64 deep whatever the image says. `span` is the binary logarithm of the indexes it stands for.
    fn slot(&mut self, entry: u64, index: u64, above: u8, span: u8) {
        let Some(node) = self.shape.node_of(entry) else {
            // Other internal entries: retries, reserved slots.
            if entry != 0 && entry & self.shape.tag_mask != self.shape.tag {
                self.entry(entry, index, span);
            }
            return;
        };
        if self.seen.len() >= MAX_NODES {
            self.stop(End::Truncated { limit: MAX_NODES });
            return;
        }
        if !self.seen.insert(node) {
            self.stop(End::Cycle { node });
            return;
        }
        let shift = match self.shape.shift_of(self.target, node) {
            Ok(shift) if shift < above => shift,
            Ok(_) => {
                let why = Absent::Malformed("node of a tree with a shift not below its parent's");
                return self.stop(End::Broken { node, why, recovered: 0 });
            }
            Err(why) => return self.stop(End::Broken { node, why, recovered: 0 }),
        };
        let width = self.target.types().model().pointer_size();
        let first = node.wrapping_add(self.shape.slots_offset);
        let len = self.shape.slots.wrapping_mul(u64::from(width));
        let bytes = match self.target.read_bytes(first, len, MAX_SLOT_BYTES) {
            Ok(bytes) => bytes,
            Err(why) => return self.stop(End::Broken { node, why, recovered: 0 }),
        };
        let slots: Vec<u64> = bytes.chunks_exact(usize::from(width)).map(little_endian).collect();
        for (slot, &entry) in (0u64..).zip(&slots) {
            let below = index.wrapping_add(slot.checked_shl(u32::from(shift)).unwrap_or(0));
            // The slots behind that of a large entry name it (`xa_is_sibling`).
            let sibling = (self.shape.tag == 2 && entry & 3 == 2 && entry >> 2 < slot)
                .then(|| usize::try_from(entry >> 2).ok().and_then(|first| slots.get(first)))
                .flatten();
            match sibling {
                Some(&first) if self.shape.node_of(first).is_none() => {
                    self.slot(first, below, shift, shift);
                }
                Some(_) => {}
                None => self.slot(entry, below, shift, shift),
            }
        }
    }

    /// Adds an entry for each of the indexes it stands for.
    fn entry(&mut self, entry: u64, index: u64, span: u8) {
        let count = 1u64.checked_shl(span.into()).unwrap_or(u64::MAX);
        for number in 0..count {
            if self.entries.len() >= MAX_ENTRIES {
                return self.stop(End::Truncated { limit: MAX_ENTRIES });
            }
            self.entries.push((index.wrapping_add(number), entry));
        }
    }

    /// Keeps the first reason.
    fn stop(&mut self, end: End) {
        if self.end == End::Complete {
            self.end = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use memory::FileSpace;
    use object::{DataModel, Types};
    use profile::Profile;

    use super::*;

    /// Memory of 64-bit words, and a kernel whose nodes have 16 slots at offset 8.
    struct Memory(Vec<u8>);

    impl Memory {
        fn word(&mut self, addr: usize, value: u64) -> &mut Self {
            self.0[addr..addr + 8].copy_from_slice(&value.to_le_bytes());
            self
        }

        fn target(&self, structs: &str) -> Target {
            let text = format!(r#"{{"$METADATA": {{"ProfileClass": "Linux64"}}, "$STRUCTS": {structs}}}"#);
            let profile = Profile::parse_text(text).expect("profile");
            let types = Types::new(Arc::new(profile), DataModel::Lp64, &[]);
            Target::new(Arc::new(types), Arc::new(FileSpace::from_vec(self.0.clone())), 0, u64::MAX)
        }
    }

    const XARRAY: &str = r#"{
        "xarray": [16, {"xa_head": [8, ["Pointer", {"target": "Void"}]]}],
        "xa_node": [136, {"shift": [0, ["unsigned char"]],
                          "slots": [8, ["Array", {"count": 16, "target": "Pointer"}]]}]}"#;
    const RADIX: &str = r#"{
        "radix_tree_root": [16, {"rnode": [8, ["Pointer", {"target": "Void"}]]}],
        "radix_tree_node": [136, {"shift": [0, ["unsigned char"]],
                                  "slots": [8, ["Array", {"count": 16, "target": "Pointer"}]]}]}"#;

    /// A root at 0, a node with shift 4 at 0x2000 and below it two with shift 0.
    fn tree(tag: u64) -> Memory {
        let mut memory = Memory(vec![0; 0x6000]);
        memory.word(8, 0x2000 | tag);
        memory.word(0x2000, 4).word(0x2008, 0x3000 | tag).word(0x2018, 0x4000 | tag);
        memory.word(0x3008 + 8, 0xffff_8880_0000_1000).word(0x3008 + 15 * 8, 0xffff_8880_0000_2000);
        memory.word(0x4008, 0xffff_8880_0000_3000);
        memory
    }

    const EXPECTED: [(u64, u64); 3] =
        [(1, 0xffff_8880_0000_1000), (15, 0xffff_8880_0000_2000), (32, 0xffff_8880_0000_3000)];

    #[test]
    fn entries_come_with_their_index_in_both_shapes() {
        for (structs, tag) in [(XARRAY, 2), (RADIX, 1)] {
            let target = tree(tag).target(structs);
            let found = entries(&target, 0).expect("tree");
            assert_eq!((found.entries.as_slice(), found.end), (&EXPECTED[..], End::Complete));
            for (index, entry) in EXPECTED {
                assert_eq!(find(&target, 0, index), Ok(Some(entry)));
            }
            for index in [0, 2, 33, 255, 256, u64::MAX] {
                assert_eq!(find(&target, 0, index), Ok(None), "{index}");
            }
        }
    }

    #[test]
    fn an_empty_tree_and_one_with_a_single_entry_have_no_nodes() {
        let mut memory = Memory(vec![0; 0x1000]);
        let empty = entries(&memory.target(XARRAY), 0).expect("tree");
        assert_eq!((empty.entries.len(), empty.end), (0, End::Complete));
        memory.word(8, 0xffff_8880_0000_1000);
        assert_eq!(entries(&memory.target(XARRAY), 0).expect("tree").entries, [(0, 0xffff_8880_0000_1000)]);
    }

    #[test]
    fn internal_entries_are_no_entries() {
        let mut memory = tree(2);
        memory.word(0x4010, 0x402).word(0x4018, 0x41).word(0x4020, 1026);
        let found = entries(&memory.target(XARRAY), 0).expect("tree").entries;
        assert_eq!(found.len(), 4);
        assert_eq!(found[3], (34, 0x41), "a value entry has bit 0 set");
    }

    #[test]
    fn large_entries_are_given_for_each_index() {
        let mut memory = tree(2);
        // Four slots of a node with shift 0: an entry and three siblings of slot 4.
        memory.word(0x4008 + 4 * 8, 0xffff_8880_0000_4000);
        for slot in 5..8 {
            memory.word(0x4008 + slot * 8, 4 << 2 | 2);
        }
        // An entry in a node with shift 4 stands for 16 indexes.
        memory.word(0x2008 + 8 * 8, 0xffff_8880_0000_8000);
        let found = entries(&memory.target(XARRAY), 0).expect("tree");
        let mut expected = EXPECTED.to_vec();
        expected.extend((36..40).map(|index| (index, 0xffff_8880_0000_4000)));
        expected.extend((128..144).map(|index| (index, 0xffff_8880_0000_8000)));
        assert_eq!((found.entries, found.end), (expected, End::Complete));
    }

    #[test]
    fn loops_and_nodes_that_do_not_shrink_end_the_branch_only() {
        let mut memory = tree(2);
        memory.word(0x2010, 0x2002);
        let found = entries(&memory.target(XARRAY), 0).expect("tree");
        assert_eq!((found.entries.as_slice(), found.end), (&EXPECTED[..], End::Cycle { node: 0x2000 }));
        let mut memory = tree(2);
        memory.word(0x3000, 4);
        let found = entries(&memory.target(XARRAY), 0).expect("tree");
        assert_eq!(found.entries, EXPECTED[2..]);
        assert!(matches!(found.end, End::Broken { node: 0x3000, .. }));
    }

    #[test]
    fn an_unreadable_node_is_reported() {
        let mut memory = tree(2);
        memory.word(0x2010, 0x9_0002);
        let found = entries(&memory.target(XARRAY), 0).expect("tree");
        assert_eq!(found.entries, EXPECTED);
        assert!(matches!(found.end, End::Broken { node: 0x9_0000, .. }));
    }
}
