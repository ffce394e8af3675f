use gimli::constants::*;
use profile::{Document, Field, Struct, Type};

use crate::testkit::{ElfBuilder, Unit, Value};
use crate::{Converted, FitnessReport, LinuxOptions, convert_linux_bytes};

const SYMBOLS: [(&str, u64, bool); 2] =
    [("_text", 0xffff_ffff_8100_0000, true), ("init_task", 0xffff_ffff_8200_0000, true)];

/// Ends the units and converts a kernel made of them.
fn convert(units: &[Unit]) -> Converted {
    let elf = ElfBuilder::kernel().dwarf(units).symbols(&SYMBOLS).finish();
    convert_linux_bytes(&elf, "vmlinux", &LinuxOptions::default()).expect("converts")
}

fn document(unit: Unit) -> Document {
    convert(&[unit]).document
}

fn field(document: &Document, record: &str, name: &str) -> (i64, Type) {
    let Field { offset, ty } = document.structs[record].fields[name].clone();
    (offset, ty)
}

fn named(name: &str) -> Type {
    Type::named(name)
}

fn bits(start: u32, end: u32, target: &str) -> Type {
    Type::BitField { start, end, target: Some(Box::new(named(target))) }
}

#[test]
fn names_of_a_module_come_through_its_relocations() {
    let mut unit = Unit::new(4);
    let int = unit.base("int", 4);
    unit.record("task_struct", 8, &[("pid", 4, int)]);
    let module = ElfBuilder::module().relocated_dwarf(&unit).symbols(&[]).finish();
    let map = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(map.path(), "ffffffff81000000 T _text\n").unwrap();
    let options = LinuxOptions { system_map: Some(map.path().to_owned()), ..LinuxOptions::default() };
    let converted = convert_linux_bytes(&module, "module.ko", &options).expect("converts");
    assert_eq!(converted.document.structs.keys().collect::<Vec<_>>(), ["task_struct"]);
    assert_eq!(field(&converted.document, "task_struct", "pid"), (4, named("int")));
}

#[test]
fn bit_fields_of_dwarf_4_and_5_are_the_same() {
    let build = |version| {
        let mut unit = Unit::new(version);
        let u32_type = unit.base("unsigned int", 4);
        let color = unit.entry(
            DW_TAG_enumeration_type,
            true,
            &[(DW_AT_name, Value::Text("color")), (DW_AT_byte_size, Value::Number(4))],
        );
        let red = [(DW_AT_name, Value::Text("RED")), (DW_AT_const_value, Value::Byte(200))];
        unit.entry(DW_TAG_enumerator, false, &red);
        unit.end();
        let record = [(DW_AT_name, Value::Text("flags")), (DW_AT_byte_size, Value::Number(8))];
        unit.entry(DW_TAG_structure_type, true, &record);
        for (name, ty, start, len) in
            [("low", u32_type, 0, 3), ("high", u32_type, 35, 5), ("hue", color, 40, 8)]
        {
            let mut attributes = vec![
                (DW_AT_name, Value::Text(name)),
                (DW_AT_type, Value::Ref(ty)),
                (DW_AT_bit_size, Value::Number(len)),
            ];
            if version >= 5 {
                attributes.push((DW_AT_data_bit_offset, Value::Number(start)));
            } else {
                attributes.push((DW_AT_byte_size, Value::Number(4)));
                attributes.push((DW_AT_data_member_location, Value::Number(start / 32 * 4)));
                attributes.push((DW_AT_bit_offset, Value::Number(32 - start % 32 - len)));
            }
            unit.entry(DW_TAG_member, false, &attributes);
        }
        unit.end();
        document(unit)
    };
    let (four, five) = (build(4), build(5));
    assert_eq!(four.structs, five.structs);
    assert_eq!(field(&four, "flags", "low"), (0, bits(0, 3, "unsigned int")));
    assert_eq!(field(&four, "flags", "high"), (4, bits(3, 8, "unsigned int")));
    let hue = Type::Enumeration {
        name: Some("color".to_owned()),
        choices: Default::default(),
        target: Some(Box::new(bits(8, 16, "unsigned int"))),
    };
    assert_eq!(field(&four, "flags", "hue"), (4, hue));
    // DW_FORM_data1 200 is 200, not -56.
    assert_eq!(four.enums["color"].values["RED"], 200);
}

