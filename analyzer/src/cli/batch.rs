//! `rekal batch`: many commands over one image in one process, each into its own file. The image is identified once, and what
//! one command found out about it is there for the next.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Instant;

use clap::{Arg, ArgMatches, Command};

use super::parse::{self, Parsed};
use super::run;
use super::settings::Settings;
use crate::error::{EXIT_COMPLETE, EXIT_PARTIAL, Error};
use crate::os::SystemFact;
use crate::plugin::{Active, DynPlugin};
use crate::plugins;
use crate::session::Session;

/// The command.
#[must_use]
pub fn command() -> Command {
    let commands = Arg::new("commands").value_name("COMMAND").num_args(0..).help(
        "Commands to run, each with its options in one argument: pslist 'maps 1' [default: all for the system of the image \
         that need no arguments and write no files of their own]",
    );
    Command::new("batch")
        .about("Run many commands at once, each into its own file of --output_dir")
        .arg(commands)
        .bin_name("rekal batch")
        .no_binary_name(true)
}

/// Runs the commands; the exit code is the worst of them. A line for each goes to standard output: exit code, seconds, file.
pub(crate) fn run(matches: &ArgMatches, session: &Session, settings: &mut Settings) -> Result<u8, Error> {
    let system = *session.fact::<SystemFact>()?;
    let named: Vec<&String> = matches.get_many::<String>("commands").into_iter().flatten().collect();
    let mut wanted: Vec<(&'static dyn DynPlugin, ArgMatches)> = Vec::new();
    for text in &named {
        let mut words = text.split_whitespace();
        let name = words.next().unwrap_or_default();
        let several = plugins::named(name);
        if several.is_empty() {
            return Err(super::unknown_command(name));
        }
        let plugin = plugins::for_system(&several, system)?;
        let arguments: Vec<_> = words.map(Into::into).collect();
        match parse::plugin(plugin, &arguments)? {
            Parsed::Matches(matches) => wanted.push((plugin, matches)),
            Parsed::Help(_) => return Err(Error::usage(format!("help is not for batches: {text}"))),
        }
    }
    if named.is_empty() {
        wanted = plugins::ALL
            .iter()
            .filter(|plugin| plugin.active() == Active::Image || plugin.active().system() == Some(system))
            .filter(|plugin| {
                let command = plugin.command();
                let has = |name| command.get_arguments().any(|arg| arg.get_long() == Some(name));
                // With --dump it is asked for, without it is what the command is for.
                !has("dump_dir") || has("dump")
            })
            .filter_map(|plugin| match parse::plugin(*plugin, &[]) {
                Ok(Parsed::Matches(matches)) => Some((*plugin, matches)),
                _ => None,
            })
            .collect();
    }
    let directory = session.config.output_dir.clone().unwrap_or_default();
    let mut worst = EXIT_COMPLETE;
    for (number, (plugin, matches)) in wanted.iter().enumerate() {
        let name = plugin.name();
        let again = wanted.iter().take(number).filter(|(before, _)| before.name() == name).count();
        let suffix = if again > 0 { format!("-{}", again + 1) } else { String::new() };
        let file: PathBuf = directory.join(format!("{name}{suffix}.{}", settings.format.name()));
        settings.output = Some(file.clone());
        let started = Instant::now();
        let code = match run::run(*plugin, matches, session, settings) {
            Ok(code) => code,
            Err(error) => {
                super::report::error(&error);
                error.exit_code()
            }
        };
        // Partial is better than failed, whatever the numbers are.
        worst = match (worst, code) {
            (before, EXIT_COMPLETE) => before,
            (EXIT_COMPLETE | EXIT_PARTIAL, code) => code,
            (before, _) => before,
        };
        let seconds = started.elapsed().as_secs_f64();
        writeln!(io::stdout(), "{name:24} {code} {seconds:8.3} s  {}", file.display())
            .map_err(Error::output)?;
    }
    Ok(worst)
}
