//! `lsof`: open files of processes.
//!
//! Walks the descriptor table of each process (`files_struct.fdt`). Paths are those PID 1 would read from
//! `/proc/PID/fd/N`; flags and offsets those of `/proc/PID/fdinfo/N`. Mapped files are in `maps`.
//!
//! Truth: `/proc/PID/fd` and `/proc/PID/fdinfo` of guests of 5.10, 6.1 and 6.12, every descriptor.

use object::walk::End;

use crate::os::linux::file::{Descriptor, files_of};
use crate::os::linux::path::Paths;
use crate::os::linux::{KernelFact, ProcessFilter, Task, task};
use crate::plugin::prelude::*;

/// The command.
pub struct Lsof;

row! {
    pub struct Row {
        /// The process.
        proc: ObjRef,
        /// The open file; duplicated and inherited descriptors share it.
        file_struct: ObjRef,
        /// Name of the process, at most 15 bytes (`comm`).
        name: Read<String>,
        /// Process id.
        pid: Read<i32>,
        /// Real user id of the process.
        user: Read<u32>,
        /// File descriptor.
        fd: u32,
        /// Kind of file: `REG`, `DIR`, `CHR`, `BLK`, `FIFO`, `SOCK`, `LNK`; `ANON` for files of no type (eventfd, epoll).
        file_type: Read<&'static str>,
        /// How it is open: `r`, `w`, `rw`; `-` for a mere reference (`O_PATH`).
        access: Read<&'static str>,
        /// `open(2)` flags in octal as `/proc/PID/fdinfo` shows them, with `O_CLOEXEC` (02000000) of the descriptor.
        flags: Read<String>,
        /// Length of the file in bytes.
        size: Read<ByteSize>,
        /// Read and write position in bytes.
        offset: Read<i64>,
        /// Inode number.
        node: Read<u64>,
        /// Path, or what stands for it: `socket:[8886]`.
        path: Read<String>,
    }
}

impl Plugin for Lsof {
    const NAME: &'static str = "lsof";
    const SUMMARY: &'static str = "List open files of processes";
    const ACTIVE: Active = Active::Linux;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let paths = Paths::of_init(session, &kernel)?;
        for task in args.tasks(session, &kernel)? {
            let (descriptors, end) = files_of(&task);
            if end != End::Complete {
                session.notes.walk(&format!("open files of {}", task::describe(&task)), &end);
            }
            for descriptor in descriptors {
                out.push(row(&task, &descriptor, &paths))?;
            }
        }
        Ok(())
    }
}

fn row(task: &Task<'_>, descriptor: &Descriptor<'_>, paths: &Paths<'_>) -> Row {
    let file = &descriptor.file;
    let inode = file.inode();
    Row {
        proc: task.obj_ref(),
        file_struct: ObjRef { type_name: "file", addr: file.addr(), tags: Vec::new() },
        name: task.name(),
        pid: task.pid(),
        user: task.creds().and_then(|creds| creds.uid()),
        fd: descriptor.fd,
        file_type: inode.clone().and_then(|inode| inode.type_name()),
        access: file.access(),
        flags: descriptor.flags().map(|flags| format!("0{flags:o}")),
        size: inode.clone().and_then(|inode| inode.size()).map(|size| ByteSize(size.0)),
        offset: file.f_pos(),
        node: inode.and_then(|inode| inode.ino()).map(|ino| ino.0),
        path: file.path(paths),
    }
}
