//! `arp`: neighbours, that is the ARP and NDP caches.
//!
//! Walks the hash tables of `neigh_tables` for all network namespaces, with entries that `/proc/net/arp` leaves out
//! (NOARP, IPv6) and addresses this machine answers for (PROXY). Truth: `/proc/net/arp` of real guests.

use crate::os::linux::KernelFact;
use crate::os::linux::net::neigh::neighbours;
use crate::plugin::prelude::*;

/// The command.
pub struct Arp;

row! {
    pub struct Row {
        /// Address on the network layer.
        ip: Read<String>,
        /// Address on the link layer; all zero where it was never known.
        mac: Read<String>,
        /// Name of the device.
        dev: Read<String>,
        /// States (`NUD_*`), joined by commas.
        state: Read<String>,
        /// Flags (`NTF_*`), joined by commas; empty for none.
        flags: Read<String>,
        /// Address family: `inet` or `inet6`.
        family: &'static str,
        /// Inode number of the network namespace.
        net_ns: Read<u32>,
    }
}

impl Plugin for Arp {
    const NAME: &'static str = "arp";
    const SUMMARY: &'static str = "List the neighbour (ARP and NDP) caches";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for entry in neighbours(&session.notes, kernel.target())? {
            out.push(Row {
                ip: entry.ip.map(|ip| ip.to_string()),
                mac: entry.mac,
                dev: entry.device,
                state: entry.state,
                flags: entry.flags,
                family: entry.family,
                net_ns: entry.net_ns,
            })?;
        }
        Ok(())
    }
}
