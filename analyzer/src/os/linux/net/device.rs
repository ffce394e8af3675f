//! Network devices and their addresses (include/linux/netdevice.h, inetdevice.h, include/net/if_inet6.h).

use std::net::IpAddr;

use object::{Absent, Addr, Bytes, Ptr, Read, Target, Text, Uint, layout, walk};
use profile::Type;

use super::{Net, hardware_address, inet, namespaces};
use crate::error::Error;
use crate::notes::Notes;
use crate::table::text_of;

/// Longest hardware address: `MAX_ADDR_LEN` (include/linux/netdevice.h).
pub(super) const MAX_ADDR_LEN: u8 = 32;

/// Most devices of one namespace, and addresses of one family of one device, that are read.
const MAX_DEVICES: usize = 1 << 16;
const MAX_ADDRESSES: usize = 1 << 12;

layout! {
    /// `net_device` (include/linux/netdevice.h).
    pub struct Device / DeviceLayout = "net_device" {
        /// Name in its namespace.
        name: Text = "name",
        /// Number in its namespace.
        ifindex: i32 = "ifindex",
        /// Largest packet in bytes.
        mtu: Uint = "mtu",
        /// `IFF_*` flags as the kernel keeps them.
        kernel_flags: Uint = "flags",
        /// The flags that users set but the kernel counts.
        user_flags: Uint = "gflags",
        /// `__LINK_STATE_*` bits.
        link_state: Uint = "state",
        /// RFC 2863 operational state.
        operstate: Uint = "operstate",
        /// Bytes of a hardware address.
        addr_len: u8 = "addr_len",
        /// IPv4 configuration; null for none.
        ip_ptr: Ptr = "ip_ptr",
        /// IPv6 configuration; null for none.
        ip6_ptr: Ptr = "ip6_ptr",
        /// Its namespace.
        net: Ptr = "nd_net.net | nd_net",
    }

    struct InDevice / InDeviceLayout = "in_device" {
        ifa_list: Ptr = "ifa_list",
    }

    struct InIfaddr / InIfaddrLayout = "in_ifaddr" {
        next: Ptr = "ifa_next",
        local: u32 = "ifa_local",
        prefix_len: u8 = "ifa_prefixlen",
        label: Text = "ifa_label",
    }

    struct Inet6Dev / Inet6DevLayout = "inet6_dev" {
        /// A list head from Linux commit 502a2ffd7376 (v2.6.35).
        addr_list: Addr = "addr_list",
    }

    struct Inet6Ifaddr / Inet6IfaddrLayout = "inet6_ifaddr" {
        ip: Bytes = "addr",
        prefix_len: u32 = "prefix_len",
    }
}

/// An address of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: Read<IpAddr>,
    /// Bits of the network part.
    pub prefix_len: Read<u32>,
    /// Name the address was given: the device's own or an alias such as `eth0:1`. IPv6 addresses have none.
    pub label: Read<String>,
}

/// All devices, namespace by namespace, in the order of their lists.
pub fn devices<'t>(notes: &Notes, target: &'t Target) -> Result<Vec<(Net<'t>, Device<'t>)>, Error> {
    let link = target.offset_of(Device::STRUCT, "dev_list")?;
    let mut devices = Vec::new();
    for net in namespaces(notes, target)? {
        match net.dev_base_head() {
            Ok(Addr(head)) => {
                let walked = walk::list_capped(target, head, MAX_DEVICES);
                notes.walk("net.dev_base_head", &walked.end);
                devices.extend(walked.containers(link).map(|addr| (net, Device::at(target, addr))));
            }
            Err(why) => notes.partial(format!("devices cannot be walked: {why}")),
        }
    }
    Ok(devices)
}

/// `IFF_*` flags and their names (include/uapi/linux/if.h), without the prefix.
const FLAGS: [(u64, &str); 19] = [
    (0x1, "UP"),
    (0x2, "BROADCAST"),
    (0x4, "DEBUG"),
    (0x8, "LOOPBACK"),
    (0x10, "POINTOPOINT"),
    (0x20, "NOTRAILERS"),
    (IFF_RUNNING, "RUNNING"),
    (0x80, "NOARP"),
    (IFF_PROMISC, "PROMISC"),
    (IFF_ALLMULTI, "ALLMULTI"),
    (0x400, "MASTER"),
    (0x800, "SLAVE"),
    (0x1000, "MULTICAST"),
    (0x2000, "PORTSEL"),
    (0x4000, "AUTOMEDIA"),
    (0x8000, "DYNAMIC"),
    (IFF_LOWER_UP, "LOWER_UP"),
    (IFF_DORMANT, "DORMANT"),
    (0x4_0000, "ECHO"),
];
const IFF_RUNNING: u64 = 0x40;
const IFF_PROMISC: u64 = 0x100;
const IFF_ALLMULTI: u64 = 0x200;
const IFF_LOWER_UP: u64 = 0x1_0000;
const IFF_DORMANT: u64 = 0x2_0000;

