//! Where a setting comes from: command line, then environment, then configuration file.
//!
//! The configuration file is TOML. Its keys are the names of the global options that make sense for every run; `rekal`
//! reads the first of
//!
//! 1. `--config FILE`, or the file that `REKAL_CONFIG` names
//! 2. `$XDG_CONFIG_HOME/rekal/config.toml` (`~/.config/rekal/config.toml`)
//! 3. `~/.rekalrc`
//! 4. `/etc/rekalrc`
//!
//! and no other. The current directory is not searched: it may be evidence, and a configuration names a pager to run and
//! servers to ask. Relative paths in the file are relative to the file; `~/` is the home directory.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use clap::parser::ValueSource;

use crate::cli::nearest::nearest;
use crate::cli::options::{self, GlobalOption, OPTIONS, Set, Takes};
use crate::error::Error;

/// Largest configuration file that is read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Looks up environment variables; a closure, so that tests need not touch the process.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// A configuration file.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    table: toml::Table,
}

impl ConfigFile {
    /// Reads the file that applies, if there is one. Unknown keys are returned as warnings.
    pub fn load(
        named: Option<&Path>,
        home: Option<&Path>,
        variables: Variables<'_>,
    ) -> Result<(Option<Self>, Vec<String>), Error> {
        if let Some(path) = named {
            return Self::read(path).map(|(file, warnings)| (Some(file), warnings));
        }
        let user = match variables("XDG_CONFIG_HOME").filter(|dir| Path::new(dir).is_absolute()) {
            Some(dir) => Some(PathBuf::from(dir)),
            None => home.map(|home| home.join(".config")),
        };
        let places = [
            user.map(|dir| dir.join("rekal").join("config.toml")),
            home.map(|home| home.join(".rekalrc")),
            Some(PathBuf::from("/etc/rekalrc")),
        ];
        match places.into_iter().flatten().find(|path| path.is_file()) {
            Some(path) => Self::read(&path).map(|(file, warnings)| (Some(file), warnings)),
            None => Ok((None, Vec::new())),
        }
    }

    fn read(path: &Path) -> Result<(Self, Vec<String>), Error> {
        let wrong = |what: String| {
            Error::usage(format!("cannot read configuration file: {}: {what}", path.display()))
        };
        let length = path.metadata().map_err(|error| wrong(error.to_string()))?.len();
        if length > MAX_FILE {
            return Err(wrong(format!("{length} bytes are too many")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<(Self, Vec<String>), Error> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let lines = error.to_string().lines().map(str::to_owned).collect();
            Error::usage(format!("configuration file is no TOML: {}", path.display())).with_details(lines)
        })?;
        let known: Vec<&str> = OPTIONS.iter().filter(|o| o.set == Set::Anywhere).map(|o| o.name).collect();
        let mut warnings = Vec::new();
        for key in table.keys() {
            let place = path.display();
            match options::find(key) {
                Some(option) if option.set == Set::Anywhere => {}
                Some(_) => warnings.push(format!("{place}: {key} can only be set on the command line")),
                None => {
                    let mut warning = format!("{place}: unknown key: {key}");
                    if let Some(name) = nearest(key, known.iter().copied()).first() {
                        warning.push_str(&format!(" (did you mean {name}?)"));
                    }
                    warnings.push(warning);
                }
            }
        }
        Ok((Self { path: path.to_owned(), table }, warnings))
    }

    fn get(&self, option: &GlobalOption) -> Result<Option<Vec<OsString>>, Error> {
        let is_it = |key: &str| options::find(key).is_some_and(|found| found.name == option.name);
        let Some((key, value)) = self.table.iter().find(|(key, _)| is_it(key)) else { return Ok(None) };
        let values = match value {
            toml::Value::Array(values) if matches!(option.takes, Takes::Several(_)) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        let texts: Option<Vec<OsString>> = values.iter().map(scalar).collect();
        let wrong = || Error::usage(format!("{}: wrong type of value: {key}", self.path.display()));
        texts.ok_or_else(wrong).map(Some)
    }
}

fn scalar(value: &toml::Value) -> Option<OsString> {
    match value {
        toml::Value::String(text) => Some(text.into()),
        toml::Value::Integer(number) => Some(number.to_string().into()),
        toml::Value::Boolean(value) => Some(value.to_string().into()),
        _ => None,
    }
}

/// A value somebody set, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The value as written.
    pub value: OsString,
    /// Where it was written, for messages: `--limit`, `REKAL_LIMIT`, `/etc/rekalrc: limit`.
    pub origin: String,
    /// The directory that relative paths start from; `None` for the current one.
    pub base: Option<PathBuf>,
}

impl Setting {
    /// The value as text.
    pub fn text(&self) -> Result<&str, Error> {
        self.value.to_str().ok_or_else(|| self.wrong("not UTF-8"))
    }

