//! Network endpoints in pool memory and the driver's tables of them, in the layouts of Windows 7, 10 and 11 x64 and XP x86.
//!
//! No public symbols describe these; the offsets are those that memory forensics tools agree on. Where a build keeps its variables
//! is real: the symbols of `tcpip.sys`.

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
    /// In none of the driver's tables: a hidden endpoint.
    pub unlinked: bool,
}

/// Offsets of one kind of endpoint.
#[derive(Clone, Copy)]
struct Shape {
    tag: [u8; 4],
    size: u64,
    inet_af: u64,
    owner: u64,
    created: u64,
    local_port: u64,
    /// Local address of sockets, address information of connections.
    address: u64,
    /// Link of the table: of a bucket of connections, or to the next socket of the port.
    link: u64,
}

/// Offsets in the tables of ports: bitmap, pointers to assignments, pointer to the entries in one, size of an entry, pointer in it.
type Ports = (u64, u64, u64, u64, u64);

impl Machine {
    /// Offsets as memory forensics tools agree on for the three builds: 7600, 19041 and 22000 as 20348.
    fn shape(&self, protocol: Protocol) -> Shape {
        let build = self.system.version.2;
        let shape = |tag, size, inet_af, owner, created, local_port, address, link| Shape {
            tag,
            size,
            inet_af,
            owner,
            created,
            local_port,
            address,
            link,
        };
        let mut found = match (protocol, build) {
            (Protocol::Connection(_), 22000..) => {
                shape(*b"TTcb", 0x340, 0x10, 0x2F0, 0x308, 0x70, 0x18, 0x28)
            }
            (Protocol::Connection(_), 19041..) => {
                shape(*b"TcpE", 0x320, 0x10, 0x2D8, 0x2E8, 0x70, 0x18, 0x28)
            }
            (Protocol::Connection(_), _) => shape(*b"TcpE", 0x320, 0x18, 0x238, 0, 0x6C, 0x20, 0x28),
            (Protocol::Listener, 19041..) => shape(*b"TcpL", 0xB0, 0x28, 0x30, 0x40, 0x72, 0x60, 0x78),
            (Protocol::Listener, _) => shape(*b"TcpL", 0xB0, 0x60, 0x28, 0x20, 0x6A, 0x58, 0x70),
            (Protocol::Udp, 19041..) => shape(*b"UdpA", 0x140, 0x20, 0x28, 0x58, 0xA0, 0xA8, 0x70),
            (Protocol::Udp, _) => shape(*b"UdpA", 0x140, 0x20, 0x28, 0x58, 0x80, 0x60, 0x88),
        };
        if let (Protocol::Connection(_), Some(owner)) = (protocol, self.system.other_owner) {
            (found.owner, found.created) = (owner, owner + 0x10);
        }
        found
    }

