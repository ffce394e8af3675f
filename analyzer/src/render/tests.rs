//! What every renderer writes, byte by byte, for one small table that has everything.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use object::Absent;
use proptest::prelude::*;

use super::*;
use crate::notes::Severity;
use crate::table::{Kind, ObjRef, Time};

/// A writer whose content can be looked at afterwards.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

const COLUMNS: &[Column] = &[
    Column { name: "proc", kind: Kind::Object, doc: "The process." },
    Column { name: "uid", kind: Kind::Int, doc: "User." },
    Column { name: "start", kind: Kind::Time, doc: "Start." },
    Column { name: "cmd", kind: Kind::Text, doc: "Say \"cmd\"." },
];

fn process(addr: u64, pid: u64, name: Value) -> Value {
    Value::Object(Box::new(ObjRef {
        type_name: "task_struct",
        addr,
        tags: vec![("pid", Value::Uint(pid)), ("name", name)],
    }))
}

fn rows() -> Vec<(u16, Vec<Value>)> {
    vec![
        (
            0,
            vec![
                process(0x1000, 1, Value::Text("init".into())),
                Value::Uint(0),
                Value::Time(Time(1_714_557_600_000_000_000)),
                Value::Text("/sbin/init, \"x\"".into()),
            ],
        ),
        (
            1,
            vec![
                process(0x20000, 27, Value::Absent(Absent::Malformed("comm"))),
                Value::Absent(Absent::NotApplicable("no user")),
                Value::Time(Time(1_714_557_600_500_000_000)),
                Value::Text("=1+\x1b[2J\n\u{202e}".into()),
            ],
        ),
    ]
}

fn notes() -> Vec<Note> {
    vec![Note { severity: Severity::Partial, text: "list \x07 ends early".into() }]
}

