//! Internet sockets: TCP, UDP, UDP-Lite, ICMP and raw, over IPv4 and IPv6.
//!
//! What the kernel shows in `/proc/net/{tcp,udp,raw,...}[6]` comes from hash tables of `struct sock`
//! (net/ipv4/tcp_ipv4.c `tcp_seq_ops`, net/ipv4/udp.c, net/ipv4/raw.c); the same tables are walked here. TCP's table
//! of established sockets also holds two smaller structures: `inet_timewait_sock` (state 6) and `request_sock`
//! (state 12), told apart by `skc_state`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use object::{Absent, Bytes, Ptr, Read, Target, Uint, layout};
use profile::Type;

use super::Net;
use super::hash::{Table, Walker};
use super::socket::{self, AF_INET6, Entry, Sock};

/// `TCP_TIME_WAIT` (include/net/tcp_states.h): the structure is an `inet_timewait_sock`.
pub(super) const TIME_WAIT: u8 = 6;
/// `TCP_NEW_SYN_RECV`: the structure is a `request_sock`; Linux commit 10feb428a504 (v4.1).
pub(super) const NEW_SYN_RECV: u8 = 12;

/// Buckets of the table of ICMP sockets: `PING_HTABLE_SIZE` (net/ipv4/ping.c).
const PING_BUCKETS: u64 = 64;

/// `SOCK_RAW` (include/linux/net.h).
const SOCK_RAW: u64 = 3;

layout! {
    /// `inet_sock` (include/net/inet_sock.h). Ports and addresses are big-endian. Names changed with Linux commits
    /// c720c7e8383a (v2.6.33, `inet_` prefix) and efe4208f47f9 (v3.13, IPv6 addresses into `sock_common`).
    struct Inet / InetLayout = "inet_sock" {
        rcv_saddr: u32 = "sk.__sk_common.skc_rcv_saddr | inet_rcv_saddr | rcv_saddr",
        daddr: u32 = "sk.__sk_common.skc_daddr | inet_daddr | daddr",
        v6_rcv_saddr: Bytes = "sk.__sk_common.skc_v6_rcv_saddr",
        v6_daddr: Bytes = "sk.__sk_common.skc_v6_daddr",
        pinet6: Ptr = "pinet6",
        sport: u16 = "inet_sport | sport",
        dport: u16 = "sk.__sk_common.skc_dport | inet_dport | dport",
        /// Local port in host order; of raw sockets the IP protocol.
        num: u16 = "sk.__sk_common.skc_num | inet_num | num",
    }

    /// `ipv6_pinfo` before v3.13 (include/linux/ipv6.h).
    struct Pinfo6 / Pinfo6Layout = "ipv6_pinfo" {
        rcv_saddr: Bytes = "rcv_saddr",
        daddr: Bytes = "daddr",
    }

    /// Addresses in `sock_common` (include/net/sock.h).
    struct Common / CommonLayout = "sock_common" {
        family: u16 = "skc_family",
        rcv_saddr: u32 = "skc_rcv_saddr",
        daddr: u32 = "skc_daddr",
        v6_rcv_saddr: Bytes = "skc_v6_rcv_saddr",
        v6_daddr: Bytes = "skc_v6_daddr",
        dport: u16 = "skc_dport",
        num: u16 = "skc_num",
        /// Of a connection request: the listening socket.
        listener: Ptr = "skc_listener",
    }

    /// `inet_timewait_sock` (include/net/inet_timewait_sock.h).
    struct TimeWait / TimeWaitLayout = "inet_timewait_sock" {
        sport: u16 = "tw_sport",
        /// The state to show: TIME_WAIT or FIN_WAIT2.
        substate: u8 = "tw_substate",
    }

    /// `inet_hashinfo` (include/net/inet_hashtables.h).
    struct HashInfo / HashInfoLayout = "inet_hashinfo" {
        ehash: Ptr = "ehash",
        /// Buckets minus 1; the count itself before Linux commit f373b53b5fe6 (v2.6.33).
        ehash_mask: u32 = "ehash_mask",
        ehash_size: u32 = "ehash_size",
        /// Listening sockets by port and address.
        lhash2: Ptr = "lhash2",
        lhash2_mask: u32 = "lhash2_mask",
    }

    /// `udp_table` (include/net/udp.h).
    struct UdpTable / UdpTableLayout = "udp_table" {
        hash: Ptr = "hash",
        mask: u32 = "mask",
    }
}

