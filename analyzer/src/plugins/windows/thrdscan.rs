//! `thrdscan`: scan physical memory for threads.
//!
//! Finds threads that ended or were taken off the list of their process; compare with `threads`. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::symbols::symbols;
use crate::os::windows::reverse::ReverseFact;
use crate::os::windows::scan_range::ScanArgs;
use crate::os::windows::thread_scan::scan;
use crate::os::windows::{KernelFact, Process, pool};
use crate::plugin::prelude::*;

/// The command.
pub struct Thrdscan;

row! {
    pub struct Row {
        /// Virtual address of the thread; absent where the kernel maps that memory nowhere.
        offset: Option<Address>,
        /// Its physical address.
        offset_p: Address,
        /// Id of its process.
        pid: Read<u64>,
        /// Its own id.
        tid: Read<u64>,
        /// Where it started.
        start: Read<Address>,
        /// When it was created.
        create_time: Read<Time>,
        /// When it ended; absent while it runs.
        exit_time: Read<Time>,
        /// Name of its process.
        name: Read<String>,
        /// Symbol where it started; absent outside of the kernel's modules.
        symbol: Option<String>,
    }
}

impl Plugin for Thrdscan {
    const NAME: &'static str = "thrdscan";
    const SUMMARY: &'static str = "Scan physical memory for threads";
    const ACTIVE: Active = Active::Windows;
    type Args = ScanArgs;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ScanArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let symbols = symbols(session)?;
        let reverse = session.fact::<ReverseFact>()?;
        let physical = pool::physical(&kernel);
        let wanted = args.range(session, &kernel)?;
        for found in scan(session, &kernel)?.into_iter().filter(|found| wanted.has(found.body)) {
            let thread = found.thread(&physical);
            let start = thread.start();
            out.push(Row {
                offset: reverse.virtual_address(found.body).map(Address),
                offset_p: Address(found.body),
                pid: thread.pid(),
                tid: thread.tid(),
                symbol: start.as_ref().ok().and_then(|start| symbols.describe(*start)),
                start: start.map(Address),
                create_time: thread.create_time(),
                exit_time: thread.exit_time(),
                name: thread.process().and_then(|addr| Process::at(kernel.target(), addr).name()),
            })?;
        }
        Ok(())
    }
}
