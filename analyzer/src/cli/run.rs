//! Runs one plugin: rows to the renderer, notes to standard error, and the exit code.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::time::Instant;

use clap::ArgMatches;

use crate::cli::pager::Terminal;
use crate::cli::report;
use crate::cli::settings::{Level, Settings};
use crate::error::{EXIT_COMPLETE, EXIT_PARTIAL, Error, ErrorKind};
use crate::notes::{Note, Severity};
use crate::os::{Kernel, SystemFact};
use crate::output::OutputFile;
use crate::plugin::{Active, DynPlugin, Sink};
use crate::render::{Colours, Format, Renderer, Table};
use crate::session::Session;
use crate::table::Value;

/// Bytes of output collected before they are written.
const BUFFER: usize = 64 << 10;

/// Runs a plugin and returns the exit code of a run that did not fail.
///
/// Nothing reaches the output before the first row or the end of the run, so a run that fails at its start leaves it
/// empty. One that fails later ends the table properly, marked incomplete.
pub(crate) fn run(
    plugin: &dyn DynPlugin,
    matches: &ArgMatches,
    session: &Session,
    settings: &Settings,
) -> Result<u8, Error> {
    let started = Instant::now();
    let file = match &settings.output {
        Some(path) => Some(OutputFile::create(path, session.config.overwrite)?),
        None => None,
    };
    let (out, colours) = destination(file.as_ref(), settings)?;
    let table = Table { plugin: plugin.name(), columns: plugin.columns() };
    let mut output = Output::new(out, settings.format, colours, table, settings.limit);

    let result = activate(plugin.active(), session, settings.level)
        .and_then(|()| plugin.run(session, matches, &mut output));

    let mut notes = session.take_notes();
    notes.extend(output.losses());
    let rows = output.rows;
    let failure = match result {
        // The rows so far are what the image still has.
        Err(error) if error.kind() == ErrorKind::Damaged => {
            notes.push(Note { severity: Severity::Partial, text: format!("the result ends early: {error}") });
            None
        }
        Err(error) if error.kind() != ErrorKind::Stopped => Some(error),
        Err(_) if !output.limited => return Ok(EXIT_COMPLETE),
        _ => None,
    };
    if output.limited {
        let unit = if rows == 1 { "row" } else { "rows" };
        let text = format!("stopped after {rows} {unit}, as --limit says");
        notes.push(Note { severity: Severity::Info, text });
    }
    if let Some(error) = &failure {
        notes.push(Note { severity: Severity::Error, text: error.to_string() });
    }
    let complete = notes.iter().all(|note| note.severity == Severity::Info);
    let ended = if failure.is_none() || output.began() { output.end(&notes, complete) } else { Ok(false) };
    if settings.level >= Level::Debug {
        report::line("debug", &format!("{rows} rows in {:.3} s", started.elapsed().as_secs_f64()));
    }
    let wrote = match ended.map_err(Error::output) {
        Err(error) if error.kind() == ErrorKind::Stopped => return Ok(EXIT_COMPLETE),
        other => other,
    };
    for note in &notes {
        let wanted = match note.severity {
            Severity::Info => settings.level > Level::Error,
            Severity::Partial => true,
            // Reported as the error it is, with its details.
            Severity::Error => false,
        };
        if wanted {
            report::note(note);
        }
    }
    if let (Some(file), Ok(true)) = (file, &wrote) {
        file.commit()?;
    }
    match failure {
        Some(error) => Err(error),
        None => wrote.map(|_| if complete { EXIT_COMPLETE } else { EXIT_PARTIAL }),
    }
}

/// Opens what the plugin needs, so that a failure is reported before anything else happens.
fn activate(active: Active, session: &Session, level: Level) -> Result<(), Error> {
    match active {
        Active::Always => Ok(()),
        Active::Image => session.image().map(drop),
        Active::Linux | Active::Windows => {
            let kernel = Kernel::of(session)?;
            if level >= Level::Info {
                for decision in kernel.decisions() {
                    report::line("info", decision);
                }
            }
            let (wanted, found) = (active.system(), *session.fact::<SystemFact>()?);
            match wanted {
                Some(wanted) if wanted != found => Err(Error::usage(format!(
                    "a command for images of {}, this is {}",
                    wanted.name(),
                    found.name()
                ))
                .with_hint("rekal --help lists the commands by system")),
                _ => Ok(()),
            }
        }
    }
}

