//! Network endpoints in pool memory, in the layouts of Windows 7 x64, Windows 10 x64 and XP x86.
//!
//! No public symbols describe these; the offsets are those that memory forensics tools agree on.

use std::net::IpAddr;

use crate::machine::{Machine, SpaceId};
use crate::pool::Kind;

/// What an endpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// A connection, `TcpE`, with its state as tcpip.sys numbers it: 4 is established.
    Connection(u32),
    /// A listening TCP socket, `TcpL`.
    Listener,
    /// A UDP socket, `UdpA`.
    Udp,
}

/// One endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Endpoint {
    /// What it is.
    pub protocol: Protocol,
    /// Local address; absent: any.
    pub local: Option<IpAddr>,
    /// Local port.
    pub local_port: u16,
    /// Remote address and port of a connection.
    pub remote: Option<(IpAddr, u16)>,
    /// Process id of the owner.
    pub pid: u64,
    /// When it was made, 100 ns since 1601.
    pub created: u64,
    /// IPv6 rather than IPv4, where the local address does not say.
    pub v6: bool,
}

/// Offsets of one kind of endpoint.
struct Shape {
    tag: [u8; 4],
    size: u64,
    inet_af: u64,
    owner: u64,
    created: u64,
    local_port: u64,
    /// Local address of sockets, address information of connections.
    address: u64,
}

impl Machine {
    fn shape(&self, protocol: Protocol) -> Shape {
        let windows_10 = self.system.version.0 >= 10;
        let shape = |tag, size, inet_af, owner, created, local_port, address| Shape {
            tag,
            size,
            inet_af,
            owner,
            created,
            local_port,
            address,
        };
        match (protocol, windows_10) {
            (Protocol::Connection(_), false) => shape(*b"TcpE", 0x320, 0x18, 0x238, 0, 0x6C, 0x20),
            (Protocol::Connection(_), true) => shape(*b"TcpE", 0x270, 0x10, 0x258, 0x268, 0x70, 0x18),
            (Protocol::Listener, false) => shape(*b"TcpL", 0xB0, 0x60, 0x28, 0x20, 0x6A, 0x58),
            (Protocol::Listener, true) => shape(*b"TcpL", 0xB0, 0x28, 0x30, 0x40, 0x72, 0x60),
            (Protocol::Udp, false) => shape(*b"UdpA", 0x140, 0x20, 0x28, 0x58, 0x80, 0x60),
            (Protocol::Udp, true) => shape(*b"UdpA", 0x140, 0x20, 0x28, 0x58, 0x78, 0x80),
        }
    }