#[test]
fn all_dimensions_of_arrays_survive() {
    let mut unit = Unit::new(5);
    let char_type = unit.base("char", 1);
    let array = |unit: &mut Unit, dimensions: &[(gimli::DwAt, Value<'_>)]| {
        let offset = unit.entry(DW_TAG_array_type, true, &[(DW_AT_type, Value::Ref(char_type))]);
        for dimension in dimensions {
            unit.entry(DW_TAG_subrange_type, false, &[*dimension]);
        }
        unit.end();
        offset
    };
    let matrix = array(
        &mut unit,
        &[
            (DW_AT_upper_bound, Value::Byte(1)),
            (DW_AT_count, Value::Number(3)),
            (DW_AT_upper_bound, Value::Byte(255)),
        ],
    );
    let zero = array(&mut unit, &[(DW_AT_upper_bound, Value::Signed(-1))]);
    let flexible = unit.entry(DW_TAG_array_type, true, &[(DW_AT_type, Value::Ref(char_type))]);
    unit.entry(DW_TAG_subrange_type, false, &[]);
    unit.end();
    unit.record("arrays", 1536, &[("matrix", 0, matrix), ("zero", 1536, zero), ("flexible", 1536, flexible)]);
    let document = document(unit);
    let expected = Type::array(2, Type::array(3, Type::array(256, named("char"))));
    assert_eq!(field(&document, "arrays", "matrix"), (0, expected));
    for name in ["zero", "flexible"] {
        assert_eq!(field(&document, "arrays", name), (1536, Type::array(0, named("char"))));
    }
}

#[test]
fn members_of_anonymous_members_are_reached_by_the_names_c_uses() {
    let mut unit = Unit::new(4);
    let int = unit.base("int", 4);
    let inner = unit.record("", 8, &[("x", 0, int), ("y", 4, int)]);
    let outer = unit.composite(DW_TAG_union_type, "", 8, &[("", 0, inner), ("word", 0, int)]);
    let second = unit.record("", 4, &[("tail", 0, int), ("u1", 0, int)]);
    unit.record("holder", 24, &[("head", 0, int), ("", 8, outer), ("", 20, second)]);
    let document = document(unit);
    let offsets: Vec<(&str, i64)> =
        document.structs["holder"].fields.iter().map(|(name, field)| (name.as_str(), field.offset)).collect();
    let expected = [("head", 0), ("tail", 20), ("u1", 8), ("u2", 20), ("word", 8), ("x", 8), ("y", 12)];
    assert_eq!(offsets, expected);
    // The anonymous union itself is a type of its own, with its own anonymous member.
    let (_, Type::Named(union)) = field(&document, "holder", "u1") else { panic!("u1 is a union") };
    assert!(union.starts_with("__unnamed_"), "{union}");
    assert_eq!(field(&document, &union, "y").0, 4);
}

#[test]
fn typedefs_name_anonymous_types_and_are_transparent_otherwise() {
    let mut unit = Unit::new(4);
    let int = unit.base("int", 4);
    let anonymous = unit.record("", 4, &[("counter", 0, int)]);
    let qualified = unit.modifier(DW_TAG_const_type, anonymous);
    let atomic = unit.typedef("atomic_t", qualified);
    let tagged = unit.record("spinlock", 4, &[("lock", 0, atomic)]);
    let alias = unit.typedef("spinlock_t", tagged);
    unit.record("user", 16, &[("count", 0, atomic), ("lock", 4, alias)]);
    let document = document(unit);
    assert_eq!(field(&document, "user", "count"), (0, named("atomic_t")));
    assert_eq!(field(&document, "user", "lock"), (4, named("spinlock")));
    assert_eq!(document.structs["spinlock_t"], document.structs["spinlock"]);
    let names: Vec<_> = document.structs.keys().collect();
    assert_eq!(names, ["atomic_t", "spinlock", "spinlock_t", "user"], "no copy under an __unnamed_ name");
}

/// A unit that defines `struct node` of a size and `holder`, which points to it.
fn unit_with_node(size: u64, holder: &str) -> Unit {
    let mut unit = Unit::new(4);
    let int = unit.base("int", 4);
    let node = unit.record("node", size, &[("value", size - 4, int)]);
    let pointer = unit.modifier(DW_TAG_pointer_type, node);
    unit.record(holder, 8, &[("node", 0, pointer)]);
    unit
}

#[test]
fn same_named_types_are_kept_apart_and_pointers_mean_that_of_their_unit() {
    let declaring = |holder| {
        let mut unit = Unit::new(4);
        let attributes = [(DW_AT_name, Value::Text("node")), (DW_AT_declaration, Value::Flag)];
        let node = unit.entry(DW_TAG_structure_type, false, &attributes);
        let pointer = unit.modifier(DW_TAG_pointer_type, node);
        unit.record(holder, 8, &[("node", 0, pointer)]);
        unit
    };
    let units = || {
        vec![
            unit_with_node(8, "rare"),
            unit_with_node(16, "common"),
            unit_with_node(16, "other"),
            declaring("stranger"),
        ]
    };
    let converted = convert(&units());
    let document = &converted.document;
    assert_eq!(document.structs["node"].size, Some(16));
    assert_eq!(document.structs["node@1"].size, Some(8));
    let target = |holder: &str| field(document, holder, "node").1;
    assert_eq!(target("rare"), Type::pointer(named("node@1")));
    for holder in ["common", "other", "stranger"] {
        assert_eq!(target(holder), Type::pointer(named("node")), "{holder}");
    }
    assert_eq!(converted.report.ambiguous_names, 1);
}

#[test]
fn a_struct_that_embeds_another_layout_is_another_layout() {
    let build = |size: u64| {
        let mut unit = Unit::new(4);
        let int = unit.base("int", 4);
        let inner = unit.record("inner", size, &[("a", 0, int)]);
        unit.record("outer", 32, &[("inner", 0, inner)]);
        unit
    };
    let document = convert(&[build(8), build(8), build(16)]).document;
    assert_eq!(field(&document, "outer", "inner").1, named("inner"));
    assert_eq!(field(&document, "outer@1", "inner").1, named("inner@1"));
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let units: Vec<Unit> =
        (0..64).map(|n| unit_with_node(8 + n % 5 * 4, if n % 2 == 0 { "even" } else { "odd" })).collect();
    let elf = ElfBuilder::kernel().dwarf(&units).symbols(&SYMBOLS).finish();
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let converted = pool.install(|| convert_linux_bytes(&elf, "vmlinux", &LinuxOptions::default()));
        converted.expect("converts").document.to_canonical_json()
    };
    let one = with(1);
    for threads in [2, 3, 8] {
        assert_eq!(with(threads), one);
    }
}

