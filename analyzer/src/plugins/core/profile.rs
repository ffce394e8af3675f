//! `profile`: compares two profiles (`profile diff A B`) or tells which plugins one can serve (`profile check P`).
//!
//! Reads profiles by name or file, no image. Addresses of symbols differ in every build and are not compared. Truth: the
//! table of needs that `convert_profile` reports from; layouts of kernels compared with `pahole`.

use profile::{Change, ChangeKind, Document};
use profile_gen::FitnessReport;

use crate::plugin::prelude::*;

/// The command.
pub struct Profile;

/// What to do with which profiles.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do
    #[arg(value_enum)]
    action: Action,
    /// Names or files of profiles: two for `diff`, one for `check`
    #[arg(required = true, num_args = 1..=2, value_name = "PROFILE")]
    profiles: Vec<String>,
    /// With `diff`: only structs, fields, enumerators and symbols that plugins use
    #[arg(long)]
    used: bool,
}

/// What to do with profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Action {
    /// What changed from the first to the second
    Diff,
    /// What one lacks, and which plugins suffer
    Check,
}

row! {
    pub struct Row {
        /// Sort of item: `struct`, `field`, `enumerator`, `symbol`; for `check` what it is needed for.
        what: String,
        /// The item: `struct`, `struct.field`, `enum.NAME` or a symbol.
        item: String,
        /// What the first profile says; absent where it lacks the item.
        before: Option<String>,
        /// What the second profile says; absent where it lacks the item.
        after: Option<String>,
        /// Plugins that use the item.
        plugins: ListOf<&'static str>,
    }
}

impl Plugin for Profile {
    const NAME: &'static str = "profile";
    const SUMMARY: &'static str = "Compare two profiles, or check what one can serve";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        match (args.action, args.profiles.as_slice()) {
            (Action::Diff, [before, after]) => {
                let (before, after) = (load(session, before)?, load(session, after)?);
                for change in profile::diff(&before, &after) {
                    let plugins = profile_gen::plugins_that_use(&change.item);
                    if !args.used || !plugins.is_empty() {
                        out.push(row_of(change, plugins))?;
                    }
                }
                Ok(())
            }
            (Action::Check, [name]) => check(session, &FitnessReport::of(&load(session, name)?), out),
            (Action::Diff, _) => {
                Err(Error::usage("profile diff needs two profiles").with_hint("rekal profile diff A B"))
            }
            (Action::Check, _) => {
                Err(Error::usage("profile check needs one profile").with_hint("rekal profile check P"))
            }
        }
    }
}

fn load(session: &Session, name: &str) -> Result<Document, Error> {
    let loaded = session.repositories()?.load(name).map_err(|error| {
        let asked = error.trace.iter().map(|question| format!("asked: {question}")).collect();
        Error::identify(error.to_string())
            .with_details(asked)
            .with_hint("name a profile of a repository, or a file")
    })?;
    loaded.profile.to_document().map_err(|error| Error::analysis(format!("{error}: {name}")))
}

fn row_of(change: Change, plugins: Vec<&'static str>) -> Row {
    let what = match change.kind {
        ChangeKind::Struct => "struct",
        ChangeKind::Field => "field",
        ChangeKind::Enumerator => "enumerator",
        ChangeKind::Symbol => "symbol",
    };
    let Change { item, before, after, .. } = change;
    Row { what: what.to_owned(), item, before, after, plugins: ListOf(plugins) }
}

fn check(session: &Session, report: &FitnessReport, out: &mut Rows<'_, Row>) -> Result<(), Error> {
    for missing in &report.missing {
        for item in &missing.items {
            out.push(Row {
                what: missing.need.to_owned(),
                item: (*item).to_owned(),
                before: None,
                after: None,
                plugins: ListOf(missing.plugins.to_vec()),
            })?;
        }
    }
    for warning in &report.warnings {
        session.notes.info(warning.clone());
    }
    if report.usable {
        session.notes.info(format!(
            "usable: {} types, {} enums, {} symbols",
            report.types, report.enums, report.symbols
        ));
        Ok(())
    } else {
        Err(Error::analysis("no plugin can work with this profile")
            .with_hint("make it again from fuller symbols"))
    }
}
