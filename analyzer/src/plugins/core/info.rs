//! `info`: the commands there are, or one of them in detail.
//!
//! Reads the table of commands, no image. Truth: the table itself.

use crate::plugin::prelude::*;
use crate::plugins;

/// The command.
pub struct Info;

/// Which command to describe.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Command to describe: its options and columns; without it all commands are listed.
    item: Option<String>,
}

row! {
    pub struct Row {
        /// Name of the command.
        command as "Command": &'static str,
        /// Image it is for.
        active as "Active": &'static str,
        /// Option, column or other name of the command; absent for the command itself.
        parameter as "Parameter": Option<String>,
        /// What it is or does.
        docs as "Docs": String,
    }
}

impl Plugin for Info {
    const NAME: &'static str = "info";
    const SUMMARY: &'static str = "List the commands, or describe one";
    const ACTIVE: Active = Active::Always;
    type Args = Args;
    type Row = Row;

    fn collect(&self, _: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let all = match &args.item {
            None => plugins::ALL.to_vec(),
            Some(name) => plugins::named(name),
        };
        if all.is_empty() {
            let name = args.item.as_deref().unwrap_or_default();
            return Err(
                Error::usage(format!("unknown command: {name}")).with_hint("rekal info lists all commands")
            );
        }
        for plugin in all {
            let mut push = |parameter, docs: String| {
                out.push(Row { command: plugin.name(), active: plugin.active().name(), parameter, docs })
            };
            push(None, plugin.summary().to_owned())?;
            if args.item.is_none() {
                continue;
            }
            for name in plugins::aliases::names_of(plugin) {
                push(
                    Some(name.to_owned()),
                    "name of this command in Volatility 3, accepted as well".to_owned(),
                )?;
            }
            for arg in plugin.command().get_arguments() {
                let name = match arg.get_long() {
                    Some(long) => format!("--{long}"),
                    None => arg.get_id().to_string(),
                };
                push(Some(name), arg.get_help().map(ToString::to_string).unwrap_or_default())?;
            }
            for column in plugin.columns() {
                push(Some(format!("[{}]", column.name)), format!("{}: {}", column.kind.name(), column.doc))?;
            }
        }
        Ok(())
    }
}
