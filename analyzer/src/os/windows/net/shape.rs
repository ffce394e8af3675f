//! Where in the structs of `tcpip.sys` what stands. Its public symbols have no types, so the build decides, and what is found
//! there is tested against the memory ([`super::scan`]).
//!
//! Sources of the offsets: the research behind Volatility's and Rekall's tables (Ligh et al., The Art of Memory Forensics, ch. 11;
//! their issues and pull requests for single builds of Windows 10 and of Server 2022); `_LIST_ENTRY`s of the partitions as
//! MemProcFS walks them. The time of a connection stands 0x10 behind its owner wherever both follow the ports.

/// A TCP connection, `TcpE` (`TTcb` from build 20348 on).
#[derive(Debug, Clone, Copy)]
pub(super) struct Connection {
    /// Pointer to the address family.
    pub(super) family: u64,
    /// Pointer to the addresses of both ends.
    pub(super) addresses: u64,
    /// Link of the partition's table.
    pub(super) link: u64,
    /// State, 32 bits.
    pub(super) state: u64,
    /// Local port, big-endian; the remote one follows.
    pub(super) ports: u64,
    /// Pointer to the process.
    pub(super) owner: u64,
    /// When it was made, a `FILETIME`.
    pub(super) created: u64,
}

/// A listening TCP socket, `TcpL`, or a UDP socket, `UdpA`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Socket {
    /// Pointer to the address family.
    pub(super) family: u64,
    /// Pointer to the process.
    pub(super) owner: u64,
    /// When it was made, a `FILETIME`.
    pub(super) created: u64,
    /// Pointer to the local address; null for any.
    pub(super) local: u64,
    /// Local port, big-endian.
    pub(super) port: u64,
    /// Link to the next socket of the same port.
    pub(super) next: u64,
    /// Whether the pointer to the local address leads to one pointer to the bytes, not to two.
    pub(super) direct: bool,
}

/// A pool of ports, and what it says of one port.
#[derive(Debug, Clone, Copy)]
pub(super) struct PortPool {
    /// `RTL_BITMAP` of the ports in use.
    pub(super) bitmap: u64,
    /// 256 pointers, one for 256 ports each.
    pub(super) assignments: u64,
    /// In what those lead to: pointer to the entries of the ports.
    pub(super) entries: u64,
    /// Bytes of an entry.
    pub(super) entry_size: u64,
    /// In an entry: pointer into the socket, at its link.
    pub(super) entry: u64,
}

/// The structs of one build. Made by [`super::scan::shapes`].
#[derive(Debug, Clone, Copy)]
pub struct Shapes {
    /// First build they are of.
    since: u32,
    pub(super) connection: Connection,
    pub(super) listener: Socket,
    pub(super) udp: Socket,
    /// In the address family: its number.
    pub(super) family_number: u64,
    /// In the addresses of a connection: pointer to the bytes of the remote one; the local one is first.
    pub(super) remote: u64,
    /// In a local address: pointer to a pointer to its bytes.
    pub(super) local_data: u64,
    pub(super) ports: PortPool,
    /// Bytes of a partition of the table of connections; its second pointer is to its hash table.
    pub(super) partition: u64,
    /// From a set of compartments to a pool of ports: offsets of pointers.
    pub(super) compartments: [u64; 3],
}

const CONNECTION: Connection = Connection {
    family: 0x18,
    addresses: 0x20,
    link: 0x28,
    state: 0x68,
    ports: 0x6c,
    owner: 0x238,
    created: 0,
};
const LISTENER: Socket =
    Socket { family: 0x60, owner: 0x28, created: 0x20, local: 0x58, port: 0x6a, next: 0x70, direct: false };
const UDP: Socket =
    Socket { family: 0x20, owner: 0x28, created: 0x58, local: 0x60, port: 0x80, next: 0x88, direct: false };
const PORTS: PortPool =
    PortPool { bitmap: 0x90, assignments: 0xa0, entries: 0x20, entry_size: 0x10, entry: 8 };

