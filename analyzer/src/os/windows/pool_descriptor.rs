//! The pools of the kernel, as it describes them.
//!
//! Up to Windows 10 of 2018 a pool is a `_POOL_DESCRIPTOR`, later four segment heaps for each memory node; sessions have a pool
//! of their own. Where pools are: variables of the memory manager, or the regions of `_MI_VISIBLE_STATE`. Source: the structs in
//! the symbols of each kernel; Windows Internals, "Kernel-mode heaps"; for the order of the heaps Bayet and Fariello, Scoop the
//! Windows 10 pool! (SSTIC 2020).

use std::collections::BTreeSet;

use object::{Absent, Ptr, Read, Target, Uint, layout};

use super::{Kernel, processes, regions};
use crate::error::Error;
use crate::session::Session;

/// Most pools of a kind.
const MAX_POOLS: u64 = 64;
/// Heaps of a memory node, in their order.
const HEAPS: [Kind; 4] = [Kind::NonPaged, Kind::NonPagedNx, Kind::Paged, Kind::Paged];
/// Bytes of a page.
const PAGE: u64 = 4096;

layout! {
    struct Descriptor / DescriptorLayout = "_POOL_DESCRIPTOR" {
        index: Uint = "PoolIndex",
        bytes: Uint = "TotalBytes",
        pages: Uint = "TotalPages",
    }

    struct Heaps / HeapsLayout = "_EX_POOL_HEAP_MANAGER_STATE" {
        nodes: u32 = "NumberOfPools",
    }

    struct Heap / HeapLayout = "_SEGMENT_HEAP" {
        pages: Uint = "MemStats.TotalCommittedPages",
    }

    pub(super) struct SessionSpace / SessionSpaceLayout = "_MM_SESSION_SPACE" {
        id: u32 = "SessionId",
        start: Ptr = "PagedPoolStart",
        end: Ptr = "PagedPoolEnd",
    }
}

/// What memory a pool gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Always resident.
    NonPaged,
    /// Always resident, never run as code.
    NonPagedNx,
    /// May be paged out.
    Paged,
    /// May be paged out, of one session.
    Session,
}

impl Kind {
    /// As `_POOL_TYPE` names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NonPaged => "NonPagedPool",
            Self::NonPagedNx => "NonPagedPoolNx",
            Self::Paged => "PagedPool",
            Self::Session => "PagedPoolSession",
        }
    }
}

/// A pool.
pub struct Pool {
    /// Address of what describes it.
    pub descriptor: u64,
    /// What memory it gives.
    pub kind: Kind,
    /// Number among the pools of its kind, or of its memory node.
    pub index: Read<u64>,
    /// Bytes in use.
    pub size: Read<u64>,
    /// First address of the memory its kind of pool takes from.
    pub start: Read<u64>,
    /// Behind the last one.
    pub end: Read<u64>,
    /// What it is in words.
    pub comment: String,
}

/// The pools. What is missing is noted.
pub fn pools(session: &Session, kernel: &Kernel) -> Result<Vec<Pool>, Error> {
    let target = kernel.target();
    let missing = |what: &str, why: Absent| session.notes.partial(format!("{what} are missing: {why}"));
    let mut found = Vec::new();
    if target.symbol("PoolVector").is_ok() {
        descriptors(target, &mut found).unwrap_or_else(|why| missing("pool descriptors", why));
    } else {
        heaps(session, target, &mut found).unwrap_or_else(|why| missing("heaps of pools", why));
    }
    sessions(session, kernel, &mut found)?;
    Ok(found)
}

