//! `maps`: memory areas of processes, as `/proc/PID/maps` shows them.
//!
//! Walks the areas of each address space: the maple tree of `mm_struct` from v6.1, the sorted list before. The page of
//! the old system call interface (`[vsyscall]`), which is no area of its own, is shown where the guest would show it.
//!
//! Truth: `/proc/PID/maps` of guests of 5.10, 6.1 and 6.12, every area; no guest shows `[vsyscall]`.

use crate::os::linux::mm::{AreaNames, Mm, Vma, areas_of, gate_area};
use crate::os::linux::path::Paths;
use crate::os::linux::vfs::major_minor;
use crate::os::linux::{KernelFact, ProcessFilter, Task};
use crate::plugin::prelude::*;

/// The command.
pub struct Maps;

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// First address.
        start: Read<Address>,
        /// End, exclusive.
        end: Read<Address>,
        /// Permissions: read, write, execute, and `s` for memory that may be shared or `p` for private memory.
        flags: Read<String>,
        /// Place of the first byte in the mapped file, in bytes.
        pgoff: Read<u64>,
        /// Major device number of the mapped file's file system.
        major: Read<u32>,
        /// Minor device number of the mapped file's file system.
        minor: Read<u32>,
        /// Inode number of the mapped file.
        inode: Read<u64>,
        /// Mapped file or kind of memory: a path, `[heap]`, `[stack]`, `[vdso]`, `[anon:NAME]`.
        file_path: Read<String>,
    }
}

impl Plugin for Maps {
    const NAME: &'static str = "maps";
    const SUMMARY: &'static str = "List memory areas of processes";
    const ACTIVE: Active = Active::Linux;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let paths = Paths::of_init(session, &kernel)?;
        let names = AreaNames::new(kernel.target(), &paths);
        for task in args.tasks(session, &kernel)? {
            let Some((mm, areas)) = areas_of(&session.notes, &task) else { continue };
            for area in areas.iter().chain(gate_area(&mm).as_ref()) {
                out.push(row(&task, &mm, area, &names))?;
            }
        }
        Ok(())
    }
}

fn row(task: &Task<'_>, mm: &Mm<'_>, area: &Vma<'_>, names: &AreaNames<'_, '_>) -> Row {
    let inode = area.file().and_then(|file| file.user_inode());
    let device = inode.clone().and_then(|inode| inode.super_block()?.dev()).map(major_minor);
    Row {
        task: task.obj_ref(),
        start: area.vm_start().map(|start| Address(start.0)),
        end: area.vm_end().map(|end| Address(end.0)),
        flags: area.permissions(),
        pgoff: area.file_offset(),
        major: device.clone().map(|(major, _)| major),
        minor: device.map(|(_, minor)| minor),
        inode: inode.and_then(|inode| inode.ino()).map(|ino| ino.0),
        file_path: names.name(mm, area),
    }
}
