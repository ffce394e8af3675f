//! Pool allocations in physical memory, and the objects in them.
//!
//! An allocation begins with a `_POOL_HEADER`; optional headers of the object manager follow, then the object header, then the
//! object. How many optional headers there are is only known from the object header, so every aligned place is tried.
//! Allocations of more than a page have no header and are not found this way.

use object::{Read, Target, Uint, layout};

use super::Kernel;
use super::object_header::ObjectHeader;
use super::reverse::{Reverse, ReverseFact};
use super::scan::{PoolHitsFact, Tag};
use crate::error::Error;
use crate::session::Session;

/// Most bytes of optional headers before an object header.
const MAX_PREAMBLE: u64 = 0x100;
/// References and handles an object can have, as far as scanners believe it.
const MAX_POINTERS: i64 = 0x10_0000;
const MAX_HANDLES: i64 = 0x1000;

layout! {
    /// `_POOL_HEADER`.
    pub struct PoolHeader / PoolHeaderLayout = "_POOL_HEADER" {
        /// Size of the allocation, in units of the pool's alignment.
        block_size: Uint = "BlockSize",
        /// Kind of memory (`_POOL_TYPE`); 0 for a free allocation.
        pool_type: Uint = "PoolType",
        /// Number of the pool.
        pool_index: Uint = "PoolIndex",
        /// Who allocated it.
        tag: u32 = "PoolTag",
    }
}

/// A pool allocation in physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocation {
    /// Physical address of its header.
    pub header: u64,
    /// Physical address behind its header.
    pub start: u64,
    /// Physical address behind its last byte.
    pub end: u64,
    /// Its tag.
    pub tag: Tag,
    /// Kind of memory as stored; 0 is free.
    pub pool_type: u64,
    /// Number of its pool.
    pub pool_index: u64,
}

impl Allocation {
    /// The allocation whose header is at a physical address. `physical` is physical memory with the kernel's types.
    pub fn at(physical: &Target, alignment: u64, header: u64) -> Read<Self> {
        let view = PoolHeader::at(physical, header);
        let Uint(blocks) = view.block_size()?;
        let size = physical.types().struct_size(PoolHeader::STRUCT)?;
        Ok(Self {
            header,
            start: header.wrapping_add(size),
            end: header.wrapping_add(blocks.saturating_mul(alignment)),
            tag: view.tag()?.to_le_bytes(),
            pool_type: view.pool_type()?.0,
            pool_index: view.pool_index()?.0,
        })
    }

    /// Whether it was given back; its content may be old.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.pool_type == 0
    }
}

/// The allocations with one of some tags (of [`TAGS`](super::scan::TAGS)) in physical memory, ascending.
pub fn allocations(session: &Session, kernel: &Kernel, tags: &[Tag]) -> Result<Vec<Allocation>, Error> {
    let hits = session.fact::<PoolHitsFact>()?;
    let physical = physical(kernel);
    let alignment = kernel.pool_alignment();
    let found = hits.of(tags).into_iter();
    Ok(found.filter_map(|header| Allocation::at(&physical, alignment, header).ok()).collect())
}

/// Physical memory with the kernel's types.
#[must_use]
pub fn physical(kernel: &Kernel) -> Target {
    kernel.target().with_space(std::sync::Arc::clone(kernel.physical()))
}

/// A kind of object that scanners look for.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// Its struct.
    pub structure: &'static str,
    /// Name of its type.
    pub type_name: &'static str,
    /// Its tags: with and without the protected bit.
    pub tags: [Tag; 2],
}

/// Kinds of objects by the names of their structs.
pub mod kinds {
    use super::Kind;

