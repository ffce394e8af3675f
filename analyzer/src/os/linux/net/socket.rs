//! Sockets of every family, with and without a process.
//!
//! Two sources are joined: open files of processes, and the tables in which the kernel itself finds sockets. The
//! second also has sockets that no process holds: in TIME_WAIT, orphaned by close(), half-open, in flight between
//! processes, or of the kernel itself. A `struct sock` found both ways is one socket.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use object::{Absent, Addr, Ptr, Read, Target, Uint, layout};

use super::hash::Walker;
use super::{Net, inet, namespaces, other, unix};
use crate::error::Error;
use crate::notes::Notes;

layout! {
    /// `sock`: the protocol side of a socket (include/net/sock.h).
    pub(super) struct Sock / SockLayout = "sock" {
        refcount: Uint = "__sk_common.skc_refcnt.refs.counter | __sk_common.skc_refcnt.counter",
        /// Bit-fields before Linux commit bf9765145b85 (v5.6).
        kind: Uint = "sk_type",
        protocol: Uint = "sk_protocol",
        /// The file side; null where no process can reach it any more.
        socket: Ptr = "sk_socket",
    }

    /// `sock_common`: what full sockets, TIME_WAIT sockets and connection requests share (include/net/sock.h).
    pub(super) struct Common / CommonLayout = "sock_common" {
        family: u16 = "skc_family",
        state: u8 = "skc_state",
        net: Ptr = "skc_net.net | skc_net",
        bound_device: i32 = "skc_bound_dev_if",
    }

    /// `socket`: the file side of a socket (include/linux/net.h).
    struct Socket / SocketLayout = "socket" {
        /// Its `struct sock`; null once released.
        sock: Ptr = "sk",
    }

    /// `socket_alloc`: a socket and its inode (include/net/sock.h, `SOCK_INODE`).
    struct SocketAlloc / SocketAllocLayout = "socket_alloc" {
        inode: Addr = "vfs_inode",
    }

    struct Inode / InodeLayout = "inode" {
        number: Uint = "i_ino",
        uid: u32 = "i_uid.val | i_uid",
    }
}

/// Address families (include/linux/socket.h).
pub(super) const AF_UNIX: u16 = 1;
pub(super) const AF_INET: u16 = 2;
pub(super) const AF_INET6: u16 = 10;
pub(super) const AF_NETLINK: u16 = 16;
pub(super) const AF_PACKET: u16 = 17;

/// Why a socket outside the internet families has no addresses.
pub(super) const NO_ADDRESS: Absent = Absent::NotApplicable("only internet sockets have addresses");

/// What a process sees of a socket: one of its file descriptors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process id.
    pub pid: Read<i32>,
    /// Process name.
    pub comm: Read<String>,
    /// File descriptor.
    pub fd: u32,
}

/// A socket.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Address of its `struct sock`, `inet_timewait_sock` or `request_sock`.
    pub addr: u64,
    /// Protocol by the name of its file in `/proc/net`: `tcp`, `tcp6`, `udp`, `unix`, `netlink`, ...; other families
    /// by their lower-case name.
    pub proto: Read<String>,
    /// Local address.
    pub local: Read<IpAddr>,
    /// Local port; of raw sockets the IP protocol, of netlink sockets the port id.
    pub local_port: Read<u32>,
    /// Remote address.
    pub remote: Read<IpAddr>,
    /// Remote port.
    pub remote_port: Read<u32>,
    /// State: of TCP the protocol's, of Unix sockets as `/proc/net/unix` has it.
    pub state: Read<&'static str>,
    /// Socket type: `STREAM`, `DGRAM`, ...
    pub kind: Read<String>,
    /// Number within the family: IP protocol, netlink protocol, or Ethernet protocol of a packet socket.
    pub protocol: Read<u64>,
    /// Index of the device it is bound to.
    pub device: Read<i32>,
    /// References to it.
    pub refcount: Read<u64>,
    /// Inode number, as `/proc/PID/fd` shows it.
    pub inode: Read<u64>,
    /// User who created it.
    pub uid: Read<u32>,
    /// Path of a Unix socket, `@` standing for NUL as in `/proc/net/unix`.
    pub path: Read<String>,
    /// Inode number of its network namespace.
    pub net_ns: Read<u32>,
}

/// A socket and how it was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The socket.
    pub entry: Entry,
    /// Whether it is in a table of the kernel.
    pub tabled: bool,
    /// The descriptors that hold it, sorted; none where no process does.
    pub holders: Vec<Holder>,
}

/// Address of the `struct sock` of a `struct socket`.
pub fn sock_of(target: &Target, socket: u64) -> Read<u64> {
    Socket::at(target, socket).sock()?.non_null("the socket is released")
}

/// All sockets: the held ones and those in the kernel's tables, each once, sorted by namespace, protocol, local port
/// and address.
pub fn sockets(
    notes: &Notes,
    target: &Target,
    held: BTreeMap<u64, Vec<Holder>>,
) -> Result<Vec<Found>, Error> {
    let namespaces = namespaces(notes, target)?;
    let tabled = tabled(notes, target, &namespaces);
    let all: BTreeSet<u64> = tabled.iter().chain(held.keys()).copied().collect();
    let mut held = held;
    let mut sockets: Vec<Found> = all
        .into_iter()
        .map(|addr| {
            let mut holders = held.remove(&addr).unwrap_or_default();
            holders.sort_by_cached_key(|holder| (holder.pid.clone().unwrap_or(i32::MAX), holder.fd));
            Found { entry: entry(target, addr), tabled: tabled.contains(&addr), holders }
        })
        .collect();
    sockets.sort_by_cached_key(|found| {
        let Entry { net_ns, proto, local_port, addr, .. } = &found.entry;
        let unknown = u32::MAX;
        let proto = proto.clone().unwrap_or_default();
        (net_ns.clone().unwrap_or(unknown), proto, local_port.clone().unwrap_or(unknown), *addr)
    });
    Ok(sockets)
}

