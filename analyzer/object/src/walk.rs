//! Bounded walks over linked structures of an image.
//!
//! Every walk has a seen-set and a node cap and ends in a state that callers pass on to the user: a list that ended
//! early is never silently short. Only nodes whose own link could be read are yielded, so a torn list does not end in
//! a node of garbage. Doubly linked lists are followed backward as well where the forward walk breaks or loops.

use std::collections::HashSet;

use crate::absent::{Absent, Read};
use crate::target::Target;

/// Most nodes any walk visits unless a caller asks for less.
pub const MAX_NODES: usize = 4 << 20;

/// How a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// At the head or a terminator.
    Complete,
    /// At a node seen before that is not the head.
    Cycle {
        /// The node that came again.
        node: u64,
    },
    /// At a node that cannot be read.
    Broken {
        /// The unreadable node.
        node: u64,
        /// Why.
        why: Absent,
        /// Nodes found behind the break by walking backward.
        recovered: usize,
    },
    /// At the node cap.
    Truncated {
        /// The cap.
        limit: usize,
    },
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Complete => write!(f, "complete"),
            Self::Cycle { node } => write!(f, "ends in a loop at {node:#x}"),
            Self::Broken { node, why, recovered } => {
                write!(f, "is broken at {node:#x} ({why}); {recovered} nodes behind the break were found")
            }
            Self::Truncated { limit } => write!(f, "was cut off after {limit} nodes"),
        }
    }
}

/// Nodes found by a walk, in list order, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// Addresses of the nodes.
    pub nodes: Vec<u64>,
    /// How the walk ended.
    pub end: End,
}

impl Walked {
    /// Whether every node was visited.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.end == End::Complete
    }

    /// Addresses of the structs that embed the nodes at `offset`.
    pub fn containers(&self, offset: u64) -> impl Iterator<Item = u64> + '_ {
        self.nodes.iter().map(move |node| node.wrapping_sub(offset))
    }
}

/// A circular doubly linked list (`list_head`: `next` at 0, `prev` behind it) with a head that is no element.
#[must_use]
pub fn list(target: &Target, head: u64) -> Walked {
    list_capped(target, head, MAX_NODES)
}

/// [`list()`] with a cap of its own.
#[must_use]
pub fn list_capped(target: &Target, head: u64, cap: usize) -> Walked {
    let width = u64::from(target.types().model().pointer_size());
    let next = |node: u64| target.read_ptr(node);
    let prev = |node: u64| target.read_ptr(node.wrapping_add(width));
    let mut seen = HashSet::from([head]);
    let forward = follow(head, head, &mut seen, cap, &next);
    if matches!(forward.end, End::Complete | End::Truncated { .. }) {
        return forward;
    }
    // The list tore or loops: come from the other end until the part already seen, or the next tear.
    let backward = follow(head, head, &mut seen, cap.saturating_sub(forward.nodes.len()), &prev);
    let recovered = backward.nodes.len();
    let mut nodes = forward.nodes;
    nodes.extend(backward.nodes.into_iter().rev());
    let end = match forward.end {
        End::Broken { node, why, .. } => End::Broken { node, why, recovered },
        end => end,
    };
    Walked { nodes, end }
}

/// A singly linked list: starts at `first`, ends at 0. `next` reads the link of a node.
#[must_use]
pub fn chain(first: u64, cap: usize, next: impl Fn(u64) -> Read<u64>) -> Walked {
    let mut seen = HashSet::new();
    let mut nodes = Vec::new();
    let mut node = first;
    while node != 0 {
        if nodes.len() >= cap {
            return Walked { nodes, end: End::Truncated { limit: cap } };
        }
        if !seen.insert(node) {
            return Walked { nodes, end: End::Cycle { node } };
        }
        match next(node) {
            Ok(after) => {
                nodes.push(node);
                node = after;
            }
            Err(why) => return Walked { nodes, end: End::Broken { node, why, recovered: 0 } },
        }
    }
    Walked { nodes, end: End::Complete }
}

/// An `hlist_head`: its first node, then `next` at offset 0 of each; a set low bit ends a "nulls" list.
#[must_use]
pub fn hlist(target: &Target, head: u64) -> Walked {
    let end_or = |link: u64| if link & 1 == 1 { 0 } else { link };
    match target.read_ptr(head) {
        Ok(first) => chain(end_or(first), MAX_NODES, |node| target.read_ptr(node).map(end_or)),
        Err(why) => Walked { nodes: Vec::new(), end: End::Broken { node: head, why, recovered: 0 } },
    }
}

