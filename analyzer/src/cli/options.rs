//! The global options, once: the command line, the environment, the configuration file and the help are made of this
//! table.

use clap::{Arg, ArgAction, Command, builder::OsStringValueParser};

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing.
    Nothing,
    /// One value, shown in the help by this name.
    One(&'static str),
    /// Several values: the option may be repeated.
    Several(&'static str),
}

/// Where an option may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// On the command line, as `REKAL_NAME` in the environment, and as `name` in the configuration file.
    Anywhere,
    /// On the command line only: it makes sense for one run.
    Once,
}

/// One global option.
#[derive(Debug)]
pub struct GlobalOption {
    /// Long name, with underscores; dashes are accepted too.
    pub name: &'static str,
    /// Short name.
    pub short: Option<char>,
    /// Another long name.
    pub alias: Option<&'static str>,
    /// What it takes.
    pub takes: Takes,
    /// Where it may be set.
    pub set: Set,
    /// Heading it stands under in the help.
    pub heading: &'static str,
    /// One sentence of help.
    pub help: &'static str,
}

impl GlobalOption {
    const fn new(
        heading: &'static str,
        name: &'static str,
        takes: Takes,
        set: Set,
        help: &'static str,
    ) -> Self {
        Self { name, short: None, alias: None, takes, set, heading, help }
    }

    const fn short(self, short: char) -> Self {
        Self { short: Some(short), ..self }
    }

    const fn alias(self, alias: &'static str) -> Self {
        Self { alias: Some(alias), ..self }
    }
}

use Set::{Anywhere, Once};
use Takes::{Nothing, One, Several};

const IMAGE: &str = "Image and profile";
const OUTPUT: &str = "Output";
const PROGRAM: &str = "Program";

