//! `moddump`: writes the kernel and its drivers as files.
//!
//! Takes the modules on `PsLoadedModuleList`; `pedump` writes a driver that hides from it. Drivers of the graphical subsystem are
//! read in a process of a session. Pages that are not in memory are zeros, and reported. Truth: see `procdump`.

use crate::dump_file::DumpArgs;
use crate::os::windows::KernelFact;
use crate::os::windows::executable::{dump, space_of};
use crate::os::windows::module::modules;
use crate::plugin::prelude::*;

/// The command.
pub struct Moddump;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Write only modules whose name matches this regular expression, case-insensitive
    #[arg(long, value_name = "REGEX", value_parser = crate::parse::regex)]
    pub regex: Option<regex::Regex>,
    /// Where to
    #[command(flatten)]
    pub to: DumpArgs,
}

row! {
    pub struct Row {
        /// File name of the module.
        name as "Name": Read<String>,
        /// Where it is mapped.
        base as "Base": Read<Address>,
        /// The file that was written.
        filename as "Filename": Read<String>,
        /// Its length.
        size: Read<ByteSize>,
        /// Bytes of it that could not be read and are zeros.
        missing: Read<ByteSize>,
    }
}

impl Plugin for Moddump {
    const NAME: &'static str = "moddump";
    const SUMMARY: &'static str = "Write kernel modules as files";
    const ACTIVE: Active = Active::Windows;
    const WRITES: bool = true;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for module in modules(&session.notes, kernel.target())? {
            let (name, base) = (module.name(), module.base());
            let label = name.clone().unwrap_or_default();
            if args.regex.as_ref().is_some_and(|regex| !regex.is_match(&label)) {
                continue;
            }
            let dumped = match &base {
                Ok(base) => {
                    let space = space_of(session, &kernel, *base)?;
                    let file = format!("driver.{base:x}.{label}");
                    dump(session, &args.to, &space, *base, &file, &format!("module {label}"))?
                }
                Err(why) => Err(why.clone()),
            };
            out.push(Row {
                name,
                base: base.map(Address),
                filename: dumped.clone().map(|dumped| dumped.file),
                size: dumped.clone().map(|dumped| dumped.size),
                missing: dumped.map(|dumped| dumped.missing),
            })?;
        }
        Ok(())
    }
}
