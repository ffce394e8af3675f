//! What a plugin is: a name, arguments, columns, and a function that emits rows.

use std::io;
use std::marker::PhantomData;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::error::Error;
use crate::os::System;
use crate::session::Session;
use crate::table::{Column, Row, Value};

/// What a plugin needs before it can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Active {
    /// Nothing: no image at all (`info`, `convert_profile`).
    Always,
    /// A memory image, of whatever system.
    Image,
    /// An image of a Linux kernel.
    Linux,
    /// An image of a Windows kernel.
    Windows,
}

impl Active {
    /// The name shown to users.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Image => "any image",
            Self::Linux => "linux",
            Self::Windows => "windows",
        }
    }

    /// The system it is for; `None` where it is not for one only.
    #[must_use]
    pub fn system(self) -> Option<System> {
        match self {
            Self::Always | Self::Image => None,
            Self::Linux => Some(System::Linux),
            Self::Windows => Some(System::Windows),
        }
    }
}

/// A command. One file each; see `plugins/linux/pslist.rs` for the pattern.
pub trait Plugin: Sync {
    /// Name typed by the user; also the file's name.
    const NAME: &'static str;
    /// One line of help.
    const SUMMARY: &'static str;
    /// What it needs.
    const ACTIVE: Active;
    /// Whether it writes files without being told to by an option; `batch` without names leaves it out.
    const WRITES: bool = false;
    /// Its options.
    type Args: Args;
    /// Its rows.
    type Row: Row;

    /// Emits the rows.
    fn collect(
        &self,
        session: &Session,
        args: &Self::Args,
        out: &mut Rows<'_, Self::Row>,
    ) -> Result<(), Error>;
}

/// No options.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct NoArgs {}

/// Where a table goes: a renderer, or a test's collector.
pub trait Sink {
    /// One row. `depth` is the nesting of tree output, 0 for flat tables.
    fn row(&mut self, depth: u16, values: &[Value]) -> io::Result<()>;

    /// A whole document in place of the table, as it is: no format changes it, and no row may follow. A sink that shows
    /// tables only refuses it.
    fn document(&mut self, _text: &str) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The typed end of a sink that a plugin pushes into.
pub struct Rows<'a, R> {
    sink: &'a mut dyn Sink,
    row: PhantomData<fn(R)>,
}

impl<'a, R: Row> Rows<'a, R> {
    /// Wraps a sink.
    pub fn new(sink: &'a mut dyn Sink) -> Self {
        Self { sink, row: PhantomData }
    }

    /// Emits a row.
    pub fn push(&mut self, row: R) -> Result<(), Error> {
        self.push_at(0, row)
    }

    /// Emits a row of a tree, nested `depth` deep.
    pub fn push_at(&mut self, depth: u16, row: R) -> Result<(), Error> {
        self.sink.row(depth, &row.into_values()).map_err(Error::output)
    }

    /// Writes a document in place of the table: for commands that make one and were given no file for it.
    pub fn document(&mut self, text: &str) -> Result<(), Error> {
        self.sink.document(text).map_err(Error::output)
    }
}

/// A plugin without its types: what the command line, shell, docs and tests use.
pub trait DynPlugin: Sync {
    /// Name typed by the user.
    fn name(&self) -> &'static str;
    /// One line of help.
    fn summary(&self) -> &'static str;
    /// What it needs.
    fn active(&self) -> Active;
    /// Whether it writes files without being told to by an option.
    fn writes(&self) -> bool;
    /// Its columns.
    fn columns(&self) -> &'static [Column];
    /// Its options.
    fn command(&self) -> Command;
    /// Runs it.
    fn run(&self, session: &Session, matches: &ArgMatches, sink: &mut dyn Sink) -> Result<(), Error>;
}

impl<P: Plugin> DynPlugin for P {
    fn name(&self) -> &'static str {
        P::NAME
    }

    fn summary(&self) -> &'static str {
        P::SUMMARY
    }

    fn active(&self) -> Active {
        P::ACTIVE
    }

    fn writes(&self) -> bool {
        P::WRITES
    }

    fn columns(&self) -> &'static [Column] {
        P::Row::COLUMNS
    }

    fn command(&self) -> Command {
        // Rekall's names have underscores where clap derives dashes; the command line accepts both.
        let command = P::Args::augment_args(Command::new(P::NAME));
        let command = command.mut_args(|arg| match arg.get_long().map(|long| long.replace('-', "_")) {
            Some(long) => arg.long(long),
            None => arg,
        });
        // Last, because the options bring the documentation of their struct along.
        command.about(P::SUMMARY).long_about(None)
    }

    fn run(&self, session: &Session, matches: &ArgMatches, sink: &mut dyn Sink) -> Result<(), Error> {
        let args = P::Args::from_arg_matches(matches).map_err(|error| Error::usage(error.to_string()))?;
        self.collect(session, &args, &mut Rows::new(sink))
    }
}

/// What nearly every plugin file needs.
pub mod prelude {
    pub use super::{Active, NoArgs, Plugin, Rows};
    pub use crate::error::Error;
    pub use crate::row;
    pub use crate::session::Session;
    pub use crate::table::{Address, ByteSize, ListOf, ObjRef, Time};
    pub use object::{Absent, Read};
}