/// Windows 7, 64 bits.
const SEVEN: Shapes = Shapes {
    since: 7600,
    connection: CONNECTION,
    listener: LISTENER,
    udp: UDP,
    family_number: 0x14,
    remote: 0x10,
    local_data: 0x10,
    ports: PORTS,
    partition: 0x80,
    compartments: [0x148, 0x20, 0],
};

const VISTA: Shapes = Shapes {
    since: 0,
    connection: Connection { state: 0x50, ports: 0x54, owner: 0x208, ..CONNECTION },
    ..SEVEN
};

const EIGHT: Shapes = Shapes {
    since: 9200,
    connection: Connection {
        family: 0x10,
        addresses: 0x18,
        link: 0x28,
        state: 0x6c,
        ports: 0x70,
        owner: 0x250,
        created: 0,
    },
    listener: Socket { created: 0x40, ..LISTENER },
    family_number: 0x18,
    ports: PortPool { bitmap: 0xa0, assignments: 0xb0, ..PORTS },
    ..SEVEN
};

const TEN: Shapes = Shapes {
    since: 10240,
    connection: owned(0x258, EIGHT.connection),
    listener: Socket {
        family: 0x28,
        owner: 0x30,
        created: 0x40,
        local: 0x60,
        port: 0x72,
        next: 0x78,
        direct: false,
    },
    udp: Socket { port: 0x78, local: 0x80, next: 0x70, direct: true, ..UDP },
    ports: PortPool { bitmap: 0xd8, assignments: 0xe8, entries: 0x18, entry_size: 0x18, entry: 8 },
    ..EIGHT
};

/// A connection whose owner and time stand behind the rest.
const fn owned(owner: u64, of: Connection) -> Connection {
    Connection { owner, created: owner + 0x10, ..of }
}

const TEN_1903: Shapes = Shapes {
    since: 18362,
    connection: owned(0x290, TEN.connection),
    ports: PortPool { bitmap: 0xd0, assignments: 0xe0, ..TEN.ports },
    ..TEN
};

const TEN_2004: Shapes = Shapes {
    since: 19041,
    connection: owned(0x2d8, TEN.connection),
    udp: Socket { port: 0xa0, local: 0xa8, ..TEN.udp },
    ports: PortPool { entry_size: 0x20, entry: 0x10, ..TEN_1903.ports },
    partition: 0xc0,
    ..TEN_1903
};

/// 64-bit builds, oldest first.
const WIDE: &[Shapes] = &[
    VISTA,
    Shapes { since: 6001, connection: Connection { owner: 0x210, ..VISTA.connection }, ..VISTA },
    SEVEN,
    EIGHT,
    Shapes {
        since: 9600,
        connection: Connection { owner: 0x258, ..EIGHT.connection },
        udp: Socket { port: 0x78, next: 0x70, ..UDP },
        ports: PortPool { entry_size: 0x18, ..EIGHT.ports },
        ..EIGHT
    },
    TEN,
    Shapes { since: 15063, connection: owned(0x270, TEN.connection), ..TEN },
    Shapes { since: 17134, connection: owned(0x278, TEN.connection), ..TEN },
    Shapes { since: 17763, connection: owned(0x2c8, TEN.connection), ..TEN },
    TEN_1903,
    Shapes { since: 18363, udp: Socket { port: 0x80, local: 0x88, ..TEN.udp }, ..TEN_1903 },
    TEN_2004,
    Shapes {
        since: 20348,
        connection: Connection { owner: 0x2f0, created: 0x308, ..TEN.connection },
        ..TEN_2004
    },
];

const CONNECTION_32: Connection = Connection {
    family: 0xc,
    addresses: 0x10,
    link: 0x14,
    state: 0x34,
    ports: 0x38,
    owner: 0x174,
    created: 0,
};
const LISTENER_32: Socket =
    Socket { family: 0x38, owner: 0x18, created: 0x20, local: 0x34, port: 0x3e, next: 0x40, direct: false };
const UDP_32: Socket =
    Socket { family: 0x14, owner: 0x18, created: 0x30, local: 0x38, port: 0x48, next: 0x4c, direct: false };

