//! The command line: `rekal [GLOBAL OPTIONS] COMMAND [COMMAND OPTIONS]`, from arguments to exit code.
//!
//! ```text
//! arguments ─► parse (strict order) ─► config (command line, environment, file) ─► settings ─► run
//! ```
//! Only the command that is asked for builds its options; `generate` and `help` are the only users of all of them.

mod batch;
pub mod config;
pub mod generate;
pub mod help;
pub mod nearest;
pub mod options;
mod pager;
mod parse;
mod report;
mod run;
pub mod settings;

#[cfg(test)]
mod tests;

use std::cell::OnceCell;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;

use clap::ArgMatches;

use crate::error::{EXIT_COMPLETE, EXIT_USAGE, Error, ErrorKind};
use crate::os::SystemFact;
use crate::plugin::DynPlugin;
use crate::plugins;
use crate::progress;
use crate::session::Session;
use config::{ConfigFile, Layers};
use parse::Parsed;
use settings::{Level, Settings};

/// Runs the program with the arguments after its name and returns the exit code.
#[must_use]
pub fn main(arguments: &[OsString]) -> u8 {
    match dispatch(arguments) {
        Ok(code) => code,
        Err(error) => {
            if error.kind() != ErrorKind::Stopped {
                report::error(&error);
            }
            error.exit_code()
        }
    }
}

fn dispatch(arguments: &[OsString]) -> Result<u8, Error> {
    let globals = parse::globals(arguments)?;
    if globals.get_flag("help") {
        return print(&help::program());
    }
    if globals.get_flag("version") {
        return print(concat!("rekal ", env!("CARGO_PKG_VERSION")));
    }
    let Some((name, rest)) = globals.subcommand() else {
        report::line("error", "no command given");
        let _ = writeln!(io::stderr(), "{}\nhint: rekal --help lists options and commands", help::USAGE);
        return Ok(EXIT_USAGE);
    };
    let rest: Vec<OsString> = rest.get_many::<OsString>("").into_iter().flatten().cloned().collect();

    if let Some(command) = generate::commands().into_iter().find(|command| command.get_name() == name) {
        return match parse::command(command, name, &rest)? {
            Parsed::Help(text) => print(&text),
            Parsed::Matches(matches) if name == batch::NAME => batch::run(&matches, &globals),
            Parsed::Matches(matches) => {
                generate::run(name, &matches, globals.get_flag("overwrite")).map(|()| EXIT_COMPLETE)
            }
        };
    }
    let started = OnceCell::new();
    let start = || match started.get() {
        Some(started) => Ok(started),
        None => start(&globals).map(|new| started.get_or_init(|| new)),
    };
    match choose(name, &rest, &|| start().map(|(session, _)| session))? {
        Chosen::Help(text) => print(&text),
        Chosen::Plugin(plugin, matches) => {
            let (session, settings) = start()?;
            run::run(plugin, &matches, session, settings)
        }
    }
}

/// What a command line asks for.
enum Chosen {
    /// This text.
    Help(String),
    /// A plugin with its options.
    Plugin(&'static dyn DynPlugin, ArgMatches),
}

/// Finds the plugin of a name and parses its options. The session is asked for only where the image decides.
fn choose<'a>(
    name: &str,
    options: &[OsString],
    session: &dyn Fn() -> Result<&'a Session, Error>,
) -> Result<Chosen, Error> {
    let plugins = plugins::named(name);
    let plugin = match plugins.as_slice() {
        [] => return Err(unknown_command(name)),
        [only] => *only,
        // Several systems have a command of this name: the image tells which is meant, so it comes first.
        several => {
            if let Some(text) = parse::help(several, options)? {
                return Ok(Chosen::Help(text));
            }
            // What none of them accepts is wrong whatever the image is.
            let refusals = several.iter().map(|plugin| parse::plugin(*plugin, options).err());
            if let Some(Some(error)) =
                refusals.collect::<Option<Vec<_>>>().map(|errors| errors.into_iter().next())
            {
                return Err(error);
            }
            plugins::for_system(several, *session()?.fact::<SystemFact>()?)?
        }
    };
    Ok(match parse::plugin(plugin, options)? {
        Parsed::Help(text) => Chosen::Help(text),
        Parsed::Matches(matches) => Chosen::Plugin(plugin, matches),
    })
}

/// The session and the settings of this run.
fn start(globals: &ArgMatches) -> Result<(Session, Settings), Error> {
    let mut settings = settings(globals)?;
    if let Some(threads) = settings.threads {
        // Fails only when the pool exists already, and nothing ran before.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    }
    if settings.level > Level::Error {
        progress::allow();
    }
    Ok((Session::new(std::mem::take(&mut settings.session)), settings))
}

/// The settings of this process.
fn settings(globals: &ArgMatches) -> Result<Settings, Error> {
    let variables = |name: &str| std::env::var_os(name);
    let home = settings::home(globals.get_one("home"), &variables);
    let named =
        globals.get_one("config").cloned().or_else(|| variables("REKAL_CONFIG").filter(|v| !v.is_empty()));
    let (file, warnings) = ConfigFile::load(named.as_ref().map(Path::new), home.as_deref(), &variables)?;
    let layers = Layers { matches: globals, variables: &variables, file };
    let program = std::env::current_exe().ok();
    let settings = Settings::resolve(&layers, home.as_deref(), program.as_deref())?;
    if settings.level >= Level::Warning {
        for warning in warnings {
            report::line("warning", &warning);
        }
    }
    Ok(settings)
}

fn unknown_command(name: &str) -> Error {
    let error = Error::usage(format!("unknown command: {name}"));
    if Path::new(name).is_file() {
        return error.with_hint(format!("to analyze a file, name it with -f: rekal -f {name} COMMAND"));
    }
    let generators = generate::commands();
    let known = plugins::ALL.iter().map(|plugin| plugin.name());
    let known = known.chain(generators.iter().map(clap::Command::get_name));
    let near = nearest::nearest(name, known);
    if near.is_empty() {
        error.with_hint("rekal --help lists all commands")
    } else {
        error.with_hint(format!("did you mean {}? rekal --help lists all commands", near.join(" or ")))
    }
}

/// Prints a text on standard output.
fn print(text: &str) -> Result<u8, Error> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()).map_err(Error::output)?;
    Ok(EXIT_COMPLETE)
}