fn follow(
    head: u64,
    start: u64,
    seen: &mut HashSet<u64>,
    cap: usize,
    link: &dyn Fn(u64) -> Read<u64>,
) -> Walked {
    let mut nodes = Vec::new();
    let mut node = match link(start) {
        Ok(node) => node,
        Err(why) => return Walked { nodes, end: End::Broken { node: start, why, recovered: 0 } },
    };
    while node != head {
        if nodes.len() >= cap {
            return Walked { nodes, end: End::Truncated { limit: cap } };
        }
        if !seen.insert(node) {
            return Walked { nodes, end: End::Cycle { node } };
        }
        match link(node) {
            Ok(after) => {
                nodes.push(node);
                node = after;
            }
            Err(why) => return Walked { nodes, end: End::Broken { node, why, recovered: 0 } },
        }
    }
    Walked { nodes, end: End::Complete }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit;

    /// Memory with a `list_head` at each address: `(address, next, prev)`.
    fn lists(nodes: &[(u64, u64, u64)]) -> Target {
        let words: Vec<(u64, u64)> =
            nodes.iter().flat_map(|&(at, next, prev)| [(at, next), (at + 8, prev)]).collect();
        testkit::target(testkit::types("{}", "{}", &[]), &words)
    }

    #[test]
    fn a_whole_list_is_complete_in_order() {
        let target = lists(&[(0x1000, 0x2000, 0x3000), (0x2000, 0x3000, 0x1000), (0x3000, 0x1000, 0x2000)]);
        assert_eq!(list(&target, 0x1000), Walked { nodes: vec![0x2000, 0x3000], end: End::Complete });
    }

    #[test]
    fn an_empty_list_is_complete() {
        let target = lists(&[(0x1000, 0x1000, 0x1000)]);
        assert_eq!(list(&target, 0x1000), Walked { nodes: vec![], end: End::Complete });
    }

    #[test]
    fn a_list_that_loops_behind_its_head_is_reported() {
        let target = lists(&[(0x1000, 0x2000, 0x3000), (0x2000, 0x3000, 0x1000), (0x3000, 0x2000, 0x2000)]);
        assert_eq!(
            list(&target, 0x1000),
            Walked { nodes: vec![0x2000, 0x3000], end: End::Cycle { node: 0x2000 } }
        );
    }

    #[test]
    fn what_a_loop_cuts_off_is_found_from_the_other_end() {
        // 1000 -> 2000 -> 2000 ..., but 1000 <- 2000 <- 3000 <- 4000 <- 1000
        let target = lists(&[
            (0x1000, 0x2000, 0x4000),
            (0x2000, 0x2000, 0x1000),
            (0x3000, 0x4000, 0x2000),
            (0x4000, 0x1000, 0x3000),
        ]);
        let walked = list(&target, 0x1000);
        assert_eq!(walked.nodes, [0x2000, 0x3000, 0x4000]);
        assert_eq!(walked.end, End::Cycle { node: 0x2000 });
    }

    #[test]
    fn a_torn_list_is_continued_from_its_other_end() {
        // 1000 -> 2000 -> 5000 (missing) -> 3000 -> 4000 -> 1000
        let target = lists(&[
            (0x1000, 0x2000, 0x4000),
            (0x2000, 0x5000, 0x1000),
            (0x3000, 0x4000, 0x5000),
            (0x4000, 0x1000, 0x3000),
        ]);
        let walked = list(&target, 0x1000);
        assert_eq!(walked.nodes, [0x2000, 0x3000, 0x4000]);
        assert!(matches!(walked.end, End::Broken { node: 0x5000, recovered: 2, .. }), "{:?}", walked.end);
    }

    #[test]
    fn a_cap_ends_the_walk_and_says_so() {
        let target = lists(&[(0x1000, 0x2000, 0x3000), (0x2000, 0x3000, 0x1000), (0x3000, 0x1000, 0x2000)]);
        assert_eq!(
            list_capped(&target, 0x1000, 1),
            Walked { nodes: vec![0x2000], end: End::Truncated { limit: 1 } }
        );
    }

    #[test]
    fn an_hlist_ends_at_null_or_at_a_nulls_marker() {
        let target = lists(&[
            (0x1000, 0x2000, 0),
            (0x2000, 0x3000, 0),
            (0x3000, 0, 0),
            (0x4000, 0x2000, 0),
            (0x5000, 7, 0),
        ]);
        assert_eq!(hlist(&target, 0x1000).nodes, [0x2000, 0x3000]);
        assert_eq!(hlist(&target, 0x5000), Walked { nodes: vec![], end: End::Complete });
    }

    #[test]
    fn a_chain_into_missing_memory_is_broken_without_a_node_of_garbage() {
        let target = lists(&[(0x1000, 0x2000, 0), (0x2000, 0x9000, 0)]);
        let walked = hlist(&target, 0x1000);
        assert_eq!(walked.nodes, [0x2000]);
        assert!(matches!(walked.end, End::Broken { node: 0x9000, recovered: 0, .. }), "{:?}", walked.end);
    }
}
