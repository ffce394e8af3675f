//! The tree of processes by parent.

use std::collections::{BTreeSet, HashMap, HashSet};

use object::{Absent, Ptr, Read};

use super::Kernel;
use super::task::{Task, describe, sort_by_pid};
use super::views::{Method, children};
use crate::notes::Notes;

/// A process in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Its `task_struct`.
    pub task: u64,
    /// Number of its ancestors above it; those of pid 0, the idle task, have none.
    pub depth: u16,
}

/// All processes in the order of the tree: each before its children, siblings by pid.
///
/// Processes are those on the list of processes and those on lists of children. A process stands under the thread
/// group it names as parent (`real_parent`), else under the one whose list it is on. One whose parent is neither is
/// not lost: it stands at the top, and so does the first one of a loop of parents. All that is noted.
///
/// # Errors
/// What the profile lacks for both ways to the processes.
pub fn process_tree(notes: &Notes, kernel: &Kernel) -> Read<Vec<Node>> {
    let listed = Method::InitTask.tasks(notes, kernel);
    let owners = children(notes, kernel);
    if let (Err(why), Err(_)) = (&listed, &owners) {
        return Err(why.clone());
    }
    for why in [listed.as_ref().err(), owners.as_ref().err()].into_iter().flatten() {
        notes.partial(format!("one of two ways to the processes is closed: {why}"));
    }
    let owners: HashMap<u64, u64> =
        owners.unwrap_or_default().into_iter().map(|child| (child.task, child.parent)).collect();
    let known: BTreeSet<u64> = listed.unwrap_or_default().into_iter().chain(owners.keys().copied()).collect();

    let target = kernel.target();
    let idle = target.symbol("init_task")?;
    let mut tasks: Vec<Task<'_>> = known.iter().map(|task| Task::at(target, *task)).collect();
    sort_by_pid(&mut tasks);
    let mut below: HashMap<u64, Vec<u64>> = HashMap::new();
    let mut roots = Vec::new();
    for task in &tasks {
        let exists = |parent: &u64| *parent == idle || known.contains(parent);
        let owner = owners.get(&task.addr()).copied();
        let parent = match parent_group(task) {
            Ok(parent) if exists(&parent) => {
                if owner.is_some_and(|owner| owner != parent) {
                    notes.info(format!("{} is on the list of children of another parent", describe(task)));
                }
                Some(parent)
            }
            unknown => {
                let why =
                    unknown.map_or_else(|why| why.to_string(), |parent| format!("{parent:#x} is no process"));
                notes.partial(format!("parent of {} is not known: {why}", describe(task)));
                owner
            }
        };
        match parent {
            Some(parent) if parent != idle => below.entry(parent).or_default().push(task.addr()),
            _ => roots.push(task.addr()),
        }
    }
    let mut order = Order { below: &below, seen: HashSet::new(), nodes: Vec::new() };
    for root in roots {
        order.visit(root);
    }
    for task in &tasks {
        if !order.seen.contains(&task.addr()) {
            notes.partial(format!("{} is its own ancestor", describe(task)));
            order.visit(task.addr());
        }
    }
    Ok(order.nodes)
}

/// Leader of the thread group of the thread that is the parent.
fn parent_group(task: &Task<'_>) -> Read<u64> {
    let parent = task.real_parent()?.non_null("no parent")?;
    match Task::at(task.target(), parent).group_leader()? {
        Ptr(0) => Err(Absent::Malformed("parent without a thread group")),
        Ptr(leader) => Ok(leader),
    }
}

struct Order<'b> {
    below: &'b HashMap<u64, Vec<u64>>,
    seen: HashSet<u64>,
    nodes: Vec<Node>,
}

impl Order<'_> {
    /// Adds a process and all below it that are not there yet. Without recursion: a chain of parents may be long.
    fn visit(&mut self, root: u64) {
        let mut waiting = vec![Node { task: root, depth: 0 }];
        while let Some(node) = waiting.pop() {
            if !self.seen.insert(node.task) {
                continue;
            }
            self.nodes.push(node);
            let depth = node.depth.saturating_add(1);
            let children = self.below.get(&node.task).map(Vec::as_slice).unwrap_or_default();
            waiting.extend(children.iter().rev().map(|task| Node { task: *task, depth }));
        }
    }
}

#[cfg(test)]
mod tests;
