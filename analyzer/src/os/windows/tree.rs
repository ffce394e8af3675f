//! The tree of processes: who created whom.

use std::collections::{HashMap, HashSet};

use super::process::Process;

/// Deepest nesting shown; deeper ones stand at this depth.
const MAX_DEPTH: u16 = 256;

/// Processes in the order of a tree, each with its depth, siblings as they came.
///
/// Ids are used again, so a creator must not be younger than what it created. Processes whose creator is gone are roots.
#[must_use]
pub fn process_tree<'k>(processes: &[Process<'k>]) -> Vec<(Process<'k>, u16)> {
    let by_pid: HashMap<u64, &Process<'k>> =
        processes.iter().rev().filter_map(|process| Some((process.pid().ok()?, process))).collect();
    let parent = |process: &Process<'k>| {
        let parent = *by_pid.get(&process.ppid().ok()?)?;
        let older = match (parent.create_time(), process.create_time()) {
            (Ok(parent), Ok(child)) => parent <= child,
            _ => true,
        };
        (older && parent.addr() != process.addr()).then(|| parent.addr())
    };
    let mut children: HashMap<u64, Vec<Process<'k>>> = HashMap::new();
    let mut roots = Vec::new();
    for process in processes {
        match parent(process) {
            Some(parent) => children.entry(parent).or_default().push(*process),
            None => roots.push(*process),
        }
    }
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    // Processes that name each other as creators have no root; they begin with the first of them.
    for root in roots.into_iter().chain(processes.iter().copied()) {
        let mut stack = vec![(root, 0u16)];
        while let Some((process, depth)) = stack.pop() {
            if !seen.insert(process.addr()) {
                continue;
            }
            found.push((process, depth));
            let below = children.get(&process.addr()).into_iter().flatten().rev();
            stack.extend(below.map(|child| (*child, depth.saturating_add(1).min(MAX_DEPTH))));
        }
    }
    found
}
