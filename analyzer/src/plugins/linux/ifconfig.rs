//! `ifconfig`: network devices and their addresses.
//!
//! Walks `net.dev_base_head` of every network namespace. A device has one row per IPv4 address, or one without; the
//! other columns repeat. Truth: `/sys/class/net`, `/proc/net/{dev,if_inet6,fib_trie}` of real guests.

use std::net::IpAddr;

use crate::os::linux::KernelFact;
use crate::os::linux::net::device::{self, devices};
use crate::plugin::prelude::*;

/// The command.
pub struct Ifconfig;

row! {
    pub struct Row {
        /// Name of the device, or the alias of the IPv4 address (`eth0:1`).
        interface: Read<String>,
        /// IPv4 address; absent where it has none.
        ipv4: Read<String>,
        /// Bits of the network part of the IPv4 address.
        prefix_len: Read<u32>,
        /// Present hardware address; empty for devices without.
        mac as "MAC": Read<String>,
        /// Flags as `ip link` shows them, joined by commas.
        flags: Read<String>,
        /// IPv6 addresses with prefix lengths.
        ipv6: Read<ListOf<Read<String>>>,
        /// Largest packet in bytes.
        mtu: Read<u64>,
        /// Number of the device in its namespace.
        ifindex: Read<i32>,
        /// Operational state: `up`, `down`, `unknown`, ...
        state: Read<&'static str>,
        /// Inode number of its network namespace.
        net_ns: Read<u32>,
    }
}

impl Plugin for Ifconfig {
    const NAME: &'static str = "ifconfig";
    const SUMMARY: &'static str = "List network devices and their addresses";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for (net, device) in devices(&session.notes, kernel.target())? {
            let ipv6 =
                device.ipv6(&session.notes).map(|list| ListOf(list.into_iter().map(with_prefix).collect()));
            let row = |interface, ipv4: Read<IpAddr>, prefix_len| Row {
                interface,
                ipv4: ipv4.map(|ip| ip.to_string()),
                prefix_len,
                mac: device.hardware_address(),
                flags: device.flags().map(|flags| flags.join(",")),
                ipv6: ipv6.clone(),
                mtu: device.mtu().map(|mtu| mtu.0),
                ifindex: device.ifindex(),
                state: device.state(),
                net_ns: net.inum(),
            };
            let without = |why: Absent| row(device.label(), Err(why.clone()), Err(why));
            match device.ipv4(&session.notes) {
                Ok(list) if list.is_empty() => out.push(without(Absent::NotApplicable("no IPv4 address")))?,
                Ok(list) => {
                    for address in list {
                        let name = address.label.clone().ok().filter(|label| !label.is_empty());
                        out.push(row(
                            name.map_or_else(|| device.label(), Ok),
                            address.ip,
                            address.prefix_len,
                        ))?;
                    }
                }
                Err(why) => out.push(without(why))?,
            }
        }
        Ok(())
    }
}

fn with_prefix(address: device::Address) -> Read<String> {
    Ok(format!("{}/{}", address.ip?, address.prefix_len?))
}
