//! `threads`: threads of processes.
//!
//! Walks the list of threads of each process; a thread taken off that list does not appear, compare with `thrdscan`. Truth: the
//! number of threads of each process in the output of original Rekall for a Windows 7 system.

use crate::os::symbols::{Symbols as _, symbols};
use crate::os::windows::resolver::Resolver;
use crate::os::windows::thread::threads;
use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Threads;

row! {
    pub struct Row {
        /// The thread.
        thread as "_ETHREAD": ObjRef,
        /// Id of its process.
        pid: Read<u64>,
        /// Its own id.
        tid: Read<u64>,
        /// Where it started.
        start: Read<Address>,
        /// Symbol there; absent outside of modules.
        start_symbol: Option<String>,
        /// Name of its process.
        process as "Process": Read<String>,
        /// Where the program asked it to start.
        win32_start: Read<Address>,
        /// Symbol there; absent outside of modules.
        win32_start_symb: Option<String>,
    }
}

impl Plugin for Threads {
    const NAME: &'static str = "threads";
    const SUMMARY: &'static str = "List threads of processes";
    const ACTIVE: Active = Active::Windows;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let symbols = symbols(session)?;
        for process in args.processes(session, &kernel)? {
            let found = match threads(&session.notes, &process) {
                Ok(found) => found,
                Err(why) if why.is_loss() => {
                    session.notes.partial(format!("threads of {} are missing: {why}", process.describe()));
                    continue;
                }
                Err(_) => continue,
            };
            // Processes without a loader have threads in the kernel only.
            let own = Resolver::of_process(session, &kernel, &process).ok();
            for thread in found {
                let (start, win32_start) = (thread.start(), thread.win32_start());
                let symbol = |at: &Read<u64>| match at {
                    Ok(at) if *at < kernel.user_end() => own.as_ref().and_then(|own| own.describe(*at)),
                    Ok(at) => symbols.describe(*at),
                    Err(_) => None,
                };
                out.push(Row {
                    thread: thread.obj_ref(),
                    pid: thread.pid(),
                    tid: thread.tid(),
                    start_symbol: symbol(&start),
                    start: start.map(Address),
                    process: process.name(),
                    win32_start_symb: symbol(&win32_start),
                    win32_start: win32_start.map(Address),
                })?;
            }
        }
        Ok(())
    }
}
