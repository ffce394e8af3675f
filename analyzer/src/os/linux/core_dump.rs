//! A process as an ELF core file, as the kernel writes one (fs/binfmt_elf.c): threads with their registers, the auxiliary
//! vector, mapped files, and the pages that are in memory.
//!
//! Registers are those with which each thread entered the kernel (`pt_regs` at the top of its kernel stack); a thread that
//! ran when memory was taken had newer ones in its processor. Pages that are not in memory have no bytes in the file, so
//! a debugger calls them unreadable or takes them from the mapped file. Process groups, sessions and times are 0.

use std::collections::HashSet;

use memory::AddressSpace;
use object::{Absent, Addr, Ptr, Read, Target, Uint, layout};

use super::mm::{Mm, Vma};
use super::path::Paths;
use super::task::Task;
use super::{Kernel, ProcessSpace, views};
use crate::dump_file::DumpFile;
use crate::elf::PT_LOAD;
use crate::elf::write::{
    EM_386, EM_AARCH64, EM_X86_64, ET_CORE, FileHeader, Machine, ProgramHeader, SectionHeader, core_note,
};
use crate::error::Error;
use crate::notes::Notes;

const PAGE: u64 = 4096;
const PT_NOTE: u32 = 4;
/// Notes (include/uapi/linux/elf.h).
const NT_PRSTATUS: u32 = 1;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_FILE: u32 = 0x4649_4c45;
/// Most segments; an area has at most one for each page and one for each gap.
const MAX_SEGMENTS: usize = 1 << 20;
/// Most bytes of names in the list of mapped files.
const MAX_NAMES: usize = 4 << 20;
/// Most bytes of registers of a thread.
const MAX_REGISTERS: usize = 512;
/// Pairs of words in `saved_auxv` (`AT_VECTOR_SIZE` is below 64 on every architecture).
const MAX_AUXV: u64 = 64;
/// `VM_READ | VM_WRITE | VM_EXEC`.
const VM_ACCESS: u64 = 7;

layout! {
    struct Thread / ThreadLayout = "task_struct" {
        stack: Ptr = "stack",
        fs_base: u64 = "thread.fsbase | thread.fs",
        gs_base: u64 = "thread.gsbase | thread.gs",
    }
}

/// How registers look on this architecture.
#[derive(Clone, Copy)]
struct Registers {
    machine: Machine,
    /// Bytes of `pt_regs`, at the top of the kernel stack.
    frame: u64,
    /// Bytes of it that begin `user_regs_struct`.
    size: u64,
    /// Place of what tells user mode: the code segment, whose low bits are 3, or the processor state, whose low bits are 0.
    mode: usize,
    /// Possible sizes of a kernel stack (`THREAD_SIZE`; twice as large with KASAN).
    stacks: &'static [u64],
    /// Bytes that may be free above `pt_regs` (`TOP_OF_KERNEL_STACK_PADDING`).
    padding: &'static [u64],
}

const X64: Registers = Registers {
    machine: Machine { wide: true, number: EM_X86_64 },
    frame: 168,
    size: 168,
    mode: 136,
    stacks: &[16 << 10, 32 << 10],
    padding: &[0, 16, 48],
};
const X86: Registers = Registers {
    machine: Machine { wide: false, number: EM_386 },
    frame: 68,
    size: 68,
    mode: 52,
    stacks: &[8 << 10, 16 << 10],
    padding: &[16, 8, 0],
};
/// `user_pt_regs` is x0 to x30, sp, pc, pstate; what follows it in `pt_regs` differs between versions.
const ARM64: Registers = Registers {
    machine: Machine { wide: true, number: EM_AARCH64 },
    frame: 0,
    size: 272,
    mode: 264,
    stacks: &[16 << 10, 32 << 10, 64 << 10],
    padding: &[0],
};

impl Registers {
    /// Of the processor an image was taken of.
    fn of(kernel: &Kernel) -> Result<Self, Error> {
        let types = kernel.target().types();
        let frame = types.struct_size("pt_regs");
        match (types.profile().arch(), frame) {
            (Some("ARM64"), Ok(frame)) if frame >= ARM64.size => Ok(Self { frame, ..ARM64 }),
            (_, Ok(frame)) if frame == X64.frame => Ok(X64),
            (_, Ok(frame)) if frame == X86.frame => Ok(X86),
            _ => Err(Error::not_applicable("registers of this processor are not known to this command")),
        }
    }

