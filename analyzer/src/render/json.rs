//! `json` and `ndjson`: the machine formats, a contract.
//!
//! `json` is one object per run:
//!
//! ```json
//! {"plugin": "pslist",
//!  "columns": [{"name": "pid", "kind": "int", "doc": "Process id."}],
//!  "rows": [{"pid": 1}],
//!  "notes": [{"severity": "info", "text": "..."}],
//!  "complete": true}
//! ```
//!
//! `ndjson` is one object per row and nothing else; notes and completeness are on standard error and in the exit
//! code. Both are UTF-8, one row per line, keys in the order of the columns. A row is keyed by column name:
//!
//! | kind | JSON |
//! |---|---|
//! | bool | `true`, `false` |
//! | int, size | number, exact up to 64 bits (readers that use doubles lose bits above 2^53) |
//! | address | string, `"0x"` and lower-case hex digits |
//! | time | string, RFC 3339 in UTC, a fraction only where it is not zero |
//! | text | string; bytes that are no UTF-8 are `\xNN` in it |
//! | bytes | string of lower-case hex digits |
//! | object | `{"type": "task_struct", "address": "0x...", ...}` and what identifies it: `"pid": 1, "name": "init"` |
//! | list | array |
//! | any | any of these |
//!
//! * An absent value is `null` and its reason stands in the row: `"_absent": {"pid": "unreadable at 0x10: ..."}`.
//!   Reasons inside objects and lists are keyed `proc.name` and `targets[2]`. A row without absent values has no
//!   `_absent`.
//! * A row of a tree has `"_depth": n` where its depth is not 0.
//! * `notes` have the severity `info`, `partial` (something is missing) or `error` (the run stopped in the middle of
//!   the table). `complete` is false when there is any of the last two.
//! * There is one whole object where the exit code is 0 or 3, or where the run stopped in the middle of the table; a
//!   run that fails before its first row writes nothing.
//! * Columns and keys may be added in later versions; none changes its meaning.

use std::io::{self, Write};

use crate::notes::{Note, Severity};
use crate::render::cell::{hex, rfc3339};
use crate::render::escape::is_unsafe;
use crate::render::{Renderer, Table};
use crate::table::Value;

/// The renderer of `json`.
pub struct Json<'w> {
    out: Box<dyn Write + 'w>,
    columns: Vec<&'static str>,
    rows: bool,
}

impl<'w> Json<'w> {
    /// Writes to `out`.
    pub fn new(out: Box<dyn Write + 'w>) -> Self {
        Self { out, columns: Vec::new(), rows: false }
    }
}

impl Renderer for Json<'_> {
    fn begin(&mut self, table: &Table<'_>) -> io::Result<()> {
        self.columns = table.columns.iter().map(|column| column.name).collect();
        let out = &mut self.out;
        out.write_all(b"{\"plugin\": ")?;
        string(out, table.plugin)?;
        out.write_all(b",\n\"columns\": [")?;
        for (index, column) in table.columns.iter().enumerate() {
            out.write_all(if index > 0 { b",\n  {" } else { b"\n  {" })?;
            member(out, "name", column.name)?;
            out.write_all(b", ")?;
            member(out, "kind", column.kind.name())?;
            out.write_all(b", ")?;
            member(out, "doc", column.doc)?;
            out.write_all(b"}")?;
        }
        out.write_all(b"],\n\"rows\": [")
    }

    fn row(&mut self, depth: u16, values: &[Value]) -> io::Result<()> {
        self.out.write_all(if self.rows { b",\n  " } else { b"\n  " })?;
        self.rows = true;
        object(&mut self.out, &self.columns, depth, values)
    }

    fn end(&mut self, notes: &[Note], complete: bool) -> io::Result<()> {
        let out = &mut self.out;
        out.write_all(b"],\n\"notes\": [")?;
        for (index, note) in notes.iter().enumerate() {
            out.write_all(if index > 0 { b",\n  {" } else { b"\n  {" })?;
            member(out, "severity", severity(note.severity))?;
            out.write_all(b", ")?;
            member(out, "text", &note.text)?;
            out.write_all(b"}")?;
        }
        writeln!(out, "],\n\"complete\": {complete}}}")?;
        out.flush()
    }
}

/// The name of a severity in the machine formats.
fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Partial => "partial",
        Severity::Error => "error",
    }
}

/// The renderer of `ndjson`.
pub struct Ndjson<'w> {
    out: Box<dyn Write + 'w>,
    columns: Vec<&'static str>,
}

impl<'w> Ndjson<'w> {
    /// Writes to `out`.
    pub fn new(out: Box<dyn Write + 'w>) -> Self {
        Self { out, columns: Vec::new() }
    }
}

