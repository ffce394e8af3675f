//! The strict order of the command line: global options, the command, its options. A misplaced option is an error that
//! says where to put it.

use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, Command};

use crate::cli::help::{columns, plugin_command};
use crate::cli::nearest::nearest;
use crate::cli::options;
use crate::error::Error;
use crate::plugin::DynPlugin;
use crate::plugins;

/// Parses the global options; the command and what follows it is the external subcommand of the matches.
pub(crate) fn globals(arguments: &[OsString]) -> Result<ArgMatches, Error> {
    options::command().try_get_matches_from(underscored(arguments)).map_err(|error| {
        let Some(name) = unknown_argument(&error) else { return usage(&error, "rekal --help") };
        let commands =
            arguments.iter().flat_map(|argument| plugins::named(argument.to_str().unwrap_or_default()));
        for plugin in commands {
            if has(&plugin.command(), &name) {
                let place = format!("put it after the command: rekal ... {} {name} ...", plugin.name());
                return Error::usage(format!("an option of {}, not a global one: {name}", plugin.name()))
                    .with_hint(place);
            }
        }
        let error = Error::usage(format!("unknown global option: {name}"));
        let known = options::OPTIONS.iter().map(|option| option.name);
        match nearest(name.trim_start_matches('-'), known).first() {
            Some(near) => error.with_hint(format!("did you mean --{near}? rekal --help lists all of them")),
            None => {
                error.with_hint("rekal --help lists the global options; options of a command go after it")
            }
        }
    })
}

/// What came out of a command's options.
pub(crate) enum Parsed {
    /// They are fine.
    Matches(ArgMatches),
    /// Help is asked for: this text.
    Help(String),
}

/// Parses the options of a plugin.
pub(crate) fn plugin(plugin: &dyn DynPlugin, arguments: &[OsString]) -> Result<Parsed, Error> {
    Ok(match command(plugin_command(plugin), plugin.name(), arguments)? {
        Parsed::Help(text) => Parsed::Help(format!("{text}\n{}", columns(plugin))),
        matches @ Parsed::Matches(_) => matches,
    })
}

/// The help of all commands of one name, where it is asked for.
pub(crate) fn help(
    several: &[&'static dyn DynPlugin],
    arguments: &[OsString],
) -> Result<Option<String>, Error> {
    let before_values = arguments.iter().take_while(|argument| *argument != "--");
    if !before_values.into_iter().any(|argument| argument == "-h" || argument == "--help") {
        return Ok(None);
    }
    let mut text = String::new();
    for plugin in several {
        if let Parsed::Help(one) = self::plugin(*plugin, &["--help".into()])? {
            text.push_str(&format!("For {} images:\n\n{one}\n\n", plugin.active().name()));
        }
    }
    Ok(Some(text))
}

/// Parses the options of a command.
pub(crate) fn command(command: Command, name: &str, arguments: &[OsString]) -> Result<Parsed, Error> {
    let known: Vec<String> = command.get_arguments().filter_map(Arg::get_long).map(str::to_owned).collect();
    let error = match command.try_get_matches_from(underscored(arguments)) {
        Ok(matches) => return Ok(Parsed::Matches(matches)),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => return Ok(Parsed::Help(error.to_string())),
        Err(error) => error,
    };
    let help = format!("rekal {name} --help");
    let Some(unknown) = unknown_argument(&error) else { return Err(usage(&error, &help)) };
    if has(&options::command(), &unknown) {
        let place = format!("put it before the command: rekal {unknown} ... {name} ...");
        return Err(Error::usage(format!("a global option, not one of {name}: {unknown}")).with_hint(place));
    }
    let error = Error::usage(format!("unknown option of {name}: {unknown}"));
    Err(match nearest(unknown.trim_start_matches('-'), known.iter().map(String::as_str)).first() {
        Some(near) => error.with_hint(format!("did you mean --{near}? {help} lists all of them")),
        None => error.with_hint(format!("{help} lists its options")),
    })
}

/// The option of a "no such option" error, as typed.
fn unknown_argument(error: &clap::Error) -> Option<String> {
    match (error.kind(), error.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(name))) if name.starts_with('-') => {
            Some(name.split('=').next().unwrap_or(name).to_owned())
        }
        _ => None,
    }
}

/// Whether a command has the option, which may be shortened as far as it is unique.
fn has(command: &Command, typed: &str) -> bool {
    match typed.strip_prefix("--") {
        Some(long) => command.get_arguments().any(|arg| {
            let mut names = arg.get_long_and_visible_aliases().unwrap_or_default();
            names.extend(arg.get_all_aliases().unwrap_or_default());
            names.iter().any(|name| name.starts_with(long))
        }),
        None => {
            let short = typed.chars().nth(1);
            command.get_arguments().any(|arg| arg.get_short().is_some() && arg.get_short() == short)
        }
    }
}

/// The error of clap as ours.
fn usage(error: &clap::Error, help: &str) -> Error {
    let text = error.to_string();
    let mut lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let message = lines.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let details = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information"));
    Error::usage(message)
        .with_details(details.map(str::to_owned).collect())
        .with_hint(format!("{help} explains the options"))
}

/// The arguments with `_` for `-` in the names of long options, up to a lone `--`. So `--proc-regex` and
/// `--proc_regex` are the same.
fn underscored(arguments: &[OsString]) -> Vec<OsString> {
    let mut options = true;
    let convert = |argument: &OsString| {
        options &= argument != "--";
        let Some(name) = argument.to_str().and_then(|text| text.strip_prefix("--")) else {
            return argument.clone();
        };
        if !options {
            return argument.clone();
        }
        let (name, value) = name.split_at(name.find('=').unwrap_or(name.len()));
        format!("--{}{value}", name.replace('-', "_")).into()
    };
    arguments.iter().map(convert).collect()
}