/// Bits of `net_device.state` (`enum netdev_state_t`, include/linux/netdevice.h).
const LINK_START: u64 = 1;
const LINK_NO_CARRIER: u64 = 1 << 2;
const LINK_DORMANT: u64 = 1 << 4;

/// `IF_OPER_UNKNOWN` and `IF_OPER_UP` (include/uapi/linux/if.h).
const OPER_UNKNOWN: u64 = 0;
const OPER_UP: u64 = 6;

impl Device<'_> {
    /// Its name as text.
    pub fn label(&self) -> Read<String> {
        self.name().map(|Text(bytes)| text_of(&bytes))
    }

    /// Its present hardware address; empty for devices without one.
    pub fn hardware_address(&self) -> Read<String> {
        let place = self.target().types().resolve(Self::STRUCT, "dev_addr")?;
        let field = self.addr().wrapping_add(place.offset);
        // An array up to v2.6.30, a pointer since.
        let at =
            if matches!(place.ty, Type::Array { .. }) { field } else { self.target().read_ptr(field)? };
        let len = self.addr_len()?;
        if len > MAX_ADDR_LEN {
            return Err(Absent::Malformed("length of a hardware address"));
        }
        let bytes = self.target().read_bytes(at, len.into(), MAX_ADDR_LEN.into())?;
        Ok(hardware_address(&bytes))
    }

    /// Names of its flags as `ip link` and SIOCGIFFLAGS see them: `dev_get_flags()` of net/core/dev.c, which derives
    /// RUNNING, LOWER_UP and DORMANT from the state of the link.
    pub fn flags(&self) -> Read<Vec<&'static str>> {
        const USER: u64 = IFF_PROMISC | IFF_ALLMULTI;
        const DERIVED: u64 = USER | IFF_RUNNING | IFF_LOWER_UP | IFF_DORMANT;
        let (Uint(kernel), Uint(user)) = (self.kernel_flags()?, self.user_flags()?);
        let (Uint(link), Uint(oper)) = (self.link_state()?, self.operstate()?);
        let mut flags = kernel & !DERIVED | user & USER;
        if link & LINK_START != 0 {
            if oper == OPER_UP || oper == OPER_UNKNOWN {
                flags |= IFF_RUNNING;
            }
            if link & LINK_NO_CARRIER == 0 {
                flags |= IFF_LOWER_UP;
            }
            if link & LINK_DORMANT != 0 {
                flags |= IFF_DORMANT;
            }
        }
        Ok(FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect())
    }

    /// Operational state as `/sys/class/net/NAME/operstate` has it: `down` where the device is not running
    /// (net/core/net-sysfs.c).
    pub fn state(&self) -> Read<&'static str> {
        let Uint(link) = self.link_state()?;
        let Uint(oper) = self.operstate()?;
        Ok(match oper {
            _ if link & LINK_START == 0 => "down",
            OPER_UNKNOWN => "unknown",
            1 => "notpresent",
            2 => "down",
            3 => "lowerlayerdown",
            4 => "testing",
            5 => "dormant",
            OPER_UP => "up",
            _ => return Err(Absent::Malformed("no such operational state")),
        })
    }

    /// Its IPv4 addresses, in order.
    pub fn ipv4(&self, notes: &Notes) -> Read<Vec<Address>> {
        let target = self.target();
        let Ptr(config) = self.ip_ptr()?;
        if config == 0 {
            return Ok(Vec::new());
        }
        let Ptr(first) = InDevice::at(target, config).ifa_list()?;
        let walked =
            walk::chain(first, MAX_ADDRESSES, |addr| InIfaddr::at(target, addr).next().map(|Ptr(next)| next));
        notes.walk("in_device.ifa_list", &walked.end);
        let read = |&addr: &u64| {
            let address = InIfaddr::at(target, addr);
            Address {
                ip: address.local().map(inet::v4),
                prefix_len: address.prefix_len().map(u32::from),
                label: address.label().map(|Text(bytes)| text_of(&bytes)),
            }
        };
        Ok(walked.nodes.iter().map(read).collect())
    }

    /// Its IPv6 addresses, in order.
    pub fn ipv6(&self, notes: &Notes) -> Read<Vec<Address>> {
        let target = self.target();
        let Ptr(config) = self.ip6_ptr()?;
        if config == 0 {
            return Ok(Vec::new());
        }
        let Addr(head) = Inet6Dev::at(target, config).addr_list()?;
        let link = target.offset_of(Inet6Ifaddr::STRUCT, "if_list")?;
        let walked = walk::list_capped(target, head, MAX_ADDRESSES);
        notes.walk("inet6_dev.addr_list", &walked.end);
        let read = |addr| {
            let address = Inet6Ifaddr::at(target, addr);
            Address {
                ip: address.ip().and_then(|Bytes(bytes)| inet::v6(&bytes)),
                prefix_len: address.prefix_len(),
                label: Err(Absent::NotApplicable("IPv6 addresses have no labels")),
            }
        };
        Ok(walked.containers(link).map(read).collect())
    }
}
