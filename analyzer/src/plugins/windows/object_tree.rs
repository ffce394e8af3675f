//! `object_tree`: the named objects, as a tree of directories.
//!
//! Walks the directories of the object manager from the root. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::{KernelFact, names, namespace};
use crate::plugin::prelude::*;

/// The command.
pub struct ObjectTree;

/// Options.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Show only objects whose type matches this regular expression, case-insensitive
    #[arg(long, value_name = "REGEX", value_parser = crate::parse::regex)]
    pub type_regex: Option<regex::Regex>,
}

row! {
    pub struct Row {
        /// The object's header.
        header as "_OBJECT_HEADER": Address,
        /// Type of the object.
        kind as "type": Read<String>,
        /// Its name; where a symbolic link leads.
        name: Read<String>,
    }
}

impl Plugin for ObjectTree {
    const NAME: &'static str = "object_tree";
    const SUMMARY: &'static str = "Show the named objects as a tree of directories";
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for (depth, header) in namespace::tree(&session.notes, kernel.target())? {
            let kind = header.type_name();
            if let Some(regex) = &args.type_regex
                && !kind.as_ref().is_ok_and(|kind| regex.is_match(kind))
            {
                continue;
            }
            let name = match &kind {
                Ok(kind) if kind == "SymbolicLink" => names::describe(&header, kind),
                _ => header.name(),
            };
            out.push_at(depth, Row { header: Address(header.addr()), kind, name })?;
        }
        Ok(())
    }
}