#[test]
fn types_inside_functions_are_read_and_declarations_are_not() {
    let mut unit = Unit::new(5);
    let int = unit.base("int", 4);
    unit.entry(DW_TAG_subprogram, true, &[(DW_AT_name, Value::Text("f"))]);
    unit.entry(DW_TAG_lexical_block, true, &[]);
    unit.record("inside", 4, &[("x", 0, int)]);
    unit.end();
    unit.entry(DW_TAG_inlined_subroutine, true, &[]);
    unit.entry(DW_TAG_formal_parameter, false, &[]);
    unit.end();
    unit.end();
    let declared = [(DW_AT_name, Value::Text("opaque")), (DW_AT_declaration, Value::Flag)];
    let opaque = unit.entry(DW_TAG_structure_type, false, &declared);
    let pointer = unit.modifier(DW_TAG_pointer_type, opaque);
    unit.record("empty", 0, &[]);
    unit.record("after", 8, &[("opaque", 0, pointer)]);
    let document = document(unit);
    assert_eq!(document.structs.keys().collect::<Vec<_>>(), ["after", "empty", "inside"]);
    assert_eq!(document.structs["empty"], Struct { size: Some(0), fields: Default::default() });
    assert_eq!(field(&document, "after", "opaque").1, Type::pointer(named("opaque")));
}

#[test]
fn enums_have_their_real_size_and_sign() {
    let mut unit = Unit::new(5);
    let mut members = Vec::new();
    for (name, size, value) in [("small", 1, 3), ("negative", 4, -2), ("wide", 8, i64::MAX)] {
        let attributes = [(DW_AT_name, Value::Text(name)), (DW_AT_byte_size, Value::Number(size))];
        let offset = unit.entry(DW_TAG_enumeration_type, true, &attributes);
        let value = [(DW_AT_name, Value::Text("VALUE")), (DW_AT_const_value, Value::Signed(value))];
        unit.entry(DW_TAG_enumerator, false, &value);
        unit.end();
        members.push((name, 8 * members.len() as u64, offset));
    }
    unit.record("enums", 24, &members);
    let document = document(unit);
    for (name, integer) in [("small", "unsigned char"), ("negative", "int"), ("wide", "long unsigned int")] {
        let (_, Type::Enumeration { target, .. }) = field(&document, "enums", name) else { panic!("{name}") };
        assert_eq!(target, Some(Box::new(named(integer))), "{name}");
    }
    assert_eq!(document.enums["negative"].names[&-2], "VALUE");
}

