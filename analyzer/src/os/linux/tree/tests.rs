use super::*;
use crate::notes::Severity;
use crate::os::linux::fixture::{DIRECT, IDLE, Machine, Process};

fn processes() -> [Process; 5] {
    [
        Process::new(1, "init", IDLE),
        Process::new(2, "kthreadd", IDLE),
        Process::new(9, "sleep", Process::place(7)),
        Process::new(7, "sh", Process::place(1)),
        Process::new(8, "cat", Process::place(1)),
    ]
}

fn tree(machine: &Machine) -> (Vec<(u32, u16)>, Vec<Severity>) {
    let notes = Notes::default();
    let kernel = machine.kernel();
    let nodes = process_tree(&notes, &kernel).expect("tree");
    let pid = |node: &Node| Task::at(kernel.target(), node.task).pid().expect("pid").cast_unsigned();
    let nodes = nodes.iter().map(|node| (pid(node), node.depth)).collect();
    (nodes, notes.take().into_iter().map(|note| note.severity).collect())
}

#[test]
fn children_follow_their_parent_by_pid() {
    let mut machine = Machine::new();
    machine.processes(&processes());
    assert_eq!(tree(&machine), (vec![(1, 0), (7, 1), (9, 2), (8, 1), (2, 0)], vec![]));
}

#[test]
fn a_process_missing_from_either_list_keeps_its_place() {
    let whole = vec![(1, 0), (7, 1), (9, 2), (8, 1), (2, 0)];
    let all = processes();
    let mut machine = Machine::new();
    machine.processes(&all);
    let listed: Vec<u64> = all.iter().filter(|p| p.pid != 7).map(|p| p.addr + 40).collect();
    machine.list(IDLE + 40, &listed);
    assert_eq!(tree(&machine), (whole.clone(), vec![]));
    let mut machine = Machine::new();
    machine.processes(&all).list(Process::place(1) + 56, &[]);
    assert_eq!(tree(&machine), (whole, vec![]));
}

#[test]
fn an_orphan_is_not_lost() {
    let all = processes();
    let mut machine = Machine::new();
    // The shell names a parent that is nowhere; it is still on the list of init's children.
    machine.processes(&all).word(all[3].addr + 32, DIRECT + 0x10_8000);
    let (nodes, notes) = tree(&machine);
    assert_eq!((nodes, notes), (vec![(1, 0), (7, 1), (9, 2), (8, 1), (2, 0)], vec![Severity::Partial]));
    machine.list(Process::place(1) + 56, &[all[4].addr + 72]);
    let (nodes, notes) = tree(&machine);
    assert_eq!((nodes, notes), (vec![(1, 0), (8, 1), (2, 0), (7, 0), (9, 1)], vec![Severity::Partial]));
}

#[test]
fn a_loop_of_parents_ends_with_every_process_once() {
    let all = processes();
    let mut machine = Machine::new();
    machine.processes(&all).word(all[3].addr + 32, all[2].addr);
    let (nodes, notes) = tree(&machine);
    assert_eq!(nodes, [(1, 0), (8, 1), (2, 0), (7, 0), (9, 1)]);
    // The shell is on the list of init's children, and its own grandparent.
    assert_eq!(notes, [Severity::Info, Severity::Partial]);
}
