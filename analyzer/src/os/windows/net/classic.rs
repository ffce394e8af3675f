//! Connections and sockets of Windows XP and 2003.
//!
//! `tcpip.sys` keeps both in hash tables of singly linked objects, whose types no public symbols describe. Source of the offsets:
//! Ligh et al., The Art of Memory Forensics, ch. 11; those of single service packs as Volatility 2 and Rekall agree on them.

use std::net::{Ipv4Addr, SocketAddrV4};

use object::walk;
use object::{Absent, Ptr, Read, Target};

use super::Driver;
use super::endpoint::read_u16;
use crate::error::Error;
use crate::notes::Notes;
use crate::os::windows::Kernel;
use crate::os::windows::pool;
use crate::os::windows::reverse::ReverseFact;
use crate::os::windows::scan::Tag;
use crate::os::windows::time::file_time;
use crate::session::Session;
use crate::table::Time;

/// Tags of connections and of sockets.
const CONNECTION: Tag = *b"TCPT";
const SOCKET: Tag = *b"TCPA";
/// Least bytes of the allocation of a connection, and of a socket.
const CONNECTION_BYTES: u64 = 0x198;
const SOCKET_BYTES: u64 = 0x15c;
/// Most buckets of a table that are believed.
const MAX_BUCKETS: u64 = 1 << 16;
/// Largest process id that is believed of an object without a list.
const MAX_PID: u64 = 1 << 16;

/// Where what stands in an object; the link to the next one is first.
#[derive(Debug, Clone, Copy)]
struct Shape {
    local: u64,
    local_port: u64,
    pid: u64,
    /// Of connections: remote address and port.
    remote: (u64, u64),
    /// Of sockets: protocol and time.
    protocol: u64,
    created: u64,
}

const CONNECTION_32: Shape =
    Shape { local: 0x10, local_port: 0x16, pid: 0x18, remote: (0xc, 0x14), protocol: 0, created: 0 };
const CONNECTION_64: Shape =
    Shape { local: 0x18, local_port: 0x1e, pid: 0x20, remote: (0x14, 0x1c), protocol: 0, created: 0 };
const SOCKET_XP: Shape =
    Shape { local: 0x2c, local_port: 0x30, pid: 0x148, remote: (0, 0), protocol: 0x32, created: 0x158 };
const SOCKET_2003: Shape =
    Shape { local: 0x30, local_port: 0x34, pid: 0x14c, remote: (0, 0), protocol: 0x36, created: 0x158 };
const SOCKET_64: Shape =
    Shape { local: 0x58, local_port: 0x5c, pid: 0x238, remote: (0, 0), protocol: 0x5e, created: 0x248 };

/// A connection or a socket.
#[derive(Clone, Copy)]
pub struct Entry<'k> {
    /// Address in the memory it is read from.
    pub addr: u64,
    target: &'k Target,
    shape: Shape,
}

impl Entry<'_> {
    fn end(&self, address: u64, port: u64) -> Read<SocketAddrV4> {
        let ip = self.target.read_u32(self.addr.wrapping_add(address))?;
        Ok(SocketAddrV4::new(Ipv4Addr::from(ip.to_le_bytes()), self.port_at(port)?))
    }

    fn port_at(&self, offset: u64) -> Read<u16> {
        read_u16(self.target, self.addr.wrapping_add(offset)).map(u16::swap_bytes)
    }

    /// Local address and port.
    pub fn local(&self) -> Read<String> {
        self.end(self.shape.local, self.shape.local_port).map(|end| end.to_string())
    }

    /// Remote address and port of a connection.
    pub fn remote(&self) -> Read<String> {
        self.end(self.shape.remote.0, self.shape.remote.1).map(|end| end.to_string())
    }

    /// Local address of a socket.
    pub fn address(&self) -> Read<String> {
        self.end(self.shape.local, self.shape.local_port).map(|end| end.ip().to_string())
    }

    /// Local port of a socket.
    pub fn port(&self) -> Read<u16> {
        self.port_at(self.shape.local_port)
    }

    /// Id of the process that made it.
    pub fn pid(&self) -> Read<u64> {
        self.target.read_u32(self.addr.wrapping_add(self.shape.pid)).map(u64::from)
    }

    /// Number of a socket's protocol, as in IP headers.
    pub fn protocol(&self) -> Read<u16> {
        read_u16(self.target, self.addr.wrapping_add(self.shape.protocol))
    }

    /// When a socket was made.
    pub fn created(&self) -> Read<Time> {
        file_time(self.target.read_u64(self.addr.wrapping_add(self.shape.created))?)
    }
}

/// Name of a protocol by its number (IANA, "Protocol Numbers").
pub fn protocol_name(number: u16) -> Read<&'static str> {
    Ok(match number {
        0 => "HOPOPT",
        1 => "ICMP",
        2 => "IGMP",
        4 => "IPv4",
        6 => "TCP",
        17 => "UDP",
        41 => "IPv6",
        47 => "GRE",
        50 => "ESP",
        51 => "AH",
        58 => "IPv6-ICMP",
        255 => "Reserved",
        _ => return Err(Absent::NotApplicable("a protocol without a name here")),
    })
}