/// Where the table goes and whether it may have colours.
fn destination(file: Option<&OutputFile>, settings: &Settings) -> Result<(Box<dyn Write>, Colours), Error> {
    if let Some(file) = file {
        let handle = file.handle().map_err(Error::output)?;
        return Ok((Box::new(BufWriter::with_capacity(BUFFER, handle)), Colours::Off));
    }
    if !io::stdout().is_terminal() {
        return Ok((Box::new(BufWriter::with_capacity(BUFFER, io::stdout().lock())), Colours::Off));
    }
    let colours = if settings.no_colours { Colours::Off } else { Colours::On };
    let limit = if settings.format.is_for_people() { settings.paging_limit } else { 0 };
    Ok((Box::new(BufWriter::with_capacity(BUFFER, Terminal::new(&settings.pager, limit))), colours))
}

/// Where the output of a run stands.
enum State<'a> {
    /// Nothing is written yet.
    Before(Box<dyn Write + 'a>),
    /// A table is being written.
    Table(Box<dyn Renderer + 'a>),
    /// A document took the place of the table, or nothing can be written any more.
    Over,
}

/// The sink in front of a renderer: counts rows and torn cells, and stops at the limit.
struct Output<'a> {
    state: State<'a>,
    format: Format,
    colours: Colours,
    table: Table<'a>,
    limit: Option<u64>,
    /// Rows written.
    rows: u64,
    /// Whether a row was refused because of the limit.
    limited: bool,
    /// Per column the number of torn cells and the reason of the first.
    torn: Vec<Option<(u64, String)>>,
}

impl<'a> Output<'a> {
    fn new(
        out: Box<dyn Write + 'a>,
        format: Format,
        colours: Colours,
        table: Table<'a>,
        limit: Option<u64>,
    ) -> Self {
        let torn = vec![None; table.columns.len()];
        Self { state: State::Before(out), format, colours, table, limit, rows: 0, limited: false, torn }
    }

    fn began(&self) -> bool {
        !matches!(self.state, State::Before(_))
    }

    /// The renderer, which writes the table's header when it is first asked for; `None` after a document.
    fn renderer(&mut self) -> io::Result<Option<&mut Box<dyn Renderer + 'a>>> {
        if let State::Before(_) = self.state
            && let State::Before(out) = std::mem::replace(&mut self.state, State::Over)
        {
            let mut renderer = self.format.renderer(out, self.colours);
            renderer.begin(&self.table)?;
            self.state = State::Table(renderer);
        }
        Ok(match &mut self.state {
            State::Table(renderer) => Some(renderer),
            _ => None,
        })
    }

    /// Writes what is left and closes the renderer; returns true, for something was written.
    fn end(mut self, notes: &[Note], complete: bool) -> io::Result<bool> {
        if let Some(renderer) = self.renderer()? {
            renderer.end(notes, complete)?;
        }
        Ok(true)
    }

    /// A note per column that has torn cells.
    fn losses(&self) -> Vec<Note> {
        let torn = self.table.columns.iter().zip(&self.torn);
        torn.filter_map(|(column, torn)| {
            let (count, first) = torn.as_ref()?;
            let cells = if *count == 1 { "cell of column" } else { "cells of column" };
            let text = format!("{count} {cells} {} without a value, first: {first}", column.name);
            Some(Note { severity: Severity::Partial, text })
        })
        .collect()
    }
}

impl Sink for Output<'_> {
    fn row(&mut self, depth: u16, values: &[Value]) -> io::Result<()> {
        if self.limit.is_some_and(|limit| self.rows >= limit) {
            self.limited = true;
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let Some(renderer) = self.renderer()? else {
            return Err(io::Error::other("a row after a document"));
        };
        renderer.row(depth, values)?;
        self.rows = self.rows.saturating_add(1);
        for (torn, value) in self.torn.iter_mut().zip(values) {
            if let Some(reason) = loss(value) {
                match torn {
                    Some((count, _)) => *count = count.saturating_add(1),
                    None => *torn = Some((1, reason.to_string())),
                }
            }
        }
        Ok(())
    }

    fn document(&mut self, text: &str) -> io::Result<()> {
        let State::Before(mut out) = std::mem::replace(&mut self.state, State::Over) else {
            return Err(io::Error::other("a document after something else"));
        };
        out.write_all(text.as_bytes())?;
        out.write_all(b"\n")?;
        out.flush()
    }
}

/// The first evidence missing from a cell, also inside objects and lists.
fn loss(value: &Value) -> Option<&object::Absent> {
    match value {
        Value::Absent(why) => why.is_loss().then_some(why),
        Value::Object(object) => object.tags.iter().find_map(|(_, tag)| loss(tag)),
        Value::List(values) => values.iter().find_map(loss),
        _ => None,
    }
}
