//! Endpoints by the network driver's own tables: connections by the hash tables of the partitions, sockets by the pools of ports.
//!
//! ```text
//! PartitionTable ─► PartitionCount × partition ─► RTL_DYNAMIC_HASH_TABLE ─► buckets ─► TcpE
//! TcpPortPool, UdpPortPool   (or TcpCompartmentSet ─► compartment ─► protocol ─► pool, from Windows 10 of 2016 on)
//!      ─► bitmap of ports in use; 256 × 256 entries ─► TcpL, UdpA ─► next of the same port
//! ```
//! A table of up to 128 buckets is one array; bigger ones grow by arrays of doubled size. Source: `RTL_DYNAMIC_HASH_TABLE` in
//! ntrtl.h of the WDK, whose inline functions compute the index; Ligh et al., The Art of Memory Forensics, ch. 11.

use std::collections::HashSet;

use object::walk;
use object::{Absent, Ptr, Read, Target, layout};

use super::Driver;
use super::endpoint::{Endpoint, Kind};
use super::scan::learn;
use super::shape::{PortPool, Shapes};
use crate::notes::Notes;

/// Buckets of the first array of a hash table: `HT_SECOND_LEVEL_DIR_MIN_SIZE`.
const FIRST_BUCKETS: u64 = 128;
/// Most buckets of all hash tables together that are believed.
const MAX_BUCKETS: u64 = 1 << 19;
/// Most connections, and most sockets of one kind.
const MAX_LINKS: usize = 1 << 20;
/// Ports there are.
const PORTS: u64 = 1 << 16;
/// Most sockets of one port.
const MAX_SAME_PORT: usize = 1 << 12;
/// Bytes from a connection that count as its own, where no allocation tells.
const CONNECTION_ROOM: u64 = 0x400;

layout! {
    struct HashTable / HashTableLayout = "_RTL_DYNAMIC_HASH_TABLE" {
        size: u32 = "TableSize",
        entries: u32 = "NumEntries",
        directory: Ptr = "Directory",
    }

    struct Bitmap / BitmapLayout = "_RTL_BITMAP" {
        bits: u32 = "SizeOfBitMap",
        buffer: Ptr = "Buffer",
    }
}

/// The endpoints that the driver's tables lead to: connections, TCP listeners, UDP sockets. What is missing is noted. `shapes`
/// is corrected as by [`super::scan::scan`].
#[must_use]
pub fn endpoints<'k>(
    notes: &Notes,
    target: &'k Target,
    driver: &Driver,
    shapes: &'k mut Shapes,
) -> Vec<Endpoint<'k>> {
    let missing = |what: &str, why: Absent| notes.partial(format!("{what} are missing: {why}"));
    let connections = connections(notes, target, driver, shapes).unwrap_or_else(|why| {
        missing("TCP connections", why);
        Vec::new()
    });
    let candidates: Vec<(u64, u64)> = connections.iter().map(|at| (*at, CONNECTION_ROOM)).collect();
    learn(notes, target, target, shapes, &candidates);
    let shapes: &'k Shapes = shapes;
    let mut found: Vec<Endpoint<'k>> = connections
        .into_iter()
        .map(|at| Endpoint::at(Kind::Connection, at, target, target, shapes, None))
        .collect();
    for (kind, pool, set, what) in [
        (Kind::Listener, "TcpPortPool", "TcpCompartmentSet", "listening TCP sockets"),
        (Kind::Udp, "UdpPortPool", "UdpCompartmentSet", "UDP sockets"),
    ] {
        match port_pool(target, driver, shapes, pool, set) {
            Ok(pool) => sockets(notes, target, shapes, kind, pool, what, &mut found),
            Err(why) => missing(what, why),
        }
    }
    found
}

/// What may still be looked at: an image can make every bucket lead everywhere.
struct Budget {
    buckets: u64,
    links: usize,
}

/// Addresses of the connections in the hash tables of all partitions.
fn connections(notes: &Notes, target: &Target, driver: &Driver, shapes: &Shapes) -> Read<Vec<u64>> {
    let width = u64::from(target.types().model().pointer_size());
    let table = Ptr(target.read_ptr(driver.symbol("PartitionTable")?)?).non_null("no table of partitions")?;
    let count = target.read_bytes(driver.symbol("PartitionCount")?, 1, 1)?.first().copied().unwrap_or(0);
    let mut budget = Budget { buckets: MAX_BUCKETS, links: MAX_LINKS };
    let mut found = Vec::new();
    for index in 0..u64::from(count) {
        let what = format!("TCP partition {index}");
        let partition = table.wrapping_add(index * shapes.partition);
        let links = match target.read_ptr(partition.wrapping_add(width)) {
            Ok(0) => continue,
            Ok(at) => buckets(notes, target, at, &what, &mut budget),
            Err(why) => Err(why),
        };
        match links {
            Ok(links) => {
                found.extend(links.into_iter().map(|link| link.wrapping_sub(shapes.connection.link)));
            }
            Err(why) => notes.partial(format!("connections of {what} are missing: {why}")),
        }
    }
    Ok(found)
}

