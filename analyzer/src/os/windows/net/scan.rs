//! Endpoints by their pool tags in physical memory: those in use, those given back, and those no table leads to.

use object::Target;

use super::endpoint::{Endpoint, Kind};
use super::shape::{self, Shapes};
use crate::error::Error;
use crate::notes::Notes;
use crate::os::windows::Kernel;
use crate::os::windows::pool::{self, Allocation};
use crate::os::windows::process::Process;
use crate::os::windows::reverse::ReverseFact;
use crate::os::windows::scan::Tag;
use crate::session::Session;

/// Tags of connections; the second from build 20348 on.
const CONNECTIONS: [Tag; 2] = [*b"TcpE", *b"TTcb"];
const LISTENERS: [Tag; 1] = [*b"TcpL"];
const UDP: [Tag; 1] = [*b"UdpA"];
/// Where in a connection a pointer to its process is looked for.
const OWNERS: std::ops::Range<u64> = 0x80..0x400;
/// Most connections that the place of the owner is learned from.
const MAX_LEARNED: usize = 64;

/// An endpoint found in physical memory.
pub struct Found<'k> {
    /// The endpoint.
    pub endpoint: Endpoint<'k>,
    /// Its physical address.
    pub physical: u64,
    /// Its virtual address; `None` where the kernel maps that memory nowhere.
    pub virtual_address: Option<u64>,
    /// `F` where the memory was given back.
    pub free: &'static str,
}

/// Where what stands in the structs of this kernel's network driver.
#[must_use]
pub fn shapes(kernel: &Kernel) -> Shapes {
    shapes_of(kernel.is_32bit(), kernel.build().unwrap_or(0))
}

/// The same of a build.
pub(in crate::os::windows) fn shapes_of(is_32bit: bool, build: u32) -> Shapes {
    shape::of_build(is_32bit, build)
}

/// The endpoints in physical memory: connections, listeners, then UDP, each by ascending address. `physical` is
/// [`pool::physical`]. `shapes` is corrected where the connections show that their owner stands elsewhere.
pub fn scan<'k>(
    session: &Session,
    kernel: &'k Kernel,
    physical: &'k Target,
    shapes: &'k mut Shapes,
) -> Result<Vec<Found<'k>>, Error> {
    let reverse = session.fact::<ReverseFact>()?;
    let allocations = |tags: &[Tag]| pool::allocations(session, kernel, tags);
    let connections = allocations(&CONNECTIONS)?;
    let room = |allocation: &Allocation| allocation.end.saturating_sub(allocation.start);
    let candidates: Vec<(u64, u64)> =
        connections.iter().map(|allocation| (allocation.start, room(allocation))).collect();
    learn(&session.notes, kernel.target(), physical, shapes, &candidates);
    let shapes: &'k Shapes = shapes;
    let mut found = Vec::new();
    for (kind, allocations) in [
        (Kind::Connection, connections),
        (Kind::Listener, allocations(&LISTENERS)?),
        (Kind::Udp, allocations(&UDP)?),
    ] {
        for allocation in allocations {
            let (at, room) = (allocation.start, Some(room(&allocation)));
            let endpoint = Endpoint::at(kind, at, physical, kernel.target(), shapes, room);
            if endpoint.is_plausible() {
                found.push(Found {
                    endpoint,
                    physical: at,
                    virtual_address: reverse.virtual_address(at),
                    free: if allocation.is_free() { "F" } else { "" },
                });
            }
        }
    }
    Ok(found)
}

/// Corrects where connections keep their owner. Only that member and the time behind it moved from build to build, so where
/// most connections have no process there but the same other place leads to one, that place is meant. `candidates` are addresses
/// in `own` and bytes of room.
pub(super) fn learn(
    notes: &Notes,
    kernel: &Target,
    own: &Target,
    shapes: &mut Shapes,
    candidates: &[(u64, u64)],
) {
    let candidates: Vec<(u64, u64)> = candidates
        .iter()
        .copied()
        .filter(|(addr, room)| {
            let endpoint = Endpoint::at(Kind::Connection, *addr, own, kernel, shapes, Some(*room));
            endpoint.family().is_ok() && endpoint.state().is_ok()
        })
        .take(MAX_LEARNED)
        .collect();
    let width = u64::from(kernel.types().model().pointer_size());
    let owned = |offset: u64| {
        let leads = |(addr, room): &&(u64, u64)| {
            let inside = offset.saturating_add(width) <= *room;
            let pointer = own.read_ptr(addr.wrapping_add(offset));
            inside && pointer.is_ok_and(|at| at != 0 && Process::at(kernel, at).is_plausible())
        };
        candidates.iter().filter(leads).count()
    };
    let usual = owned(shapes.connection.owner);
    if candidates.is_empty() || usual * 2 > candidates.len() {
        return;
    }
    let steps = OWNERS.step_by(usize::try_from(width).unwrap_or(8));
    // The first of several places that are as good.
    let best = steps.map(|offset| (owned(offset), std::cmp::Reverse(offset))).max();
    let Some((count, std::cmp::Reverse(offset))) = best else { return };
    if count > usual && count * 2 > candidates.len() {
        notes.info(format!("connections of this build keep their process at {offset:#x}"));
        let distance = shapes.connection.created.wrapping_sub(shapes.connection.owner);
        shapes.connection.owner = offset;
        if shapes.connection.created != 0 {
            // Builds that are not known are more likely like most than like the last one known.
            let usual = if width == 8 { 0x10 } else { distance };
            shapes.connection.created = offset.wrapping_add(usual);
        }
    }
}