    fn ports(&self) -> Ports {
        if self.system.version.2 >= 19041 {
            (0xD0, 0xE0, 0x18, 0x20, 0x10)
        } else {
            (0x90, 0xA0, 0x20, 0x10, 8)
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
                self.write(SpaceId::SYSTEM, at + shape.local_port - 4, &state.to_le_bytes());
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

    /// The network driver's own tables, in the variables of the driver at `base`. Unlinked endpoints are in none.
    pub fn network_tables(&mut self, base: u64, endpoints: &[(Endpoint, u64)]) {
        if self.system.tcpip.is_none() {
            return;
        }
        let linked: Vec<(Endpoint, u64)> =
            endpoints.iter().copied().filter(|(endpoint, _)| !endpoint.unlinked).collect();
        let is = |connection: bool| {
            let kept = |pair: &&(Endpoint, u64)| pair.0.remote.is_some() == connection;
            linked.iter().filter(kept).copied().collect::<Vec<_>>()
        };
        if !self.system.is_64() {
            self.chains(base, ("TCBTable", "MaxHashTableSize"), 64, &is(true));
            self.chains(base, ("AddrObjTable", "AddrObjTableSize"), 31, &is(false));
            return;
        }
        self.partitions(base, &is(true));
        for (protocol, pool, set) in [
            (Protocol::Listener, "TcpPortPool", "TcpCompartmentSet"),
            (Protocol::Udp, "UdpPortPool", "UdpCompartmentSet"),
        ] {
            let own: Vec<(Endpoint, u64)> =
                linked.iter().copied().filter(|(endpoint, _)| endpoint.protocol == protocol).collect();
            let at = self.port_pool(protocol, &own);
            match self.driver_variable(base, pool) {
                Some(variable) => self.write_pointer(SpaceId::SYSTEM, variable, at),
                None => {
                    let variable = self.driver_variable(base, set).expect("a set of compartments");
                    let places = [(0x180, 0x148), (0x30, 0x20), (0x10, 0)];
                    let mut holder = variable;
                    for (bytes, offset) in places {
                        let next = self.allocate(Kind::NonPaged, *b"InCo", bytes);
                        self.write_pointer(SpaceId::SYSTEM, holder, next);
                        holder = next + offset;
                    }
                    self.write_pointer(SpaceId::SYSTEM, holder, at);
                }
            }
        }
    }

    /// Address of a variable of the network driver, mapped; `None` where its symbols lack it.
    fn driver_variable(&mut self, base: u64, name: &str) -> Option<u64> {
        let at = base + self.system.tcpip.as_ref()?.profile.symbol(name)?;
        self.ensure(SpaceId::SYSTEM, at, 8);
        Some(at)
    }

    /// Two partitions of connections. The second of Windows 11 has grown beyond one array of buckets.
    fn partitions(&mut self, base: u64, connections: &[(Endpoint, u64)]) {
        let size = if self.system.version.2 >= 19041 { 0xC0 } else { 0x80 };
        let table = self.allocate(Kind::NonPaged, *b"TcPt", 2 * size);
        let pointer = self.pointer_size();
        for index in 0..2u64 {
            let grown = index == 1 && self.system.version.2 >= 22000;
            let buckets: u64 = if grown { 200 } else { 128 };
            let arrays: Vec<u64> = [128u64, 256]
                .iter()
                .take(if grown { 2 } else { 1 })
                .map(|count| {
                    let array = self.allocate(Kind::NonPaged, *b"HTab", count * 2 * pointer);
                    (0..*count).for_each(|bucket| self.empty_list(array + bucket * 2 * pointer));
                    array
                })
                .collect();
            let directory = if grown {
                let directory = self.allocate(Kind::NonPaged, *b"HTab", 16 * pointer);
                for (slot, array) in (0u64..).zip(&arrays) {
                    self.write_pointer(SpaceId::SYSTEM, directory + slot * pointer, *array);
                }
                directory
            } else {
                arrays[0]
            };
            let own: Vec<&(Endpoint, u64)> = connections
                .iter()
                .enumerate()
                .filter(|(n, _)| *n as u64 % 2 == index)
                .map(|(_, own)| own)
                .collect();
            let bytes = self.system.layouts.size("_RTL_DYNAMIC_HASH_TABLE");
            let hash = self.allocate(Kind::NonPaged, *b"TcHT", bytes);
            self.at("_RTL_DYNAMIC_HASH_TABLE", hash)
                .set("TableSize", buckets)
                .set("DivisorMask", 127)
                .set("NumEntries", own.len() as u64)
                .set("NonEmptyBuckets", own.len() as u64)
                .set("Directory", directory);
            self.write_pointer(SpaceId::SYSTEM, table + index * size + pointer, hash);
            for (endpoint, at) in own {
                let bucket = u64::from(endpoint.local_port) * 7 % buckets;
                let head = match bucket.checked_sub(128) {
                    Some(beyond) => arrays[1] + beyond * 2 * pointer,
                    None => arrays[0] + bucket * 2 * pointer,
                };
                let link = self.shape(endpoint.protocol).link;
                self.append(head, at + link);
            }
        }
        let variable = self.driver_variable(base, "PartitionTable").expect("a table of partitions");
        self.write_pointer(SpaceId::SYSTEM, variable, table);
        let count = self.driver_variable(base, "PartitionCount").expect("a number of partitions");
        self.write(SpaceId::SYSTEM, count, &[2]);
    }

    /// A pool of ports. Sockets of one port are chained in their order.
    fn port_pool(&mut self, protocol: Protocol, sockets: &[(Endpoint, u64)]) -> u64 {
        let (bitmap, assignments, entries_at, entry_size, entry_at) = self.ports();
        let link = self.shape(protocol).link;
        let pool = self.allocate(Kind::NonPaged, *b"InPP", assignments + 256 * 8);
        let bits = self.allocate(Kind::NonPaged, *b"InPB", 0x2000);
        self.at("_RTL_BITMAP", pool + bitmap).set("SizeOfBitMap", 0x1_0000).set("Buffer", bits);
        for (endpoint, at) in sockets {
            let port = u64::from(endpoint.local_port);
            let byte = self.read(SpaceId::SYSTEM, bits + port / 8, 1)[0];
            self.write(SpaceId::SYSTEM, bits + port / 8, &[byte | 1 << (port % 8)]);
            let slot = pool + assignments + (port >> 8) * 8;
            if self.read_pointer(SpaceId::SYSTEM, slot) == 0 {
                let assignment = self.allocate(Kind::NonPaged, *b"InPa", 0x28);
                let entries = self.allocate(Kind::NonPaged, *b"InPa", 256 * entry_size);
                self.write_pointer(SpaceId::SYSTEM, assignment + entries_at, entries);
                self.write_pointer(SpaceId::SYSTEM, slot, assignment);
            }
            let assignment = self.read_pointer(SpaceId::SYSTEM, slot);
            let entries = self.read_pointer(SpaceId::SYSTEM, assignment + entries_at);
            // Flags stand in the low bits.
            let mut place = entries + (port & 0xFF) * entry_size + entry_at;
            while self.read_pointer(SpaceId::SYSTEM, place) != 0 {
                place = self.read_pointer(SpaceId::SYSTEM, place) & !3;
            }
            self.write_pointer(SpaceId::SYSTEM, place, (at + link) | 1);
        }
        pool
    }

    /// XP: a table of chains, linked by the first member.
    fn chains(&mut self, base: u64, names: (&str, &str), buckets: u32, objects: &[(Endpoint, u64)]) {
        let table = self.allocate(Kind::NonPaged, *b"TCPH", u64::from(buckets) * 4);
        for (endpoint, at) in objects {
            let head = table + u64::from(u32::from(endpoint.local_port) % buckets) * 4;
            let first = self.read_pointer(SpaceId::SYSTEM, head);
            self.write_pointer(SpaceId::SYSTEM, *at, first);
            self.write_pointer(SpaceId::SYSTEM, head, *at);
        }
        let variable = self.driver_variable(base, names.0).expect("a variable of the driver");
        self.write_pointer(SpaceId::SYSTEM, variable, table);
        let size = self.driver_variable(base, names.1).expect("a variable of the driver");
        self.write(SpaceId::SYSTEM, size, &buckets.to_le_bytes());
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