    /// Whether these registers are of user mode.
    fn is_user(&self, bytes: &[u8]) -> bool {
        let Some(mode) = bytes.get(self.mode..).and_then(|rest| rest.first_chunk::<4>()) else {
            return false;
        };
        if self.machine.number == EM_AARCH64 {
            // 64-bit or 32-bit state of EL0; an empty stack has a program counter of 0 besides.
            return mode[0] & 0xf == 0 && bytes.get(self.mode - 8..self.mode).is_some_and(|pc| pc != [0; 8]);
        }
        // A whole selector is below 2^16; above it others live since v6.9. Behind the code segment are the flags, of which bit 1
        // is always set, the stack pointer, and the stack segment. The number of a system call can look like a selector.
        let word = if self.machine.wide { 8 } else { 4 };
        let at =
            |words: usize| bytes.get(self.mode + words * word..).and_then(|rest| rest.first_chunk::<2>());
        let is_user =
            |selector: Option<&[u8; 2]>| selector.is_some_and(|[low, high]| low & 3 == 3 && *high == 0);
        is_user(at(0)) && is_user(at(3)) && at(1).is_some_and(|[low, _]| low & 2 != 0)
    }
}

/// A part of the address space in the file.
struct Piece {
    start: u64,
    len: u64,
    flags: u32,
    /// Whether its pages are in memory.
    present: bool,
}

/// What became of a core file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Threads whose registers are in it.
    pub threads: u64,
    /// Bytes of memory in it.
    pub memory: u64,
}

/// Writes the core of a process.
pub fn write(
    (notes, kernel): (&Notes, &Kernel),
    paths: &Paths<'_>,
    task: &Task<'_>,
    (mm, areas): (&Mm<'_>, &[Vma<'_>]),
    space: &ProcessSpace,
    file: &mut DumpFile,
) -> Result<Written, Error> {
    let shape = &Registers::of(kernel)?;
    let pieces = pieces(notes, areas, space);
    let (mut note, threads) = threads(notes, task, shape);
    note.extend(core_note(NT_PRPSINFO, &process_info(task, mm, space, shape.machine.wide)));
    match auxv(kernel.target(), mm) {
        Ok(bytes) => note.extend(core_note(NT_AUXV, &bytes)),
        Err(why) => notes.partial(format!("the auxiliary vector cannot be read: {why}")),
    }
    note.extend(core_note(NT_FILE, &mapped_files(paths, areas, shape.machine.wide)));
    let machine = shape.machine;
    let count = pieces.len() as u64 + 1;
    let table = u64::from(machine.file_header_size());
    let notes_at = table + count * u64::from(machine.program_header_size());
    let extra = Machine::segment_count(count);
    let extra_at = notes_at + note.len() as u64;
    let extra_len = extra.map_or(0, |_| u64::from(machine.section_header_size()));
    let data = (extra_at + extra_len).next_multiple_of(PAGE);
    let header = FileHeader {
        kind: ET_CORE,
        segments: (table, count),
        sections: extra.map_or((0, 0), |_| (extra_at, 1)),
        names: 0,
    };
    file.append(&machine.file_header(&header))?;
    let head = ProgramHeader {
        kind: PT_NOTE,
        offset: notes_at,
        filesz: note.len() as u64,
        align: 4,
        ..ProgramHeader::default()
    };
    file.append(&machine.program_header(&head))?;
    let mut offset = data;
    for piece in &pieces {
        let filesz = if piece.present { piece.len } else { 0 };
        file.append(&machine.program_header(&ProgramHeader {
            kind: PT_LOAD,
            flags: piece.flags,
            offset,
            vaddr: piece.start,
            filesz,
            memsz: piece.len,
            align: PAGE,
        }))?;
        offset = offset.saturating_add(filesz);
    }
    file.append(&note)?;
    if let Some(first) = extra {
        file.append(&machine.section_header(&SectionHeader { ..first }))?;
    }
    let padding = usize::try_from(data.saturating_sub(file.len())).unwrap_or(0);
    file.append(&vec![0; padding])?;
    let mut memory = 0u64;
    for piece in pieces.iter().filter(|piece| piece.present) {
        memory = memory.saturating_add(file.copy(space, piece.start, piece.len)?);
    }
    Ok(Written { threads, memory })
}

