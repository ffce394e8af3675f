use profile::{Document, Type};

use super::*;
use crate::testkit::{BtfBuilder, mutate};
use crate::types::emit::emit;
use crate::types::merge::Merger;

fn document(bytes: &[u8]) -> Document {
    let btf = parse(bytes).expect("parses");
    let merger = Merger::new();
    let defs = merger.add(&btf.table, Some(&btf.uses)).expect("few types");
    let mut document = Document::default();
    emit(&merger.finish(&[defs]), btf.table.address_size, &mut document);
    document
}

fn field(document: &Document, record: &str, name: &str) -> (i64, Type) {
    let field = document.structs[record].fields[name].clone();
    (field.offset, field.ty)
}

fn enumeration(name: &str, target: Type) -> Type {
    Type::Enumeration {
        name: Some(name.to_owned()),
        choices: Default::default(),
        target: Some(Box::new(target)),
    }
}

fn bits(start: u32, end: u32, target: &str) -> Type {
    Type::BitField { start, end, target: Some(Box::new(Type::named(target))) }
}

/// A little of everything, as one blob.
fn sample() -> Vec<u8> {
    let mut btf = BtfBuilder::new();
    let int = btf.int("int", 4);
    let long = btf.int("long unsigned int", 8);
    let color = btf.enumeration("color", true, &[("NONE", -1), ("RED", 7)]);
    let counter = btf.composite(4, "", 4, &[("counter", 0, 0, int)]);
    let atomic = btf.typedef("atomic_t", counter);
    // Equal contents are stored once: a second typedef of the same anonymous struct.
    let other = btf.typedef("other_t", counter);
    let union = btf.composite(5, "", 8, &[("word", 0, 0, long), ("half", 0, 0, int)]);
    let array = btf.add("", 3, false, 0, 0, &[int, int, 4]);
    let forward = btf.add("opaque", 7, false, 0, 0, &[]);
    let opaque = btf.pointer(forward);
    let prototype = btf.add("", 13, false, 1, 0, &[0, opaque]);
    let function = btf.pointer(prototype);
    btf.composite(
        4,
        "task_struct",
        64,
        &[
            ("pid", 0, 0, int),
            ("flag", 32, 1, int),
            ("hue", 40, 8, color),
            ("usage", 64, 0, atomic),
            ("other", 96, 0, other),
            ("", 128, 0, union),
            ("array", 192, 0, array),
            ("opaque", 320, 0, opaque),
            ("call", 384, 0, function),
            ("plain", 448, 0, color),
        ],
    );
    btf.add("big", 19, false, 1, 8, &[0, 0, 0x8000_0000]);
    btf.finish()
}

#[test]
fn every_kind_of_type_is_understood() {
    let document = document(&sample());
    let task = |name: &str| field(&document, "task_struct", name);
    assert_eq!(task("flag"), (4, bits(0, 1, "int")));
    assert_eq!(task("hue"), (4, enumeration("color", bits(8, 16, "int"))));
    assert_eq!(task("usage"), (8, Type::named("atomic_t")));
    assert_eq!(task("other"), (12, Type::named("other_t")));
    assert_eq!(task("half"), (16, Type::named("int")));
    assert_eq!(task("array"), (24, Type::array(4, Type::named("int"))));
    assert_eq!(task("opaque"), (40, Type::pointer(Type::named("opaque"))));
    assert_eq!(task("call"), (48, Type::pointer(Type::Function(vec![]))));
    assert_eq!(task("plain"), (56, enumeration("color", Type::named("int"))));
    assert_eq!(document.enums["color"].values["NONE"], -1);
    assert_eq!(document.enums["big"].values.values().collect::<Vec<_>>(), [&0x8000_0000_0000_0000]);
    assert_eq!(document.structs["atomic_t"], document.structs["other_t"]);
    assert!(!document.structs.contains_key("opaque"));
}

#[test]
fn bit_fields_of_old_generators_have_the_width_of_their_integer() {
    let mut btf = BtfBuilder::new();
    let int = btf.int("unsigned int", 4);
    // An integer of 4 bytes that holds 3 bits.
    let narrow = btf.add("unsigned int", 1, false, 0, 4, &[3]);
    btf.composite(
        4,
        "flags",
        8,
        &[("plain", 0, 0, int), ("first", 32, 0, narrow), ("second", 35, 0, narrow)],
    );
    let document = document(&btf.finish());
    assert_eq!(field(&document, "flags", "plain"), (0, Type::named("unsigned int")));
    assert_eq!(field(&document, "flags", "first"), (4, bits(0, 3, "unsigned int")));
    assert_eq!(field(&document, "flags", "second"), (4, bits(3, 6, "unsigned int")));
}

