use std::io;

use profile::Profile;

use super::*;
use crate::plugin::Sink;

#[derive(Default)]
struct Collected(Vec<(u16, Vec<Value>)>);

impl Sink for Collected {
    fn row(&mut self, depth: u16, values: &[Value]) -> io::Result<()> {
        self.0.push((depth, values.to_vec()));
        Ok(())
    }
}

fn args() -> Args {
    Args {
        target: "task".to_owned(),
        offset: None,
        space: SpaceArg { address_space: None },
        member_offset: None,
        depth: 16,
        elements: 2,
    }
}

/// Rows of a tree as `depth offset field type = content`, and whether an array was cut.
fn rows(structs: &str, memory: &[u8], addr: Option<u64>, args: &Args) -> (Vec<String>, bool) {
    let text = format!(
        r#"{{"$METADATA": {{"ProfileClass": "Linux64"}}, "$STRUCTS": {structs},
             "$ENUMS": {{"color": {{"0": "RED", "1": "GREEN"}}}}}}"#
    );
    let types = types(Arc::new(Profile::parse_text(text).expect("profile")));
    let space = Arc::new(FileSpace::from_vec(memory.to_vec()));
    let target = Target::new(Arc::new(types), space, 0, u64::MAX);
    let mut collected = Collected::default();
    let mut out = Rows::new(&mut collected);
    let mut tree = Tree { target: &target, args, addr, rows: 0, cut: false, out: &mut out };
    let root = Object::new(&target, addr.unwrap_or(0), Type::named("task"));
    tree.show(0, "task", &root).expect("collects");
    let cut = tree.cut;
    let shown = |(depth, values): &(u16, Vec<Value>)| {
        let [Value::Addr(offset), Value::Text(field), Value::Text(ty), _, content] = values.as_slice() else {
            panic!("columns: {values:?}")
        };
        let content = match content {
            Value::Absent(Absent::NotApplicable(_)) => String::new(),
            Value::Absent(_) => " = ?".to_owned(),
            Value::Addr(addr) => format!(" = {addr:#x}"),
            other => format!(" = {other:?}"),
        };
        format!("{depth} {offset:#x} {field}: {ty}{content}")
    };
    (collected.0.iter().map(shown).collect(), cut)
}

const TASK: &str = r#"{
    "task": [48, {
        "pid": [0, ["int"]],
        "low": [4, ["BitField", {"start_bit": 3, "end_bit": 5, "target": "unsigned int"}]],
        "bit": [4, ["BitField", {"start_bit": 0, "end_bit": 1, "target": "unsigned int"}]],
        "next": [8, ["Pointer", {"target": "task"}]],
        "name": [16, ["Array", {"count": 8, "target": "char"}]],
        "pairs": [24, ["Array", {"count": 3, "target": "pair"}]],
        "hue": [36, ["Enumeration", {"enum_name": "color", "target": "unsigned int"}]],
        "shade": [40, ["Enumeration", {"enum_name": "color", "target": "unsigned int"}]],
        "grid": [44, ["Array", {"count": 4, "target": "unsigned char"}]]}],
    "pair": [4, {"a": [0, ["short int"]], "b": [2, ["short int"]]}]}"#;

fn memory() -> Vec<u8> {
    let mut memory = vec![0; 16];
    memory.extend((-7i32).to_le_bytes());
    memory.extend(0b10001u32.to_le_bytes());
    memory.extend(0xffff_8880_0000_1000u64.to_le_bytes());
    memory.extend(b"sh\0junk\0");
    for word in [1u16, 2, 3, 4, 5, 6] {
        memory.extend(word.to_le_bytes());
    }
    memory.extend(1u32.to_le_bytes());
    memory.extend(9u32.to_le_bytes());
    memory.extend([1, 2, 3, 4]);
    memory
}

#[test]
fn a_definition_shows_every_member_and_what_is_embedded() {
    let (rows, cut) = rows(TASK, &[], None, &args());
    assert_eq!(
        rows,
        [
            "0 0x0 task: task",
            "1 0x0 pid: int",
            "1 0x4 bit: unsigned int:1 from bit 0",
            "1 0x4 low: unsigned int:2 from bit 3",
            "1 0x8 next: task *",
            "1 0x10 name: char[8]",
            "1 0x18 pairs: pair[3]",
            "2 0x18 [0]: pair",
            "3 0x18 a: short int",
            "3 0x1a b: short int",
            "1 0x24 hue: enum color",
            "1 0x28 shade: enum color",
            "1 0x2c grid: unsigned char[4]",
        ]
    );
    assert!(!cut);
}