/// The areas cut where pages are in memory and where not.
fn pieces(notes: &Notes, areas: &[Vma<'_>], space: &ProcessSpace) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    for area in areas {
        let (Ok((start, end)), Ok(Uint(bits))) = (area.range(), area.vm_flags()) else { continue };
        // VM_READ, VM_WRITE, VM_EXEC are PF_R, PF_W, PF_X in the other order.
        let access = bits & VM_ACCESS;
        let flags = u32::try_from((access & 1) << 2 | access & 2 | access >> 2).unwrap_or(0);
        let mut at = start;
        let first = pieces.len();
        for run in space.runs(start, end) {
            if pieces.len() >= MAX_SEGMENTS {
                notes.partial(format!("more than {MAX_SEGMENTS} separate pieces of memory"));
                return pieces;
            }
            if run.start > at {
                pieces.push(Piece { start: at, len: run.start.saturating_sub(at), flags, present: false });
            }
            match pieces.get_mut(first..).and_then(<[Piece]>::last_mut) {
                Some(last) if last.present && last.start.saturating_add(last.len) == run.start => {
                    last.len = last.len.saturating_add(run.len);
                }
                _ => pieces.push(Piece { start: run.start, len: run.len, flags, present: true }),
            }
            at = run.end();
        }
        if at < end {
            pieces.push(Piece { start: at, len: end.saturating_sub(at), flags, present: false });
        }
    }
    pieces
}

/// A note for each thread, the leader first, and the number of those whose registers were found.
fn threads(notes: &Notes, leader: &Task<'_>, shape: &Registers) -> (Vec<u8>, u64) {
    let mut bytes = Vec::new();
    let mut known = 0;
    let mut seen = HashSet::new();
    for addr in views::threads(notes, leader) {
        if !seen.insert(addr) {
            continue;
        }
        let task = Task::at(leader.target(), addr);
        let registers = match registers(&task, shape) {
            Ok(registers) => registers,
            Err(why) => {
                let pid = task.pid().unwrap_or(0);
                notes.partial(format!("thread {pid} is left out, its registers cannot be read: {why}"));
                continue;
            }
        };
        known += 1;
        bytes.extend(core_note(NT_PRSTATUS, &status(&task, leader, &registers, shape.machine)));
    }
    (bytes, known)
}

/// `user_regs_struct` of a thread.
fn registers(task: &Task<'_>, shape: &Registers) -> Read<Vec<u8>> {
    let target = task.target();
    let thread = Thread::at(target, task.addr());
    let Ptr(stack) = thread.stack()?;
    let tops = shape.stacks.iter().flat_map(|size| shape.padding.iter().map(move |padding| size - padding));
    let mut failure = Absent::Malformed("no registers at the top of the kernel stack");
    for top in tops {
        let place = stack.wrapping_add(top).wrapping_sub(shape.frame);
        let mut bytes = match target.read_bytes(place, shape.size, MAX_REGISTERS) {
            Ok(bytes) => bytes,
            Err(why) => {
                failure = why;
                continue;
            }
        };
        if !shape.is_user(&bytes) {
            continue;
        }
        if shape.machine.number == EM_X86_64 {
            // The upper parts of cs and ss are for the kernel's own use.
            for segment in [shape.mode, shape.mode + 24] {
                bytes.get_mut(segment + 2..segment + 8).unwrap_or_default().fill(0);
            }
            for value in [thread.fs_base()?, thread.gs_base()?, 0, 0, 0, 0] {
                bytes.extend(value.to_le_bytes());
            }
        }
        return Ok(bytes);
    }
    Err(failure)
}