/// Adds all internet sockets in the kernel's tables.
pub(super) fn tabled(walker: &mut Walker<'_>, namespaces: &[Net<'_>], found: &mut BTreeSet<u64>) {
    let (target, notes) = (walker.target(), walker.notes());
    let report = |what: &str, result: Read<()>| {
        if let Err(why) = result {
            notes.partial(format!("{what} cannot be walked: {why}"));
        }
    };
    report("tcp_hashinfo", tcp(walker, namespaces, found));
    for symbol in ["udp_table", "udplite_table"] {
        match target.symbol(symbol) {
            Ok(addr) => report(symbol, udp(walker, symbol, addr, found)),
            // A kernel may be built without UDP-Lite.
            Err(_) if symbol == "udplite_table" => {}
            Err(missing) => report(symbol, Err(missing.into())),
        }
    }
    let shared = target.symbol("udp_table").ok();
    for net in namespaces {
        if let Ok(Ptr(own)) = net.udp_table()
            && own != 0
            && Some(own) != shared
        {
            report("net.ipv4.udp_table", udp(walker, "net.ipv4.udp_table", own, found));
        }
    }
    // IPv6 is a module on some kernels.
    for symbol in ["raw_v4_hashinfo", "raw_v6_hashinfo"] {
        if let Ok(addr) = target.symbol(symbol) {
            report(symbol, raw(walker, symbol, addr, found));
        }
    }
    // ICMP sockets, of both families. `ping_table` is private to net/ipv4/ping.c; it starts with its heads.
    if let Ok(addr) = target.symbol("ping_table") {
        report(
            "ping_table",
            heads(walker, &Table::of_heads(target, "ping_table", addr, PING_BUCKETS), found),
        );
    }
}

/// TCP: established and smaller sockets (`ehash`) and listening ones.
///
/// Listening sockets are in `listening_hash` up to v5.18; Linux commit cae3873c5b3a (v5.19) removed it and chained
/// them into `lhash2` by the same node.
fn tcp(walker: &mut Walker<'_>, namespaces: &[Net<'_>], found: &mut BTreeSet<u64>) -> Read<()> {
    let target = walker.target();
    // A namespace may have an `ehash` of its own (net.ipv4.tcp_child_ehash_entries).
    let own = namespaces.iter().filter_map(|net| net.tcp_hashinfo().ok()).map(|Ptr(info)| info);
    let mut infos: BTreeSet<u64> = own.filter(|&info| info != 0).collect();
    infos.insert(target.symbol("tcp_hashinfo")?);
    let link = target.offset_of("sock", "__sk_common.skc_nulls_node | __sk_common.skc_node")?;
    let mut walked = BTreeSet::new();
    for addr in infos {
        // Sockets in TIME_WAIT had chains of their own until Linux commit 05dbc7b59481 (v3.13).
        let waiting = established(target, addr, "twchain").ok();
        let tables = [established(target, addr, "chain")?, listening(target, addr)?];
        for table in tables.into_iter().chain(waiting) {
            if walked.insert(table.first) {
                found.extend(walker.nodes(&table).into_iter().map(|node| node.wrapping_sub(link)));
            }
        }
    }
    Ok(())
}

fn established(target: &Target, addr: u64, chain: &str) -> Read<Table<'static>> {
    let info = HashInfo::at(target, addr);
    let by_mask = info.ehash_mask().map(|mask| u64::from(mask).saturating_add(1));
    Ok(Table {
        first: info.ehash()?.0.wrapping_add(target.offset_of("inet_ehash_bucket", chain)?),
        buckets: by_mask.or_else(|_| info.ehash_size().map(u64::from))?,
        stride: target.types().struct_size("inet_ehash_bucket")?,
        ..Table::of_heads(target, "tcp_hashinfo.ehash", 0, 0)
    })
}

