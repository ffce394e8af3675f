//! Heaps of processes that use glibc's `malloc`: arenas, the chunks they are cut into, and which of those are in use.
//!
//! The main arena is found in the writable data of the C library, or of a program linked with it, by its bins: most are empty
//! and point at themselves. The ring of arenas and the heaps of each follow from there, then chunk after chunk by its size. Lists of
//! free chunks (bins, fastbins, caches of threads) tell what is not in use. Versions of glibc differ ([`layout`]): the one is taken
//! under which the process's memory makes sense, all lists included.

mod arena;
mod chunk;
mod find;
pub mod keepass;
mod layout;
mod lists;
#[cfg(test)]
mod tests;
pub mod zsh;

use std::sync::Arc;

use memory::AddressSpace;
use object::{Absent, Read, Uint, little_endian};

pub use arena::{Arena, HeapInfo};
pub use chunk::{Chunk, Kind};

use super::mm::{self, Vma};
use super::{Kernel, ProcessFilter, Task, task};
use crate::error::Error;
use crate::notes::Notes;
use crate::session::Session;

/// Most bytes of one chunk that are looked at.
pub const MAX_CONTENT: u64 = 256 << 20;

/// Words of a process's memory.
#[derive(Clone, Copy)]
struct Words<'a> {
    space: &'a dyn AddressSpace,
    width: u64,
}

impl Words<'_> {
    /// The word at an address.
    fn get(&self, addr: u64) -> Read<u64> {
        match self.width {
            4 => self.space.read_u32(addr).map(u64::from),
            _ => self.space.read_u64(addr),
        }
        .map_err(|fault| Absent::Unreadable { addr, fault })
    }
}

/// The heap of a process.
pub struct Heap {
    /// The process's memory.
    pub space: Arc<dyn AddressSpace>,
    /// Bytes of a word.
    pub width: u64,
    /// The arenas, the main one first.
    pub arenas: Vec<Arena>,
    /// All chunks, ascending by address.
    pub chunks: Vec<Chunk>,
    /// Versions of glibc that lay out their heaps so: the first and the last.
    pub glibc: (&'static str, &'static str),
    /// What is missing, in words.
    losses: Vec<String>,
}

/// What is known of a process's memory before its heap is.
struct Process {
    /// Writable private memory: first address, end, and whether a file is mapped.
    data: Vec<(u64, u64, bool)>,
    /// What `brk` has given: first address and end.
    brk: (u64, u64),
    /// An address in the main thread's stack.
    stack: u64,
}

/// `VM_WRITE`, `VM_SHARED` and `VM_GROWSDOWN` (include/linux/mm.h).
const VM_WRITE: u64 = 2;
const VM_SHARED: u64 = 8;

impl Heap {
    /// The heap of a process. Not applicable to tasks without memory of their own, and to those that have no heap of glibc.
    pub fn of_task(notes: &Notes, kernel: &Kernel, task: &Task<'_>) -> Read<Self> {
        let mm = mm::of_task(task)?;
        let space: Arc<dyn AddressSpace> = task.user_space(kernel)?;
        let (areas, end) = mm::areas(&mm);
        notes.walk(&format!("areas of {}", task::describe(task)), &end);
        let private = |area: &Vma<'_>| {
            let Uint(flags) = area.vm_flags().ok()?;
            let (start, end) = area.range().ok()?;
            (flags & VM_WRITE != 0 && flags & VM_SHARED == 0).then_some((start, end, area.file().is_ok()))
        };
        let (Uint(brk_start), Uint(brk), Uint(stack)) = (mm.start_brk()?, mm.brk()?, mm.start_stack()?);
        let process =
            Process { data: areas.iter().filter_map(private).collect(), brk: (brk_start, brk), stack };
        // Programs of 32 bits run on kernels of 64.
        let widths: &[u64] = match kernel.target().types().model().pointer_size() {
            4 => &[4],
            _ => &[8, 4],
        };
        let found = widths.iter().find_map(|&width| find::heap(&space, width, &process));
        found.ok_or(Absent::NotApplicable("no heap of glibc"))
    }

    /// The chunk that an address is in, if it is in one.
    #[must_use]
    pub fn chunk_of(&self, addr: u64) -> Option<&Chunk> {
        let after = self.chunks.partition_point(|chunk| chunk.addr <= addr);
        let chunk = self.chunks.get(after.checked_sub(1)?)?;
        let end = chunk.data.saturating_add(chunk.usable).max(chunk.addr.saturating_add(chunk.size));
        (addr < end).then_some(chunk)
    }

    /// The bytes of a chunk that belong to its user, at most `most` of them; what cannot be read is zeros.
    #[must_use]
    pub fn content(&self, chunk: &Chunk, most: u64) -> Vec<u8> {
        let len = usize::try_from(chunk.usable.min(most)).unwrap_or(0);
        let mut bytes = vec![0; len];
        self.space.read_padded(chunk.data, &mut bytes);
        bytes
    }

    /// The aligned words of a chunk that belong to its user: their places in it, and their values. What cannot be read, or is
    /// beyond the first [`MAX_CONTENT`] bytes, is left out.
    #[must_use]
    pub fn references(&self, chunk: &Chunk) -> Vec<(u64, u64)> {
        let content = self.content(chunk, MAX_CONTENT);
        let Ok(width) = usize::try_from(self.width) else { return Vec::new() };
        let words = (0..).step_by(width).zip(content.chunks_exact(width).map(little_endian));
        words.filter(|(_, value)| *value != 0).collect()
    }

    /// The word at an address.
    pub fn word(&self, addr: u64) -> Read<u64> {
        Words { space: &*self.space, width: self.width }.get(addr)
    }
}

/// Calls `visit` with each selected process that has a heap of glibc, and its heap. What is missing is noted.
pub fn each(
    session: &Session,
    kernel: &Kernel,
    processes: &ProcessFilter,
    mut visit: impl FnMut(&Task<'_>, &Heap) -> Result<(), Error>,
) -> Result<(), Error> {
    for task in processes.tasks(session, kernel)? {
        match Heap::of_task(&session.notes, kernel, &task) {
            Ok(heap) => {
                for loss in &heap.losses {
                    session.notes.partial(format!("heap of {}: {loss}", task::describe(&task)));
                }
                if heap.chunks.iter().any(|chunk| chunk.kind.is_used() && chunk.usable > MAX_CONTENT) {
                    let who = task::describe(&task);
                    session
                        .notes
                        .info(format!("of chunks of {who} only the first {MAX_CONTENT} bytes are looked at"));
                }
                visit(&task, &heap)?;
            }
            Err(why) if why.is_loss() => {
                session.notes.partial(format!("the heap of {} is missing: {why}", task::describe(&task)));
            }
            Err(_) => {}
        }
    }
    Ok(())
}