#[test]
fn damage_is_survived() {
    // A struct that holds itself, a typedef of itself, a pointer to nowhere, a member beyond the end.
    let mut unit = Unit::new(4);
    let itself = unit.next();
    unit.record("itself", 8, &[("itself", 0, itself)]);
    let looped = unit.next();
    unit.typedef("looped", looped);
    let nowhere = unit.modifier(DW_TAG_pointer_type, 0x00ff_ffff);
    unit.record("victim", 8, &[("looped", 0, looped), ("nowhere", 0, nowhere), ("far", 4096, nowhere)]);
    let document = document(unit);
    assert_eq!(field(&document, "victim", "nowhere").1, Type::pointer(Type::Void));
    assert_eq!(field(&document, "victim", "looped").1, Type::Void);
    assert!(!document.structs["victim"].fields.contains_key("far"));
    let text = document.to_canonical_json();
    let read = profile::Profile::parse(text.as_bytes(), &profile::Limits::default()).expect("reads back");
    assert_eq!(read.to_document().expect("every struct decodes"), document);
}

/// Each level holds the level below twice, anonymously: 2^40 hoisted members if nobody counts.
#[test]
fn anonymous_nesting_cannot_explode() {
    let mut unit = Unit::new(4);
    let int = unit.base("int", 4);
    let mut level = unit.record("", 8, &[("x", 0, int)]);
    for _ in 0..40 {
        level = unit.record("", 8, &[("", 0, level), ("", 0, level)]);
    }
    unit.record("top", 8, &[("", 0, level)]);
    let converted = convert(&[unit]);
    let Converted { document, report: FitnessReport { warnings, .. } } = converted;
    assert!(document.structs.contains_key("top"));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[test]
fn rust_units_are_left_out() {
    let build = |language: gimli::DwLang| {
        let mut unit = Unit::of(5, language);
        let int = unit.base("int", 4);
        unit.record(if language == DW_LANG_Rust { "Rust" } else { "c_struct" }, 4, &[("x", 0, int)]);
        unit
    };
    let document = convert(&[build(DW_LANG_Rust), build(DW_LANG_C11)]).document;
    assert_eq!(document.structs.keys().collect::<Vec<_>>(), ["c_struct"]);
}

#[test]
fn compressed_sections_are_read_and_bombs_are_not() {
    use std::io::Write as _;
    let mut unit = Unit::new(4);
    let int = unit.base("int", 4);
    unit.record("task_struct", 4, &[("pid", 0, int)]);
    let (info, abbrev, strings) = Unit::sections(&[unit]);
    let build = |claimed: u64| {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&info).unwrap();
        let packed = [&b"ZLIB"[..], &claimed.to_be_bytes(), &encoder.finish().unwrap()].concat();
        let elf = ElfBuilder::kernel()
            .section(".zdebug_info", 0, packed)
            .section(".debug_abbrev", 0, abbrev.clone())
            .section(".debug_str", 0, strings.clone())
            .symbols(&SYMBOLS)
            .finish();
        convert_linux_bytes(&elf, "vmlinux", &LinuxOptions::default())
    };
    let converted = build(info.len() as u64).expect("converts");
    assert_eq!(field(&converted.document, "task_struct", "pid"), (0, named("int")));
    for claimed in [1 << 40, u64::MAX, 3, 100_000] {
        let error = build(claimed).expect_err("a wrong size");
        assert!(error.to_string().contains(".debug_info"), "{error}");
    }
}

#[test]
fn other_processors_are_told_apart() {
    let with = |machine| {
        let unit = unit_with_node(8, "holder");
        let elf = ElfBuilder::kernel().machine(machine).dwarf(&[unit]).symbols(&SYMBOLS).finish();
        convert_linux_bytes(&elf, "vmlinux", &LinuxOptions::default())
    };
    const EM_AARCH64: u16 = 183;
    const EM_S390: u16 = 22;
    assert_eq!(with(EM_AARCH64).unwrap().document.metadata["arch"], "ARM64");
    let error = with(EM_S390).unwrap_err().to_string();
    assert!(error.contains("not supported"), "{error}");
}