fn listening(target: &Target, addr: u64) -> Read<Table<'static>> {
    let head = target.offset_of("inet_listen_hashbucket", "nulls_head | head")?;
    let stride = target.types().struct_size("inet_listen_hashbucket")?;
    let (name, first, buckets) = match target.types().resolve("inet_hashinfo", "listening_hash") {
        Ok(place) => {
            ("tcp_hashinfo.listening_hash", addr.wrapping_add(place.offset), array_length(&place.ty)?)
        }
        Err(_) => {
            let info = HashInfo::at(target, addr);
            ("tcp_hashinfo.lhash2", info.lhash2()?.0, u64::from(info.lhash2_mask()?).saturating_add(1))
        }
    };
    Ok(Table { stride, ..Table::of_heads(target, name, first.wrapping_add(head), buckets) })
}

/// UDP and UDP-Lite: the table by port.
fn udp(walker: &mut Walker<'_>, name: &str, addr: u64, found: &mut BTreeSet<u64>) -> Read<()> {
    let target = walker.target();
    let table = UdpTable::at(target, addr);
    let first = table.hash()?.0.wrapping_add(target.offset_of("udp_hslot", "head")?);
    let buckets = u64::from(table.mask()?).saturating_add(1);
    let stride = target.types().struct_size("udp_hslot")?;
    heads(walker, &Table { stride, ..Table::of_heads(target, name, first, buckets) }, found)
}

/// Raw sockets: `raw_hashinfo.ht`.
fn raw(walker: &mut Walker<'_>, name: &str, addr: u64, found: &mut BTreeSet<u64>) -> Read<()> {
    let target = walker.target();
    let place = target.types().resolve("raw_hashinfo", "ht")?;
    let (first, buckets) = (addr.wrapping_add(place.offset), array_length(&place.ty)?);
    heads(walker, &Table::of_heads(target, name, first, buckets), found)
}

/// A table whose chains link `skc_node`.
fn heads(walker: &mut Walker<'_>, table: &Table<'_>, found: &mut BTreeSet<u64>) -> Read<()> {
    let link = walker.target().offset_of("sock", "__sk_common.skc_node")?;
    found.extend(walker.nodes(table).into_iter().map(|node| node.wrapping_sub(link)));
    Ok(())
}

fn array_length(ty: &Type) -> Read<u64> {
    match ty {
        Type::Array { count: Some(count), .. } => Ok(*count),
        _ => Err(Absent::Malformed("profile gives no length of the array")),
    }
}

/// A full socket.
pub(super) fn full(target: &Target, addr: u64) -> Entry {
    let (inet, common, sock) = (Inet::at(target, addr), Common::at(target, addr), Sock::at(target, addr));
    let is_v6 = common.family().map(|family| family == AF_INET6);
    let proto = || Ok(proto_name(is_v6.clone()?, sock.kind()?.0, sock.protocol()?.0));
    let proto = proto();
    let (local, remote) = match is_v6 {
        Ok(false) => (inet.rcv_saddr().map(v4), inet.daddr().map(v4)),
        Ok(true) => v6_addresses(&inet),
        Err(why) => (Err(why.clone()), Err(why)),
    };
    // raw_sock_seq_show() of net/ipv4/raw.c: the number is the protocol, the remote port is 0.
    let raw = sock.kind().map(|Uint(kind)| kind == SOCK_RAW);
    let (local_port, remote_port) = match raw {
        Ok(true) => (inet.num(), Ok(0)),
        _ => (inet.sport().map(u16::swap_bytes), inet.dport().map(u16::swap_bytes)),
    };
    Entry {
        proto,
        local,
        remote,
        local_port: local_port.map(u32::from),
        remote_port: remote_port.map(u32::from),
        state: socket::Common::at(target, addr).state().and_then(state_name),
        ..socket::full(target, addr)
    }
}

/// A socket in TIME_WAIT: `get_timewait4_sock()` of net/ipv4/tcp_ipv4.c.
pub(super) fn time_wait(target: &Target, addr: u64) -> Entry {
    let socket = TimeWait::at(target, addr);
    let port = socket.sport().map(|port| u32::from(port.swap_bytes()));
    let state = socket.substate().and_then(state_name);
    Entry { local_port: port, state, ..connection(target, addr) }
}

