//! Processes found by what they look like, in physical memory: also those no list has any more.
//!
//! A `task_struct` lies in the direct map of physical memory, and the leader of a thread group points to itself
//! (`group_leader`); with the direct map's address known, that is a 64-bit signature of every place where a leader
//! can stand. Pid, parent, list links and name must be plausible as well.
//!
//! An exited process stays until its slab object is used again or its page is given to something else; nothing tells
//! how many were overwritten. With `init_on_free=1` none stay. Single threads are not looked for.

use std::collections::HashMap;

use memory::{AddressSpace, CHUNK, Piece};
use object::{Ptr, Read, Target, layout, little_endian};

use super::Kernel;
use super::task::Task;
use crate::notes::Notes;

/// Allocations of at least this alignment: `ARCH_MIN_TASKALIGN` was 16 on x86 before it became a cache line (v4.8).
const ALIGNMENT: usize = 16;
/// Largest pid: `PID_MAX_LIMIT` of 64-bit kernels (include/linux/threads.h).
const PID_MAX: u32 = 4 << 20;
/// `TASK_COMM_LEN` (include/linux/sched.h).
const COMM: usize = 16;
/// Largest `task_struct` believed: 64 KiB; those of distribution kernels have about 10.
const MAX_SIZE: u64 = 64 << 10;
/// Fewest processes that tell where the direct map is.
const MIN_WITNESSES: usize = 3;

layout! {
    struct Released / ReleasedLayout = "task_struct" {
        sighand: Ptr = "sighand",
    }
}

/// How far a process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// It runs or waits.
    Alive,
    /// It ended, and its parent has not asked for its exit code.
    Zombie,
    /// It was released: no list of the kernel has it any more.
    Dead,
}

impl Life {
    /// The stage a task is in. `release_task()` takes `sighand` away from it (`__exit_signal()`, kernel/exit.c); the
    /// numbers of `exit_state` changed with v3.15.
    pub fn of(task: &Task<'_>) -> Read<Self> {
        let Ptr(sighand) = Released::at(task.target(), task.addr()).sighand()?;
        Ok(match (sighand, task.exit_state()?) {
            (0, _) => Self::Dead,
            (_, 0) => Self::Alive,
            _ => Self::Zombie,
        })
    }

    /// The word shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Zombie => "zombie",
            Self::Dead => "dead",
        }
    }
}

/// Where the fields that are looked at stand, in bytes.
struct Offsets {
    size: usize,
    width: usize,
    group_leader: usize,
    real_parent: usize,
    pid: usize,
    tgid: usize,
    comm: usize,
    tasks: usize,
    children: usize,
    /// First address of the kernel's half.
    kernel_half: u64,
}

impl Offsets {
    fn of(target: &Target, page_offset: u64) -> Read<Self> {
        // An offset beyond the address space is beyond every piece of memory as well.
        let bytes = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        let field = |name| target.offset_of(Task::STRUCT, name).map(bytes);
        let size = target.types().struct_size(Task::STRUCT)?;
        let width = usize::from(target.types().model().pointer_size());
        Ok(Self {
            size: bytes(size.min(MAX_SIZE)),
            width,
            group_leader: field("group_leader")?,
            real_parent: field("real_parent")?,
            pid: field("pid")?,
            tgid: field("tgid")?,
            comm: field("comm")?,
            tasks: field("tasks")?,
            children: field("children")?,
            kernel_half: if width == 8 { 1 << 63 } else { page_offset },
        })
    }

