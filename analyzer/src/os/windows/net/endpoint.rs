//! One connection or socket of `tcpip.sys`, from Vista on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use object::{Absent, Ptr, Read, Target};

use super::shape::{Shapes, Socket};
use crate::os::windows::process::Process;
use crate::os::windows::time::file_time;
use crate::table::Time;

/// `AF_INET` and `AF_INET6` as Windows numbers them (ws2def.h).
const INET: u16 = 2;
const INET6: u16 = 0x17;

/// States of connections as the driver numbers them.
const STATES: [&str; 14] = [
    "CLOSED",
    "LISTENING",
    "SYN_SENT",
    "SYN_RCVD",
    "ESTABLISHED",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "CLOSE_WAIT",
    "CLOSING",
    "LAST_ACK",
    "",
    "",
    "TIME_WAIT",
    "DELETE_TCB",
];

/// What an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A TCP connection.
    Connection,
    /// A listening TCP socket.
    Listener,
    /// A UDP socket.
    Udp,
}

/// Version of the internet protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    fn any(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// A connection or socket in memory.
#[derive(Clone, Copy)]
pub struct Endpoint<'k> {
    /// What it is.
    pub kind: Kind,
    /// Address in the memory it is read from.
    pub addr: u64,
    /// The memory it is read from.
    own: &'k Target,
    /// The kernel's memory, which its pointers mean.
    kernel: &'k Target,
    shapes: &'k Shapes,
    /// Bytes of its allocation; none where it is not known.
    room: Option<u64>,
}

/// One line of a list of endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `TCPv4`, `TCPv6`, `UDPv4` or `UDPv6`.
    pub protocol: Read<&'static str>,
    /// Local address and port.
    pub local: Read<String>,
    /// Remote address and port; `*:*` for UDP.
    pub remote: Read<String>,
    /// State; not applicable for UDP.
    pub state: Read<&'static str>,
}

impl<'k> Endpoint<'k> {
    pub(super) fn at(
        kind: Kind,
        addr: u64,
        own: &'k Target,
        kernel: &'k Target,
        shapes: &'k Shapes,
        room: Option<u64>,
    ) -> Self {
        Self { kind, addr, own, kernel, shapes, room }
    }

