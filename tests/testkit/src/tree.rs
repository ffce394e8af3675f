//! Shapes of binary search trees.

/// A node by the positions of its children.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) left: Option<usize>,
    pub(crate) right: Option<usize>,
}

/// A tree over positions 0.. in order. Nodes behind the given ones were added to reach a level.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
    pub(crate) root: Option<usize>,
    pub(crate) depth: u32,
}

/// The balanced tree of `count` nodes.
pub(crate) fn balanced(count: usize) -> Tree {
    fn build(tree: &mut Tree, low: usize, high: usize, level: u32) -> Option<usize> {
        if low >= high {
            return None;
        }
        tree.depth = tree.depth.max(level);
        let middle = (low + high) / 2;
        tree.nodes[middle].left = build(tree, low, middle, level + 1);
        tree.nodes[middle].right = build(tree, middle + 1, high, level + 1);
        Some(middle)
    }
    let mut tree = Tree { nodes: vec![Node::default(); count], ..Tree::default() };
    tree.root = build(&mut tree, 0, count, 1);
    tree
}

/// The tree whose nodes, in order, stand at these levels (the top is 1). Where no search tree has such levels, as in memory
/// that changed while it was read, the nodes that do not fit hang wherever their level allows. `leaf` nodes have no child.
pub(crate) fn with_levels(levels: &[u32], leaf: &[bool]) -> Tree {
    fn build(
        tree: &mut Tree,
        levels: &[u32],
        low: usize,
        high: usize,
        level: u32,
        lost: &mut Vec<usize>,
    ) -> Option<usize> {
        let mut tops = (low..high).filter(|&index| levels[index] == level);
        match (tops.next(), tops.next()) {
            (Some(top), None) => {
                tree.nodes[top].left = build(tree, levels, low, top, level + 1, lost);
                tree.nodes[top].right = build(tree, levels, top + 1, high, level + 1, lost);
                Some(top)
            }
            _ => {
                lost.extend(low..high);
                None
            }
        }
    }
    let mut tree = Tree { nodes: vec![Node::default(); levels.len()], ..Tree::default() };
    let mut lost = Vec::new();
    tree.root = build(&mut tree, levels, 0, levels.len(), 1, &mut lost);
    let mut levels = levels.to_vec();
    tree.depth = levels.iter().copied().max().unwrap_or(0);
    lost.sort_by_key(|&index| (levels[index], index));
    let mut hanging: Vec<bool> = (0..levels.len()).map(|index| !lost.contains(&index)).collect();
    for index in lost {
        hang(&mut tree, &mut levels, &mut hanging, leaf, index);
    }
    tree
}

/// Hangs a node below the nearest one of the level above that has room, adding nodes up to a level where there is one.
fn hang(tree: &mut Tree, levels: &mut Vec<u32>, hanging: &mut Vec<bool>, leaf: &[bool], index: usize) {
    assert!(levels[index] > 1, "a second top");
    let free = |node: &Node| node.left.is_none() || node.right.is_none();
    let parent = (0..tree.nodes.len())
        .filter(|&other| hanging[other] && !leaf.get(other).copied().unwrap_or(false))
        .filter(|&other| levels[other] + 1 == levels[index] && free(&tree.nodes[other]))
        .min_by_key(|&other| other.abs_diff(index));
    let parent = parent.unwrap_or_else(|| {
        let added = tree.nodes.len();
        tree.nodes.push(Node::default());
        levels.push(levels[index] - 1);
        hanging.push(false);
        hang(tree, levels, hanging, leaf, added);
        added
    });
    let node = &mut tree.nodes[parent];
    let slot = if (index < parent && node.left.is_none()) || node.right.is_some() {
        &mut node.left
    } else {
        &mut node.right
    };
    *slot = Some(index);
    hanging[index] = true;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels_of(tree: &Tree) -> Vec<u32> {
        let mut levels = vec![0; tree.nodes.len()];
        let mut pending: Vec<(usize, u32)> = tree.root.map(|root| (root, 1)).into_iter().collect();
        while let Some((index, level)) = pending.pop() {
            levels[index] = level;
            let node = tree.nodes[index];
            pending.extend([node.left, node.right].into_iter().flatten().map(|child| (child, level + 1)));
        }
        levels
    }

    #[test]
    fn levels_of_a_search_tree_come_out_again() {
        let levels = [3, 2, 4, 3, 1, 3, 2];
        assert_eq!(levels_of(&with_levels(&levels, &[])), levels);
    }

    #[test]
    fn nodes_that_do_not_fit_hang_at_their_level() {
        // The last node's parent is missing.
        let levels = [2, 1, 2, 4];
        let found = levels_of(&with_levels(&levels, &[]));
        assert_eq!(found[..4], levels);
        assert_eq!(found.len(), 5);
    }

    #[test]
    fn a_balanced_tree_is_as_flat_as_possible() {
        let tree = balanced(100);
        assert_eq!((levels_of(&tree).into_iter().max(), tree.depth), (Some(7), 7));
    }
}
