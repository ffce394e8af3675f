//! Rows to bytes. Knows tables and notes, nothing of images or plugins.
//!
//! One file per format; how a cell looks follows from its type ([`cell`]). All text passes [`escape`], because it
//! may come from a hostile image. The machine formats ([`json`], [`csv`]) are a contract: their module docs are the
//! specification.

pub mod cell;
pub mod csv;
pub mod escape;
pub mod json;
pub mod test;
pub mod text;
pub mod wide;

use std::io::{self, Write};

use crate::notes::Note;
use crate::table::{Column, Value};

/// What is known of a table before its first row.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// The plugin that emits it.
    pub plugin: &'a str,
    /// Its columns.
    pub columns: &'a [Column],
}

/// Writes one table: `begin`, any number of `row`, `end`. Holds no more than a bounded number of rows.
pub trait Renderer {
    /// Starts the table.
    fn begin(&mut self, table: &Table<'_>) -> io::Result<()>;

    /// Writes one row of as many values as the table has columns; `depth` is its nesting in tree output, 0 for flat
    /// tables.
    fn row(&mut self, depth: u16, values: &[Value]) -> io::Result<()>;

    /// Ends the table. `complete` is false when something is missing; `notes` say what.
    fn end(&mut self, notes: &[Note], complete: bool) -> io::Result<()>;
}

/// Whether to colour the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// Plain text.
    Off,
    /// ANSI escape sequences.
    On,
}

/// An output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Aligned columns, for people.
    Text,
    /// One block of `key: value` lines per row, for people.
    Wide,
    /// One JSON object per run.
    Json,
    /// One JSON object per row.
    Ndjson,
    /// RFC 4180.
    Csv,
    /// Columns separated by `||`, for comparing runs.
    Test,
}

impl Format {
    /// All of them, in the order of the help.
    pub const ALL: &'static [Self] =
        &[Self::Text, Self::Wide, Self::Json, Self::Ndjson, Self::Csv, Self::Test];

    /// The name typed by the user.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Wide => "wide",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
            Self::Test => "test",
        }
    }

    /// The format of a name. Rekall's names are known too: `TextRenderer`, `WideTextRenderer`, `JsonRenderer`,
    /// `TestRenderer`, `data`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "TextRenderer" => Some(Self::Text),
            "WideTextRenderer" => Some(Self::Wide),
            "JsonRenderer" | "DataExportRenderer" | "data" => Some(Self::Json),
            "TestRenderer" => Some(Self::Test),
            _ => Self::ALL.iter().copied().find(|format| format.name() == name),
        }
    }

    /// The usual ending of names of its files.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Text | Self::Wide | Self::Test => "txt",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    /// Whether people read it, so that a pager makes sense.
    #[must_use]
    pub fn is_for_people(self) -> bool {
        matches!(self, Self::Text | Self::Wide)
    }

    /// A renderer that writes to `out`.
    #[must_use]
    pub fn renderer<'w>(self, out: Box<dyn Write + 'w>, colours: Colours) -> Box<dyn Renderer + 'w> {
        match self {
            Self::Text => Box::new(text::Text::new(out, colours)),
            Self::Wide => Box::new(wide::Wide::new(out, colours)),
            Self::Json => Box::new(json::Json::new(out)),
            Self::Ndjson => Box::new(json::Ndjson::new(out)),
            Self::Csv => Box::new(csv::Csv::new(out)),
            Self::Test => Box::new(test::Test::new(out)),
        }
    }
}

#[cfg(test)]
mod tests;
