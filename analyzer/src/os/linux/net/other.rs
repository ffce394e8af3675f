//! Netlink and packet sockets.

use std::collections::BTreeSet;

use object::{Absent, Addr, Ptr, Read, Target, layout, walk};

use super::Net;
use super::hash::{self, Table};
use super::socket::{self, Entry};
use crate::notes::Notes;

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
pub(super) fn tabled(notes: &Notes, target: &Target, namespaces: &[Net<'_>], found: &mut BTreeSet<u64>) {
    if let Err(why) = netlink_tables(notes, target, found) {
        notes.partial(format!("nl_table cannot be walked: {why}"));
    }
    let link = target.offset_of("sock", "__sk_common.skc_node").map_err(Absent::from);
    for net in namespaces {
        let (link, head) = match (link.clone(), net.packet_sockets()) {
            (Ok(link), Ok(Addr(head))) => (link, head),
            // Packet sockets are a module on some kernels, and then unknown to its profile.
            (_, Err(Absent::NoProfile(_))) => continue,
            (Err(why), _) | (_, Err(why)) => {
                return notes.partial(format!("packet sockets cannot be walked: {why}"));
            }
        };
        let walked = walk::hlist(target, head);
        notes.walk("net.packet.sklist", &walked.end);
        found.extend(walked.containers(link));
    }
}

/// `nl_table`: one rhashtable of sockets per netlink protocol (net/netlink/af_netlink.c, since v3.17).
fn netlink_tables(notes: &Notes, target: &Target, found: &mut BTreeSet<u64>) -> Read<()> {
    let tables = target.read_ptr(target.symbol("nl_table")?)?;
    let stride = target.types().struct_size("netlink_table")?;
    let hash = target.offset_of("netlink_table", "hash.tbl")?;
    let node = target.offset_of("netlink_sock", "node")?;
    for protocol in 0..MAX_LINKS {
        let table = tables.wrapping_add(stride.wrapping_mul(protocol)).wrapping_add(hash);
        let mut next = target.read_ptr(table)?;
        let mut resizes = 0;
        while next != 0 && resizes < MAX_RESIZES {
            let buckets = BucketTable::at(target, next);
            if buckets.nest()? != 0 {
                notes.partial(format!("nl_table: nested hash table of protocol {protocol} was not walked"));
                break;
            }
            let Addr(first) = buckets.buckets()?;
            let count = u64::from(buckets.size()?);
            let pointer = u64::from(target.types().model().pointer_size());
            let table = Table {
                name: "nl_table",
                first,
                buckets: count,
                stride: pointer,
                link: 0,
                locked_heads: true,
            };
            found
                .extend(hash::nodes(target, notes, &table).into_iter().map(|found| found.wrapping_sub(node)));
            Ptr(next) = buckets.future()?;
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
        protocol: packet.num().map(|num| u32::from(num.swap_bytes())),
        device: packet.ifindex().and_then(socket::device),
        ..socket::full(target, addr)
    }
}