    /// Addresses of the processes in a piece of memory, by what they point to themselves with; none is checked against where
    /// memory is.
    fn places<'p>(&'p self, piece: &'p Piece<'_>) -> impl Iterator<Item = (usize, u64)> + 'p {
        // Pieces begin at pages, but those of odd images may not.
        let first =
            (0..ALIGNMENT).find(|at| (piece.addr.wrapping_add(*at as u64)).is_multiple_of(ALIGNMENT as u64));
        let places = (first.unwrap_or(0)..piece.own).step_by(ALIGNMENT);
        places.filter_map(|at| Some((at, self.number(piece.bytes, at, self.group_leader, self.width)?)))
    }

    fn number(&self, bytes: &[u8], at: usize, offset: usize, width: usize) -> Option<u64> {
        let start = at.checked_add(offset)?;
        let bytes = bytes.get(start..start.checked_add(width)?)?;
        Some(little_endian(bytes))
    }

    /// Whether what stands at `at` of `bytes` looks like a process.
    fn fits(&self, bytes: &[u8], at: usize) -> bool {
        let links = [self.real_parent, self.tasks, self.children].into_iter();
        let in_kernel = |value: u64| value >= self.kernel_half && value.is_multiple_of(self.width as u64);
        let pid = self.number(bytes, at, self.pid, 4);
        let start = at.saturating_add(self.comm);
        let comm = bytes.get(start..start.saturating_add(COMM)).unwrap_or_default();
        pid.is_some_and(|pid| (1..=u64::from(PID_MAX)).contains(&pid))
            && pid == self.number(bytes, at, self.tgid, 4)
            // Any byte may be in a name (prctl(2)), but it always ends.
            && comm.contains(&0)
            && links.map(|link| self.number(bytes, at, link, self.width)).all(|link| link.is_some_and(in_kernel))
    }
}

/// Where the direct map has physical address 0, by the processes in physical memory, each of which points to itself; only one that is
/// a multiple of `alignment`, and that several agree about.
pub(super) fn direct_map(target: &Target, physical: &dyn AddressSpace, alignment: u64) -> Option<u64> {
    let offsets = Offsets::of(target, 1 << 63).ok()?;
    let look = |piece: Piece<'_>| -> Vec<u64> {
        let base = |(at, leader): (usize, u64)| {
            let base = leader.wrapping_sub(piece.addr).wrapping_sub(at as u64);
            let plausible = base >= offsets.kernel_half && base.is_multiple_of(alignment);
            (plausible && offsets.fits(piece.bytes, at)).then_some(base)
        };
        offsets.places(&piece).filter_map(base).collect()
    };
    let mut votes: HashMap<u64, usize> = HashMap::new();
    for base in memory::scan(physical, CHUNK, offsets.size, look).0 {
        *votes.entry(base).or_default() += 1;
    }
    let (base, count) = votes.into_iter().max_by_key(|&(base, count)| (count, base))?;
    (count >= MIN_WITNESSES).then_some(base)
}

/// Addresses of the processes found, ascending. What of the image could not be read is noted.
///
/// # Errors
/// What the profile lacks, or why the address of the direct map is not known.
pub fn scan(notes: &Notes, kernel: &Kernel) -> Read<Vec<u64>> {
    let page_offset = kernel.page_offset()?;
    let offsets = Offsets::of(kernel.target(), page_offset)?;
    let look = |piece: Piece<'_>| -> Vec<u64> {
        let address = |at: usize| page_offset.wrapping_add(piece.addr).wrapping_add(at as u64);
        // First what is false nearly everywhere.
        let places = offsets.places(&piece).filter(|(at, leader)| *leader == address(*at));
        places.filter(|(at, _)| offsets.fits(piece.bytes, *at)).map(|(_, leader)| leader).collect()
    };
    let (mut found, gaps) = memory::scan(kernel.physical().as_ref(), CHUNK, offsets.size, look);
    if let Some((address, fault)) = gaps.first {
        let missing = gaps.missing;
        notes.partial(format!(
            "{missing} bytes could not be searched for processes, first at {address:#x}: {fault}"
        ));
    }
    // The same bytes must be there for the kernel too.
    found.retain(|address| {
        kernel.target().space().translate(*address) == Ok(address.wrapping_sub(page_offset))
    });
    Ok(found)
}

#[cfg(test)]
mod tests;