/// Links of all entries of a hash table.
fn buckets(notes: &Notes, target: &Target, at: u64, what: &str, budget: &mut Budget) -> Read<Vec<u64>> {
    let width = u64::from(target.types().model().pointer_size());
    let view = HashTable::at(target, at);
    let (size, Ptr(directory)) = (u64::from(view.size()?), view.directory()?);
    if size > budget.buckets {
        return Err(Absent::Malformed("number of buckets of a hash table"));
    }
    budget.buckets -= size;
    let mut known = HashSet::new();
    let mut links = Vec::new();
    for index in 0..size {
        let head = if size <= FIRST_BUCKETS {
            Ok(directory.wrapping_add(index * 2 * width))
        } else {
            // The highest bit of the index counted from the first array's size names the array, the rest the bucket.
            let absolute = index + FIRST_BUCKETS;
            let level = absolute.ilog2();
            let array = directory.wrapping_add(u64::from(level - FIRST_BUCKETS.ilog2()) * width);
            target.read_ptr(array).map(|array| array.wrapping_add((absolute ^ (1 << level)) * 2 * width))
        };
        let walked = match head {
            Ok(head) => walk::list_capped(target, head, budget.links),
            Err(why) => {
                notes.partial(format!("a bucket of {what} cannot be read: {why}"));
                continue;
            }
        };
        budget.links = budget.links.saturating_sub(walked.nodes.len());
        notes.walk(&format!("of a bucket of {what}"), &walked.end);
        links.extend(walked.nodes.into_iter().filter(|link| known.insert(*link)));
        if budget.links == 0 {
            break;
        }
    }
    // The table counts its entries, so that a bucket taken away shows.
    let (counted, here) = (view.entries()?, links.len());
    if usize::try_from(counted) != Ok(here) {
        notes.partial(format!("{what} counts {counted} connections, {here} were found"));
    }
    Ok(links)
}

fn port_pool(target: &Target, driver: &Driver, shapes: &Shapes, pool: &str, set: &str) -> Read<u64> {
    let variable = |name: &str| Ptr(target.read_ptr(driver.symbol(name)?)?).non_null("no pool of ports");
    match variable(pool) {
        Err(Absent::NoProfile(_)) => shapes.compartments.iter().try_fold(variable(set)?, |at, offset| {
            Ptr(target.read_ptr(at.wrapping_add(*offset))?).non_null("no pool of ports")
        }),
        found => found,
    }
}

/// The sockets of all ports that a pool says are in use.
fn sockets<'k>(
    notes: &Notes,
    target: &'k Target,
    shapes: &'k Shapes,
    kind: Kind,
    pool: u64,
    what: &str,
    found: &mut Vec<Endpoint<'k>>,
) {
    let ports = match ports_in_use(target, pool.wrapping_add(shapes.ports.bitmap)) {
        Ok(ports) => ports,
        Err(why) => {
            // The entries tell too which ports are in use.
            notes.partial(format!("the map of ports of {what} cannot be read: {why}"));
            (0..PORTS).collect()
        }
    };
    let mut left = MAX_LINKS;
    let link = if kind == Kind::Udp { shapes.udp.next } else { shapes.listener.next };
    for port in ports {
        let first = match first_of_port(target, &shapes.ports, pool, port) {
            Ok(0) | Err(Absent::NotApplicable(_)) => continue,
            Ok(first) => first,
            Err(why) => {
                notes.partial(format!("{what} of port {port} are missing: {why}"));
                continue;
            }
        };
        let endpoint =
            |inside: u64| Endpoint::at(kind, inside.wrapping_sub(link), target, target, shapes, None);
        let walked =
            walk::chain(first, MAX_SAME_PORT, |inside| endpoint(inside).next().map(|next| next & !3));
        notes.walk(&format!("of {what} of port {port}"), &walked.end);
        left = left.saturating_sub(walked.nodes.len());
        // Ports are also held by what is no socket of this kind.
        found.extend(walked.nodes.into_iter().map(endpoint).filter(Endpoint::is_plausible));
    }
}

fn ports_in_use(target: &Target, bitmap: u64) -> Read<Vec<u64>> {
    let view = Bitmap::at(target, bitmap);
    let bits = u64::from(view.bits()?).min(PORTS);
    let Ptr(buffer) = view.buffer()?;
    let bytes = target.read_bytes(buffer, bits.div_ceil(8), 1 << 13)?;
    let set = |port: &u64| {
        let byte = usize::try_from(*port / 8).ok().and_then(|index| bytes.get(index));
        byte.is_some_and(|byte| byte >> (port % 8) & 1 == 1)
    };
    Ok((0..bits).filter(set).collect())
}

/// What the entry of a port leads to, without its flags.
fn first_of_port(target: &Target, shape: &PortPool, pool: u64, port: u64) -> Read<u64> {
    let width = u64::from(target.types().model().pointer_size());
    let none = "no entries for these ports";
    let assignment = pool.wrapping_add(shape.assignments).wrapping_add((port >> 8) * width);
    let assignment = Ptr(target.read_ptr(assignment)?).non_null(none)?;
    let entries = Ptr(target.read_ptr(assignment.wrapping_add(shape.entries))?).non_null(none)?;
    let entry = entries.wrapping_add((port & 0xff) * shape.entry_size).wrapping_add(shape.entry);
    Ok(target.read_ptr(entry)? & !3)
}
