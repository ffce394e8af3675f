//! `pstree`: processes as a tree of creators and created.
//!
//! A process is under the one whose id it names as its creator, unless that one is younger: then the id was used again. Truth: ids
//! and times in the output of original Rekall for a Windows 7 system.

use crate::os::windows::tree::process_tree;
use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Pstree;

row! {
    pub struct Row {
        /// The process.
        process as "_EPROCESS": ObjRef,
        /// Process id of its creator, which may be gone and its id used again.
        ppid: Read<u64>,
        /// Threads that have not ended.
        thd_count: Read<u64>,
        /// Open handles.
        hnd_count: Read<u64>,
        /// When it was created.
        create_time: Read<Time>,
        /// Its command line, from its own memory.
        cmd: Read<String>,
        /// Path of its executable, from its own memory.
        path: Read<String>,
        /// Path of its executable, as the kernel recorded it.
        audit: Read<String>,
    }
}

impl Plugin for Pstree {
    const NAME: &'static str = "pstree";
    const SUMMARY: &'static str = "Show processes as a tree";
    const ACTIVE: Active = Active::Windows;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for (process, depth) in process_tree(&args.processes(session, &kernel)?) {
            let user = process.user_target(&kernel);
            let of_user = |read: &dyn Fn(&object::Target) -> Read<String>| match &user {
                Ok(user) => read(user),
                Err(why) => Err(why.clone()),
            };
            out.push_at(
                depth,
                Row {
                    process: process.obj_ref(),
                    ppid: process.ppid(),
                    thd_count: process.thread_count(),
                    hnd_count: process.handle_count(),
                    create_time: process.create_time(),
                    cmd: of_user(&|user| process.command_line(user)),
                    path: of_user(&|user| process.image_path(user)),
                    audit: process.audit_path(),
                },
            )?;
        }
        Ok(())
    }
}