#[test]
fn the_definition_that_is_used_most_keeps_the_name_and_pointers_stay_exact() {
    let mut btf = BtfBuilder::new();
    let int = btf.int("int", 4);
    let rare = btf.composite(4, "node", 4, &[("value", 0, 0, int)]);
    let common = btf.composite(4, "node", 8, &[("value", 32, 0, int)]);
    let (to_rare, to_common) = (btf.pointer(rare), btf.pointer(common));
    btf.composite(4, "a", 8, &[("node", 0, 0, to_rare)]);
    btf.composite(4, "b", 8, &[("node", 0, 0, to_common)]);
    btf.composite(4, "c", 8, &[("node", 0, 0, to_common)]);
    let document = document(&btf.finish());
    assert_eq!(document.structs["node"].size, Some(8));
    let target = |record: &str| field(&document, record, "node").1;
    assert_eq!(target("a"), Type::pointer(Type::named("node@1")));
    assert_eq!(target("b"), Type::pointer(Type::named("node")));
}

#[test]
fn signs_of_old_enums_are_guessed() {
    let mut btf = BtfBuilder::new();
    let int = btf.int("int", 4);
    btf.enumeration("state", false, &[("DEAD", -1), ("ALIVE", 1)]);
    btf.enumeration("mask", false, &[("TOP", i32::MIN), ("LOW", 1)]);
    btf.composite(4, "any", 4, &[("x", 0, 0, int)]);
    let document = document(&btf.finish());
    assert_eq!(document.enums["state"].values["DEAD"], -1);
    assert_eq!(document.enums["mask"].values["TOP"], 0x8000_0000);
}

#[test]
fn what_is_no_btf_is_refused_with_the_reason() {
    let good = sample();
    let refused = |bytes: &[u8]| parse(bytes).map(|_| ()).unwrap_err();
    assert_eq!(refused(b"\x7fELF"), BtfError::Magic(0x457f));
    assert_eq!(refused(&good[..10]), BtfError::Outside("the header"));
    assert_eq!(refused(&good[..good.len() - 1]), BtfError::Outside("the string section"));
    let mut newer = good.clone();
    newer[2] = 2;
    assert_eq!(refused(&newer), BtfError::Version { version: 2, flags: 0 });
    let mut unknown = good.clone();
    unknown[24 + 7] = 31;
    assert_eq!(refused(&unknown), BtfError::Type { id: 1, reason: "unknown kind" });
    // A module's BTF counts on from its kernel's: ids and names beyond the blob.
    let mut module = BtfBuilder::new();
    module.composite(4, "own", 8, &[("base", 0, 0, 120_000)]);
    assert_eq!(refused(&module.finish()), BtfError::Split);
    assert_eq!(refused(&BtfBuilder::new().finish()), BtfError::Empty);
    assert_eq!(total_len(&good), Some(good.len()));
    assert_eq!(total_len(&good[1..]), None);
}

#[test]
fn ten_thousand_mutations_do_no_harm() {
    let good = sample();
    let mut parsed = 0;
    for seed in 0..10_000 {
        let bytes = mutate(&good, seed);
        let _ = total_len(&bytes);
        if parse(&bytes).is_ok() {
            parsed += 1;
            assert!(!document(&bytes).structs.is_empty());
        }
    }
    assert!((500..9_500).contains(&parsed), "mutations should both break and keep the blob: {parsed}");
}

/// The sample cut in two: what is behind the first records becomes a module's BTF over them.
#[test]
fn split_btf_continues_ids_and_names_of_its_base() {
    let mut base = BtfBuilder::new();
    let int = base.int("int", 4);
    let page = base.composite(4, "page", 64, &[("flags", 0, 0, int)]);
    let base = base.finish();
    let names = u32::from_le_bytes(base[20..24].try_into().expect("four bytes"));
    // struct zram { int size; struct page first; struct page *page; }, with the names of the members in the module's strings.
    let strings = b"\0zram\0size\0first\0page\0\0\0";
    let name = |at: u32| names + at;
    let pointer = page + 1;
    let words = [
        [0, 2 << 24, page].as_slice(),
        &[name(1), 4 << 24 | 3, 80],
        &[name(6), int, 0],
        &[name(11), page, 64],
        &[name(17), pointer, 576],
    ]
    .concat();
    let types = u32::try_from(words.len() * 4).expect("few");
    let header = [0x0001_eb9f, 24, 0, types, types, u32::try_from(strings.len()).expect("few")];
    let mut split: Vec<u8> = header.iter().chain(&words).flat_map(|word| word.to_le_bytes()).collect();
    split.extend(strings);
    assert_eq!(parse(&split).expect_err("incomplete"), BtfError::Split);
    let document = crate::module_types(&base, &split).expect("both are whole");
    assert_eq!(document.structs.keys().collect::<Vec<_>>(), ["page", "zram"]);
    assert_eq!(field(&document, "zram", "first"), (8, Type::named("page")));
    assert_eq!(field(&document, "zram", "page"), (72, Type::pointer(Type::named("page"))));
    for round in 0..2000 {
        let (base, split) = (mutate(&base, round), mutate(&split, round + 1));
        let _ = crate::module_types(&base, &split);
    }
}
