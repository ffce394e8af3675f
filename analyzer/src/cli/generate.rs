//! Commands of the program itself: texts generated from the registry (shell completion, manual pages), and `batch`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::cli::{batch, help, options};
use crate::error::Error;
use crate::output::OutputFile;
use crate::plugin::DynPlugin;
use crate::plugins;

/// The commands that are no plugins.
#[must_use]
pub fn commands() -> Vec<Command> {
    let shell =
        Arg::new("shell").required(true).value_parser(["bash", "zsh", "fish"]).help("Shell to complete for");
    let dir = Arg::new("dir").long("dir").value_name("DIR").value_parser(value_parser!(PathBuf)).help(
        "Write rekal.1 and a page per command into this directory, instead of rekal.1 to standard output",
    );
    [
        Command::new("completion").about("Print a shell completion script").arg(shell),
        Command::new("man").about("Print the manual page").arg(dir),
        batch::command(),
    ]
    .into_iter()
    .map(|command| {
        let name = format!("rekal {}", command.get_name());
        command.bin_name(name).no_binary_name(true)
    })
    .collect()
}

/// Runs one of [`commands`].
pub(crate) fn run(name: &str, matches: &ArgMatches, overwrite: bool) -> Result<(), Error> {
    if name == "completion" {
        let shell = matches.get_one::<String>("shell").map_or("", String::as_str);
        return completion(shell);
    }
    match matches.get_one::<PathBuf>("dir") {
        Some(dir) => manual_pages(dir, overwrite),
        None => print(&page(tree().after_help(help::commands()))?),
    }
}

/// The whole command line as one tree, which only generators need.
#[must_use]
pub fn tree() -> Command {
    // Of commands that several systems have, the first stands for all: their options are nearly the same.
    let first = |plugin: &&&dyn DynPlugin| {
        plugins::named(plugin.name()).first().is_some_and(|first| first.active() == plugin.active())
    };
    let plugins = plugins::ALL
        .iter()
        .filter(first)
        .map(|plugin| help::plugin_command(*plugin).after_help(help::columns(*plugin)));
    options::command()
        .allow_external_subcommands(false)
        .subcommands(plugins.chain(commands()).map(|command| command.no_binary_name(false)))
        .disable_help_subcommand(true)
        .no_binary_name(false)
        .bin_name("rekal")
}

fn completion(shell: &str) -> Result<(), Error> {
    let shell: Shell = shell.parse().map_err(Error::usage)?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut tree(), "rekal", &mut script);
    print(&script)
}

fn manual_pages(dir: &Path, overwrite: bool) -> Result<(), Error> {
    let mut tree = tree();
    tree.build();
    for command in tree.get_subcommands() {
        let name = format!("rekal-{}", command.get_name());
        save(&dir.join(format!("{name}.1")), &page(command.clone().name(name))?, overwrite)?;
    }
    save(&dir.join("rekal.1"), &page(tree.after_help(help::commands()))?, overwrite)
}

fn page(command: Command) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text).map_err(Error::output)?;
    Ok(text)
}

fn save(path: &Path, text: &[u8], overwrite: bool) -> Result<(), Error> {
    let mut file = OutputFile::create(path, overwrite)?;
    file.write_all(text).map_err(Error::output)?;
    file.commit()
}

fn print(text: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush()).map_err(Error::output)
}
