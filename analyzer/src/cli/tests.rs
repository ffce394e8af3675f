//! Order of arguments, precedence of settings, and what is derived from them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::render::Format;

fn arguments(texts: &[&str]) -> Vec<OsString> {
    texts.iter().map(OsString::from).collect()
}

fn globals(texts: &[&str]) -> Result<ArgMatches, Error> {
    parse::globals(&arguments(texts))
}

/// Message and hint of a usage error.
fn refusal<T>(result: Result<T, Error>) -> (String, String) {
    let error = result.err().expect("must be refused");
    assert_eq!(error.kind(), ErrorKind::Usage);
    (error.to_string(), error.hint().unwrap_or_default().to_owned())
}

fn plugin(name: &str, texts: &[&str]) -> Result<Parsed, Error> {
    parse::plugin(plugins::named(name).first().copied().unwrap(), &arguments(texts))
}

#[test]
fn the_command_line_of_the_options_is_consistent() {
    options::command().debug_assert();
    generate::tree().debug_assert();
}

#[test]
fn global_options_come_before_the_command_and_its_options_after() {
    let matches = globals(&["-f", "image", "--format=json", "pslist", "--proc_regex", "x", "-f"]).unwrap();
    let (name, rest) = matches.subcommand().unwrap();
    let rest: Vec<_> = rest.get_many::<OsString>("").unwrap().collect();
    assert_eq!(name, "pslist");
    assert_eq!(rest, ["--proc_regex", "x", "-f"]);
    assert_eq!(matches.get_one::<OsString>("filename").unwrap(), "image");
}

#[test]
fn a_command_option_before_the_command_is_refused_with_its_place() {
    let (message, hint) = refusal(globals(&["--proc_regex", "x", "pslist"]));
    assert_eq!(message, "an option of pslist, not a global one: --proc_regex");
    assert_eq!(hint, "put it after the command: rekal ... pslist --proc_regex ...");
    let (message, _) = refusal(globals(&["-f", "image", "--proc-reg=x", "pslist"]));
    assert_eq!(message, "an option of pslist, not a global one: --proc_reg");
}

#[test]
fn a_global_option_after_the_command_is_refused_with_its_place() {
    for (typed, shown) in
        [("-f", "-f"), ("--filename", "--filename"), ("--file", "--file"), ("--renderer=x", "--renderer")]
    {
        let (message, hint) = refusal(plugin("pslist", &[typed, "x"]));
        assert_eq!(message, format!("a global option, not one of pslist: {shown}"));
        assert_eq!(hint, format!("put it before the command: rekal {shown} ... pslist ..."));
    }
}

#[test]
fn unknown_options_name_the_nearest() {
    let (message, hint) = refusal(globals(&["--fromat", "json", "pslist"]));
    assert_eq!(message, "unknown global option: --fromat");
    assert!(hint.starts_with("did you mean --format?"), "{hint}");
    let (message, hint) = refusal(plugin("pslist", &["--proc_rexeg", "x"]));
    assert_eq!(message, "unknown option of pslist: --proc_rexeg");
    assert!(hint.starts_with("did you mean --proc_regex?"), "{hint}");
}

#[test]
fn dashes_underscores_and_unique_beginnings_are_the_same() {
    for typed in ["--proc_regex", "--proc-regex", "--proc_reg", "--proc-reg"] {
        let Ok(Parsed::Matches(matches)) = plugin("pslist", &[typed, "bash"]) else { panic!("{typed}") };
        assert_eq!(matches.get_one::<String>("proc_regex").map(String::as_str), Some("bash"), "{typed}");
    }
    assert!(globals(&["--repository-path", "x", "info"]).is_ok());
    assert!(globals(&["--repository_path=x", "info"]).is_ok());
    let (message, _) = refusal(globals(&["--o", "x", "info"]));
    assert_eq!(message, "unknown global option: --o");
}

#[test]
fn missing_and_wrong_values_are_explained() {
    let (message, hint) = refusal(globals(&["-f"]));
    assert!(message.contains("--filename"), "{message}");
    assert_eq!(hint, "rekal --help explains the options");
    let (message, _) = refusal(plugin("pslist", &["abc"]));
    assert!(message.contains("abc"), "{message}");
}

