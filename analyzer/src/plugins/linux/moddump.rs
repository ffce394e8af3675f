//! `moddump`: loaded kernel modules as ELF files.
//!
//! See `os::linux::module_file` for what such a file holds. Truth: `readelf` accepts the files of all modules of guests of
//! 5.10, 6.1 and 6.12 without a warning, with the sections of `/sys/module/NAME/sections` and the symbols of
//! `/proc/kallsyms`.

use crate::dump_file::DumpArgs;
use crate::os::linux::KernelFact;
use crate::os::linux::module::modules;
use crate::os::linux::module_file::plan;
use crate::plugin::prelude::*;

/// The command.
pub struct Moddump;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only modules whose name matches this regular expression
    #[arg(long, value_name = "REGEX", value_parser = crate::parse::regex)]
    regexp: Option<regex::Regex>,
    #[command(flatten)]
    dump: DumpArgs,
}

row! {
    pub struct Row {
        /// The module.
        name: Read<String>,
        /// Sections of it that are in the file.
        section_count as "Sections": Read<u64>,
        /// Symbols in the file.
        symbols as "Symbols": Read<u64>,
        /// Bytes of its memory that could be read.
        in_memory: Read<ByteSize>,
        /// The file that was written.
        dump_name: Read<String>,
    }
}

impl Plugin for Moddump {
    const NAME: &'static str = "moddump";
    const SUMMARY: &'static str = "Write loaded kernel modules as ELF files";
    const ACTIVE: Active = Active::Linux;
    const WRITES: bool = true;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for module in modules(&session.notes, kernel.target())? {
            let name = module.label();
            let wanted = |regex: &regex::Regex| name.as_ref().is_ok_and(|name| regex.is_match(name));
            if !args.regexp.as_ref().is_none_or(wanted) {
                continue;
            }
            let written = match plan(&session.notes, &module) {
                Ok(plan) => {
                    let label = name.clone().unwrap_or_default();
                    let mut file = args.dump.create(session, &format!("{label}.{:x}.ko", module.addr()))?;
                    Ok((plan.write(&kernel, &mut file)?, file.commit(session)?))
                }
                Err(why) => Err(why),
            };
            out.push(Row {
                name,
                section_count: written.clone().map(|(written, _)| written.sections),
                symbols: written.clone().map(|(written, _)| written.symbols),
                in_memory: written.clone().map(|(written, _)| ByteSize(written.bytes)),
                dump_name: written.map(|(_, name)| name),
            })?;
        }
        Ok(())
    }
}