impl Renderer for Ndjson<'_> {
    fn begin(&mut self, table: &Table<'_>) -> io::Result<()> {
        self.columns = table.columns.iter().map(|column| column.name).collect();
        Ok(())
    }

    fn row(&mut self, depth: u16, values: &[Value]) -> io::Result<()> {
        object(&mut self.out, &self.columns, depth, values)?;
        self.out.write_all(b"\n")
    }

    fn end(&mut self, _notes: &[Note], _complete: bool) -> io::Result<()> {
        self.out.flush()
    }
}

/// One row.
fn object(out: &mut dyn Write, columns: &[&str], depth: u16, values: &[Value]) -> io::Result<()> {
    let mut absent = Vec::new();
    out.write_all(b"{")?;
    for (index, (name, cell)) in columns.iter().zip(values).enumerate() {
        if index > 0 {
            out.write_all(b", ")?;
        }
        string(out, name)?;
        out.write_all(b": ")?;
        value(out, cell, &|| (*name).to_owned(), &mut absent)?;
    }
    let mut separator: &[u8] = if columns.is_empty() { b"" } else { b", " };
    if !absent.is_empty() {
        out.write_all(separator)?;
        separator = b", ";
        out.write_all(b"\"_absent\": {")?;
        for (index, (path, reason)) in absent.iter().enumerate() {
            if index > 0 {
                out.write_all(b", ")?;
            }
            member(out, path, reason)?;
        }
        out.write_all(b"}")?;
    }
    if depth > 0 {
        out.write_all(separator)?;
        write!(out, "\"_depth\": {depth}")?;
    }
    out.write_all(b"}")
}

/// One value; `path` names it for the list of absent values.
fn value(
    out: &mut dyn Write,
    cell: &Value,
    path: &dyn Fn() -> String,
    absent: &mut Vec<(String, String)>,
) -> io::Result<()> {
    match cell {
        Value::Absent(why) => {
            absent.push((path(), why.to_string()));
            out.write_all(b"null")
        }
        Value::Bool(value) => write!(out, "{value}"),
        Value::Uint(value) | Value::Size(value) => write!(out, "{value}"),
        Value::Int(value) => write!(out, "{value}"),
        Value::Addr(value) => write!(out, "\"{value:#x}\""),
        Value::Time(time) => match rfc3339(*time) {
            Some(text) => write!(out, "\"{text}\""),
            None => {
                absent.push((path(), format!("malformed: time out of range: {} ns since 1970", time.0)));
                out.write_all(b"null")
            }
        },
        Value::Text(text) => string(out, text),
        Value::Bytes(bytes) => write!(out, "\"{}\"", hex(bytes)),
        Value::Object(object) => {
            out.write_all(b"{")?;
            member(out, "type", object.type_name)?;
            write!(out, ", \"address\": \"{:#x}\"", object.addr)?;
            for (name, tag) in &object.tags {
                out.write_all(b", ")?;
                string(out, name)?;
                out.write_all(b": ")?;
                value(out, tag, &|| format!("{}.{name}", path()), absent)?;
            }
            out.write_all(b"}")
        }
        Value::List(values) => {
            out.write_all(b"[")?;
            for (index, element) in values.iter().enumerate() {
                if index > 0 {
                    out.write_all(b", ")?;
                }
                value(out, element, &|| format!("{}[{index}]", path()), absent)?;
            }
            out.write_all(b"]")
        }
    }
}

fn member(out: &mut dyn Write, name: &str, text: &str) -> io::Result<()> {
    string(out, name)?;
    out.write_all(b": ")?;
    string(out, text)
}

/// A JSON string (RFC 8259, section 7). More than the RFC demands is escaped: everything that a terminal may act on,
/// since JSON is shown on terminals too.
fn string(out: &mut dyn Write, text: &str) -> io::Result<()> {
    out.write_all(b"\"")?;
    let mut rest = text;
    while let Some(at) = rest.find(|c| matches!(c, '"' | '\\') || is_unsafe(c)) {
        let (plain, tail) = rest.split_at(at);
        out.write_all(plain.as_bytes())?;
        let mut chars = tail.chars();
        match chars.next() {
            Some('"') => out.write_all(b"\\\"")?,
            Some('\\') => out.write_all(b"\\\\")?,
            Some('\n') => out.write_all(b"\\n")?,
            Some('\r') => out.write_all(b"\\r")?,
            Some('\t') => out.write_all(b"\\t")?,
            // All of them lie below U+10000, so one escape is enough.
            Some(c) => write!(out, "\\u{:04x}", u32::from(c))?,
            None => {}
        }
        rest = chars.as_str();
    }
    out.write_all(rest.as_bytes())?;
    out.write_all(b"\"")
}
