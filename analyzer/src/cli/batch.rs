//! `batch`: several commands over one image in one process, so that it is opened, identified and scanned once, and what one
//! command found out about it is there for the next.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::settings::{Level, Settings};
use super::{Chosen, choose, parse, print, report, run, start};
use crate::error::{EXIT_COMPLETE, EXIT_PARTIAL, Error, ErrorKind};
use crate::os::SystemFact;
use crate::plugin::Active;
use crate::plugins::ALL;
use crate::render::Format;
use crate::session::Session;

/// Name of the command.
pub(super) const NAME: &str = "batch";
/// Largest script in bytes.
const MAX_SCRIPT: u64 = 1 << 20;

/// The command.
pub(super) fn command() -> Command {
    let commands = Arg::new("commands").value_name("COMMAND").num_args(0..).help(
        "Commands to run, each with its options in one argument: pslist 'maps 1' [default: all for the image that need no \
         option and write no files]",
    );
    let file = Arg::new("file")
        .long("file")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("File that names further commands, one a line; # begins a comment, - is standard input");
    Command::new(NAME)
        .about("Run several commands on one image, each into its own file of --output_dir if that is given")
        .args([commands, file])
}

/// Runs the commands one after another. One that fails does not stop the others; the exit code is that of the first
/// failure, else 3 where any result is partial.
pub(super) fn run(matches: &ArgMatches, globals: &ArgMatches) -> Result<u8, Error> {
    let (session, settings) = start(globals)?;
    let directory = session.config.output_dir.as_deref();
    let separate = "write each to a file of its own: rekal --output_dir DIR ... batch ...";
    if directory.is_none() && !matches!(settings.format, Format::Text | Format::Wide | Format::Json) {
        let format = settings.format.name();
        let error = Error::usage(format!("tables in one {format} output cannot be told apart"));
        return Err(error.with_hint(separate));
    }
    if settings.output.is_some() {
        return Err(Error::usage("--output names one file, and there are several tables").with_hint(separate));
    }
    let mut lines = Vec::new();
    for text in matches.get_many::<String>("commands").into_iter().flatten() {
        lines.extend(words(text)?);
    }
    if let Some(file) = matches.get_one::<PathBuf>("file") {
        for line in script(file)?.lines() {
            lines.extend(words(line)?);
        }
    }
    let is_asked = matches.contains_id("file") || !lines.is_empty();
    if !is_asked {
        lines = every(&session)?;
    }
    if let Some(directory) = directory {
        fs::create_dir_all(directory).map_err(Error::output)?;
    }
    let (mut failed, mut partial) = (None, false);
    for (n, words) in lines.iter().enumerate() {
        let before = lines.iter().take(n).filter(|other| other.first() == words.first()).count();
        match one(words, before, &session, &settings, directory) {
            Ok(code) => partial |= code == EXIT_PARTIAL,
            Err(error) if error.kind() == ErrorKind::Stopped => break,
            // Nobody asked for it by name.
            Err(error) if error.kind() == ErrorKind::NotApplicable && !is_asked => {
                report::line("note", &format!("in {}: {error}", words.join(" ")));
            }
            Err(error) => {
                report::line("error", &format!("in {}:", words.join(" ")));
                report::error(&error);
                failed = failed.or(Some(error.exit_code()));
            }
        }
    }
    Ok(failed.unwrap_or(if partial { EXIT_PARTIAL } else { EXIT_COMPLETE }))
}

/// The words of a line, quoted as for a shell; none where it says nothing.
fn words(line: &str) -> Result<Option<Vec<String>>, Error> {
    let words = shlex::split(line).ok_or_else(|| Error::usage(format!("quotes do not match: {line}")))?;
    Ok(if words.is_empty() { None } else { Some(words) })
}

/// The text of a script.
fn script(file: &Path) -> Result<String, Error> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        io::stdin().take(MAX_SCRIPT).read_to_string(&mut text)
    } else {
        fs::File::open(file).and_then(|file| file.take(MAX_SCRIPT).read_to_string(&mut text))
    };
    match read {
        Ok(length) if length as u64 == MAX_SCRIPT => {
            Err(Error::usage(format!("a script has less than {MAX_SCRIPT} bytes: {}", file.display())))
        }
        Ok(_) => Ok(text),
        Err(error) => Err(Error::usage(format!("cannot read {}: {error}", file.display()))),
    }
}

/// Every command for the image's system, and those for any image, that need no options and write no files.
fn every(session: &Session) -> Result<Vec<Vec<String>>, Error> {
    let system = *session.fact::<SystemFact>()?;
    let wanted = ALL.iter().filter(|plugin| {
        plugin.active() == Active::Image || plugin.active().system().is_some_and(|its| its == system)
    });
    let lines = wanted.filter(|plugin| !plugin.writes() && parse::plugin(**plugin, &[]).is_ok());
    Ok(lines.map(|plugin| vec![plugin.name().to_owned()]).collect())
}

/// Runs one command, of whose name there were so many `before`.
fn one(
    words: &[String],
    before: usize,
    session: &Session,
    settings: &Settings,
    directory: Option<&Path>,
) -> Result<u8, Error> {
    let Some((name, options)) = words.split_first() else { return Ok(EXIT_COMPLETE) };
    let options: Vec<OsString> = options.iter().map(OsString::from).collect();
    let (plugin, matches) = match choose(name, &options, &|| Ok(session))? {
        Chosen::Help(text) => return print(&text),
        Chosen::Plugin(plugin, matches) => (plugin, matches),
    };
    let Some(directory) = directory else {
        if settings.format != Format::Json {
            print(&format!("== {}", words.join(" ")))?;
        }
        return run::run(plugin, &matches, session, settings);
    };
    let suffix = if before > 0 { format!("-{}", before + 1) } else { String::new() };
    let file = directory.join(format!("{}{suffix}.{}", plugin.name(), settings.format.extension()));
    let started = Instant::now();
    let settings = Settings { output: Some(file.clone()), ..settings.clone() };
    let code = run::run(plugin, &matches, session, &settings)?;
    if settings.level > Level::Error {
        let seconds = started.elapsed().as_secs_f64();
        print(&format!("{:24} {code} {seconds:8.3} s  {}", plugin.name(), file.display()))?;
    }
    Ok(code)
}