    /// The value as a path.
    #[must_use]
    pub fn path(&self, home: Option<&Path>) -> PathBuf {
        let path = Path::new(&self.value);
        match (&self.base, path.strip_prefix("~"), home) {
            // The shell expands `~` on the command line; nobody does in a file.
            (Some(_), Ok(rest), Some(home)) => home.join(rest),
            (Some(base), ..) => base.join(path),
            (None, ..) => path.to_owned(),
        }
    }

    /// The error for a value that cannot be used.
    #[must_use]
    pub fn wrong(&self, why: impl std::fmt::Display) -> Error {
        Error::usage(format!("{}: {why}: {}", self.origin, self.value.to_string_lossy()))
    }
}

/// All sources of settings, in order of precedence.
pub struct Layers<'a> {
    /// The command line.
    pub matches: &'a ArgMatches,
    /// The environment.
    pub variables: Variables<'a>,
    /// The configuration file.
    pub file: Option<ConfigFile>,
}

impl Layers<'_> {
    /// The values of an option from the first source that has it; empty when none does.
    pub fn several(&self, name: &str) -> Result<Vec<Setting>, Error> {
        let Some(option) = options::find(name) else { return Ok(Vec::new()) };
        if self.matches.value_source(option.name) == Some(ValueSource::CommandLine) {
            let values: Vec<OsString> = match option.takes {
                Takes::Nothing => vec!["true".into()],
                _ => self.matches.get_many::<OsString>(option.name).into_iter().flatten().cloned().collect(),
            };
            let origin = format!("--{}", option.name);
            return Ok(settings(values, &origin, None));
        }
        if option.set == Set::Once {
            return Ok(Vec::new());
        }
        let variable = format!("REKAL_{}", option.name.to_uppercase());
        if let Some(value) = (self.variables)(&variable).filter(|value| !value.is_empty()) {
            let values = match (option.takes, value.to_str()) {
                (Takes::Several(_), Some(text)) => text.split(',').map(OsString::from).collect(),
                _ => vec![value],
            };
            return Ok(settings(values, &variable, None));
        }
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let origin = format!("{}: {}", file.path.display(), option.name);
        let base = file.path.parent().unwrap_or(Path::new(""));
        Ok(settings(file.get(option)?.unwrap_or_default(), &origin, Some(base)))
    }

    /// The value of an option.
    pub fn one(&self, name: &str) -> Result<Option<Setting>, Error> {
        Ok(self.several(name)?.pop())
    }

    /// Whether a switch is on.
    pub fn is_on(&self, name: &str) -> Result<bool, Error> {
        let Some(setting) = self.one(name)? else { return Ok(false) };
        match setting.text()? {
            "true" | "1" | "yes" => Ok(true),
            "false" | "0" | "no" => Ok(false),
            _ => Err(setting.wrong("neither true nor false")),
        }
    }
}

fn settings(values: Vec<OsString>, origin: &str, base: Option<&Path>) -> Vec<Setting> {
    let setting = |value| Setting { value, origin: origin.to_owned(), base: base.map(Path::to_owned) };
    values.into_iter().map(setting).collect()
}

/// Whether a repository is a place on the network rather than a path.
#[must_use]
pub fn is_url(place: &OsStr) -> bool {
    place.to_str().is_some_and(|text| text.starts_with("http://") || text.starts_with("https://"))
}
