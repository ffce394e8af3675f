//! What the user set, checked: the values that the rest of the program works with.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use profile_gen::symbol_server::{Defaults, SymbolPath};

use crate::cli::config::{Layers, Setting, is_url};
use crate::cli::report;
use crate::error::Error;
use crate::parse;
use crate::render::Format;
use crate::session::Config;

/// How much goes to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Errors and what is missing from a result.
    Error,
    /// Notes and warnings too.
    Warning,
    /// Every decision too.
    Info,
    /// Everything.
    Debug,
}

/// All settings of a run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What plugins see.
    pub session: Config,
    /// How rows are shown.
    pub format: Format,
    /// The file that rows go to.
    pub output: Option<PathBuf>,
    /// Most rows.
    pub limit: Option<u64>,
    /// The pager's command line; empty for none.
    pub pager: String,
    /// Lines that are shown without a pager; 0 never pages.
    pub paging_limit: usize,
    /// Whether colours are forbidden.
    pub no_colours: bool,
    /// Threads; `None` is one per processor.
    pub threads: Option<usize>,
    /// How much goes to standard error.
    pub level: Level,
}

impl Settings {
    /// Puts the settings together. `home` is the user's home directory, `program` the running executable.
    pub fn resolve(layers: &Layers<'_>, home: Option<&Path>, program: Option<&Path>) -> Result<Self, Error> {
        let path = |name| Ok::<_, Error>(layers.one(name)?.map(|setting| setting.path(home)));
        let repositories = layers.several("repository_path")?;
        let own_repositories = repositories.is_empty();
        let repository_path = if own_repositories {
            default_repositories(home, program, layers)
        } else {
            repositories.iter().map(|setting| place(setting, home)).collect::<Result<_, _>>()?
        };
        let level = level(layers)?;
        let on_network: fn(&str) = |text| report::line("info", text);
        let cache_dir = path("cache_dir")?.or_else(|| default_cache(home, layers));
        let session = Config {
            filename: path("filename")?,
            profile: layers.one("profile")?.map(|s| s.text().map(str::to_owned)).transpose()?,
            repository_path,
            own_repositories,
            symbol_path: symbol_path(layers, home, cache_dir.as_deref())?,
            cache_dir,
            offline: layers.is_on("offline")?,
            dtb: parsed(layers, "dtb", parse::address)?,
            kernel_slide: parsed(layers, "kernel_slide", parse::address)?,
            pagefiles: layers.several("pagefile")?.iter().map(|setting| setting.path(home)).collect(),
            swap: layers.several("swap")?.iter().map(|setting| setting.path(home)).collect(),
            output_dir: path("output_dir")?,
            overwrite: layers.is_on("overwrite")?,
            on_network: (level >= Level::Warning).then_some(on_network),
        };
        Ok(Self {
            session,
            format: parsed(layers, "format", format)?.unwrap_or(Format::Text),
            output: path("output")?,
            limit: parsed(layers, "limit", number)?,
            pager: pager(layers)?,
            paging_limit: parsed(layers, "paging_limit", number)?.unwrap_or(50),
            // <https://no-color.org>: set and not empty, whatever the value.
            no_colours: layers.is_on("nocolors")?
                || (layers.variables)("NO_COLOR").is_some_and(|value| !value.is_empty()),
            threads: parsed(layers, "threads", number)?.filter(|&threads| threads > 0),
            level,
        })
    }
}

fn pager(layers: &Layers<'_>) -> Result<String, Error> {
    if let Some(setting) = layers.one("pager")? {
        return setting.text().map(str::to_owned);
    }
    let system = (layers.variables)("PAGER").and_then(|value| value.into_string().ok());
    Ok(system.unwrap_or_else(|| "less -R".to_owned()))
}

fn parsed<T>(
    layers: &Layers<'_>,
    name: &str,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Option<T>, Error> {
    let Some(setting) = layers.one(name)? else { return Ok(None) };
    parse(setting.text()?).map(Some).map_err(|why| Error::usage(format!("{}: {why}", setting.origin)))
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("not a number: {text}"))
}

