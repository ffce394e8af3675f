//! `wide`: one block of `name: value` lines per row, for tables that are wider than a screen. Absent values show
//! their reason.

use std::io::{self, Write};

use crate::notes::Note;
use crate::render::cell::{ABSENT, Style, dots, text};
use crate::render::escape::escape;
use crate::render::{Colours, Renderer, Table};
use crate::table::Value;

/// The line between two rows.
const SEPARATOR: &str = "**************************************************";

/// The renderer.
pub struct Wide<'w> {
    out: Box<dyn Write + 'w>,
    colours: Colours,
    names: Vec<&'static str>,
    width: usize,
}

impl<'w> Wide<'w> {
    /// Writes to `out`.
    pub fn new(out: Box<dyn Write + 'w>, colours: Colours) -> Self {
        Self { out, colours, names: Vec::new(), width: 0 }
    }
}

impl Renderer for Wide<'_> {
    fn begin(&mut self, table: &Table<'_>) -> io::Result<()> {
        self.names = table.columns.iter().map(|column| column.name).collect();
        self.width = self.names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        Ok(())
    }

    fn row(&mut self, depth: u16, values: &[Value]) -> io::Result<()> {
        writeln!(self.out, "{}{SEPARATOR}", dots(depth))?;
        for (name, value) in self.names.iter().zip(values) {
            write!(self.out, "{name:>0$}: ", self.width)?;
            match value {
                Value::Absent(why) => {
                    let reason = why.to_string();
                    let (on, off) =
                        if self.colours == Colours::On { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
                    writeln!(self.out, "{on}{ABSENT} ({}){off}", escape(&reason))?;
                }
                value => writeln!(self.out, "{}", text(value, Style::Full))?,
            }
        }
        Ok(())
    }

    fn end(&mut self, _notes: &[Note], _complete: bool) -> io::Result<()> {
        self.out.flush()
    }
}
