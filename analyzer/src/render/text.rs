//! `text`: aligned columns for people.
//!
//! The first [`SAMPLE`] rows decide the widths; after that rows are written as they come. A cell that is wider than
//! its column shifts the rest of its row, nothing is cut. Absent cells are `-`; rows of a tree begin with a dot per
//! level.

use std::io::{self, Write};

use crate::notes::Note;
use crate::render::cell::{ABSENT, Style, dots, is_right_aligned, text};
use crate::render::{Colours, Renderer, Table};
use crate::table::{Column, Value};

/// Rows that decide the widths of the columns.
const SAMPLE: usize = 200;
/// Widest column in characters; longer cells overflow.
const MAX_WIDTH: usize = 60;

/// The renderer.
pub struct Text<'w> {
    out: Box<dyn Write + 'w>,
    colours: Colours,
    columns: Vec<Align>,
    /// Rows seen before the widths were known; `None` once they are.
    sample: Option<Vec<Vec<String>>>,
}

struct Align {
    name: &'static str,
    right: bool,
    width: usize,
}

impl<'w> Text<'w> {
    /// Writes to `out`.
    pub fn new(out: Box<dyn Write + 'w>, colours: Colours) -> Self {
        Self { out, colours, columns: Vec::new(), sample: Some(Vec::new()) }
    }

    /// Fixes the widths and writes header and sampled rows.
    fn settle(&mut self) -> io::Result<()> {
        let Some(sample) = self.sample.take() else { return Ok(()) };
        for row in &sample {
            for (column, cell) in self.columns.iter_mut().zip(row) {
                column.width = column.width.max(length(cell).min(MAX_WIDTH));
            }
        }
        let names: Vec<String> = self.columns.iter().map(|column| column.name.to_owned()).collect();
        let dashes: Vec<String> = self.columns.iter().map(|column| "-".repeat(column.width)).collect();
        if !names.is_empty() {
            self.line(&names, Colours::Off)?;
            self.line(&dashes, Colours::Off)?;
        }
        sample.iter().try_for_each(|row| self.line(row, self.colours))
    }

    fn line(&mut self, cells: &[String], colours: Colours) -> io::Result<()> {
        let mut pending = 0;
        for (index, (column, cell)) in self.columns.iter().zip(cells).enumerate() {
            let padding = column.width.saturating_sub(length(cell));
            let before = if column.right { padding } else { 0 };
            let gap = usize::from(index > 0);
            pending += gap + before;
            // Padding is written only when something follows: no blanks at the end of a line.
            if !cell.is_empty() {
                write!(self.out, "{:pending$}", "")?;
                pending = 0;
            }
            if cell == ABSENT && colours == Colours::On {
                write!(self.out, "\x1b[2m{cell}\x1b[0m")?;
            } else {
                self.out.write_all(cell.as_bytes())?;
            }
            pending += padding.saturating_sub(before);
        }
        writeln!(self.out)
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

impl Renderer for Text<'_> {
    fn begin(&mut self, table: &Table<'_>) -> io::Result<()> {
        let align = |column: &Column| Align {
            name: column.name,
            right: is_right_aligned(column.kind),
            width: length(column.name),
        };
        self.columns = table.columns.iter().map(align).collect();
        Ok(())
    }

    fn row(&mut self, depth: u16, values: &[Value]) -> io::Result<()> {
        let mut cells: Vec<String> = values.iter().map(|value| text(value, Style::Short)).collect();
        if depth > 0
            && let Some(first) = cells.first_mut()
        {
            first.insert_str(0, &dots(depth));
            if let Some(column) = self.columns.first_mut() {
                column.right = false;
            }
        }
        match &mut self.sample {
            Some(sample) => {
                sample.push(cells);
                if sample.len() >= SAMPLE { self.settle() } else { Ok(()) }
            }
            None => self.line(&cells, self.colours),
        }
    }

    fn end(&mut self, _notes: &[Note], _complete: bool) -> io::Result<()> {
        self.settle()?;
        self.out.flush()
    }
}
