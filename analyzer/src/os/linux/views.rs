//! Independent ways to the processes of a kernel, to compare: what one list lacks, another may have.
//!
//! All give thread-group leaders without the idle tasks (pid 0). Sources: include/linux/{sched,sched/signal,pid}.h,
//! kernel/{fork,pid,exit}.c.

use std::collections::{BTreeSet, HashSet, VecDeque};

use object::walk::{self, End, MAX_NODES};
use object::{Absent, Addr, Ptr, Read, Target, layout};

use super::task::Task;
use super::{Kernel, xarray};
use crate::notes::Notes;

/// Largest `pidhash_shift`: `pidhash_init()` allows 2^12 buckets up to v3.9, 2^18 and fewer from then on.
const MAX_PIDHASH_SHIFT: u32 = 18;

layout! {
    struct Links / LinksLayout = "task_struct" {
        thread_node: Addr = "thread_node",
        thread_group: Addr = "thread_group",
        pid_links: Addr = "pid_links | pids",
    }

    struct Signal / SignalLayout = "signal_struct" {
        thread_head: Addr = "thread_head",
    }

    struct PidNamespace / PidNamespaceLayout = "pid_namespace" {
        idr: Addr = "idr.idr_rt",
    }

    struct Pid / PidLayout = "pid" {
        tasks: Addr = "tasks",
    }

    struct Upid / UpidLayout = "upid" {
        ns: Ptr = "ns",
        pid_chain: Addr = "pid_chain",
    }
}

/// A way to the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Method {
    /// The list of processes, `init_task.tasks`
    #[value(name = "InitTask")]
    InitTask,
    /// The table of process ids
    #[value(name = "PidHashTable")]
    PidHashTable,
    /// The tree of children, from `init_task.children`
    #[value(name = "Children")]
    Children,
}

impl Method {
    /// All of them, in the order of their columns.
    pub const ALL: [Self; 3] = [Self::InitTask, Self::PidHashTable, Self::Children];

    /// Addresses of the processes it finds. How lists end is noted.
    ///
    /// # Errors
    /// What the profile lacks, or why the root cannot be read.
    pub fn tasks(self, notes: &Notes, kernel: &Kernel) -> Read<BTreeSet<u64>> {
        match self {
            Self::InitTask => {
                let (tasks, end) = task_list(kernel)?;
                notes.walk("init_task.tasks", &end);
                Ok(tasks)
            }
            Self::PidHashTable => pid_table(notes, kernel),
            Self::Children => {
                children(notes, kernel).map(|found| found.into_iter().map(|child| child.task).collect())
            }
        }
    }
}

/// The list of processes: every thread-group leader, linked in `copy_process()`, unlinked in `release_task()`. And how it
/// ended.
///
/// # Errors
/// What the profile lacks.
pub fn task_list(kernel: &Kernel) -> Read<(BTreeSet<u64>, End)> {
    let target = kernel.target();
    let link = target.offset_of(Task::STRUCT, "tasks")?;
    let walked = walk::list(target, target.symbol("init_task")?.wrapping_add(link));
    Ok((walked.containers(link).collect(), walked.end))
}

/// The table by which the kernel finds a task by its pid in the initial namespace.
///
/// From Linux commit 95846ecf9dac (v4.15) an IDR of `struct pid` in the namespace, `pid_hash` before.
fn pid_table(notes: &Notes, kernel: &Kernel) -> Read<BTreeSet<u64>> {
    let target = kernel.target();
    let namespace = target.symbol("init_pid_ns")?;
    let pids = match PidNamespace::at(target, namespace).idr() {
        Ok(Addr(idr)) => {
            let found = xarray::entries(target, idr)?;
            notes.walk("init_pid_ns.idr", &found.end);
            found.entries.into_iter().map(|(_, pid)| pid).collect()
        }
        Err(_) => pid_hash(notes, target, namespace)?,
    };
    let link = Links::at(target, 0).pid_links()?.0;
    let mut tasks = BTreeSet::new();
    for pid in pids {
        // tasks[PIDTYPE_PID], the first of the lists, holds the one task of that id; it is empty where the id lives on
        // as that of a group or session.
        let Addr(list) = Pid::at(target, pid).tasks()?;
        match target.read_ptr(list) {
            Ok(0) => {}
            Ok(node) => {
                let task = Task::at(target, node.wrapping_sub(link));
                if !is_other(&task) {
                    tasks.insert(task.addr());
                }
            }
            Err(why) => notes.partial(format!("struct pid at {pid:#x} cannot be read: {why}")),
        }
    }
    Ok(tasks)
}

/// Whether it is a thread that is not its group's leader, or no task at all. A task that is torn may be a leader.
fn is_other(task: &Task<'_>) -> bool {
    task.group_leader().is_ok_and(|Ptr(leader)| leader != task.addr())
}

