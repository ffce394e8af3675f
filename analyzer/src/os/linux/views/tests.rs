use super::*;
use crate::notes::Severity;
use crate::os::linux::fixture::{DIRECT, IDLE, IMAGE, Machine, Process, STRUCTS};

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

#[test]
fn the_hash_table_of_old_kernels_is_read() {
    // Up to v4.14: no IDR in the namespace, but links from pid_hash through upid.
    let structs = STRUCTS
        .replace(r#""pid_namespace": [64, {"idr": [8, ["idr"]]}]"#, r#""pid_namespace": [64, {}]"#)
        .replace(
            r#""pid": [64, {"#,
            r#""upid": [32, {"ns": [8, ["Pointer", {"target": "Void"}]], "pid_chain": [16, ["hlist_node"]]}],
           "pid": [96, {"numbers": [40, ["Array", {"count": 1, "target": "upid"}]], "#,
        );
    let mut machine = Machine::new();
    let all = processes();
    machine.processes(&all).symbol("pid_hash", IMAGE + 0x100).symbol("pidhash_shift", IMAGE + 0x108);
    let (table, namespace) = (DIRECT + 0x10_8000, IMAGE + 0x4000);
    machine.word(IMAGE + 0x100, table).half(IMAGE + 0x108, 1);
    // Two buckets: init and kthreadd in one, the shell in the other, and there an id of another namespace.
    let chain = |process: &Process| process.pid_struct() + 40 + 16;
    for process in &all {
        machine.word(process.pid_struct() + 40 + 8, namespace);
    }
    machine.word(table, chain(&all[0])).word(chain(&all[0]), chain(&all[1])).word(chain(&all[1]), 0);
    machine.word(table + 8, chain(&all[3])).word(chain(&all[3]), chain(&all[2])).word(chain(&all[2]), 0);
    machine.word(all[3].pid_struct() + 40 + 8, DIRECT + 0x8000);
    let notes = Notes::default();
    let tasks = Method::PidHashTable.tasks(&notes, &machine.kernel_with(&structs)).expect("table");
    assert_eq!((tasks, notes.take()), (addresses(&[1, 2, 7]), vec![]));
    machine.half(IMAGE + 0x108, 40);
    let hostile = Method::PidHashTable.tasks(&notes, &machine.kernel_with(&structs));
    assert_eq!(hostile, Err(Absent::Malformed("pidhash_shift")));
}

#[test]
fn any_damage_ends_with_an_answer() {
    // Xorshift, so that a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..200 {
        let mut machine = Machine::new();
        let all = processes();
        machine.processes(&all);
        let tasks: Vec<u64> = all.iter().map(|process| process.addr).chain([IDLE]).collect();
        for _ in 0..1 + random(12) {
            // A field of one task, or a slot of the table of pids, becomes a pointer into another task, or noise.
            let pick = |at: u64| tasks[usize::try_from(at).expect("small")];
            let (from, to) = (pick(random(5)) + random(24) * 8, pick(random(5)) + random(24) * 8);
            let from = if random(8) == 0 { DIRECT + 0x10_0000 + random(70) * 8 } else { from };
            machine.word(from, if random(4) == 0 { random(u64::MAX) } else { to + random(2) * 2 });
        }
        let (notes, kernel) = (Notes::default(), machine.kernel());
        for method in Method::ALL {
            if let Ok(found) = method.tasks(&notes, &kernel) {
                assert!(found.len() < 100, "{method:?}");
            }
        }
        if let Ok(nodes) = crate::os::linux::tree::process_tree(&notes, &kernel) {
            let once: BTreeSet<u64> = nodes.iter().map(|node| node.task).collect();
            assert_eq!(once.len(), nodes.len(), "a process stands twice in the tree");
        }
    }
}
