//! What all commands have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::*;
use crate::plugin::Active;

/// Columns that keep Rekall's name though their kind differs from the same name elsewhere, with the reason.
const OTHER_KIND: &[(&str, &str, &str)] = &[
    ("Process", "threads", "the name only; elsewhere the process"),
    ("Value", "privileges", "the number of a privilege; elsewhere it differs from row to row"),
    ("access", "handles", "a mask of rights; elsewhere letters"),
    ("module", "dlldump", "the module's name; elsewhere where it is"),
    ("offset", "lsof", "a position in a file; elsewhere it is an address"),
    ("protocol", "netstat", "on Linux a number within the family; elsewhere a name"),
    ("protocol", "sockscan", "on Linux a number within the family; elsewhere a name"),
    ("address", "sockets", "an internet address; elsewhere one of memory"),
    ("address", "sockscan", "an internet address; elsewhere one of memory"),
    ("value", "envars", "text of a variable; elsewhere a fact of any kind"),
    ("target", "ssdt", "where a service leads; elsewhere what a symlink names"),
    ("offset_p", "psscan", "the process at the address; elsewhere the address alone"),
    ("pdb", "psscan", "the page directory base, by the name Rekall gives it; elsewhere it is a file"),
];

/// Folder of a command's file.
fn folder(active: Active) -> &'static str {
    match active {
        Active::Always | Active::Image => "core",
        Active::Linux => "linux",
        Active::Windows => "windows",
    }
}

#[test]
fn names_are_unique_for_each_system() {
    let mut seen = BTreeSet::new();
    for plugin in ALL {
        let name = plugin.name();
        assert!(seen.insert((name, plugin.active())), "two commands for one system are named {name}");
        let alone = named(name).len() == 1 || plugin.active().system().is_some();
        assert!(alone, "{name} is a command for some systems and for all");
    }
}

#[test]
fn every_file_is_a_command_of_that_name_and_documented() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plugins");
    let mut files = BTreeSet::new();
    for folder in ["core", "linux", "windows"] {
        for entry in fs::read_dir(here.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if path.extension().is_some_and(|extension| extension == "rs") && name != "mod" {
                let text = fs::read_to_string(&path).unwrap();
                let start = format!("//! `{name}`: ");
                assert!(text.starts_with(&start), "{} does not begin with {start:?}", path.display());
                files.insert((folder, name));
            }
        }
    }
    let commands: BTreeSet<_> =
        ALL.iter().map(|plugin| (folder_of(*plugin, &files), plugin.name().to_owned())).collect();
    assert_eq!(files, commands, "files and commands differ");
}

/// The folder of a command; one for Linux may also be a general one that grew, so its file decides.
fn folder_of(plugin: &dyn DynPlugin, files: &BTreeSet<(&'static str, String)>) -> &'static str {
    let core = ("core", plugin.name().to_owned());
    if files.contains(&core) { "core" } else { folder(plugin.active()) }
}

#[test]
fn summaries_are_short_sentences_without_full_stop() {
    for plugin in ALL {
        let summary = plugin.summary();
        assert!(summary.starts_with(char::is_uppercase), "{}: {summary}", plugin.name());
        assert!(!summary.ends_with('.') && summary.len() <= 80, "{}: {summary}", plugin.name());
    }
}

#[test]
fn every_option_is_documented_and_consistent() {
    for plugin in ALL {
        let command = plugin.command();
        for arg in command.get_arguments() {
            assert!(arg.get_help().is_some(), "{}: no help for {}", plugin.name(), arg.get_id());
            let long = arg.get_long().unwrap_or_default();
            assert!(!long.contains('-'), "{}: {long} has a dash", plugin.name());
        }
        command.debug_assert();
    }
}

#[test]
fn every_column_is_documented_and_unique() {
    for plugin in ALL {
        let mut seen = BTreeSet::new();
        for column in plugin.columns() {
            assert!(!column.doc.is_empty(), "{}: no documentation: {}", plugin.name(), column.name);
            assert!(seen.insert(column.name), "{}: twice: {}", plugin.name(), column.name);
            assert!(
                !["_absent", "_depth"].contains(&column.name),
                "{}: reserved: {}",
                plugin.name(),
                column.name
            );
        }
    }
}

#[test]
fn a_column_name_means_the_same_kind_everywhere() {
    let mut kinds = BTreeMap::new();
    for plugin in ALL {
        for column in plugin.columns() {
            if OTHER_KIND.iter().any(|(name, of, _)| (*name, *of) == (column.name, plugin.name())) {
                continue;
            }
            let (kind, first) = *kinds.entry(column.name).or_insert((column.kind, plugin.name()));
            assert_eq!(kind, column.kind, "column {} of {} and {first}", column.name, plugin.name());
        }
    }
}