    /// Processes.
    pub const PROCESS: Kind =
        Kind { structure: "_EPROCESS", type_name: "Process", tags: [*b"Proc", *b"Pro\xe3"] };
    /// Threads.
    pub const THREAD: Kind =
        Kind { structure: "_ETHREAD", type_name: "Thread", tags: [*b"Thre", *b"Thr\xe5"] };
    /// Open files.
    pub const FILE: Kind =
        Kind { structure: "_FILE_OBJECT", type_name: "File", tags: [*b"File", *b"Fil\xe5"] };
    /// Drivers.
    pub const DRIVER: Kind =
        Kind { structure: "_DRIVER_OBJECT", type_name: "Driver", tags: [*b"Driv", *b"Dri\xf6"] };
    /// Mutexes of programs.
    pub const MUTANT: Kind =
        Kind { structure: "_KMUTANT", type_name: "Mutant", tags: [*b"Muta", *b"Mut\xe1"] };
    /// Symbolic links of the object manager.
    pub const SYMLINK: Kind =
        Kind { structure: "_OBJECT_SYMBOLIC_LINK", type_name: "SymbolicLink", tags: [*b"Symb", *b"Sym\xe2"] };
}

/// An object found in physical memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundObject {
    /// The allocation it is in.
    pub allocation: Allocation,
    /// Physical address of its object header.
    pub header: u64,
    /// Physical address of the object.
    pub body: u64,
    /// Virtual address of the object; `None` where the kernel maps that memory nowhere.
    pub virtual_body: Option<u64>,
}

/// The objects of a kind in physical memory, ascending: those whose header says so, and those in free allocations whose
/// header can still be one.
pub fn objects(session: &Session, kernel: &Kernel, kind: &Kind) -> Result<Vec<FoundObject>, Error> {
    let reverse = session.fact::<ReverseFact>()?;
    let physical = physical(kernel);
    let places = Places::of(kernel, kind)?;
    let mut found = Vec::new();
    for allocation in allocations(session, kernel, &kind.tags)? {
        found.extend(
            places
                .in_allocation(&allocation)
                .find_map(|body| object_at(&physical, kernel, &reverse, kind, &places, allocation, body)),
        );
    }
    Ok(found)
}

/// Where in an allocation an object of a kind can be.
pub struct Places {
    /// From an object header to its object.
    body: u64,
    /// Size of the struct.
    size: u64,
    alignment: u64,
}

impl Places {
    /// For objects of a kind.
    pub fn of(kernel: &Kernel, kind: &Kind) -> Read<Self> {
        let target = kernel.target();
        Ok(Self {
            body: target.offset_of(ObjectHeader::STRUCT, "Body")?,
            size: target.types().struct_size(kind.structure)?,
            alignment: kernel.pool_alignment(),
        })
    }

    /// Physical addresses at which the object can begin.
    pub fn in_allocation(&self, allocation: &Allocation) -> impl Iterator<Item = u64> + use<> {
        let first = allocation.start.wrapping_add(self.body);
        let (size, alignment, end) = (self.size, self.alignment, allocation.end);
        (0..=MAX_PREAMBLE / alignment)
            .map(move |n| first.wrapping_add(n * alignment))
            .take_while(move |body| body.checked_add(size).is_some_and(|last| last <= end))
    }
}

fn object_at(
    physical: &Target,
    kernel: &Kernel,
    reverse: &Reverse,
    kind: &Kind,
    places: &Places,
    allocation: Allocation,
    body: u64,
) -> Option<FoundObject> {
    let header = body.wrapping_sub(places.body);
    let view = ObjectHeader::at(physical, header);
    let (pointers, handles) = (view.pointers().ok()?, view.handles().ok()?);
    if !(0..=MAX_POINTERS).contains(&pointers) || !(0..=MAX_HANDLES).contains(&handles) {
        return None;
    }
    let virtual_body = reverse.virtual_address(body);
    let found = FoundObject { allocation, header, body, virtual_body };
    // The type's index may be hidden behind the header's virtual address.
    let typed = match virtual_body {
        Some(body) => ObjectHeader::at(kernel.target(), body.wrapping_sub(places.body)).type_name(),
        None => view.type_name(),
    };
    match typed {
        Ok(name) if name == kind.type_name => Some(found),
        // A freed object's type is gone, but its optional headers must still fit.
        _ if allocation.is_free() || virtual_body.is_none() => {
            let preamble = view.preamble(kernel.target()).ok()?;
            (header.wrapping_sub(allocation.start) == preamble).then_some(found)
        }
        _ => None,
    }
}
