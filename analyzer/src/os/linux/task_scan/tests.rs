use super::*;
use crate::os::linux::fixture::{DIRECT, IDLE, Machine, Process};

fn found(machine: &Machine) -> Vec<u64> {
    let notes = Notes::default();
    let found = scan(&notes, &machine.kernel()).expect("the profile has everything");
    assert_eq!(notes.take(), []);
    found
}

#[test]
fn processes_are_found_without_any_list() {
    let mut machine = Machine::new();
    machine.processes(&[Process::new(1, "init", IDLE), Process::new(7, "sh", Process::place(1))]);
    // The list of processes is empty, the table of pids torn.
    machine.list(IDLE + 40, &[]).word(DIRECT + 0x10_0000, 0xff);
    // The idle task is no process, and it stands in the image, not in the direct map.
    assert_eq!(found(&machine), [Process::place(1), Process::place(7)]);
}

#[test]
fn what_does_not_look_like_a_process_is_left_out() {
    let process = Process::new(7, "sh", IDLE);
    let spoilt = |spoil: &dyn Fn(&mut Machine)| {
        let mut machine = Machine::new();
        machine.processes(&[process]);
        spoil(&mut machine);
        found(&machine)
    };
    assert_eq!(spoilt(&|_| {}), [process.addr]);
    assert!(spoilt(&|machine| _ = machine.word(process.addr + 24, DIRECT)).is_empty(), "group_leader");
    assert!(spoilt(&|machine| _ = machine.half(process.addr, 0)).is_empty(), "pid 0");
    assert!(spoilt(&|machine| _ = machine.half(process.addr + 4, 8)).is_empty(), "a thread");
    assert!(
        spoilt(&|machine| _ = machine.word(process.addr + 32, 0x1000)).is_empty(),
        "user address as parent"
    );
    assert!(spoilt(&|machine| _ = machine.bytes(process.addr + 8, &[b'x'; 16])).is_empty(), "endless name");
}

#[test]
fn the_stage_of_life_is_told() {
    let process = Process::new(7, "sh", IDLE);
    let mut machine = Machine::new();
    machine.processes(&[process]);
    let life = |machine: &Machine| Life::of(&Task::at(machine.kernel().target(), process.addr));
    assert_eq!(life(&machine), Ok(Life::Alive));
    machine.half(process.addr + 96, 32);
    assert_eq!(life(&machine), Ok(Life::Zombie));
    machine.word(process.addr + 88, 0);
    assert_eq!(life(&machine), Ok(Life::Dead));
}

#[test]
fn a_process_cut_off_by_the_end_of_memory_is_no_panic() {
    let mut machine = Machine::new();
    // Only the fields up to group_leader fit.
    machine.processes(&[]).word(DIRECT + 0x60_0000 - 8, DIRECT + 0x60_0000 - 32);
    assert!(found(&machine).is_empty());
}