/// Addresses of all sockets in the kernel's tables.
fn tabled(notes: &Notes, target: &Target, namespaces: &[Net<'_>]) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    let mut walker = Walker::new(target, notes);
    inet::tabled(&mut walker, namespaces, &mut found);
    unix::tabled(&mut walker, namespaces, &mut found);
    other::tabled(&mut walker, namespaces, &mut found);
    found
}

/// Reads one socket, request or socket in TIME_WAIT at an address.
pub fn entry(target: &Target, addr: u64) -> Entry {
    let common = Common::at(target, addr);
    let state = common.state();
    match common.family() {
        Ok(AF_INET | AF_INET6) if state == Ok(inet::TIME_WAIT) => inet::time_wait(target, addr),
        Ok(AF_INET | AF_INET6) if state == Ok(inet::NEW_SYN_RECV) => inet::request(target, addr),
        Ok(AF_INET | AF_INET6) => inet::full(target, addr),
        Ok(AF_UNIX) => unix::full(target, addr),
        Ok(AF_NETLINK) => other::netlink(target, addr),
        Ok(AF_PACKET) => other::packet(target, addr),
        Ok(family) => Entry { proto: Ok(family_name(family)), ..full(target, addr) },
        Err(why) => Entry { proto: Err(why), ..full(target, addr) },
    }
}

/// What every `struct sock` has.
pub(super) fn full(target: &Target, addr: u64) -> Entry {
    let sock = Sock::at(target, addr);
    let socket =
        sock.socket().and_then(|socket| socket.non_null("no process holds it and the kernel neither"));
    let inode = socket.and_then(|socket| inode_of(target, socket));
    Entry {
        state: Err(Absent::NotApplicable("the protocol has no states")),
        kind: sock.kind().map(|Uint(kind)| kind_name(kind)),
        protocol: sock.protocol().map(|Uint(protocol)| protocol),
        refcount: sock.refcount().map(|Uint(count)| count),
        inode: inode.clone().and_then(|inode| inode.number()).map(|Uint(number)| number),
        uid: inode.and_then(|inode| inode.uid()),
        ..mini(target, addr)
    }
}

/// What TIME_WAIT sockets and connection requests have, which are no `struct sock`.
pub(super) fn mini(target: &Target, addr: u64) -> Entry {
    let common = Common::at(target, addr);
    let small = || Absent::NotApplicable("no full socket any more, or not yet");
    let net_ns =
        common.net().and_then(|net| net.non_null("no namespace")).and_then(|net| Net::at(target, net).inum());
    Entry {
        addr,
        proto: Err(small()),
        local: Err(NO_ADDRESS),
        local_port: Err(NO_ADDRESS),
        remote: Err(NO_ADDRESS),
        remote_port: Err(NO_ADDRESS),
        state: Err(small()),
        kind: Err(small()),
        protocol: Err(small()),
        device: common.bound_device().and_then(device),
        refcount: Sock::at(target, addr).refcount().map(|Uint(count)| count),
        inode: Err(small()),
        uid: Err(small()),
        path: Err(Absent::NotApplicable("only Unix sockets have paths")),
        net_ns,
    }
}

/// A device index; 0 means any device.
pub(super) fn device(index: i32) -> Read<i32> {
    if index == 0 { Err(Absent::NotApplicable("not bound to a device")) } else { Ok(index) }
}

/// The inode that embeds a `struct socket` (`SOCK_INODE`, include/net/sock.h).
fn inode_of(target: &Target, socket: u64) -> Read<Inode<'_>> {
    let offset = target.offset_of(SocketAlloc::STRUCT, "socket")?;
    let Addr(inode) = SocketAlloc::at(target, socket.wrapping_sub(offset)).inode()?;
    Ok(Inode::at(target, inode))
}

/// Name of a socket type (`SOCK_*`, include/linux/net.h); the number where it has none.
fn kind_name(kind: u64) -> String {
    let name = match kind {
        1 => "STREAM",
        2 => "DGRAM",
        3 => "RAW",
        4 => "RDM",
        5 => "SEQPACKET",
        6 => "DCCP",
        10 => "PACKET",
        other => return other.to_string(),
    };
    name.to_owned()
}

/// Name of an address family (`AF_*`, include/linux/socket.h) that has no decoder here; the number where unknown.
fn family_name(family: u16) -> String {
    let name = match family {
        0 => "unspec",
        3 => "ax25",
        4 => "ipx",
        5 => "appletalk",
        8 => "atmpvc",
        15 => "key",
        21 => "rds",
        23 => "irda",
        24 => "pppox",
        29 => "can",
        30 => "tipc",
        31 => "bluetooth",
        33 => "rxrpc",
        36 => "ieee802154",
        38 => "alg",
        39 => "nfc",
        40 => "vsock",
        41 => "kcm",
        42 => "qipcrtr",
        43 => "smc",
        44 => "xdp",
        45 => "mctp",
        other => return format!("af{other}"),
    };
    name.to_owned()
}
