//! `csv`: RFC 4180 with a header line, UTF-8, CRLF.
//!
//! * An absent value is an empty field; an empty text is `""`. The reasons of absent values are only in `json`.
//! * Text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-` or `@`) gets a `'` in front.
//! * Control characters are escaped as in `text`, so a field never spans lines.
//! * Rows of a tree begin with a dot per level.

use std::io::{self, Write};

use crate::notes::Note;
use crate::render::cell::{Style, dots, text};
use crate::render::{Renderer, Table};
use crate::table::Value;

/// The renderer.
pub struct Csv<'w> {
    out: Box<dyn Write + 'w>,
}

impl<'w> Csv<'w> {
    /// Writes to `out`.
    pub fn new(out: Box<dyn Write + 'w>) -> Self {
        Self { out }
    }

    fn quoted(&mut self, field: &str) -> io::Result<()> {
        if field.is_empty() || field.contains([',', '"']) {
            write!(self.out, "\"{}\"", field.replace('"', "\"\""))
        } else {
            self.out.write_all(field.as_bytes())
        }
    }
}

impl Renderer for Csv<'_> {
    fn begin(&mut self, table: &Table<'_>) -> io::Result<()> {
        for (index, column) in table.columns.iter().enumerate() {
            if index > 0 {
                self.out.write_all(b",")?;
            }
            self.quoted(column.name)?;
        }
        self.out.write_all(b"\r\n")
    }

    fn row(&mut self, depth: u16, values: &[Value]) -> io::Result<()> {
        for (index, value) in values.iter().enumerate() {
            if index > 0 {
                self.out.write_all(b",")?;
            }
            let dots = dots(if index == 0 { depth } else { 0 });
            if matches!(value, Value::Absent(_)) && dots.is_empty() {
                continue;
            }
            let mut field = dots + &text(value, Style::Full);
            let is_text = matches!(value, Value::Text(_) | Value::List(_));
            if is_text && field.starts_with(['=', '+', '-', '@']) {
                field.insert(0, '\'');
            }
            self.quoted(&field)?;
        }
        self.out.write_all(b"\r\n")
    }

    fn end(&mut self, _notes: &[Note], _complete: bool) -> io::Result<()> {
        self.out.flush()
    }
}
