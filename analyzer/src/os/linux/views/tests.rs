use super::*;
use crate::notes::Severity;
use crate::os::linux::fixture::{DIRECT, IDLE, Machine, Process};

/// init, kthreadd, and a shell with a child.
fn processes() -> [Process; 4] {
    [
        Process::new(1, "init", IDLE),
        Process::new(2, "kthreadd", IDLE),
        Process::new(7, "sh", Process::place(1)),
        Process::new(9, "sleep", Process::place(7)),
    ]
}

fn addresses(pids: &[u32]) -> BTreeSet<u64> {
    pids.iter().map(|pid| Process::place(*pid)).collect()
}

fn found(machine: &Machine, method: Method) -> (BTreeSet<u64>, Vec<Severity>) {
    let notes = Notes::default();
    let tasks = method.tasks(&notes, &machine.kernel()).expect("the profile has everything");
    (tasks, notes.take().into_iter().map(|note| note.severity).collect())
}

#[test]
fn every_method_finds_every_process() {
    let mut machine = Machine::new();
    machine.processes(&processes());
    for method in Method::ALL {
        assert_eq!(found(&machine, method), (addresses(&[1, 2, 7, 9]), vec![]), "{method:?}");
    }
}

#[test]
fn a_process_taken_off_one_list_is_on_the_others() {
    let mut machine = Machine::new();
    let all = processes();
    machine.processes(&all);
    let links: Vec<u64> = all.iter().filter(|p| p.pid != 7).map(|p| p.addr + 40).collect();
    machine.list(IDLE + 40, &links);
    assert_eq!(found(&machine, Method::InitTask).0, addresses(&[1, 2, 9]));
    assert_eq!(found(&machine, Method::PidHashTable).0, addresses(&[1, 2, 7, 9]));
    assert_eq!(found(&machine, Method::Children).0, addresses(&[1, 2, 7, 9]));
}

#[test]
fn children_of_a_thread_belong_to_its_process() {
    let mut machine = Machine::new();
    let all = processes();
    machine.processes(&all);
    let thread = DIRECT + 0x10_8000;
    // The shell's child was made by its second thread.
    machine.thread(thread, all[2]).list(all[2].addr + 56, &[]).list(thread + 56, &[all[3].addr + 72]);
    let notes = Notes::default();
    let kernel = machine.kernel();
    assert_eq!(threads(&notes, &Task::at(kernel.target(), all[2].addr)), [all[2].addr, thread]);
    let last = Child { task: all[3].addr, parent: all[2].addr };
    assert_eq!(children(&notes, &kernel).expect("tree").last(), Some(&last));
    assert_eq!(notes.take(), []);
}

#[test]
fn the_table_of_pids_gives_leaders_only_and_skips_ids_without_a_task() {
    let mut machine = Machine::new();
    let all = processes();
    machine.processes(&all);
    let thread = DIRECT + 0x10_8000;
    machine
        .thread(thread, all[2])
        .word(all[3].pid_struct() + 8, thread + 128)
        .word(all[1].pid_struct() + 8, 0);
    assert_eq!(found(&machine, Method::PidHashTable), (addresses(&[1, 7]), vec![]));
}

#[test]
fn a_loop_of_children_ends_and_is_noted() {
    let mut machine = Machine::new();
    let all = processes();
    machine.processes(&all);
    // The list of the shell's children runs into itself, and the shell is its own descendant.
    machine.word(all[3].addr + 72, all[3].addr + 72).list(all[3].addr + 56, &[]);
    machine.word(all[3].addr + 56, all[2].addr + 72);
    let (tasks, notes) = found(&machine, Method::Children);
    assert_eq!(tasks, addresses(&[1, 2, 7, 9]));
    assert!(!notes.is_empty() && notes.iter().all(|severity| *severity == Severity::Partial));
}

#[test]
fn missing_symbols_are_absent_not_empty() {
    let kernel = Machine::new().kernel();
    for method in Method::ALL {
        assert!(matches!(method.tasks(&Notes::default(), &kernel), Err(Absent::NoProfile(_))), "{method:?}");
    }
}
