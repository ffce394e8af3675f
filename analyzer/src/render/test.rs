//! `test`: cells separated by `||`, one line per row, no padding, no colour; for comparing runs line by line.
//! Rows of a tree begin with a dot per level.

use std::io::{self, Write};

use crate::notes::Note;
use crate::render::cell::{Style, dots, text};
use crate::render::{Renderer, Table};
use crate::table::Value;

/// The renderer.
pub struct Test<'w> {
    out: Box<dyn Write + 'w>,
}

impl<'w> Test<'w> {
    /// Writes to `out`.
    pub fn new(out: Box<dyn Write + 'w>) -> Self {
        Self { out }
    }
}

impl Renderer for Test<'_> {
    fn begin(&mut self, table: &Table<'_>) -> io::Result<()> {
        let names: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        if names.is_empty() { Ok(()) } else { writeln!(self.out, "{}", names.join("||")) }
    }

    fn row(&mut self, depth: u16, values: &[Value]) -> io::Result<()> {
        for (index, value) in values.iter().enumerate() {
            let separator = if index > 0 { "||" } else { "" };
            let dots = dots(if index == 0 { depth } else { 0 });
            write!(self.out, "{separator}{dots}{}", text(value, Style::Full))?;
        }
        writeln!(self.out)
    }

    fn end(&mut self, _notes: &[Note], _complete: bool) -> io::Result<()> {
        self.out.flush()
    }
}
