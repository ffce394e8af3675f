//! `sockscan`: sockets found in physical memory by what they look like, whether any process or table has them or not.
//!
//! Sockets that were released are found until their memory is used again; what they pointed to may be anything by then, so only what
//! stands in them is shown. Besides what `netstat` lists there are sockets that the kernel made for itself and keeps out of its
//! tables, one or more for each network namespace. A socket that is neither released nor the kernel's and that netstat does not list
//! was hidden.
//!
//! Truth: every socket of `/proc/net` and of `/proc/PID/fd` of guests of 5.10, 6.1 and 6.12, and no other that lives.

use std::collections::BTreeMap;

use crate::os::linux::KernelFact;
use crate::os::linux::net::holders::held;
use crate::os::linux::net::scan::scan;
use crate::os::linux::net::socket::{Found, entry, sockets};
use crate::plugin::prelude::*;

/// The command.
pub struct Sockscan;

row! {
    pub struct Row {
        /// Protocol, by the name of its file in /proc/net (`tcp`, `udp6`, `unix`, ...), or the address family.
        proto as "Proto": Read<String>,
        /// Local address.
        local as "SAddr": Read<String>,
        /// Local port; of raw sockets the IP protocol, of netlink sockets the port id.
        local_port as "SPort": Read<u32>,
        /// Remote address.
        remote as "DAddr": Read<String>,
        /// Remote port.
        remote_port as "DPort": Read<u32>,
        /// State of the connection; of Unix sockets as in /proc/net/unix, or `LISTEN`.
        state as "State": Read<&'static str>,
        /// Ids of the processes that have it open.
        pids as "Pids": ListOf<i32>,
        /// Inode number; absent where the kernel keeps no file for it.
        inode as "Inode": Read<u64>,
        /// Socket type: `STREAM`, `DGRAM`, `RAW`, ...
        kind as "Type": Read<String>,
        /// Number within the family: IP protocol, netlink protocol, Ethernet protocol of a packet socket.
        protocol: Read<u64>,
        /// Path of a Unix socket; `@` stands for NUL, so abstract names start with it.
        path as "Path": Read<String>,
        /// Inode number of its network namespace.
        net_ns: Read<u32>,
        /// Whether it was released: nothing refers to it any more.
        freed: Read<bool>,
        /// Whether the kernel made it for itself.
        of_kernel: Read<bool>,
        /// Whether netstat lists it.
        listed: bool,
        /// Address of the kernel's structure.
        sock: Address,
        /// Its physical address.
        physical as "physical_offset": Read<Address>,
    }
}

impl Plugin for Sockscan {
    const NAME: &'static str = "sockscan";
    const SUMMARY: &'static str = "Scan physical memory for sockets";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let target = kernel.target();
        let listed = sockets(&session.notes, target, held(session, &kernel)?)?;
        let listed: BTreeMap<u64, Found> =
            listed.into_iter().map(|found| (found.entry.addr, found)).collect();
        for scanned in scan(&session.notes, &kernel)? {
            let if_kept = || match scanned.freed {
                Ok(true) => Err(Absent::NotApplicable("the socket was released")),
                _ => Ok(()),
            };
            let entry = entry(target, scanned.addr);
            let found = listed.get(&scanned.addr);
            let holders = found.map(|found| found.holders.as_slice()).unwrap_or_default();
            let physical = target.space().translate(scanned.addr);
            out.push(Row {
                proto: entry.proto,
                local: entry.local.map(|ip| ip.to_string()),
                local_port: entry.local_port,
                remote: entry.remote.map(|ip| ip.to_string()),
                remote_port: entry.remote_port,
                state: entry.state,
                pids: ListOf(holders.iter().filter_map(|holder| holder.pid.clone().ok()).collect()),
                inode: if_kept().and(entry.inode),
                kind: entry.kind,
                protocol: entry.protocol,
                path: if_kept().and(entry.path),
                net_ns: if_kept().and(entry.net_ns),
                freed: scanned.freed.clone(),
                of_kernel: scanned.of_kernel,
                listed: found.is_some(),
                sock: Address(scanned.addr),
                physical: physical
                    .map(Address)
                    .map_err(|fault| Absent::Unreadable { addr: scanned.addr, fault }),
            })?;
        }
        Ok(())
    }
}
