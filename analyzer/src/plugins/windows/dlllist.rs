//! `dlllist`: modules of processes, as their loaders list them.
//!
//! The lists are in memory that the process may write, so a module can hide from them; compare with `ldrmodules` and `vad`. A
//! 32-bit process on a 64-bit system has modules of both loaders. Truth: none yet; the lists of an image of the maker of test images.

use crate::os::windows::library::libraries;
use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Dlllist;

row! {
    pub struct Row {
        /// The process.
        process as "_EPROCESS": ObjRef,
        /// Where the module is mapped.
        base: Read<Address>,
        /// Bytes it takes in memory.
        size: Read<ByteSize>,
        /// References, or from Windows 8 on why it was loaded (`_LDR_DLL_LOAD_REASON`).
        reason: Read<String>,
        /// Its path.
        dll_path: Read<String>,
        /// Whether the 32-bit loader of a 64-bit system loaded it.
        wow64: bool,
    }
}

impl Plugin for Dlllist {
    const NAME: &'static str = "dlllist";
    const SUMMARY: &'static str = "List modules of processes";
    const ACTIVE: Active = Active::Windows;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let reasons = kernel.target().types().profile().enum_def("_LDR_DLL_LOAD_REASON").ok().flatten();
        for process in args.processes(session, &kernel)? {
            let found =
                process.user_target(&kernel).and_then(|user| libraries(&session.notes, &process, &user));
            let found = match found {
                Ok(found) => found,
                Err(why) if why.is_loss() => {
                    session.notes.partial(format!("modules of {} are missing: {why}", process.describe()));
                    continue;
                }
                Err(_) => continue,
            };
            for library in found {
                let named = |reason: u64| {
                    let name = reasons.and_then(|table| table.names.get(&i128::from(reason)));
                    name.cloned().unwrap_or_else(|| reason.to_string())
                };
                let count = library.load_count.map(|count| count.to_string());
                out.push(Row {
                    process: process.obj_ref(),
                    base: library.base.map(Address),
                    size: library.size.map(|size| ByteSize(size.into())),
                    reason: library.load_reason.map(named).or(count),
                    dll_path: library.path,
                    wow64: library.wow64,
                })?;
            }
        }
        Ok(())
    }
}