/// All of them, in the order of the help.
pub static OPTIONS: &[GlobalOption] = &[
    GlobalOption::new(
        IMAGE,
        "filename",
        One("FILE"),
        Once,
        "Memory image to analyze; its format is detected",
    )
    .short('f'),
    GlobalOption::new(
        IMAGE,
        "profile",
        One("NAME"),
        Once,
        "Profile name or file to use instead of detecting it",
    )
    .short('p'),
    GlobalOption::new(
        IMAGE,
        "repository_path",
        Several("PLACE"),
        Anywhere,
        "Directory, zip archive or URL that holds profiles; repeat for more, searched in order \
         [default: the bundled repository]",
    ),
    GlobalOption::new(
        IMAGE,
        "cache_dir",
        One("DIR"),
        Anywhere,
        "Where fetched profiles are kept [default: ${XDG_CACHE_HOME:-~/.cache}/rekal]",
    ),
    GlobalOption::new(
        IMAGE,
        "symbol_path",
        One("PATH"),
        Anywhere,
        "Where Windows symbols are fetched from, in the syntax of _NT_SYMBOL_PATH; an empty one asks nobody \
         [default: $_NT_SYMBOL_PATH, else Microsoft's public server]",
    ),
    GlobalOption::new(
        IMAGE,
        "offline",
        Nothing,
        Anywhere,
        "Do not use the network, only what is on this machine",
    ),
    GlobalOption::new(
        IMAGE,
        "dtb",
        One("ADDRESS"),
        Once,
        "Physical address of the kernel's page tables, instead of detecting it",
    ),
    GlobalOption::new(
        IMAGE,
        "kernel_slide",
        One("OFFSET"),
        Once,
        "Virtual KASLR slide of the kernel, instead of detecting it; the base address of a Windows kernel",
    ),
    GlobalOption::new(
        IMAGE,
        "pagefile",
        Several("FILE"),
        Once,
        "Pagefile of the Windows system; repeat for more, in the order of their numbers. The compressed store needs none: it is read by \
         public research, tested on made images only",
    ),
    GlobalOption::new(
        IMAGE,
        "swap",
        Several("FILE"),
        Once,
        "Swap area of the Linux system, a copy of the device or file; repeat for more. Areas are told by size, name and order",
    ),
    GlobalOption::new(
        OUTPUT,
        "format",
        One("FORMAT"),
        Anywhere,
        "Output format: text, wide, json, ndjson, csv, test [default: text]",
    )
    .short('F')
    .alias("renderer"),
    GlobalOption::new(
        OUTPUT,
        "output",
        One("FILE"),
        Once,
        "Write the table to this file instead of standard output",
    ),
    GlobalOption::new(OUTPUT, "overwrite", Nothing, Once, "Overwrite existing files"),
    GlobalOption::new(
        OUTPUT,
        "output_dir",
        One("DIR"),
        Anywhere,
        "Directory that commands write files into [default: the current one]",
    )
    .short('D'),
    GlobalOption::new(OUTPUT, "limit", One("ROWS"), Once, "Stop after this many rows"),
    GlobalOption::new(
        OUTPUT,
        "pager",
        One("COMMAND"),
        Anywhere,
        "Pager for long output on a terminal [default: $PAGER, else less -R]",
    ),
    GlobalOption::new(
        OUTPUT,
        "paging_limit",
        One("LINES"),
        Anywhere,
        "Page output that has more lines than this; 0 never pages [default: 50]",
    ),
    GlobalOption::new(
        OUTPUT,
        "nocolors",
        Nothing,
        Anywhere,
        "No colours; as does the environment variable NO_COLOR",
    ),
    GlobalOption::new(
        PROGRAM,
        "config",
        One("FILE"),
        Once,
        "Configuration file to read instead of the usual one",
    ),
    GlobalOption::new(PROGRAM, "home", One("DIR"), Once, "Home directory to use instead of $HOME"),
    GlobalOption::new(PROGRAM, "threads", One("N"), Anywhere, "Threads to use [default: one per processor]"),
    GlobalOption::new(
        PROGRAM,
        "logging_level",
        One("LEVEL"),
        Anywhere,
        "What to report on standard error: debug, info, warning, error [default: warning]",
    )
    .alias("logging"),
    GlobalOption::new(
        PROGRAM,
        "verbose",
        Nothing,
        Once,
        "Same as --logging_level info: every decision of the detection",
    )
    .short('v'),
    GlobalOption::new(
        PROGRAM,
        "quiet",
        Nothing,
        Once,
        "Same as --logging_level error: no notes but what is missing, no progress",
    )
    .short('q'),
    GlobalOption::new(PROGRAM, "debug", Nothing, Once, "Same as --logging_level debug"),
    GlobalOption::new(PROGRAM, "version", Nothing, Once, "Print the version"),
    GlobalOption::new(
        PROGRAM,
        "help",
        Nothing,
        Once,
        "Print this help; after a command: its options and columns",
    )
    .short('h'),
];

/// The option of a long name, with underscores or dashes.
#[must_use]
pub fn find(name: &str) -> Option<&'static GlobalOption> {
    let name = name.replace('-', "_");
    OPTIONS.iter().find(|option| option.name == name || option.alias == Some(&name))
}

/// The command line before the plugin: global options, then anything.
#[must_use]
pub fn command() -> Command {
    let args = OPTIONS.iter().map(|option| {
        let arg = Arg::new(option.name).long(option.name).help(option.help).help_heading(option.heading);
        let arg = match option.short {
            Some(short) => arg.short(short),
            None => arg,
        };
        let arg = match option.alias {
            Some(alias) => arg.alias(alias),
            None => arg,
        };
        match option.takes {
            Nothing => arg.action(ArgAction::SetTrue).overrides_with(option.name),
            One(value) => {
                arg.action(ArgAction::Set).value_name(value).value_parser(OsStringValueParser::new())
            }
            Several(value) => {
                arg.action(ArgAction::Append).value_name(value).value_parser(OsStringValueParser::new())
            }
        }
    });
    Command::new("rekal")
        .about("Analyzes memory images: rows about processes, modules, sockets and more")
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage("rekal [GLOBAL OPTIONS] COMMAND [COMMAND OPTIONS]")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .infer_long_args(true)
        .allow_external_subcommands(true)
        .external_subcommand_value_parser(OsStringValueParser::new())
        .args(args)
}
