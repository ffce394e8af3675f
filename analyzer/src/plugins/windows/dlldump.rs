//! `dlldump`: writes modules of processes as files.
//!
//! Takes the modules on the lists of the loaders, as `dlllist` does; `pedump` writes one that is on no list. Pages that are not in
//! memory are zeros, and reported. Truth: see `procdump`.

use memory::AddressSpace as _;

use crate::dump_file::DumpArgs;
use crate::os::windows::executable::dump;
use crate::os::windows::library::libraries;
use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Dlldump;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Write only modules whose name matches this regular expression, case-insensitive
    #[arg(long, value_name = "REGEX", value_parser = crate::parse::regex)]
    pub regex: Option<regex::Regex>,
    /// Where to
    #[command(flatten)]
    pub to: DumpArgs,
    /// Which processes
    #[command(flatten)]
    pub processes: ProcessFilter,
}

row! {
    pub struct Row {
        /// The process.
        process as "_EPROCESS": ObjRef,
        /// Where the module is mapped.
        base: Read<Address>,
        /// Its file name, as the loader knows it.
        module: Read<String>,
        /// The file that was written.
        filename as "Filename": Read<String>,
        /// Its length.
        size: Read<ByteSize>,
        /// Bytes of it that could not be read and are zeros.
        missing: Read<ByteSize>,
    }
}

impl Plugin for Dlldump {
    const NAME: &'static str = "dlldump";
    const SUMMARY: &'static str = "Write modules of processes as files";
    const ACTIVE: Active = Active::Windows;
    const WRITES: bool = true;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for process in args.processes.processes(session, &kernel)? {
            let whose = process.describe();
            let found = process.user_target(&kernel);
            let found = found.and_then(|user| Ok((libraries(&session.notes, &process, &user)?, user)));
            let (libraries, user) = match found {
                Ok(found) => found,
                Err(why) if why.is_loss() => {
                    session.notes.partial(format!("modules of {whose} are missing: {why}"));
                    continue;
                }
                Err(_) => continue,
            };
            // Where the process is in physical memory tells apart two of one id.
            let at = kernel.space().tables().translate(process.addr());
            let at = at.map_or_else(|_| "unknown".to_owned(), |at| format!("{at:x}"));
            let pid = process.pid_label();
            for library in libraries {
                let name = library.name.clone().unwrap_or_default();
                if args.regex.as_ref().is_some_and(|regex| !regex.is_match(&name)) {
                    continue;
                }
                let dumped = match library.base.clone() {
                    Ok(base) => {
                        let file = format!("module.{pid}.{at}.{base:x}.{name}");
                        let what = format!("module {name} of {whose}");
                        dump(session, &args.to, user.shared_space(), base, &file, &what)?
                    }
                    Err(why) => Err(why),
                };
                out.push(Row {
                    process: process.obj_ref(),
                    base: library.base.map(Address),
                    module: library.name,
                    filename: dumped.clone().map(|dumped| dumped.file),
                    size: dumped.clone().map(|dumped| dumped.size),
                    missing: dumped.map(|dumped| dumped.missing),
                })?;
            }
        }
        Ok(())
    }
}