    /// Makes an endpoint. Its process must exist. Returns its address.
    pub fn endpoint(&mut self, endpoint: &Endpoint) -> u64 {
        if !self.system.is_64() {
            return self.endpoint_xp(endpoint);
        }
        let shape = self.shape(endpoint.protocol);
        let windows_10 = self.system.version.0 >= 10;
        let at = self.allocate(Kind::NonPaged, shape.tag, shape.size);
        let owner = self
            .processes
            .iter()
            .find(|process| process.pid == endpoint.pid)
            .map_or(0, |process| process.eprocess);
        self.write_pointer(SpaceId::SYSTEM, at + shape.owner, owner);
        self.write(SpaceId::SYSTEM, at + shape.created, &endpoint.created.to_le_bytes());
        self.write(SpaceId::SYSTEM, at + shape.local_port, &endpoint.local_port.to_be_bytes());
        let v6 = endpoint.local.map_or(endpoint.v6, |local| local.is_ipv6());
        // AF_INET6 and AF_INET as Windows numbers them.
        let family: u16 = if v6 { 0x17 } else { 2 };
        let inet_af = self.allocate(Kind::NonPaged, *b"InAF", 0x30);
        self.write(SpaceId::SYSTEM, inet_af + if windows_10 { 0x18 } else { 0x14 }, &family.to_le_bytes());
        self.write_pointer(SpaceId::SYSTEM, at + shape.inet_af, inet_af);
        let local = endpoint.local.map(|address| self.address_bytes(address));
        match endpoint.protocol {
            Protocol::Connection(state) => {
                let state_at = at + if windows_10 { 0x6C } else { 0x68 };
                self.write(SpaceId::SYSTEM, state_at, &state.to_le_bytes());
                let (remote, port) = endpoint.remote.expect("a connection has another end");
                self.write(SpaceId::SYSTEM, at + shape.local_port + 2, &port.to_be_bytes());
                let remote = self.address_bytes(remote);
                let information = self.allocate(Kind::NonPaged, *b"AdIn", 0x20);
                let holder = self.local_address(local.unwrap_or(0));
                self.write_pointer(SpaceId::SYSTEM, information, holder);
                self.write_pointer(SpaceId::SYSTEM, information + 0x10, remote);
                self.write_pointer(SpaceId::SYSTEM, at + shape.address, information);
            }
            Protocol::Listener | Protocol::Udp => {
                let holder = match local {
                    None => 0,
                    // One pointer to the address where the others take two.
                    Some(local) if windows_10 && endpoint.protocol == Protocol::Udp => {
                        let holder = self.allocate(Kind::NonPaged, *b"LocA", 0x20);
                        self.write_pointer(SpaceId::SYSTEM, holder, local);
                        holder
                    }
                    Some(local) => self.local_address(local),
                };
                self.write_pointer(SpaceId::SYSTEM, at + shape.address, holder);
            }
        }
        at
    }

    /// The bytes of an address in memory of their own.
    fn address_bytes(&mut self, address: IpAddr) -> u64 {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let at = self.allocate(Kind::NonPaged, *b"Addr", 16);
        self.write(SpaceId::SYSTEM, at, &bytes);
        at
    }

    /// A local address: pointer to pointer to bytes.
    fn local_address(&mut self, bytes: u64) -> u64 {
        let inner = self.allocate(Kind::NonPaged, *b"LocP", 0x10);
        self.write_pointer(SpaceId::SYSTEM, inner, bytes);
        let holder = self.allocate(Kind::NonPaged, *b"LocA", 0x20);
        self.write_pointer(SpaceId::SYSTEM, holder + 0x10, inner);
        holder
    }

    /// XP: a connection is a `TCPT` block, a socket a `TCPA` block.
    fn endpoint_xp(&mut self, endpoint: &Endpoint) -> u64 {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(address) => address.octets(),
            IpAddr::V6(_) => panic!("XP's layout is IPv4 only"),
        };
        let local = endpoint.local.map_or([0; 4], octets);
        let pid = u32::try_from(endpoint.pid).expect("32 bits").to_le_bytes();
        if let Some((remote, port)) = endpoint.remote {
            let at = self.allocate(Kind::NonPaged, *b"TCPT", 0x198);
            self.write(SpaceId::SYSTEM, at + 0xC, &octets(remote));
            self.write(SpaceId::SYSTEM, at + 0x10, &local);
            self.write(SpaceId::SYSTEM, at + 0x14, &port.to_be_bytes());
            self.write(SpaceId::SYSTEM, at + 0x16, &endpoint.local_port.to_be_bytes());
            self.write(SpaceId::SYSTEM, at + 0x18, &pid);
            return at;
        }
        let at = self.allocate(Kind::NonPaged, *b"TCPA", 0x168);
        let protocol: u16 = if endpoint.protocol == Protocol::Udp { 17 } else { 6 };
        self.write(SpaceId::SYSTEM, at + 0x2C, &local);
        self.write(SpaceId::SYSTEM, at + 0x30, &endpoint.local_port.to_be_bytes());
        self.write(SpaceId::SYSTEM, at + 0x32, &protocol.to_le_bytes());
        self.write(SpaceId::SYSTEM, at + 0x148, &pid);
        self.write(SpaceId::SYSTEM, at + 0x158, &endpoint.created.to_le_bytes());
        at
    }
}