fn format(text: &str) -> Result<Format, String> {
    let names: Vec<&str> = Format::ALL.iter().map(|format| format.name()).collect();
    Format::parse(text).ok_or_else(|| format!("unknown format (use {}): {text}", names.join(", ")))
}

fn level(layers: &Layers<'_>) -> Result<Level, Error> {
    if layers.is_on("debug")? {
        return Ok(Level::Debug);
    }
    if layers.is_on("verbose")? {
        return Ok(Level::Info);
    }
    if layers.is_on("quiet")? {
        return Ok(Level::Error);
    }
    let parse = |text: &str| match text.to_lowercase().as_str() {
        "critical" | "error" => Ok(Level::Error),
        "warning" => Ok(Level::Warning),
        "info" => Ok(Level::Info),
        "debug" => Ok(Level::Debug),
        _ => Err(format!("unknown level (use debug, info, warning, error): {text}")),
    };
    Ok(parsed(layers, "logging_level", parse)?.unwrap_or(Level::Warning))
}

/// A repository as the search path wants it: a URL as it is, a path made absolute where it came from a file.
fn place(setting: &Setting, home: Option<&Path>) -> Result<String, Error> {
    if is_url(&setting.value) {
        return setting.text().map(str::to_owned);
    }
    setting.path(home).into_os_string().into_string().map_err(|_| setting.wrong("not UTF-8"))
}

/// Where profiles are looked for when nobody says where: beside the program, as in the source tree
/// (`target/release/rekal` finds `repository/bundled`) or below an installation's prefix, then in the user's data
/// directory. The current directory is not looked at, as it may be evidence.
fn default_repositories(home: Option<&Path>, program: Option<&Path>, layers: &Layers<'_>) -> Vec<String> {
    let beside =
        program.into_iter().flat_map(|program| program.ancestors().skip(1).take(4)).flat_map(|dir| {
            [dir.join("repository").join("bundled"), dir.join("share").join("rekal").join("repository")]
        });
    let data =
        base_directory(layers, "XDG_DATA_HOME", home, ".local/share").map(|dir| dir.join("rekal/repository"));
    let found = beside.chain(data).filter(|dir| dir.is_dir());
    found.filter_map(|dir| dir.into_os_string().into_string().ok()).collect()
}

/// The symbol path: our own setting, else that of Microsoft's tools, else Microsoft's server. What is fetched is kept in
/// the cache directory where the path names no other.
fn symbol_path(layers: &Layers<'_>, home: Option<&Path>, cache: Option<&Path>) -> Result<SymbolPath, Error> {
    let store = cache.map(|directory| directory.join("symbols"));
    let defaults = Defaults { store: store.as_deref(), home };
    if let Some(setting) = layers.one("symbol_path")? {
        return setting.text().map(|text| SymbolPath::parse(text, &defaults));
    }
    let tools = (layers.variables)("_NT_SYMBOL_PATH").and_then(|value| value.into_string().ok());
    let tools = tools.filter(|text| !text.trim().is_empty());
    Ok(tools.map_or_else(|| SymbolPath::microsoft(&defaults), |text| SymbolPath::parse(&text, &defaults)))
}

fn default_cache(home: Option<&Path>, layers: &Layers<'_>) -> Option<PathBuf> {
    base_directory(layers, "XDG_CACHE_HOME", home, ".cache").map(|dir| dir.join("rekal"))
}

/// A directory of the XDG Base Directory Specification 0.8: the variable where it is absolute, else below home.
fn base_directory(layers: &Layers<'_>, variable: &str, home: Option<&Path>, below: &str) -> Option<PathBuf> {
    let set = (layers.variables)(variable).map(PathBuf::from).filter(|dir| dir.is_absolute());
    set.or_else(|| home.map(|home| home.join(below)))
}

/// The home directory: `--home`, else what the system says.
#[must_use]
pub fn home(option: Option<&OsString>, variables: crate::cli::config::Variables<'_>) -> Option<PathBuf> {
    let system = || variables("HOME").or_else(|| variables("USERPROFILE"));
    option.cloned().or_else(system).filter(|dir| !dir.is_empty()).map(PathBuf::from)
}
