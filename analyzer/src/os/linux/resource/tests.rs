use super::super::testkit::{Memory, texts};
use super::*;

const STRUCTS: &str = r#"{"resource": [64, {
    "start": [0, ["unsigned long long"]], "end": [8, ["unsigned long long"]],
    "name": [16, ["Pointer", {"target": "char"}]],
    "sibling": [48, ["Pointer", {"target": "resource"}]],
    "child": [56, ["Pointer", {"target": "resource"}]]}]}"#;

/// Start, sibling and child of the resource at an address; its end is its start plus 0xf.
fn put(memory: &mut Memory, addr: u64, start: u64, sibling: u64, child: u64) {
    memory.words(addr, &[start, start + 0xf, 0x1f00, 0, 0, 0, sibling, child]);
}

fn starts(memory: &Memory) -> (Vec<(u16, u64)>, Vec<String>) {
    let notes = Notes::default();
    let target = memory.target(STRUCTS, &[("iomem_resource", 0x1000)]);
    let tree = tree(&notes, &target, "iomem_resource").expect("root is readable");
    (tree.iter().map(|(depth, r)| (*depth, r.start().expect("readable").0)).collect(), texts(&notes))
}

/// Root with 0x100 and 0x200, the former with child 0x101, whose child is 0x102.
fn sample() -> Memory {
    let mut memory = Memory::default();
    memory.bytes(0x1f00, b"name\0");
    put(&mut memory, 0x1000, 0, 0, 0x1100);
    put(&mut memory, 0x1100, 0x100, 0x1200, 0x1300);
    put(&mut memory, 0x1200, 0x200, 0, 0);
    put(&mut memory, 0x1300, 0x101, 0, 0x1400);
    put(&mut memory, 0x1400, 0x102, 0, 0);
    memory
}

const SAMPLE: [(u16, u64); 4] = [(0, 0x100), (1, 0x101), (2, 0x102), (0, 0x200)];

#[test]
fn children_come_behind_their_parent_with_their_depth() {
    assert_eq!(starts(&sample()), (SAMPLE.to_vec(), vec![]));
}

#[test]
fn a_sibling_that_points_back_ends_its_level_and_is_reported() {
    let mut memory = sample();
    put(&mut memory, 0x1200, 0x200, 0x1100, 0);
    assert_eq!(
        starts(&memory),
        (SAMPLE.to_vec(), vec!["list iomem_resource ends in a loop at 0x1100".to_owned()])
    );
}

#[test]
fn a_child_that_is_its_own_ancestor_is_reported() {
    let mut memory = sample();
    put(&mut memory, 0x1400, 0x102, 0, 0x1000);
    assert_eq!(
        starts(&memory),
        (SAMPLE.to_vec(), vec!["list iomem_resource ends in a loop at 0x1000".to_owned()])
    );
}

#[test]
fn an_unreadable_sibling_loses_only_what_is_behind_it() {
    let mut memory = sample();
    put(&mut memory, 0x1100, 0x100, 0x9000, 0x1300);
    let (found, notes) = starts(&memory);
    assert_eq!(found, SAMPLE[..3]);
    assert!(notes[0].starts_with("list iomem_resource is broken at 0x9000"), "{notes:?}");
}

#[test]
fn a_chain_of_children_that_never_ends_is_cut_off() {
    let mut memory = Memory::default();
    for level in 0..200 {
        put(&mut memory, 0x1000 + 0x40 * level, level, 0, 0x1000 + 0x40 * (level + 1));
    }
    let (found, notes) = starts(&memory);
    assert_eq!(found.len(), usize::from(MAX_DEPTH) + 1);
    assert_eq!(notes, ["iomem_resource: resources nested deeper than 64 levels were left out"]);
}

#[test]
fn a_resource_without_name_is_shown_as_the_kernel_does() {
    let mut memory = sample();
    memory.word(0x1110, 0).bytes(0x1f00, b"bad \xff name\0");
    let target = memory.target(STRUCTS, &[]);
    assert_eq!(Resource::at(&target, 0x1100).name().as_deref(), Ok("<BAD>"));
    assert_eq!(Resource::at(&target, 0x1200).name().as_deref(), Ok("bad \\xff name"));
}
