//! Netlink and packet sockets.

use std::collections::BTreeSet;

use object::{Addr, Ptr, Read, Target, layout};

use super::Net;
use super::hash::{Table, Walker};
use super::socket::{self, Entry};

/// `MAX_LINKS` (include/uapi/linux/netlink.h): netlink protocols, each with a table.
const MAX_LINKS: u64 = 32;

/// Tables of one `rhashtable` while it is resized: the old one, the new one, and few more under pressure.
const MAX_RESIZES: usize = 16;

layout! {
    /// `netlink_sock` (net/netlink/af_netlink.h).
    struct NetlinkSock / NetlinkSockLayout = "netlink_sock" {
        /// Address of the socket; 0 for the kernel's. `pid` before Linux commit 15e473046cb6 (v3.7).
        portid: u32 = "portid | pid",
    }

    /// `packet_sock` (net/packet/internal.h).
    struct PacketSock / PacketSockLayout = "packet_sock" {
        /// Device it is bound to; 0 for all.
        ifindex: i32 = "ifindex",
        /// Ethernet protocol, big-endian.
        num: u16 = "num",
    }

    /// `bucket_table` of an rhashtable (include/linux/rhashtable.h).
    struct BucketTable / BucketTableLayout = "bucket_table" {
        size: u32 = "size",
        /// Not 0 where the buckets are a tree of pages, which a table that grew without memory is.
        nest: u32 = "nest",
        future: Ptr = "future_tbl",
        buckets: Addr = "buckets",
    }
}

/// Adds all netlink and packet sockets.
pub(super) fn tabled(walker: &mut Walker<'_>, namespaces: &[Net<'_>], found: &mut BTreeSet<u64>) {
    let notes = walker.notes();
    if let Err(why) = netlink_tables(walker, found) {
        notes.partial(format!("nl_table cannot be walked: {why}"));
    }
    if let Err(why) = packet_lists(walker, namespaces, found) {
        notes.partial(format!("packet sockets cannot be walked: {why}"));
    }
}

/// Packet sockets: one list per namespace.
fn packet_lists(walker: &mut Walker<'_>, namespaces: &[Net<'_>], found: &mut BTreeSet<u64>) -> Read<()> {
    let target = walker.target();
    let link = target.offset_of("sock", "__sk_common.skc_node")?;
    for net in namespaces {
        let Addr(head) = net.packet_sockets()?;
        let nodes = walker.nodes(&Table::of_heads(target, "net.packet.sklist", head, 1));
        found.extend(nodes.into_iter().map(|node| node.wrapping_sub(link)));
    }
    Ok(())
}

/// `nl_table`: one rhashtable of sockets per netlink protocol (net/netlink/af_netlink.c, since v3.17).
fn netlink_tables(walker: &mut Walker<'_>, found: &mut BTreeSet<u64>) -> Read<()> {
    let target = walker.target();
    let tables = target.read_ptr(target.symbol("nl_table")?)?;
    let stride = target.types().struct_size("netlink_table")?;
    let hash = target.offset_of("netlink_table", "hash.tbl")?;
    let node = target.offset_of("netlink_sock", "node")?;
    for protocol in 0..MAX_LINKS {
        let table = tables.wrapping_add(stride.wrapping_mul(protocol)).wrapping_add(hash);
        let mut next = target.read_ptr(table)?;
        let mut resizes = 0;
        while next != 0 && resizes < MAX_RESIZES {
            let table = BucketTable::at(target, next);
            if table.nest()? != 0 {
                walker
                    .notes()
                    .partial(format!("nl_table: nested hash table of protocol {protocol} was not walked"));
                break;
            }
            let Addr(first) = table.buckets()?;
            let heads = Table::of_heads(target, "nl_table", first, u64::from(table.size()?));
            let nodes = walker.nodes(&Table { locked_heads: true, ..heads });
            found.extend(nodes.into_iter().map(|found| found.wrapping_sub(node)));
            Ptr(next) = table.future()?;
            resizes = resizes.saturating_add(1);
        }
    }
    Ok(())
}

/// A netlink socket.
pub(super) fn netlink(target: &Target, addr: u64) -> Entry {
    let local_port = NetlinkSock::at(target, addr).portid();
    Entry { proto: Ok("netlink".to_owned()), local_port, ..socket::full(target, addr) }
}

/// A packet socket.
pub(super) fn packet(target: &Target, addr: u64) -> Entry {
    let packet = PacketSock::at(target, addr);
    Entry {
        proto: Ok("packet".to_owned()),
        protocol: packet.num().map(|num| u64::from(num.swap_bytes())),
        device: packet.ifindex().and_then(socket::device),
        ..socket::full(target, addr)
    }
}