/// Attributes as gcc and clang write them for the C in the comments; the addresses are those of the symbol table.
#[test]
fn globals_have_the_types_of_their_definitions() {
    const INIT_TASK: u64 = SYMBOLS[1].1;
    let at = |address: u64| [&[DW_OP_addr.0], address.to_le_bytes().as_slice()].concat();
    let name = |name| (DW_AT_name, Value::Text(name));
    let mut unit = Unit::new(5);
    let char_type = unit.base("char", 1);
    let task = unit.record("task_struct", 8, &[("comm", 0, char_type)]);
    let text = unit.entry(DW_TAG_array_type, true, &[(DW_AT_type, Value::Ref(char_type))]);
    unit.entry(DW_TAG_subrange_type, false, &[]);
    unit.end();
    let external = [(DW_AT_external, Value::Flag), (DW_AT_declaration, Value::Flag)];
    // extern char _text[]; the linker defines it.
    unit.entry(
        DW_TAG_variable,
        false,
        &[&[name("_text"), (DW_AT_type, Value::Ref(text))], &external[..]].concat(),
    );
    // extern struct task_struct init_task; struct task_struct init_task = ...;
    let declared = [&[name("init_task"), (DW_AT_type, Value::Ref(task))], &external[..]].concat();
    let declared = unit.entry(DW_TAG_variable, false, &declared);
    unit.entry(
        DW_TAG_variable,
        false,
        &[(DW_AT_specification, Value::Ref(declared)), (DW_AT_location, Value::Expression(&at(INIT_TASK)))],
    );
    // Of the same name elsewhere, in another file and in a function; and what is no symbol at all.
    let variable = |unit: &mut Unit, label, location: &[u8]| {
        let attributes =
            [name(label), (DW_AT_type, Value::Ref(char_type)), (DW_AT_location, Value::Expression(location))];
        unit.entry(DW_TAG_variable, false, &attributes);
    };
    variable(&mut unit, "init_task", &at(INIT_TASK + 0x1000));
    variable(&mut unit, "nowhere", &at(0x1000));
    unit.entry(DW_TAG_subprogram, true, &[]);
    variable(&mut unit, "_text", &at(SYMBOLS[0].1));
    unit.end();
    // A thread's own copy has no address.
    variable(&mut unit, "_text", &[at(SYMBOLS[0].1).as_slice(), &[DW_OP_GNU_push_tls_address.0]].concat());
    let types = document(unit).constant_types;
    let expected = [("_text", Type::array(0, named("char"))), ("init_task", named("task_struct"))]
        .map(|(n, ty)| (n.to_owned(), ty));
    assert_eq!(types, expected.into());
}

/// `const char banner[] __weak;` in one file, `const char banner[] = "..."` in another: both have the address.
#[test]
fn of_several_definitions_the_one_that_says_most_counts() {
    let unit = |count: Option<u64>| {
        let mut unit = Unit::new(5);
        let char_type = unit.base("char", 1);
        let array = unit.entry(DW_TAG_array_type, true, &[(DW_AT_type, Value::Ref(char_type))]);
        let bound: Vec<_> = count.into_iter().map(|count| (DW_AT_count, Value::Number(count))).collect();
        unit.entry(DW_TAG_subrange_type, false, &bound);
        unit.end();
        let location = [&[DW_OP_addr.0], SYMBOLS[1].1.to_le_bytes().as_slice()].concat();
        let attributes = [
            (DW_AT_name, Value::Text("init_task")),
            (DW_AT_type, Value::Ref(array)),
            (DW_AT_location, Value::Expression(&location)),
        ];
        unit.entry(DW_TAG_variable, false, &attributes);
        unit
    };
    for counts in [[None, Some(204)], [Some(204), None]] {
        let types = convert(&counts.map(unit)).document.constant_types;
        assert_eq!(types["init_task"], Type::array(204, named("char")));
    }
}

/// clang's `DW_OP_addrx`: the address stands in a table of its own (DWARF 5, section 7.27).
#[test]
fn addresses_are_read_from_their_table() {
    let mut unit = Unit::new(5);
    let int = unit.base("int", 4);
    let attributes = [
        (DW_AT_name, Value::Text("init_task")),
        (DW_AT_type, Value::Ref(int)),
        (DW_AT_location, Value::Expression(&[DW_OP_addrx.0, 1])),
    ];
    unit.entry(DW_TAG_variable, false, &attributes);
    // The unit's root names no base here, so the table starts with its section.
    let table = SYMBOLS.iter().flat_map(|(_, address, _)| address.to_le_bytes()).collect();
    let elf = ElfBuilder::kernel().dwarf(&[unit]).section(".debug_addr", 0, table).symbols(&SYMBOLS).finish();
    let converted = convert_linux_bytes(&elf, "vmlinux", &LinuxOptions::default()).expect("converts");
    assert_eq!(converted.document.constant_types["init_task"], named("int"));
}