    fn socket(&self) -> &'k Socket {
        if self.kind == Kind::Udp { &self.shapes.udp } else { &self.shapes.listener }
    }

    /// Place of a member that must lie in the allocation.
    fn place(&self, offset: u64, bytes: u64) -> Read<u64> {
        if self.room.is_some_and(|room| offset.saturating_add(bytes) > room) {
            return Err(Absent::Malformed("member beyond the end of its allocation"));
        }
        Ok(self.addr.wrapping_add(offset))
    }

    fn pointer(&self, offset: u64) -> Read<u64> {
        let width = u64::from(self.own.types().model().pointer_size());
        self.own.read_ptr(self.place(offset, width)?)
    }

    /// Version of the internet protocol.
    pub fn family(&self) -> Read<Family> {
        let offset = match self.kind {
            Kind::Connection => self.shapes.connection.family,
            Kind::Listener | Kind::Udp => self.socket().family,
        };
        let family = Ptr(self.pointer(offset)?).non_null("no address family")?;
        match read_u16(self.kernel, family.wrapping_add(self.shapes.family_number))? {
            INET => Ok(Family::V4),
            INET6 => Ok(Family::V6),
            _ => Err(Absent::Malformed("address family of an endpoint")),
        }
    }

    /// State of a connection, by its number.
    pub fn state(&self) -> Read<&'static str> {
        match self.kind {
            Kind::Udp => Err(Absent::NotApplicable("UDP has no connections")),
            Kind::Listener => Ok("LISTENING"),
            Kind::Connection => {
                let number = self.own.read_u32(self.place(self.shapes.connection.state, 4)?)?;
                let name = usize::try_from(number).ok().and_then(|number| STATES.get(number));
                let name = name.copied().filter(|name| !name.is_empty());
                name.ok_or(Absent::Malformed("state of a connection"))
            }
        }
    }

    /// The process that made it.
    pub fn owner(&self) -> Read<Process<'k>> {
        let offset = match self.kind {
            Kind::Connection => self.shapes.connection.owner,
            Kind::Listener | Kind::Udp => self.socket().owner,
        };
        let owner = Ptr(self.pointer(offset)?).non_null("no process is recorded")?;
        let process = Process::at(self.kernel, owner);
        if process.is_plausible() { Ok(process) } else { Err(Absent::Malformed("owner is no process")) }
    }

    /// When it was made.
    pub fn created(&self) -> Read<Time> {
        let offset = match self.kind {
            Kind::Connection => self.shapes.connection.created,
            Kind::Listener | Kind::Udp => self.socket().created,
        };
        file_time(self.own.read_u64(self.place(offset, 8)?)?)
    }

    /// Whether the memory holds such an endpoint: its family and state are some, or a process owns it.
    pub fn is_plausible(&self) -> bool {
        let state = self.kind == Kind::Udp || self.state().is_ok();
        state && (self.family().is_ok() || self.owner().is_ok())
    }

    /// Link to the next socket of the same port, and where it stands in it.
    pub(super) fn next(&self) -> Read<u64> {
        self.pointer(self.socket().next)
    }

    /// The lines that show it. A socket of any IPv6 address is of any IPv4 address too.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        let family = self.family();
        match self.kind {
            Kind::Connection => vec![self.connection(family)],
            Kind::Listener | Kind::Udp => {
                let local = family.clone().and_then(|family| self.local(family));
                let mut lines = Vec::new();
                if family == Ok(Family::V6) && local == Ok(Family::V6.any()) {
                    lines.push(self.line(Ok(Family::V4), Ok(Family::V4.any())));
                }
                lines.push(self.line(family, local));
                lines
            }
        }
    }

    fn line(&self, family: Read<Family>, local: Read<IpAddr>) -> Seen {
        let port = self.port(self.socket().port);
        let remote = match self.kind {
            Kind::Udp => Ok("*:*".to_owned()),
            _ => family.clone().map(|family| SocketAddr::new(family.any(), 0).to_string()),
        };
        Seen { protocol: self.protocol(family), local: joined(local, port), remote, state: self.state() }
    }

    fn connection(&self, family: Read<Family>) -> Seen {
        let shape = &self.shapes.connection;
        let ends = || Ptr(self.pointer(shape.addresses)?).non_null("no addresses");
        let local = || {
            let holder = Ptr(self.kernel.read_ptr(ends()?)?).non_null("no local address")?;
            let inner = self.kernel.read_ptr(holder.wrapping_add(self.shapes.local_data))?;
            self.address(family.clone()?, Ptr(inner).non_null("no local address")?)
        };
        let remote = || {
            let bytes = self.kernel.read_ptr(ends()?.wrapping_add(self.shapes.remote))?;
            self.ip(family.clone()?, Ptr(bytes).non_null("no remote address")?)
        };
        Seen {
            local: joined(local(), self.port(shape.ports)),
            remote: joined(remote(), self.port(shape.ports.wrapping_add(2))),
            state: self.state(),
            protocol: self.protocol(family),
        }
    }

    /// Local address of a socket.
    fn local(&self, family: Family) -> Read<IpAddr> {
        let holder = self.pointer(self.socket().local)?;
        if holder == 0 {
            return Ok(family.any());
        }
        let at = if self.socket().direct { holder } else { holder.wrapping_add(self.shapes.local_data) };
        match self.kernel.read_ptr(at)? {
            0 => Ok(family.any()),
            bytes if self.socket().direct => self.ip(family, bytes),
            inner => self.address(family, inner),
        }
    }

    /// The address behind a pointer to its bytes.
    fn address(&self, family: Family, pointer: u64) -> Read<IpAddr> {
        self.ip(family, Ptr(self.kernel.read_ptr(pointer)?).non_null("no address")?)
    }

    fn ip(&self, family: Family, at: u64) -> Read<IpAddr> {
        let length = if family == Family::V4 { 4 } else { 16 };
        let bytes = self.kernel.read_bytes(at, length, 16)?;
        let v4 = bytes.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes));
        let v6 = bytes.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes));
        v6.or(v4).ok_or(Absent::Malformed("address of an endpoint"))
    }

    fn port(&self, offset: u64) -> Read<u16> {
        read_u16(self.own, self.place(offset, 2)?).map(u16::swap_bytes)
    }

    fn protocol(&self, family: Read<Family>) -> Read<&'static str> {
        Ok(match (self.kind, family?) {
            (Kind::Udp, Family::V4) => "UDPv4",
            (Kind::Udp, Family::V6) => "UDPv6",
            (_, Family::V4) => "TCPv4",
            (_, Family::V6) => "TCPv6",
        })
    }
}

fn joined(address: Read<IpAddr>, port: Read<u16>) -> Read<String> {
    Ok(SocketAddr::new(address?, port?).to_string())
}

/// A little-endian 16-bit integer.
pub(super) fn read_u16(target: &Target, addr: u64) -> Read<u16> {
    let bytes = target.read_bytes(addr, 2, 2)?;
    bytes.first_chunk().map(|bytes| u16::from_le_bytes(*bytes)).ok_or(Absent::Malformed("two bytes"))
}