fn connection_shape(kernel: &Kernel) -> Shape {
    if kernel.is_32bit() { CONNECTION_32 } else { CONNECTION_64 }
}

/// Windows 2003 moved its sockets' members with service pack 1.
fn socket_shape(kernel: &Kernel) -> Shape {
    if !kernel.is_32bit() {
        return SOCKET_64;
    }
    let target = kernel.target();
    let pack = target.symbol("CmNtCSDVersion").ok().and_then(|at| target.read_u32(at).ok());
    let packed = pack.is_some_and(|version| version & 0xff00 != 0);
    if kernel.build() == Some(3790) && packed { SOCKET_2003 } else { SOCKET_XP }
}

/// The connections of the driver's table.
pub fn connections<'k>(notes: &Notes, kernel: &'k Kernel, driver: &Driver) -> Read<Vec<Entry<'k>>> {
    table(notes, kernel, driver, ("TCBTable", "MaxHashTableSize"), connection_shape(kernel))
}

/// The sockets of the driver's table.
pub fn sockets<'k>(notes: &Notes, kernel: &'k Kernel, driver: &Driver) -> Read<Vec<Entry<'k>>> {
    table(notes, kernel, driver, ("AddrObjTable", "AddrObjTableSize"), socket_shape(kernel))
}

/// All objects of a table of chains. `names`: variables with the table's address and its number of chains.
fn table<'k>(
    notes: &Notes,
    kernel: &'k Kernel,
    driver: &Driver,
    names: (&str, &str),
    shape: Shape,
) -> Read<Vec<Entry<'k>>> {
    let target = kernel.target();
    let width = u64::from(target.types().model().pointer_size());
    let table = Ptr(target.read_ptr(driver.symbol(names.0)?)?).non_null("no table")?;
    let size = u64::from(target.read_u32(driver.symbol(names.1)?)?);
    if size > MAX_BUCKETS {
        notes.partial(format!("{} chains of tcpip!{} are not believed", size, names.0));
    }
    let mut found = Vec::new();
    for index in 0..size.min(MAX_BUCKETS) {
        let first = match target.read_ptr(table.wrapping_add(index * width)) {
            Ok(first) => first,
            Err(why) => {
                notes.partial(format!("a chain of tcpip!{} cannot be read: {why}", names.0));
                continue;
            }
        };
        let left = walk::MAX_NODES.saturating_sub(found.len());
        let walked = walk::chain(first, left, |at| target.read_ptr(at));
        notes.walk(&format!("of a chain of tcpip!{}", names.0), &walked.end);
        found.extend(walked.nodes.into_iter().map(|addr| Entry { addr, target, shape }));
    }
    Ok(found)
}

/// An object found in physical memory.
pub struct Found<'k> {
    /// The object, in physical memory.
    pub entry: Entry<'k>,
    /// Its virtual address; `None` where the kernel maps that memory nowhere.
    pub virtual_address: Option<u64>,
}

/// Connections in physical memory, by ascending address. `physical` is [`pool::physical`].
pub fn scan_connections<'k>(
    session: &Session,
    kernel: &Kernel,
    physical: &'k Target,
) -> Result<Vec<Found<'k>>, Error> {
    scan(session, kernel, physical, (CONNECTION, CONNECTION_BYTES), connection_shape(kernel), |_| true)
}

/// Sockets in physical memory, by ascending address. `physical` is [`pool::physical`].
pub fn scan_sockets<'k>(
    session: &Session,
    kernel: &Kernel,
    physical: &'k Target,
) -> Result<Vec<Found<'k>>, Error> {
    let timed =
        |entry: &Entry<'_>| entry.created().is_ok() && entry.protocol().is_ok_and(|number| number < 256);
    scan(session, kernel, physical, (SOCKET, SOCKET_BYTES), socket_shape(kernel), timed)
}

fn scan<'k>(
    session: &Session,
    kernel: &Kernel,
    physical: &'k Target,
    (tag, bytes): (Tag, u64),
    shape: Shape,
    believed: fn(&Entry<'_>) -> bool,
) -> Result<Vec<Found<'k>>, Error> {
    let reverse = session.fact::<ReverseFact>()?;
    let allocations = pool::allocations(session, kernel, &[tag])?;
    let entries = allocations
        .into_iter()
        .filter(|allocation| allocation.end.saturating_sub(allocation.start) >= bytes)
        .map(|allocation| Entry { addr: allocation.start, target: physical, shape })
        .filter(|entry| entry.pid().is_ok_and(|pid| pid != 0 && pid < MAX_PID) && believed(entry));
    Ok(entries.map(|entry| Found { virtual_address: reverse.virtual_address(entry.addr), entry }).collect())
}
