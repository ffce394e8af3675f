//! The network stack: namespaces, sockets, devices and neighbours.
//!
//! Everything is per network namespace (`struct net`, include/net/net_namespace.h); [`namespaces`] lists them all.

pub mod device;
mod hash;
pub mod holders;
mod inet;
pub mod neigh;
pub mod netfilter;
mod other;
pub mod packet;
pub mod scan;
pub mod socket;
mod unix;

use object::{Addr, Ptr, Target, layout, walk};

use super::Kernel;
use crate::error::Error;
use crate::notes::Notes;

/// Most network namespaces that are looked at.
const MAX_NAMESPACES: usize = 1 << 16;

layout! {
    /// `net`: a network namespace (include/net/net_namespace.h).
    pub struct Net / NetLayout = "net" {
        /// Inode number of the namespace, as `/proc/PID/ns/net` shows it; `proc_inum` before Linux commit
        /// 435d5f4bb2cc (v3.19).
        inum: u32 = "ns.inum | proc_inum",
        /// Head of the list of devices.
        dev_base_head: Addr = "dev_base_head",
        /// Head of the list of packet sockets.
        packet_sockets: Addr = "packet.sklist",
        /// Hash table of Unix sockets; from Linux commit b6e811383062 (v6.0).
        unix_buckets: Ptr = "unx.table.buckets",
        /// UDP hash table of the namespace; from Linux commit ba6aac151677 (v6.2).
        udp_table: Ptr = "ipv4.udp_table",
        /// TCP hash tables of the namespace; from Linux commit d1e5e6408b30 (v6.1).
        tcp_hashinfo: Ptr = "ipv4.tcp_death_row.hashinfo",
    }
}

/// All network namespaces in the order of `net_namespace_list`: the initial one first.
pub fn namespaces<'t>(notes: &Notes, target: &'t Target) -> Result<Vec<Net<'t>>, Error> {
    let link = target.offset_of(Net::STRUCT, "list")?;
    let walked = walk::list_capped(target, target.symbol("net_namespace_list")?, MAX_NAMESPACES);
    notes.walk("net_namespace_list", &walked.end);
    Ok(walked.containers(link).map(|addr| Net::at(target, addr)).collect())
}

/// A hardware address as text: `02:47:54:00:00:01`; empty for devices without addresses.
fn hardware_address(bytes: &[u8]) -> String {
    let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    hex.join(":")
}

#[cfg(test)]
mod tests;