fn render(format: Format, columns: &[Column], rows: &[(u16, Vec<Value>)], colours: Colours) -> String {
    let shared = Shared::default();
    let mut renderer = format.renderer(Box::new(shared.clone()), colours);
    renderer.begin(&Table { plugin: "pslist", columns }).unwrap();
    for (depth, row) in rows {
        renderer.row(*depth, row).unwrap();
    }
    renderer.end(&notes(), false).unwrap();
    drop(renderer);
    let bytes = shared.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn golden(format: Format) -> String {
    render(format, COLUMNS, &rows(), Colours::Off)
}

#[test]
fn text_is_aligned() {
    let expected = r#"
proc           uid start                cmd
-------------- --- -------------------- ------------------------
0x1000 1 init    0 2024-05-01 10:00:00Z /sbin/init, "x"
. 0x20000 27 -   - 2024-05-01 10:00:00Z =1+\x1b[2J\n\u{202e}
"#;
    let dashes = "-".repeat("=1+\\x1b[2J\\n\\u{202e}".len());
    let expected = expected.replace(&"-".repeat(24), &dashes);
    assert_eq!(golden(Format::Text), expected.trim_start());
}

#[test]
fn text_dims_absent_cells_only_with_colours() {
    let columns = &COLUMNS[1..2];
    let rows = [(0, vec![Value::Absent(Absent::Malformed("x"))])];
    assert_eq!(render(Format::Text, columns, &rows, Colours::On), "uid\n---\n  \x1b[2m-\x1b[0m\n");
    assert_eq!(render(Format::Text, columns, &rows, Colours::Off), "uid\n---\n  -\n");
}

#[test]
fn text_lets_long_cells_overflow_instead_of_cutting_them() {
    let columns = &[
        Column { name: "path", kind: Kind::Text, doc: "x" },
        Column { name: "inode", kind: Kind::Int, doc: "x" },
    ];
    let long = "x".repeat(100);
    let rows = [
        (0, vec![Value::Text(long.clone()), Value::Uint(1)]),
        (0, vec![Value::Text("short".into()), Value::Uint(2)]),
    ];
    let text = render(Format::Text, columns, &rows, Colours::Off);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[2], format!("{long}     1"));
    assert_eq!(lines[3], format!("{:60}     2", "short"));
}

#[test]
fn text_keeps_the_widths_of_the_first_rows() {
    let columns = &COLUMNS[1..2];
    let rows: Vec<_> =
        (0..300u64).map(|n| (0, vec![Value::Uint(if n < 250 { 7 } else { 123_456 })])).collect();
    let text = render(Format::Text, columns, &rows, Colours::Off);
    assert_eq!(text.lines().count(), 302);
    assert_eq!(text.lines().nth(2), Some("  7"));
    assert_eq!(text.lines().nth(301), Some("123456"));
}

#[test]
fn text_has_no_blanks_at_the_end_of_a_line() {
    let empty = || Value::Text(String::new());
    let rows = [
        (0, vec![Value::Uint(1), empty()]),
        (0, vec![empty(), empty()]),
        (0, vec![Value::Uint(2), Value::Text("x".into())]),
    ];
    let columns = [COLUMNS[1], COLUMNS[3]];
    assert_eq!(render(Format::Text, &columns, &rows, Colours::Off), "uid cmd\n--- ---\n  1\n\n  2 x\n");
}

#[test]
fn text_of_an_empty_table_is_its_header() {
    assert_eq!(render(Format::Text, &COLUMNS[1..3], &[], Colours::Off), "uid start\n--- -----\n");
}

#[test]
fn wide_shows_a_block_per_row_and_the_reasons() {
    let stars = "*".repeat(50);
    let expected = format!(
        r#"{stars}
 proc: 0x1000 1 init
  uid: 0
start: 2024-05-01T10:00:00Z
  cmd: /sbin/init, "x"
. {stars}
 proc: 0x20000 27 -
  uid: - (not applicable: no user)
start: 2024-05-01T10:00:00.5Z
  cmd: =1+\x1b[2J\n\u{{202e}}
"#
    );
    assert_eq!(golden(Format::Wide), expected);
}

#[test]
fn test_has_bars_and_no_padding() {
    let expected = r#"proc||uid||start||cmd
0x1000 1 init||0||2024-05-01T10:00:00Z||/sbin/init, "x"
. 0x20000 27 -||-||2024-05-01T10:00:00.5Z||=1+\x1b[2J\n\u{202e}
"#;
    assert_eq!(golden(Format::Test), expected);
}

#[test]
fn csv_quotes_and_neutralises_formulas() {
    let expected = "proc,uid,start,cmd\r\n\
        0x1000 1 init,0,2024-05-01T10:00:00Z,\"/sbin/init, \"\"x\"\"\"\r\n\
        . 0x20000 27 -,,2024-05-01T10:00:00.5Z,'=1+\\x1b[2J\\n\\u{202e}\r\n";
    assert_eq!(golden(Format::Csv), expected);
}

#[test]
fn csv_tells_empty_text_from_no_value_and_numbers_from_formulas() {
    let columns = &[
        Column { name: "a", kind: Kind::Text, doc: "x" },
        Column { name: "b", kind: Kind::Int, doc: "x" },
        Column { name: "c", kind: Kind::Text, doc: "x" },
    ];
    let rows = [(0, vec![Value::Text(String::new()), Value::Int(-5), Value::Absent(Absent::Malformed("x"))])];
    assert_eq!(render(Format::Csv, columns, &rows, Colours::Off), "a,b,c\r\n\"\",-5,\r\n");
}

#[test]
fn json_is_the_documented_object() {
    let text = golden(Format::Json);
    let expected = r#"{"plugin": "pslist",
"columns": [
  {"name": "proc", "kind": "object", "doc": "The process."},
  {"name": "uid", "kind": "int", "doc": "User."},
  {"name": "start", "kind": "time", "doc": "Start."},
  {"name": "cmd", "kind": "text", "doc": "Say \"cmd\"."}],
"rows": [
  {"proc": {"type": "task_struct", "address": "0x1000", "pid": 1, "name": "init"}, "uid": 0, "start": "2024-05-01T10:00:00Z", "cmd": "/sbin/init, \"x\""},
  {"proc": {"type": "task_struct", "address": "0x20000", "pid": 27, "name": null}, "uid": null, "start": "2024-05-01T10:00:00.5Z", "cmd": "=1+\u001b[2J\n\u202e", "_absent": {"proc.name": "malformed: comm", "uid": "not applicable: no user"}, "_depth": 1}],
"notes": [
  {"severity": "partial", "text": "list \u0007 ends early"}],
"complete": false}
"#;
    assert_eq!(text, expected);
}

#[test]
fn json_means_the_same_to_an_independent_reader() {
    let value: serde_json::Value = serde_json::from_str(&golden(Format::Json)).unwrap();
    assert_eq!(value["plugin"], "pslist");
    assert_eq!(value["complete"], false);
    assert_eq!(value["rows"][1]["cmd"], "=1+\x1b[2J\n\u{202e}");
    assert_eq!(value["rows"][1]["_absent"]["uid"], "not applicable: no user");
    assert_eq!(value["columns"][3]["doc"], "Say \"cmd\".");
    let empty: serde_json::Value =
        serde_json::from_str(&render(Format::Json, &[], &[], Colours::Off)).unwrap();
    assert_eq!(empty["rows"], serde_json::json!([]));
}

#[test]
fn ndjson_is_one_object_per_row() {
    let text = golden(Format::Ndjson);
    let rows: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0]["uid"], 0);
    assert_eq!(rows[1]["_depth"], 1);
}