fn descriptors(target: &Target, found: &mut Vec<Pool>) -> Read<()> {
    let width = u64::from(target.types().model().pointer_size());
    let vector = target.symbol("PoolVector")?;
    for (index, kind, array, count) in [
        (0, Kind::NonPaged, "ExpNonPagedPoolDescriptor", "ExpNumberOfNonPagedPools"),
        (1, Kind::Paged, "ExpPagedPoolDescriptor", "ExpNumberOfPagedPools"),
    ] {
        let mut addresses = BTreeSet::from([target.read_ptr(vector.wrapping_add(index * width))?]);
        let count = target.symbol(count).map_err(Absent::from).and_then(|at| target.read_u32(at));
        if let (Ok(array), Ok(count)) = (target.symbol(array), count) {
            // The paged pool has one more, which all processors share.
            for slot in 0..=u64::from(count).min(MAX_POOLS) {
                addresses.insert(target.read_ptr(array.wrapping_add(slot * width)).unwrap_or(0));
            }
        }
        let (start, end) = bounds(target, kind);
        for descriptor in addresses.into_iter().filter(|at| *at != 0) {
            let view = Descriptor::at(target, descriptor);
            let size = match view.bytes() {
                Err(Absent::NoProfile(_)) => view.pages().map(|Uint(pages)| pages.saturating_mul(PAGE)),
                bytes => bytes.map(|Uint(bytes)| bytes),
            };
            found.push(Pool {
                descriptor,
                kind,
                index: view.index().map(|Uint(index)| index),
                size,
                start: start.clone(),
                end: end.clone(),
                comment: String::new(),
            });
        }
    }
    Ok(())
}

fn heaps(session: &Session, target: &Target, found: &mut Vec<Pool>) -> Read<()> {
    let width = u64::from(target.types().model().pointer_size());
    let state = target.symbol("ExPoolState")?;
    let nodes = u64::from(Heaps::at(target, state).nodes()?);
    if nodes > MAX_POOLS {
        session.notes.partial(format!("{nodes} memory nodes are not believed"));
    }
    let first = state.wrapping_add(target.offset_of(Heaps::STRUCT, "PoolNode")?);
    let size = target.types().struct_size("_EX_HEAP_POOL_NODE")?;
    for node in 0..nodes.min(MAX_POOLS) {
        for (slot, kind) in (0u64..).zip(HEAPS) {
            let at = first.wrapping_add(node * size).wrapping_add(slot * width);
            let heap = target.read_ptr(at)?;
            if heap == 0 {
                continue;
            }
            let (start, end) = bounds(target, kind);
            found.push(Pool {
                descriptor: heap,
                kind,
                index: Ok(node),
                size: Heap::at(target, heap).pages().map(|Uint(pages)| pages.saturating_mul(PAGE)),
                start,
                end,
                comment: format!("heap {slot} of memory node {node}"),
            });
        }
    }
    Ok(())
}

/// Where the memory of a kind of pool begins, and behind its end.
fn bounds(target: &Target, kind: Kind) -> (Read<u64>, Read<u64>) {
    match kind {
        Kind::NonPaged | Kind::NonPagedNx => regions::pool(target, "NonPagedPool"),
        Kind::Paged | Kind::Session => regions::pool(target, "PagedPool"),
    }
}

/// The pools of sessions.
fn sessions(session: &Session, kernel: &Kernel, found: &mut Vec<Pool>) -> Result<(), Error> {
    let target = kernel.target();
    let mut known = BTreeSet::new();
    for process in processes(session, kernel)? {
        let Ok(Ptr(space)) = process.session() else { continue };
        if space == 0 || !known.insert(space) {
            continue;
        }
        // Session space may be mapped in the processes of the session only.
        let user = process.user_target(kernel);
        let memory = user.as_ref().ok().filter(|_| target.read_ptr(space).is_err()).unwrap_or(target);
        let view = SessionSpace::at(memory, space);
        let pool =
            memory.offset_of(SessionSpace::STRUCT, "PagedPool").map(|offset| space.wrapping_add(offset));
        let size = pool.clone().map_err(|_| Absent::NotApplicable("its bytes are not counted"));
        found.push(Pool {
            descriptor: pool.clone().unwrap_or(space),
            kind: Kind::Session,
            index: view.id().map(u64::from),
            size: size
                .and_then(|pool| {
                    let view = Descriptor::at(memory, pool);
                    view.bytes().or_else(|_| view.pages().map(|Uint(pages)| Uint(pages.saturating_mul(PAGE))))
                })
                .map(|Uint(bytes)| bytes),
            start: view.start().map(|Ptr(start)| start),
            end: view.end().map(|Ptr(end)| end),
            comment: view.id().map_or_else(|_| "a session".to_owned(), |id| format!("session {id}")),
        });
    }
    Ok(())
}