#[test]
fn an_instance_shows_values() {
    let (rows, cut) = rows(TASK, &memory(), Some(16), &args());
    assert_eq!(
        rows,
        [
            "0 0x0 task: task = 0x10",
            "1 0x0 pid: int = Int(-7)",
            "1 0x4 bit: unsigned int:1 from bit 0 = Uint(1)",
            "1 0x4 low: unsigned int:2 from bit 3 = Uint(2)",
            "1 0x8 next: task * = 0xffff888000001000",
            "1 0x10 name: char[8] = Text(\"sh\")",
            "1 0x18 pairs: pair[3] = 0x28",
            "2 0x18 [0]: pair = 0x28",
            "3 0x18 a: short int = Int(1)",
            "3 0x1a b: short int = Int(2)",
            "2 0x1c [1]: pair = 0x2c",
            "3 0x1c a: short int = Int(3)",
            "3 0x1e b: short int = Int(4)",
            "1 0x24 hue: enum color = Text(\"GREEN (1)\")",
            "1 0x28 shade: enum color = Text(\"UNKNOWN (9)\")",
            "1 0x2c grid: unsigned char[4] = Bytes([1, 2, 3, 4])",
        ]
    );
    assert!(cut, "the third pair is not shown");
}

#[test]
fn what_cannot_be_read_is_absent_with_its_row() {
    let (rows, _) = rows(TASK, &memory()[..24], Some(16), &args());
    assert_eq!(rows[1], "1 0x0 pid: int = Int(-7)");
    assert_eq!(rows[4], "1 0x8 next: task * = ?");
}

#[test]
fn depth_and_member_offset_narrow_the_tree() {
    let (flat, _) = rows(TASK, &[], None, &Args { depth: 0, ..args() });
    assert_eq!(flat.len(), 10);
    let (one, _) = rows(TASK, &[], None, &Args { member_offset: Some(0x1b), ..args() });
    assert_eq!(one, ["0 0x0 task: task", "1 0x18 pairs: pair[3]", "2 0x18 [0]: pair", "3 0x1a b: short int"]);
}

#[test]
fn members_given_twice_are_shown_once() {
    let structs = r#"{
        "task": [16, {"u1": [0, ["__unnamed_1"]], "a": [0, ["int"]], "b": [8, ["int"]], "c": [12, ["int"]]}],
        "__unnamed_1": [16, {"a": [0, ["int"]], "u1": [8, ["__unnamed_2"]]}],
        "__unnamed_2": [8, {"b": [0, ["int"]], "c": [4, ["int"]]}]}"#;
    let (hoisted, _) = rows(structs, &[], None, &args());
    assert_eq!(hoisted, ["0 0x0 task: task", "1 0x0 a: int", "1 0x8 b: int", "1 0xc c: int"]);
    let (original, _) = rows(&structs.replace(r#", "c": [12, ["int"]]"#, ""), &[], None, &args());
    assert!(original.contains(&"3 0xc c: int".to_owned()), "{original:?}");
}

#[test]
fn a_struct_that_embeds_itself_ends() {
    let one = r#"{"task": [8, {"me": [0, ["task"]]}]}"#;
    assert_eq!(rows(one, &[], None, &args()).0.len(), 18);
    // Twice in itself: two to the power of the depth, cut at the most rows.
    let two = r#"{"task": [8, {"a": [0, ["task"]], "b": [4, ["task"]]}]}"#;
    assert_eq!(rows(two, &[], None, &Args { depth: 64, ..args() }).0.len(), MAX_ROWS);
    let huge = r#"{"task": [8, {"a": [0, ["Array", {"count": 18446744073709551615, "target": "task"}]]}]}"#;
    let many = Args { elements: u64::MAX, depth: 3, ..args() };
    assert_eq!(rows(huge, &[0; 64], Some(0), &many).0.len(), MAX_ROWS);
}

#[test]
fn declarations_read_like_c() {
    let declared = |ty: Type| declaration(&ty, 0);
    assert_eq!(declared(Type::pointer(Type::pointer(Type::named("file")))), "file **");
    assert_eq!(declared(Type::array(3, Type::array(4, Type::named("int")))), "int[3][4]");
    assert_eq!(declared(Type::pointer(Type::array(3, Type::named("char")))), "char[3] *");
    assert_eq!(declared(Type::pointer(Type::Function(Vec::new()))), "function *");
    let deep = (0..100).fold(Type::Void, |inner, _| Type::pointer(inner));
    assert!(declared(deep).starts_with("..."));
}