#[test]
fn json_shows_every_kind_as_documented() {
    let values = [
        (Value::Bool(true), "true"),
        (Value::Uint(u64::MAX), "18446744073709551615"),
        (Value::Int(i64::MIN), "-9223372036854775808"),
        (Value::Size(4096), "4096"),
        (Value::Addr(0xffff_8880_0000_0000), "\"0xffff888000000000\""),
        (Value::Addr(0), "\"0x0\""),
        (Value::Time(Time(1)), "\"1970-01-01T00:00:00.000000001Z\""),
        (Value::Time(Time(-1_000_000_000)), "\"1969-12-31T23:59:59Z\""),
        (Value::Bytes(vec![0, 0xff, 0x7f]), "\"00ff7f\""),
        (Value::List(vec![Value::Uint(1), Value::Text("a".into())]), "[1, \"a\"]"),
        (Value::List(Vec::new()), "[]"),
        (Value::Text("\\ \u{9b} \u{7f} 名".into()), "\"\\\\ \\u009b \\u007f 名\""),
    ];
    for (value, expected) in values {
        let columns = &[Column { name: "v", kind: Kind::Any, doc: "x" }];
        let text = render(Format::Ndjson, columns, &[(0, vec![value])], Colours::Off);
        assert_eq!(text, format!("{{\"v\": {expected}}}\n"));
    }
}

#[test]
fn json_gives_the_reason_of_absent_list_elements_and_impossible_times() {
    let columns = &[Column { name: "v", kind: Kind::Any, doc: "x" }];
    let list = Value::List(vec![Value::Uint(1), Value::Absent(Absent::Malformed("y"))]);
    let rows = [(0, vec![list]), (0, vec![Value::Time(Time(i128::MIN))])];
    let text = render(Format::Ndjson, columns, &rows, Colours::Off);
    let out_of_range = i128::MIN;
    assert_eq!(
        text,
        format!(
            "{{\"v\": [1, null], \"_absent\": {{\"v[1]\": \"malformed: y\"}}}}\n\
             {{\"v\": null, \"_absent\": {{\"v\": \"malformed: time out of range: {out_of_range} ns since 1970\"}}}}\n"
        )
    );
}

/// Counts bytes and forgets them; breaks after `limit`.
struct Counting {
    bytes: u64,
    limit: u64,
}

impl Write for Counting {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.bytes += buf.len() as u64;
        if self.bytes > self.limit { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(buf.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_stops_every_format() {
    for &format in Format::ALL {
        let out = Counting { bytes: 0, limit: 10_000 };
        let mut renderer = format.renderer(Box::new(out), Colours::Off);
        renderer.begin(&Table { plugin: "x", columns: COLUMNS }).unwrap();
        let row = &rows()[0].1;
        let error = (0..100_000).find_map(|_| renderer.row(0, row).err()).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe, "{}", format.name());
    }
}

#[test]
fn format_names_are_found_and_rekalls_too() {
    for &format in Format::ALL {
        assert_eq!(Format::parse(format.name()), Some(format));
    }
    assert_eq!(Format::parse("TextRenderer"), Some(Format::Text));
    assert_eq!(Format::parse("data"), Some(Format::Json));
    assert_eq!(Format::parse("xls"), None);
}

proptest! {
    /// Whatever the text, a row is one line (a block in `wide`) without a character a terminal acts on, and JSON gives
    /// the text back.
    #[test]
    fn no_text_of_an_image_reaches_the_terminal_as_a_control(
        text in prop::collection::vec(prop_oneof![any::<char>(), (0u32..0xa0).prop_map(|c| char::from_u32(c).unwrap()),
            (0x2000u32..0x2070).prop_map(|c| char::from_u32(c).unwrap())], 0..20)
    ) {
        let text: String = text.into_iter().collect();
        let columns = &COLUMNS[3..];
        for &format in Format::ALL {
            let rows = [(0, vec![Value::Text(text.clone())])];
            let out = render(format, columns, &rows, Colours::Off);
            let controls = out.chars().filter(|&c| escape::is_unsafe(c) && c != '\n');
            let expected = if format == Format::Csv { 2 } else { 0 };
            prop_assert_eq!(controls.count(), expected, "{}: {:?}", format.name(), out);
            let lines = match format {
                Format::Text => 3,
                Format::Wide | Format::Csv | Format::Test => 2,
                Format::Json => 8,
                Format::Ndjson => 1,
            };
            prop_assert_eq!(out.lines().count(), lines, "{}: {:?}", format.name(), out);
            if format == Format::Ndjson {
                let row: serde_json::Value = serde_json::from_str(&out).unwrap();
                prop_assert_eq!(row["cmd"].as_str(), Some(text.as_str()));
            }
        }
    }
}
