//! `modules`: the kernel and the drivers it loaded.
//!
//! Walks `PsLoadedModuleList`; a driver taken off that list does not appear, compare with `modscan`. Truth: none yet; the list of
//! an image of the maker of test images.

use crate::os::windows::KernelFact;
use crate::os::windows::module::modules;
use crate::plugin::prelude::*;

/// The command.
pub struct Modules;

/// Options.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Show only modules whose name matches this regular expression, case-insensitive
    #[arg(value_name = "REGEX", value_parser = crate::parse::regex)]
    pub name_regex: Option<regex::Regex>,
}

row! {
    pub struct Row {
        /// The loader's entry.
        entry as "_LDR_DATA_TABLE_ENTRY": ObjRef,
        /// File name.
        name: Read<String>,
        /// Where it is mapped.
        base: Read<Address>,
        /// Bytes it takes in memory.
        size: Read<ByteSize>,
        /// Path it was loaded from.
        path: Read<String>,
    }
}

impl Plugin for Modules {
    const NAME: &'static str = "modules";
    const SUMMARY: &'static str = "List kernel modules";
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for module in modules(&session.notes, kernel.target())? {
            let name = module.name();
            if let Some(regex) = &args.name_regex
                && !name.as_ref().is_ok_and(|name| regex.is_match(name))
            {
                continue;
            }
            out.push(Row {
                entry: module.obj_ref(),
                name,
                base: module.base().map(Address),
                size: module.size().map(|size| ByteSize(size.into())),
                path: module.path(),
            })?;
        }
        Ok(())
    }
}
