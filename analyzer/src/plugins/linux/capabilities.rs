//! `capabilities`: what processes are privileged to do.
//!
//! The five sets of the credentials in use (`task_struct.cred`): `cap_permitted` and so on (capabilities(7)). A set with all
//! capabilities the kernel knows is shown as `all`.
//!
//! Truth: the lines `CapInh` to `CapAmb` of `/proc/PID/status` of guests of 5.10, 6.1 and 6.12, every process.

use object::Uint;

use crate::os::linux::capability::{Capabilities, last_capability};
use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct CapabilitiesOf;

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// Effective user id.
        euid: Read<u32>,
        /// Bits of what it may do now.
        effective: Read<Address>,
        /// Bits of what it may make effective.
        permitted: Read<Address>,
        /// Bits of what programs it runs may inherit.
        inheritable: Read<Address>,
        /// Bits beyond which it can gain nothing.
        bounding: Read<Address>,
        /// Bits that unprivileged programs it runs keep.
        ambient: Read<Address>,
        /// Names of the effective ones.
        names: Read<ListOf<String>>,
    }
}

impl Plugin for CapabilitiesOf {
    const NAME: &'static str = "capabilities";
    const SUMMARY: &'static str = "List capabilities of processes";
    const ACTIVE: Active = Active::Linux;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let last = last_capability(&kernel);
        for task in args.tasks(session, &kernel)? {
            let creds = task.creds();
            let sets = creds.clone().map(|creds| Capabilities::at(creds.target(), creds.addr()));
            let bits = |Uint(bits)| Address(bits);
            let effective = sets.clone().and_then(|sets| sets.effective());
            out.push(Row {
                task: task.obj_ref(),
                euid: creds.clone().and_then(|creds| creds.euid()),
                names: effective.clone().map(|Uint(bits)| ListOf(last.names(bits))),
                effective: effective.map(bits),
                permitted: sets.clone().and_then(|sets| sets.permitted()).map(bits),
                inheritable: sets.clone().and_then(|sets| sets.inheritable()).map(bits),
                bounding: sets.clone().and_then(|sets| sets.bounding()).map(bits),
                ambient: sets.clone().and_then(|sets| sets.ambient()).map(bits),
            })?;
        }
        Ok(())
    }
}
