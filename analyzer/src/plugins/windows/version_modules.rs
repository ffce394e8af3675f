//! `version_modules`: the debug files that loaded kernel modules name, by which builds are told apart.
//!
//! From the headers of each module in memory. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::KernelFact;
use crate::os::windows::module::modules;
use crate::pe::Pe;
use crate::plugin::prelude::*;

/// The command.
pub struct VersionModules;

/// Options.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Show only modules whose name matches this regular expression, case-insensitive
    #[arg(value_name = "REGEX", value_parser = crate::parse::regex)]
    pub name_regex: Option<regex::Regex>,
}

row! {
    pub struct Row {
        /// Where the module is mapped.
        offset_v: Option<Address>,
        /// File name.
        name: Read<String>,
        /// GUID and age of the debug file, as symbol servers know it.
        guid: Read<String>,
        /// The debug file.
        pdb: Read<String>,
    }
}

impl Plugin for VersionModules {
    const NAME: &'static str = "version_modules";
    const SUMMARY: &'static str = "Show the debug files that kernel modules name";
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
            let base = module.base();
            let rsds = base.clone().and_then(|base| Pe::mapped(kernel.target().shared_space(), base)?.rsds());
            let guid = rsds.clone().map(|rsds| rsds.id.to_string());
            out.push(Row { offset_v: base.ok().map(Address), name, guid, pdb: rsds.map(|rsds| rsds.path) })?;
        }
        Ok(())
    }
}
