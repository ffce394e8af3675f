//! `procdump`: writes the executables of processes as files.
//!
//! Headers and sections are put where the section table wants them in a file; what the loader changed stays changed. Pages that
//! are not in memory are zeros, and reported. Truth: `llvm-readobj` reads the files (see `pe::rebuild`); the description of the
//! machine that the maker of test images lays out, and `llvm-readobj`, which reads the files.

use crate::dump_file::DumpArgs;
use crate::os::windows::executable::{dump, image_base};
use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Procdump;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
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
        /// Where its executable is mapped.
        base: Read<Address>,
        /// The file that was written.
        filename as "Filename": Read<String>,
        /// Its length.
        size: Read<ByteSize>,
        /// Bytes of it that could not be read and are zeros.
        missing: Read<ByteSize>,
    }
}

impl Plugin for Procdump {
    const NAME: &'static str = "procdump";
    const SUMMARY: &'static str = "Write the executables of processes as files";
    const ACTIVE: Active = Active::Windows;
    const WRITES: bool = true;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for process in args.processes.processes(session, &kernel)? {
            let whose = process.describe();
            let found = process
                .user_target(&kernel)
                .and_then(|user| Ok((image_base(session, &process, &user)?, user)));
            let (base, dumped) = match found {
                Ok((base, user)) => {
                    let name = process.name().unwrap_or_else(|_| format!("{:x}", process.addr()));
                    let pid = process.pid_label();
                    let name = format!("executable.{name}_{pid}.exe");
                    let what = format!("the executable of {whose}");
                    (Ok(base), dump(session, &args.to, user.shared_space(), base, &name, &what)?)
                }
                Err(why) if why.is_loss() => {
                    session.notes.partial(format!("the executable of {whose} is missing: {why}"));
                    (Err(why.clone()), Err(why))
                }
                // The kernel's own processes have none.
                Err(_) => continue,
            };
            out.push(Row {
                process: process.obj_ref(),
                base: base.map(Address),
                filename: dumped.clone().map(|dumped| dumped.file),
                size: dumped.clone().map(|dumped| dumped.size),
                missing: dumped.map(|dumped| dumped.missing),
            })?;
        }
        Ok(())
    }
}
