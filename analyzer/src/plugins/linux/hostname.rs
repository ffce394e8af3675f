//! `hostname`: host names, of the machine first and then of containers.
//!
//! Reads `init_uts_ns` and the UTS namespace of every process. Truth: `/proc/sys/kernel/hostname` of real guests.

use crate::os::linux::utsname::namespaces;
use crate::os::linux::{KernelFact, processes};
use crate::plugin::prelude::*;

/// The command.
pub struct Hostname;

row! {
    pub struct Row {
        /// Host name.
        hostname as "Hostname": Read<String>,
        /// NIS domain name; `(none)` unless set.
        domainname: Read<String>,
        /// Inode number of the UTS namespace; the machine's own comes first.
        uts_ns: Read<u32>,
    }
}

impl Plugin for Hostname {
    const NAME: &'static str = "hostname";
    const SUMMARY: &'static str = "Show the host name";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let tasks = processes(session, &kernel)?;
        for namespace in namespaces(&kernel, &tasks)? {
            out.push(Row {
                hostname: namespace.hostname(),
                domainname: namespace.domainname(),
                uts_ns: namespace.inum(),
            })?;
        }
        Ok(())
    }
}
