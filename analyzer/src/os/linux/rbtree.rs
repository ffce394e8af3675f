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
    let mut walked = Walked { nodes: Vec::new(), end: End::Complete };
    let mut report = |end: End| {
        if walked.end == End::Complete {
            walked.end = end;
        }
    };
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    // Nodes whose left side is being visited, with their right child.
    let mut above: Vec<(u64, u64)> = Vec::new();
    let mut node = root;
    loop {
        while node != 0 {
            if seen.len() >= MAX_TREE_NODES {
                report(End::Truncated { limit: MAX_TREE_NODES });
                break;
            }
            if !seen.insert(node) {
                report(End::Cycle { node });
                break;
            }
            if above.len() >= MAX_DEPTH {
                report(End::Broken { node, why: Absent::Malformed("tree too deep"), recovered: 0 });
                break;
            }
            match children(node) {
                Ok((left, right)) => {
                    above.push((node, right));
                    node = left;
                }
                Err(why) => {
                    report(End::Broken { node, why, recovered: 0 });
                    break;
                }
            }
        }
        let Some((next, right)) = above.pop() else { break };
        found.push(next);
        node = right;
    }
    walked.nodes = found;
    walked
}