#[test]
fn help_of_a_command_has_options_and_columns() {
    let Ok(Parsed::Help(text)) = plugin("pslist", &["--help"]) else { panic!("no help") };
    for part in ["Usage: rekal pslist", "--proc_regex", "Columns:", "ppid", "start_time"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

/// Settings of a command line, an environment and a configuration file.
fn resolve(
    line: &[&str],
    environment: &[(&str, &str)],
    file: Option<&str>,
) -> Result<(Settings, Vec<String>), Error> {
    let directory = tempfile::tempdir().unwrap();
    let variables: HashMap<&str, &str> = environment.iter().copied().collect();
    let variables = |name: &str| variables.get(name).map(OsString::from);
    let named = file.map(|text| {
        let path = directory.path().join("rekal.toml");
        fs::write(&path, text).unwrap();
        path
    });
    let home = Path::new("/home/analyst");
    let (file, warnings) = match &named {
        Some(path) => ConfigFile::load(Some(path), Some(home), &variables)?,
        None => (None, Vec::new()),
    };
    let mut line = line.to_vec();
    line.push("info");
    let matches = globals(&line)?;
    let layers = Layers { matches: &matches, variables: &variables, file };
    let mut settings = Settings::resolve(&layers, Some(home), None)?;
    // The scratch directory has another name every time.
    let scratch = directory.path().to_str().unwrap().to_owned();
    for place in &mut settings.session.repository_path {
        *place = place.replace(&scratch, "/etc");
    }
    Ok((settings, warnings.iter().map(|warning| warning.replace(&scratch, "/etc")).collect()))
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let (file, environment, line) = (Some("format = 'csv'"), [("REKAL_FORMAT", "wide")], ["-F", "json"]);
    let format = |line: &[&str], environment: &[(&str, &str)], file| {
        resolve(line, environment, file).unwrap().0.format
    };
    assert_eq!(format(&[], &[], None), Format::Text);
    assert_eq!(format(&[], &[], file), Format::Csv);
    assert_eq!(format(&[], &environment, file), Format::Wide);
    assert_eq!(format(&line, &environment, file), Format::Json);
}

#[test]
fn lists_switches_and_numbers_are_read_from_every_source() {
    let file = "repository_path = ['profiles', 'https://host/r', '~/mine', '/abs']\noffline = true\npaging_limit = 7";
    let (settings, warnings) = resolve(&[], &[], Some(file)).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(
        settings.session.repository_path,
        ["/etc/profiles", "https://host/r", "/home/analyst/mine", "/abs"]
    );
    assert!(settings.session.offline);
    assert_eq!(settings.paging_limit, 7);

    let environment =
        [("REKAL_REPOSITORY_PATH", "a,https://b/c"), ("REKAL_OFFLINE", "no"), ("REKAL_THREADS", "3")];
    let (settings, _) = resolve(&[], &environment, Some(file)).unwrap();
    assert_eq!(settings.session.repository_path, ["a", "https://b/c"]);
    assert!(!settings.session.offline);
    assert_eq!(settings.threads, Some(3));

    let line = ["--repository_path", "x", "--repository-path", "y", "--dtb", "0x1000", "--limit", "5"];
    let (settings, _) = resolve(&line, &environment, Some(file)).unwrap();
    assert_eq!(settings.session.repository_path, ["x", "y"]);
    assert_eq!(settings.session.dtb, Some(0x1000));
    assert_eq!(settings.limit, Some(5));
}

#[test]
fn unknown_keys_of_the_file_are_warnings_that_name_the_nearest() {
    let (_, warnings) = resolve(&[], &[], Some("cachedir = '/x'\nfrobnicate = 1\nfilename = 'x'")).unwrap();
    assert_eq!(
        warnings,
        [
            "/etc/rekal.toml: unknown key: cachedir (did you mean cache_dir?)",
            "/etc/rekal.toml: filename can only be set on the command line",
            "/etc/rekal.toml: unknown key: frobnicate",
        ]
    );
}

#[test]
fn wrong_values_name_their_source() {
    let message = |line: &[&str], environment: &[(&str, &str)], file| {
        resolve(line, environment, file).err().unwrap().to_string()
    };
    let formats = "text, wide, json, ndjson, csv, test";
    assert_eq!(message(&["-F", "xml"], &[], None), format!("--format: unknown format (use {formats}): xml"));
    assert_eq!(message(&[], &[("REKAL_THREADS", "many")], None), "REKAL_THREADS: not a number: many");
    assert!(message(&[], &[], Some("format = { a = 1 }")).ends_with("wrong type of value: format"));
    assert!(message(&[], &[], Some("format = ")).starts_with("configuration file is no TOML"));
    assert_eq!(
        message(&[], &[("REKAL_OFFLINE", "maybe")], None),
        "REKAL_OFFLINE: neither true nor false: maybe"
    );
}

#[test]
fn rekalls_names_of_options_and_formats_work() {
    assert_eq!(resolve(&["--renderer", "TextRenderer"], &[], None).unwrap().0.format, Format::Text);
    assert_eq!(resolve(&["--logging", "info"], &[], None).unwrap().0.level, Level::Info);
    assert_eq!(resolve(&["-v"], &[], None).unwrap().0.level, Level::Info);
    assert_eq!(resolve(&["-q", "-q"], &[], None).unwrap().0.level, Level::Error);
}

#[test]
fn colours_pager_and_cache_follow_the_environment() {
    let environment = [("NO_COLOR", "1"), ("PAGER", "more"), ("XDG_CACHE_HOME", "/cache")];
    let (settings, _) = resolve(&[], &environment, None).unwrap();
    assert!(settings.no_colours);
    assert_eq!(settings.pager, "more");
    assert_eq!(settings.session.cache_dir, Some(PathBuf::from("/cache/rekal")));
    let (settings, _) = resolve(&["--pager", "cat"], &environment, None).unwrap();
    assert_eq!(settings.pager, "cat");
    let (settings, _) = resolve(&[], &[("NO_COLOR", ""), ("XDG_CACHE_HOME", "relative")], None).unwrap();
    assert!(!settings.no_colours);
    assert_eq!(settings.session.cache_dir, Some(PathBuf::from("/home/analyst/.cache/rekal")));
}

#[test]
fn the_bundled_repository_is_found_beside_the_program_when_nothing_is_configured() {
    let root = tempfile::tempdir().unwrap();
    let bundled = root.path().join("repository/bundled");
    fs::create_dir_all(&bundled).unwrap();
    let program = root.path().join("target/release/rekal");
    let resolve = |line: &[&str]| {
        let matches = globals(line).unwrap();
        let layers = Layers { matches: &matches, variables: &|_| None, file: None };
        Settings::resolve(&layers, None, Some(&program)).unwrap().session.repository_path
    };
    assert_eq!(resolve(&["info"]), [bundled.to_str().unwrap()]);
    assert_eq!(resolve(&["--repository_path", "mine", "info"]), ["mine"]);
}

#[test]
fn the_first_configuration_file_is_read_and_a_named_one_must_exist() {
    let home = tempfile::tempdir().unwrap();
    let load = |named: Option<&Path>, xdg: Option<&Path>| {
        let variables = |name: &str| {
            (name == "XDG_CONFIG_HOME").then_some(xdg).flatten().map(|path| path.as_os_str().to_owned())
        };
        let (file, _) = ConfigFile::load(named, Some(home.path()), &variables)?;
        let matches = globals(&["info"])?;
        let layers = Layers { matches: &matches, variables: &|_| None, file };
        Ok::<_, Error>(layers.one("threads")?.map(|setting| setting.text().unwrap().to_owned()))
    };
    fs::write(home.path().join(".rekalrc"), "threads = 1").unwrap();
    assert_eq!(load(None, None).unwrap().as_deref(), Some("1"));
    fs::create_dir_all(home.path().join(".config/rekal")).unwrap();
    fs::write(home.path().join(".config/rekal/config.toml"), "threads = 2").unwrap();
    assert_eq!(load(None, None).unwrap().as_deref(), Some("2"));
    let xdg = home.path().join("xdg");
    fs::create_dir_all(xdg.join("rekal")).unwrap();
    fs::write(xdg.join("rekal/config.toml"), "threads = 3").unwrap();
    assert_eq!(load(None, Some(&xdg)).unwrap().as_deref(), Some("3"));
    let (message, _) = refusal(load(Some(Path::new("/nonexistent/rekal.toml")), None));
    assert!(message.starts_with("cannot read configuration file: /nonexistent/rekal.toml"), "{message}");
}
