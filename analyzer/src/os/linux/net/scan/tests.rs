use super::*;
use crate::os::linux::fixture::{DIRECT, IMAGE, Machine};

/// As few fields as the code needs, at offsets of our own.
const STRUCTS: &str = r#"{
    "list_head": [16, {"next": [0, ["Pointer"]], "prev": [8, ["Pointer"]]}],
    "proto": [64, {"node": [32, ["list_head"]]}],
    "net": [64, {"ns": [16, ["ns_common"]]}],
    "ns_common": [16, {"inum": [8, ["unsigned int"]]}],
    "possible_net_t": [8, {"net": [0, ["Pointer"]]}],
    "refcount_t": [4, {"refs": [0, ["atomic_t"]]}],
    "atomic_t": [4, {"counter": [0, ["int"]]}],
    "sock_common": [64, {"skc_family": [16, ["unsigned short"]], "skc_state": [18, ["unsigned char"]],
        "skc_prot": [24, ["Pointer"]], "skc_net": [32, ["possible_net_t"]], "skc_refcnt": [40, ["refcount_t"]],
        "skc_node": [48, ["hlist_node"]]}],
    "hlist_node": [16, {"next": [0, ["Pointer"]], "pprev": [8, ["Pointer"]]}],
    "sk_buff_head": [16, {"next": [0, ["Pointer"]], "prev": [8, ["Pointer"]]}],
    "sock": [128, {"__sk_common": [0, ["sock_common"]], "sk_type": [64, ["unsigned short"]],
        "sk_net_refcnt": [66, ["unsigned char"]], "sk_prot_creator": [72, ["Pointer"]],
        "sk_error_queue": [80, ["sk_buff_head"]], "sk_write_queue": [96, ["sk_buff_head"]]}]}"#;

const TCP: u64 = IMAGE + 0x1000;
const NET: u64 = IMAGE + 0x2000;
const LIST: u64 = IMAGE + 0x3000;
const SOCK: u64 = DIRECT + 0x10_0040;

/// One protocol on the list, one namespace, and a listening socket.
fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.symbol("proto_list", LIST).list(LIST, &[TCP + 32]).half(NET + 24, 0xf000_0000);
    machine.bytes(SOCK + 16, &[2, 0, 10]).word(SOCK + 24, TCP).word(SOCK + 32, NET).half(SOCK + 40, 1);
    machine.bytes(SOCK + 64, &[1, 0, 1]).word(SOCK + 72, TCP);
    machine
}

fn found(machine: &Machine) -> Vec<(u64, Read<bool>, Read<bool>)> {
    let notes = Notes::default();
    let found = scan(&notes, &machine.kernel_with(STRUCTS)).expect("the profile has everything");
    assert_eq!(notes.take(), []);
    found.into_iter().map(|found| (found.addr, found.freed, found.of_kernel)).collect()
}

fn spoilt(spoil: impl Fn(&mut Machine)) -> Vec<(u64, Read<bool>, Read<bool>)> {
    let mut machine = machine();
    spoil(&mut machine);
    found(&machine)
}

#[test]
fn a_socket_is_found_without_any_table() {
    assert_eq!(found(&machine()), [(SOCK, Ok(false), Ok(false))]);
    assert_eq!(spoilt(|machine| _ = machine.bytes(SOCK + 66, &[0])), [(SOCK, Ok(false), Ok(true))]);
}

#[test]
fn a_released_socket_is_found_whatever_became_of_its_namespace() {
    let released = |machine: &mut Machine| _ = machine.half(SOCK + 40, 0).half(NET + 24, 7);
    assert_eq!(spoilt(released), [(SOCK, Ok(true), Ok(false))]);
}

#[test]
fn a_copy_of_the_protocol_does_not_hide_a_socket() {
    assert_eq!(spoilt(|machine| _ = machine.word(SOCK + 24, DIRECT + 0x9000)).len(), 1);
}

#[test]
fn a_socket_in_time_wait_is_no_full_one() {
    let small = |machine: &mut Machine| _ = machine.bytes(SOCK + 18, &[6]).word(SOCK + 72, 0);
    let found = spoilt(small);
    assert!(matches!(found.as_slice(), [(SOCK, Ok(false), Err(object::Absent::NotApplicable(_)))]));
}

#[test]
fn a_copy_of_a_socket_is_none() {
    const ORIGINAL: u64 = DIRECT + 0x20_0040;
    // Empty queues: each head leads to itself.
    let queue = |machine: &mut Machine, at: u64, of: u64| _ = machine.word(at, of).word(at + 8, of);
    let own = |machine: &mut Machine| queue(machine, SOCK + 80, SOCK + 80);
    assert_eq!(spoilt(own).len(), 1);
    let copied = |machine: &mut Machine| {
        queue(machine, ORIGINAL + 80, ORIGINAL + 80);
        queue(machine, SOCK + 80, ORIGINAL + 80);
    };
    assert!(spoilt(copied).is_empty());
    let torn = |machine: &mut Machine| {
        copied(machine);
        queue(machine, SOCK + 96, SOCK + 96);
    };
    assert_eq!(spoilt(torn).len(), 1, "one of its queues is its own");
}

#[test]
fn a_copy_of_a_socket_in_time_wait_is_none() {
    const TABLE: u64 = IMAGE + 0x4000;
    let linked = |node: u64| {
        move |machine: &mut Machine| {
            machine.bytes(SOCK + 18, &[6]).word(SOCK + 72, 0).word(SOCK + 56, TABLE).word(TABLE, node);
        }
    };
    assert_eq!(spoilt(linked(SOCK + 48)).len(), 1);
    assert!(spoilt(linked(DIRECT + 0x20_0070)).is_empty());
}

#[test]
fn what_does_not_look_like_a_socket_is_left_out() {
    assert!(spoilt(|machine| _ = machine.bytes(SOCK + 16, &[0])).is_empty(), "no family");
    assert!(spoilt(|machine| _ = machine.bytes(SOCK + 18, &[0])).is_empty(), "no state");
    assert!(spoilt(|machine| _ = machine.bytes(SOCK + 64, &[11])).is_empty(), "type");
    assert!(spoilt(|machine| _ = machine.word(SOCK + 72, TCP + 8)).is_empty(), "creator");
    assert!(spoilt(|machine| _ = machine.word(SOCK + 32, DIRECT)).is_empty(), "namespace without number");
    assert!(spoilt(|machine| _ = machine.word(SOCK + 32, 0)).is_empty(), "no namespace");
}

#[test]
fn a_torn_list_of_protocols_is_said_to_be_so() {
    let mut machine = machine();
    machine.symbol("tcp_prot", TCP).word(LIST, 0xdead);
    let notes = Notes::default();
    assert_eq!(scan(&notes, &machine.kernel_with(STRUCTS)).expect("found").len(), 1);
    assert_ne!(notes.take(), []);
}
