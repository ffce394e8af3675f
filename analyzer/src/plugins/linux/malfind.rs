//! `malfind`: memory of processes that may hold injected code.
//!
//! Shown are areas that can be written and executed, and code that belongs to no file: what programs that make code at run
//! time have too. The first bytes are shown in hexadecimal and as instructions.
//!
//! Truth: every such area of `/proc/PID/maps` of guests of 5.10, 6.1 and 6.12.

use memory::AddressSpace as _;
use object::Uint;

use crate::disassembly::{Mode, disassemble};
use crate::hexdump;
use crate::os::linux::mm::{AreaNames, Vma, areas_of, space_of};
use crate::os::linux::path::Paths;
use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Malfind;

/// `VM_WRITE`, `VM_EXEC` (include/linux/mm.h).
const VM_WRITE: u64 = 2;
const VM_EXEC: u64 = 4;
/// Bytes that are shown.
const SHOWN: u16 = 64;

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// First address of the area.
        start: Read<Address>,
        /// End, exclusive.
        end: Read<Address>,
        /// Permissions, as `maps` shows them.
        flags: Read<String>,
        /// Mapped file or kind of memory, as `maps` shows it.
        file_path: Read<String>,
        /// Its first bytes in hexadecimal and as text; `??` is not in memory.
        hexdump: String,
        /// Its first bytes as instructions; not applicable to processors other than x86.
        disassembly: Read<ListOf<String>>,
    }
}

impl Plugin for Malfind {
    const NAME: &'static str = "malfind";
    const SUMMARY: &'static str = "Find memory of processes that may hold injected code";
    const ACTIVE: Active = Active::Linux;
    type Args = ProcessFilter;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ProcessFilter, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let paths = Paths::of_init(session, &kernel)?;
        let names = AreaNames::new(kernel.target(), &paths);
        let mode = Mode::of(kernel.target().types());
        for task in args.tasks(session, &kernel)? {
            let Some((mm, areas)) = areas_of(&session.notes, &task) else { continue };
            let Some(space) = space_of(&session.notes, &kernel, &task) else { continue };
            for area in areas.iter().filter(|area| is_suspicious(area)) {
                let file_path = names.name(&mm, area);
                // The kernel's own code in every process.
                if file_path.as_deref() == Ok("[vdso]") {
                    continue;
                }
                let range = area.range();
                let start = range.as_ref().map_or(0, |(start, _)| *start);
                let code = space.read_vec(start, SHOWN.into(), SHOWN.into()).unwrap_or_default();
                out.push(Row {
                    task: task.obj_ref(),
                    start: range.clone().map(|(start, _)| Address(start)),
                    end: range.map(|(_, end)| Address(end)),
                    flags: area.permissions(),
                    file_path,
                    hexdump: hexdump::cell(&*space, start, SHOWN),
                    disassembly: mode.clone().map(|mode| {
                        let lines = disassemble(&code, start, mode).into_iter();
                        ListOf(lines.map(|line| format!("{:#x} {}", line.address, line.text)).collect())
                    }),
                })?;
            }
        }
        Ok(())
    }
}

/// Whether an area is code that can be changed or that no file holds.
fn is_suspicious(area: &Vma<'_>) -> bool {
    let Ok(Uint(flags)) = area.vm_flags() else { return false };
    let no_file = matches!(area.file(), Err(Absent::NotApplicable(_)));
    flags & VM_EXEC != 0 && (flags & VM_WRITE != 0 || no_file)
}
