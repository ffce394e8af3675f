//! Help texts: the program's, with all plugins, and a plugin's, with its columns.

use std::fmt::Write as _;

use clap::Command;

use crate::cli::{generate, options};
use crate::plugin::{Active, DynPlugin};
use crate::plugins;

/// The exit codes, as documented.
const EXIT_CODES: &str = "\
Exit codes:
  0  complete
  1  failure: the command could not go on, or the output could not be written
  2  usage error
  3  partial: something is missing from the result; standard error says what
  4  the image cannot be opened, or no kernel or profile was identified";

const CONFIGURATION: &str = "\
Options that make sense for every run can also be set in the environment
(--cache_dir as REKAL_CACHE_DIR; lists are separated by commas) and in a TOML file
(cache_dir = \"DIR\"): the one named by --config or REKAL_CONFIG, else the first of
~/.config/rekal/config.toml, ~/.rekalrc and /etc/rekalrc.
The command line wins, then the environment, then the file.";

/// The headings of the plugin list.
const GROUPS: &[(Active, &str)] = &[
    (Active::Always, "Commands that need no image"),
    (Active::Image, "Commands for any image"),
    (Active::Linux, "Commands for Linux images"),
    (Active::Windows, "Commands for Windows images"),
];

/// Two lines for those who typed no command.
pub(crate) const USAGE: &str = "usage: rekal [GLOBAL OPTIONS] COMMAND [COMMAND OPTIONS]";

/// `rekal --help`.
#[must_use]
pub fn program() -> String {
    // Not as clap's own text after the help, which would be wrapped.
    format!("{}\n{}", options::command().render_help(), commands())
}

/// The list of all commands, and what there is to know about all of them.
#[must_use]
pub fn commands() -> String {
    let generators = generate::commands();
    let names = plugins::ALL.iter().map(|plugin| plugin.name());
    let names = names.chain(generators.iter().map(Command::get_name));
    let width = names.map(str::len).max().unwrap_or(0);
    let mut text = String::new();
    // Writing to a string cannot fail.
    for (active, heading) in GROUPS {
        let _ = writeln!(text, "{heading}:");
        for plugin in plugins::ALL.iter().filter(|plugin| plugin.active() == *active) {
            let _ = writeln!(text, "  {:width$}  {}", plugin.name(), plugin.summary());
        }
        if *active == Active::Always {
            for command in &generators {
                let about = command.get_about().map(ToString::to_string).unwrap_or_default();
                let _ = writeln!(text, "  {:width$}  {about}", command.get_name());
            }
        }
        text.push('\n');
    }
    let _ = writeln!(text, "{}\n", other_names());
    let _ = write!(text, "{CONFIGURATION}\n\n{EXIT_CODES}");
    text
}

/// Which names of Volatility 3 are accepted.
fn other_names() -> String {
    let mut text =
        "Names of Volatility 3 are accepted too: linux.pslist.PsList or linux.pslist, windows.handles, ...\n\
                    Where they differ from the names here:"
            .to_owned();
    let width = plugins::aliases::OTHER.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, command) in plugins::aliases::OTHER {
        let _ = write!(text, "\n  {name:width$}  {command}");
    }
    text
}

/// The command line of a plugin after its name.
#[must_use]
pub fn plugin_command(plugin: &dyn DynPlugin) -> Command {
    plugin.command().bin_name(format!("rekal {}", plugin.name())).no_binary_name(true).infer_long_args(true)
}

/// The columns of a plugin for its help.
pub(crate) fn columns(plugin: &dyn DynPlugin) -> String {
    let columns = plugin.columns();
    let name = columns.iter().map(|column| column.name.len()).max().unwrap_or(0);
    let kind = columns.iter().map(|column| column.kind.name().len()).max().unwrap_or(0);
    let mut text = String::new();
    if !columns.is_empty() {
        text.push_str("Columns:");
    }
    for column in columns {
        let _ = write!(text, "\n  {:name$}  {:kind$}  {}", column.name, column.kind.name(), column.doc);
    }
    text
}
