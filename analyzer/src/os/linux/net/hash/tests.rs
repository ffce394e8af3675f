use super::super::super::testkit::{Memory, texts};
use super::*;

/// Four buckets of 16 bytes at 0x1000 with their heads at offset 8; nodes from 0x2000 on.
const TABLE: Table<'static> =
    Table { name: "t", first: 0x1008, buckets: 4, stride: 16, link: 0, locked_heads: false };

fn walk(memory: &Memory, table: &Table<'_>) -> (Vec<u64>, Vec<String>) {
    let notes = Notes::default();
    let target = memory.target("{}", &[]);
    let nodes = Walker::new(&target, &notes).nodes(table);
    (nodes, texts(&notes))
}

#[test]
fn chains_end_at_null_and_at_nulls_markers() {
    let mut memory = Memory::default();
    memory.word(0x1008, 0x2000).word(0x1018, 1).word(0x1028, 0x2100).word(0x1038, 0);
    memory.word(0x2000, 0x2040).word(0x2040, 0).word(0x2100, 5);
    assert_eq!(walk(&memory, &TABLE), (vec![0x2000, 0x2040, 0x2100], vec![]));
}

#[test]
fn a_locked_head_of_an_rhashtable_is_no_end() {
    let mut memory = Memory::default();
    memory.word(0x1008, 0x2001).word(0x1018, 0).word(0x1028, 1).word(0x1038, 0).word(0x2000, 3);
    assert_eq!(walk(&memory, &Table { locked_heads: true, ..TABLE }), (vec![0x2000], vec![]));
}

#[test]
fn a_torn_page_of_buckets_loses_only_its_own_buckets_and_is_reported() {
    let mut memory = Memory::default();
    // The table starts 16 bytes before the end of a page that is there and goes on in one that is not.
    memory.word(0xff8, 0x2000).word(0x2000, 0);
    let table = Table { first: 0xff8, ..TABLE };
    let (nodes, notes) = walk(&memory, &table);
    assert_eq!(nodes, [0x2000]);
    assert_eq!(
        notes,
        ["hash table t: 3 of 4 buckets cannot be read (first: unreadable at 0x1008: \
          physical address not in the image: 0x1008)"]
    );
}

#[test]
fn a_broken_chain_is_reported_and_the_rest_is_walked() {
    let mut memory = Memory::default();
    memory.word(0x1008, 0x2000).word(0x1018, 0x2100).word(0x2000, 0xdead_0000).word(0x2100, 0);
    let (nodes, notes) = walk(&memory, &TABLE);
    assert_eq!(nodes, [0x2000, 0x2100]);
    assert_eq!(
        notes,
        ["hash table t: 1 chains are broken (first: unreadable at 0xdead0000: \
          physical address not in the image: 0xdead0000)"]
    );
}

#[test]
fn loops_and_merging_chains_end_and_are_reported() {
    let mut memory = Memory::default();
    memory.word(0x1008, 0x2000).word(0x1018, 0x2040).word(0x2000, 0x2040).word(0x2040, 0x2000);
    let (nodes, notes) = walk(&memory, &TABLE);
    assert_eq!(nodes, [0x2000, 0x2040]);
    assert_eq!(notes, ["hash table t: 2 chains run into a node seen before"]);
}

#[test]
fn a_huge_number_of_buckets_is_capped_over_all_tables_together() {
    let mut memory = Memory::default();
    memory.word(0x1008, 0x2000).word(0x2000, 0);
    let (notes, target) = (Notes::default(), memory.target("{}", &[]));
    let mut walker = Walker::new(&target, &notes);
    let huge = Table { buckets: 1 << 32, stride: 8, ..TABLE };
    assert_eq!(walker.nodes(&huge), [0x2000]);
    assert!(walker.nodes(&TABLE).is_empty(), "nothing is left of the budget");
    let notes = texts(&notes);
    assert_eq!(notes[0], "hash table t claims 4294967296 buckets; only 16777216 were walked");
    assert!(notes[1].contains("buckets cannot be read"), "{notes:?}");
    assert_eq!(notes[2], "hash table t claims 4 buckets; only 0 were walked");
}