/// `elf_prstatus` (include/uapi/linux/elfcore.h).
fn status(task: &Task<'_>, leader: &Task<'_>, registers: &[u8], machine: Machine) -> Vec<u8> {
    let pid = task.pid().unwrap_or(0);
    let parent = leader.ppid().unwrap_or(0);
    let (ids, values, size) = match machine.number {
        EM_AARCH64 => (32, 112, 392),
        _ if machine.wide => (32, 112, 336),
        _ => (24, 72, 144),
    };
    let mut bytes = vec![0; ids];
    bytes.extend(pid.to_le_bytes());
    bytes.extend(parent.to_le_bytes());
    bytes.resize(values, 0);
    bytes.extend(registers);
    bytes.resize(size, 0);
    bytes
}

/// `elf_prpsinfo`.
fn process_info(task: &Task<'_>, mm: &Mm<'_>, space: &ProcessSpace, wide: bool) -> Vec<u8> {
    let state = match task.state().map(|state| state.0) {
        Ok(0) => 0,
        Ok(state) => u8::try_from(state.trailing_zeros().saturating_add(1)).unwrap_or(0),
        Err(_) => 1,
    };
    let letter = b"RSDTtXZ".get(usize::from(state)).copied().unwrap_or(b'.');
    let creds = task.creds();
    let id = |value: Read<u32>| value.unwrap_or(u32::MAX);
    let mut bytes = vec![state, letter, u8::from(letter == b'Z'), 0];
    bytes.resize(if wide { 16 } else { 8 }, 0);
    let (uid, gid) =
        (id(creds.clone().and_then(|creds| creds.uid())), id(creds.and_then(|creds| creds.gid())));
    if wide {
        bytes.extend(uid.to_le_bytes());
        bytes.extend(gid.to_le_bytes());
    } else {
        // Old 16-bit ids; larger ones have no place.
        for id in [uid, gid] {
            bytes.extend(u16::try_from(id).unwrap_or(u16::MAX).to_le_bytes());
        }
    }
    for id in [task.pid().unwrap_or(0), task.ppid().unwrap_or(0), 0, 0] {
        bytes.extend(id.to_le_bytes());
    }
    let start = bytes.len();
    bytes.extend(task.comm().map(|comm| comm.0).unwrap_or_default().iter().take(15));
    bytes.resize(start + 16, 0);
    let arguments = || {
        let (Uint(first), Uint(end)) = (mm.arg_start()?, mm.arg_end()?);
        let len = end.saturating_sub(first).min(79);
        space.read_vec(first, len, 80).map_err(|fault| Absent::Unreadable { addr: first, fault })
    };
    let text: Read<Vec<u8>> = arguments();
    let text = text.unwrap_or_default();
    bytes.extend(text.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }));
    bytes.resize(start + 96, 0);
    bytes
}

/// The auxiliary vector up to its end.
fn auxv(target: &Target, mm: &Mm<'_>) -> Read<Vec<u8>> {
    let Addr(first) = mm.auxv()?;
    let width = u64::from(target.types().model().pointer_size());
    let mut bytes = Vec::new();
    for index in 0..MAX_AUXV {
        let at = first.wrapping_add(index * 2 * width);
        let pair = target.read_bytes(at, 2 * width, 16)?;
        let last = pair.iter().take(usize::try_from(width).unwrap_or(8)).all(|byte| *byte == 0);
        bytes.extend(pair);
        if last {
            break;
        }
    }
    Ok(bytes)
}

/// `NT_FILE`: which file is mapped where.
fn mapped_files(paths: &Paths<'_>, areas: &[Vma<'_>], wide: bool) -> Vec<u8> {
    let width = if wide { 8 } else { 4 };
    let (mut entries, mut names, mut count) = (Vec::<u8>::new(), Vec::<u8>::new(), 0u64);
    for area in areas {
        let name = area.file().and_then(|file| paths.d_path(file.user_location()?));
        let (Ok((start, end)), Ok(Uint(page)), Ok(name)) = (area.range(), area.vm_pgoff(), name) else {
            continue;
        };
        if names.len() >= MAX_NAMES {
            break;
        }
        for value in [start, end, page] {
            entries.extend(value.to_le_bytes().iter().take(width));
        }
        names.extend(name.bytes().filter(|byte| *byte != 0));
        names.push(0);
        count += 1;
    }
    let mut bytes = Vec::new();
    for value in [count, PAGE] {
        bytes.extend(value.to_le_bytes().iter().take(width));
    }
    bytes.extend(entries);
    bytes.extend(names);
    bytes
}
