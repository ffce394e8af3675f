//! Red-black trees: `rb_node` embedded in the structs they sort (include/linux/rbtree_types.h).

use std::collections::HashSet;

use object::walk::{End, Walked};
use object::{Absent, Ptr, Read, Target, layout};

/// Most nodes one tree may have.
const MAX_TREE_NODES: usize = 1 << 20;
/// Deepest node: a balanced tree of 2^64 nodes is not deeper.
const MAX_DEPTH: usize = 128;

layout! {
    struct RbNode / RbNodeLayout = "rb_node" {
        left: Ptr = "rb_left",
        right: Ptr = "rb_right",
    }
}

/// The nodes of the tree whose topmost node is at `root` (0 for an empty tree), in their order, and how the walk ended.
///
/// Subtrees that cannot be read are skipped; the end then tells the first of them.
#[must_use]
pub fn nodes(target: &Target, root: u64) -> Walked {
    let children = |node: u64| -> Read<(u64, u64)> {
        let node = RbNode::at(target, node);
        Ok((node.left()?.0, node.right()?.0))
    };
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    let mut end = End::Complete;
    let mut found_before_trouble = 0;
    // Nodes whose left side is being visited, with their right child.
    let mut above: Vec<(u64, u64)> = Vec::new();
    let mut node = root;
    loop {
        let trouble = loop {
            if node == 0 {
                break End::Complete;
            }
            if seen.len() >= MAX_TREE_NODES {
                break End::Truncated { limit: MAX_TREE_NODES };
            }
            if !seen.insert(node) {
                break End::Cycle { node };
            }
            if above.len() >= MAX_DEPTH {
                break End::Broken { node, why: Absent::Malformed("tree too deep"), recovered: 0 };
            }
            match children(node) {
                Ok((left, right)) => {
                    above.push((node, right));
                    node = left;
                }
                Err(why) => break End::Broken { node, why, recovered: 0 },
            }
        };
        if end == End::Complete {
            end = trouble;
            found_before_trouble = found.len();
        }
        let Some((next, right)) = above.pop() else { break };
        found.push(next);
        node = right;
    }
    if let End::Broken { recovered, .. } = &mut end {
        *recovered = found.len().saturating_sub(found_before_trouble);
    }
    Walked { nodes: found, end }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::linux::testkit::Memory;

    const STRUCTS: &str = r#"{"rb_node": [24, {
        "rb_right": [8, ["Pointer", {"target": "rb_node"}]], "rb_left": [16, ["Pointer", {"target": "rb_node"}]]}]}"#;

    /// Nodes `(address, left, right)`.
    fn walk(tree: &[(u64, u64, u64)]) -> Walked {
        let mut memory = Memory::default();
        for &(at, left, right) in tree {
            memory.words(at, &[0, right, left]);
        }
        nodes(&memory.target(STRUCTS, &[]), 0x1000)
    }

    #[test]
    fn nodes_come_from_left_to_right() {
        let walked = walk(&[(0x1000, 0x2000, 0x3000), (0x2000, 0, 0x4000), (0x3000, 0, 0), (0x4000, 0, 0)]);
        assert_eq!(walked, Walked { nodes: vec![0x2000, 0x4000, 0x1000, 0x3000], end: End::Complete });
    }

    #[test]
    fn a_loop_is_reported_and_nodes_come_once() {
        let walked = walk(&[(0x1000, 0x2000, 0x1000), (0x2000, 0x1000, 0)]);
        assert_eq!(walked, Walked { nodes: vec![0x2000, 0x1000], end: End::Cycle { node: 0x1000 } });
    }

    #[test]
    fn a_torn_side_does_not_hide_the_other() {
        let walked = walk(&[(0x1000, 0x9000, 0x3000), (0x3000, 0, 0)]);
        assert_eq!(walked.nodes, [0x1000, 0x3000]);
        assert!(matches!(walked.end, End::Broken { node: 0x9000, recovered: 2, .. }));
    }

    #[test]
    fn a_chain_that_no_balanced_tree_can_be_ends() {
        let chain: Vec<_> = (1..=500).map(|n| (n * 0x1000, (n + 1) * 0x1000, 0)).collect();
        let walked = walk(&chain);
        assert_eq!(walked.nodes.len(), MAX_DEPTH);
        assert!(matches!(walked.end, End::Broken { why: Absent::Malformed("tree too deep"), .. }));
    }
}