/// Addresses of the `struct pid`s of a namespace in `pid_hash`, up to v4.14.
fn pid_hash(notes: &Notes, target: &Target, namespace: u64) -> Read<Vec<u64>> {
    let table = target.read_ptr(target.symbol("pid_hash")?)?;
    let shift = target.read_u32(target.symbol("pidhash_shift")?)?;
    if shift > MAX_PIDHASH_SHIFT {
        return Err(Absent::Malformed("pidhash_shift"));
    }
    let chain = Upid::at(target, 0).pid_chain()?.0;
    // numbers[0] is the id in the initial namespace.
    let numbers = target.offset_of(Pid::STRUCT, "numbers")?;
    let width = u64::from(target.types().model().pointer_size());
    let (mut pids, mut left) = (Vec::new(), MAX_NODES);
    for bucket in 0..1u64 << shift {
        let head = table.wrapping_add(bucket.wrapping_mul(width));
        let first = match target.read_ptr(head) {
            Ok(first) => first,
            Err(why) => {
                notes.walk("pid_hash", &End::Broken { node: head, why, recovered: 0 });
                continue;
            }
        };
        let walked = walk::chain(first, left, |node| target.read_ptr(node));
        notes.walk("pid_hash", &walked.end);
        left = left.saturating_sub(walked.nodes.len());
        for upid in walked.containers(chain) {
            if Upid::at(target, upid).ns() == Ok(Ptr(namespace)) {
                pids.push(upid.wrapping_sub(numbers));
            }
        }
    }
    Ok(pids)
}

/// A process on a list of children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// Its `task_struct`.
    pub task: u64,
    /// Leader of the thread group whose list it is on.
    pub parent: u64,
}

/// The tree of children: every process is on the `children` list of the thread that created or adopted it.
///
/// Parents come before their children. A process that is on several lists is given for the first one.
pub fn children(notes: &Notes, kernel: &Kernel) -> Read<Vec<Child>> {
    let target = kernel.target();
    let sibling = Task::at(target, 0).sibling()?.0;
    let init = target.symbol("init_task")?;
    let (mut seen, mut found) = (HashSet::from([init]), Vec::new());
    let mut queue = VecDeque::from([init]);
    let mut others = 0usize;
    // For all lists together: many processes may share one long list of threads, which is then walked for each.
    let mut left = MAX_NODES;
    while let Some(parent) = queue.pop_front() {
        if left == 0 {
            notes.walk("task_struct.children", &End::Truncated { limit: MAX_NODES });
            break;
        }
        let threads = threads_capped(notes, &Task::at(target, parent), left);
        left = left.saturating_sub(threads.len());
        for thread in threads {
            let Addr(head) = Task::at(target, thread).children()?;
            let walked = walk::list_capped(target, head, left);
            left = left.saturating_sub(walked.nodes.len());
            notes.walk("task_struct.children", &walked.end);
            for task in walked.containers(sibling) {
                if !seen.insert(task) {
                    continue;
                }
                // Only leaders are on these lists; a list that was led astray runs through anything.
                if is_other(&Task::at(target, task)) {
                    others += 1;
                    continue;
                }
                found.push(Child { task, parent });
                queue.push_back(task);
            }
        }
    }
    if others > 0 {
        notes.partial(format!("{others} entries of lists of children are no processes"));
    }
    Ok(found)
}

/// Threads of a process, its leader first: `signal_struct.thread_head` (Linux commit 0c740d0afc3b, v3.14), the ring
/// `thread_group` before.
pub fn threads(notes: &Notes, leader: &Task<'_>) -> Vec<u64> {
    threads_capped(notes, leader, MAX_NODES)
}

fn threads_capped(notes: &Notes, leader: &Task<'_>, cap: usize) -> Vec<u64> {
    let target = leader.target();
    let mut threads = vec![leader.addr()];
    let signal = leader.signal().and_then(|signal| signal.non_null("no signal state"));
    let head = signal.and_then(|signal| Signal::at(target, signal).thread_head());
    let (head, link) = match (head, Links::at(target, 0).thread_node()) {
        (Ok(Addr(head)), Ok(Addr(link))) => (head, link),
        _ => match (Links::at(target, leader.addr()).thread_group(), Links::at(target, 0).thread_group()) {
            (Ok(Addr(head)), Ok(Addr(link))) => (head, link),
            _ => return threads,
        },
    };
    let walked = walk::list_capped(target, head, cap);
    notes.walk(&format!("threads of {}", super::task::describe(leader)), &walked.end);
    threads.extend(walked.containers(link).filter(|thread| *thread != leader.addr()));
    threads
}

#[cfg(test)]
mod tests;
