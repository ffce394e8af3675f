//! `keepassx`: entries of password databases that are open in KeePassX 2 or KeePassXC, with their passwords.
//!
//! Looks for the attributes of entries in the heaps of processes named `keepass...`: also earlier states of an entry, and entries of
//! other databases that were open. Programs built with Qt 4 (KeePassX 0.4) or Qt 6 lay them out differently and are not seen.
//!
//! Truth: what `keepassxc-cli show` prints of a database that KeePassXC 2.7.4 has open.

use crate::os::linux::heap::{self, keepass};
use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Keepassx;

/// Which processes.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    processes: ProcessFilter,
    /// Look into every process, not only those named keepass...
    #[arg(long)]
    all_processes: bool,
}

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// Where the attributes of the entry are.
        entry: Address,
        /// Title.
        title: Option<String>,
        /// Address of the site.
        url: Option<String>,
        /// Name of the user.
        username: Option<String>,
        /// The password.
        password: Option<String>,
        /// Notes.
        comment: Option<String>,
    }
}

impl Plugin for Keepassx {
    const NAME: &'static str = "keepassx";
    const SUMMARY: &'static str = "List entries of open password databases of KeePassX and KeePassXC";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let processes = args.processes.or_named(args.all_processes, "^keepass");
        heap::each(session, &kernel, &processes, |task, heap| {
            for keepass::Entry { addr, mut attributes } in keepass::entries(heap) {
                out.push(Row {
                    task: task.obj_ref(),
                    entry: Address(addr),
                    title: attributes.remove("Title"),
                    url: attributes.remove("URL"),
                    username: attributes.remove("UserName"),
                    password: attributes.remove("Password"),
                    comment: attributes.remove("Notes"),
                })?;
            }
            Ok(())
        })
    }
}