const SEVEN_32: Shapes = Shapes {
    since: 7600,
    connection: CONNECTION_32,
    listener: LISTENER_32,
    udp: UDP_32,
    family_number: 0xc,
    remote: 8,
    local_data: 0xc,
    ports: PortPool { bitmap: 0x50, assignments: 0x58, entries: 0x14, entry_size: 8, entry: 4 },
    partition: 0x40,
    compartments: [0x148, 0x20, 0],
};

const EIGHT_32: Shapes = Shapes {
    since: 9200,
    connection: Connection { family: 8, addresses: 0xc, state: 0x38, ports: 0x3c, ..CONNECTION_32 },
    remote: 0xc,
    ..SEVEN_32
};

const TEN_32: Shapes = Shapes {
    since: 14393,
    connection: Connection { owner: 0x1b4, ..EIGHT_32.connection },
    ports: PortPool { bitmap: 0x90, assignments: 0x98, entries: 0x10, entry_size: 8, entry: 4 },
    ..EIGHT_32
};

/// 32-bit builds, oldest first.
const NARROW: &[Shapes] = &[
    Shapes {
        since: 0,
        connection: Connection { state: 0x28, ports: 0x2c, owner: 0x160, ..CONNECTION_32 },
        ..SEVEN_32
    },
    SEVEN_32,
    EIGHT_32,
    Shapes { since: 9600, connection: Connection { owner: 0x1a8, ..EIGHT_32.connection }, ..EIGHT_32 },
    Shapes {
        since: 10240,
        connection: Connection { owner: 0x1b0, created: 0x1b8, ..EIGHT_32.connection },
        listener: Socket {
            family: 0x40,
            owner: 0x1c,
            created: 0x28,
            local: 0x3c,
            port: 0x46,
            next: 0x48,
            direct: false,
        },
        ..TEN_32
    },
    Shapes {
        since: 10586,
        connection: Connection {
            family: 0,
            addresses: 4,
            link: 0x20,
            state: 0x30,
            ports: 0x34,
            owner: 0x1a8,
            created: 0x1b0,
        },
        listener: Socket {
            family: 0x10,
            owner: 0x14,
            created: 0x20,
            local: 0x34,
            port: 0x3e,
            next: 0x48,
            direct: false,
        },
        udp: Socket {
            family: 0x34,
            owner: 0x10,
            created: 0x28,
            local: 0x30,
            port: 0x3c,
            next: 0x40,
            direct: false,
        },
        partition: 0x48,
        ..TEN_32
    },
    TEN_32,
    Shapes {
        since: 15063,
        connection: Connection { owner: 0x1cc, ..TEN_32.connection },
        listener: Socket { next: 0x48, ..LISTENER_32 },
        compartments: [0x144, 0x14, 0],
        ..TEN_32
    },
    Shapes {
        since: 17134,
        connection: Connection { owner: 0x1cc, ..TEN_32.connection },
        listener: Socket { next: 0x48, ..LISTENER_32 },
        udp: Socket { port: 0x44, ..UDP_32 },
        compartments: [0x144, 0x14, 0],
        ..TEN_32
    },
];

/// The structs of a build, or of the newest before it.
pub(super) fn of_build(is_32bit: bool, build: u32) -> Shapes {
    let table = if is_32bit { NARROW } else { WIDE };
    let oldest = if is_32bit { SEVEN_32 } else { SEVEN };
    table.iter().rev().find(|shapes| shapes.since <= build).copied().unwrap_or(oldest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_ascend_and_the_newest_before_counts() {
        for table in [WIDE, NARROW] {
            assert!(table.is_sorted_by_key(|shapes| shapes.since));
            assert_eq!(table[0].since, 0);
        }
        // Windows 7 with and without service pack; Windows 11 has what Server 2022 has as far as is known.
        assert_eq!(of_build(false, 7601).connection.owner, 0x238);
        assert_eq!(of_build(false, 19045).connection.owner, 0x2d8);
        assert_eq!(of_build(false, 22000).connection.owner, 0x2f0);
        assert_eq!(of_build(true, 7601).connection.owner, 0x174);
    }
}
