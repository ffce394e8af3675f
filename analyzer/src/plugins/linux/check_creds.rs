//! `check_creds`: processes and their credentials, with how many processes share them.
//!
//! A process gets credentials of its own when it is made (`copy_creds`, kernel/cred.c); only threads share. Kernel threads
//! are left out. Two processes with one `cred` are the trace of an old way to steal privileges.
//!
//! Truth: no process of the guests of 5.10, 6.1 and 6.12 shares its credentials.

use std::collections::BTreeMap;

use object::Ptr;

use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct CheckCreds;

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// Its `struct cred`.
        cred: Read<Address>,
        /// Processes that use this `cred`, itself included; more than 1 is suspicious.
        shared: Read<u64>,
    }
}

impl Plugin for CheckCreds {
    const NAME: &'static str = "check_creds";
    const SUMMARY: &'static str = "Find processes that share credentials";
    const ACTIVE: Active = Active::Linux;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let mut users: BTreeMap<u64, u64> = BTreeMap::new();
        let all = crate::os::linux::processes(session, &kernel)?;
        for Ptr(cred) in all.iter().filter_map(|task| task.cred().ok()) {
            *users.entry(cred).or_default() += 1;
        }
        for task in args.tasks(session, &kernel)? {
            if task.is_kernel_thread() == Ok(true) {
                continue;
            }
            let cred = task.cred().map(|Ptr(cred)| cred);
            let shared = cred.clone().map(|cred| users.get(&cred).copied().unwrap_or(1));
            out.push(Row { task: task.obj_ref(), cred: cred.map(Address), shared })?;
        }
        Ok(())
    }
}