/// A connection request that waits for the last packet of the handshake: `get_openreq4()` of net/ipv4/tcp_ipv4.c.
pub(super) fn request(target: &Target, addr: u64) -> Entry {
    let common = Common::at(target, addr);
    let listener = common.listener().and_then(|listener| listener.non_null("no listening socket"));
    let uid = listener.and_then(|listener| socket::full(target, listener).uid);
    let port = common.num().map(u32::from);
    Entry { local_port: port, state: state_name(NEW_SYN_RECV), uid, ..connection(target, addr) }
}

/// What TIME_WAIT sockets and requests share: they are always TCP's here.
fn connection(target: &Target, addr: u64) -> Entry {
    let common = Common::at(target, addr);
    let v6 = |Bytes(bytes): Bytes| v6(&bytes);
    let is_v6 = common.family().map(|family| family == AF_INET6);
    let (local, remote) = match is_v6 {
        Ok(true) => (common.v6_rcv_saddr().and_then(v6), common.v6_daddr().and_then(v6)),
        _ => (common.rcv_saddr().map(v4), common.daddr().map(v4)),
    };
    Entry {
        proto: is_v6.map(|is_v6| if is_v6 { "tcp6" } else { "tcp" }.to_owned()),
        local,
        remote,
        remote_port: common.dport().map(|port| u32::from(port.swap_bytes())),
        ..socket::mini(target, addr)
    }
}

fn v6_addresses(inet: &Inet<'_>) -> (Read<IpAddr>, Read<IpAddr>) {
    let (local, remote) = match (inet.v6_rcv_saddr(), inet.pinet6()) {
        (Err(Absent::NoProfile(_)), Ok(Ptr(info))) => {
            let info = Pinfo6::at(inet.target(), info);
            (info.rcv_saddr(), info.daddr())
        }
        (local, _) => (local, inet.v6_daddr()),
    };
    let v6 = |Bytes(bytes): Bytes| v6(&bytes);
    (local.and_then(v6), remote.and_then(v6))
}

/// An IPv4 address from a `__be32` read as little-endian.
pub(super) fn v4(value: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(value.to_le_bytes()))
}

/// An IPv6 address from the bytes of an `in6_addr`.
pub(super) fn v6(bytes: &[u8]) -> Read<IpAddr> {
    let bytes: [u8; 16] =
        bytes.try_into().map_err(|_| Absent::Malformed("IPv6 address is not 16 bytes long"))?;
    Ok(IpAddr::V6(Ipv6Addr::from(bytes)))
}

/// Name of a protocol by its file in `/proc/net`. Numbers: include/uapi/linux/in.h.
fn proto_name(is_v6: bool, kind: u64, protocol: u64) -> String {
    let name = match (kind, protocol) {
        (SOCK_RAW, _) => "raw",
        (_, 1 | 58) => "icmp",
        (_, 6) => "tcp",
        (_, 17) => "udp",
        (_, 33) => "dccp",
        (_, 132) => "sctp",
        (_, 136) => "udplite",
        (_, 256) => "smc",
        (_, 262) => "mptcp",
        (_, other) => return format!("ip{other}{}", if is_v6 { "v6" } else { "" }),
    };
    format!("{name}{}", if is_v6 { "6" } else { "" })
}

/// Name of a state (include/net/tcp_states.h). A request is shown as SYN_RECV, as the kernel does.
pub(super) fn state_name(state: u8) -> Read<&'static str> {
    Ok(match state {
        1 => "ESTABLISHED",
        2 => "SYN_SENT",
        3 | NEW_SYN_RECV => "SYN_RECV",
        4 => "FIN_WAIT1",
        5 => "FIN_WAIT2",
        TIME_WAIT => "TIME_WAIT",
        7 => "CLOSE",
        8 => "CLOSE_WAIT",
        9 => "LAST_ACK",
        10 => "LISTEN",
        11 => "CLOSING",
        13 => "BOUND_INACTIVE",
        _ => return Err(Absent::Malformed("no such socket state")),
    })
}
