//! `/proc/PID/net` of one process per network namespace, and the rtnetlink dumps beside it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Truth, fields};

/// A socket that the kernel lists in `/proc/net`.
#[derive(Debug, Clone, Default)]
pub struct Socket {
    /// Name of the file it stands in: `tcp6`, `unix`, `packet`, ...
    pub protocol: String,
    /// Inode number of the network namespace.
    pub namespace: u64,
    /// Address of the kernel's structure; `None` before v5.12, where the guests' `no_hash_pointers` has no effect and a
    /// hash is shown instead.
    pub address: Option<u64>,
    /// Inode number; 0 for sockets without a file (`TIME_WAIT`, the kernel's own).
    pub inode: u64,
    /// Local and remote address and port, for the Internet protocols.
    pub tuple: Option<[(IpAddr, u16); 2]>,
    /// In `TIME_WAIT`: how long the kernel will still remember it.
    pub time_left: Option<Duration>,
    /// State as the file gives it: TCP states, `SS_*` for Unix.
    pub state: Option<u8>,
    /// Whether a Unix socket listens (`__SO_ACCEPTCON` in its flags).
    pub listening: bool,
    /// User id of the creator.
    pub uid: Option<u32>,
    /// `SOCK_*`: Unix and packet sockets.
    pub kind: Option<u16>,
    /// Netlink protocol, or Ethernet protocol of a packet socket.
    pub number: Option<u16>,
    /// Port id of a netlink socket.
    pub port_id: Option<u32>,
    /// Index of the device of a packet socket.
    pub device: Option<i32>,
    /// Path of a Unix socket.
    pub path: Option<String>,
}

/// A network device, from `RTM_GETLINK`.
#[derive(Debug, Clone)]
pub struct Link {
    /// Inode number of the network namespace.
    pub namespace: u64,
    /// Index.
    pub index: i32,
    /// Name.
    pub name: String,
    /// `IFF_*`.
    pub flags: u32,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Hardware address.
    pub mac: String,
}

/// An address of a device, from `RTM_GETADDR`.
#[derive(Debug, Clone)]
pub struct Address {
    /// Inode number of the network namespace.
    pub namespace: u64,
    /// Index of the device.
    pub index: i32,
    /// The address.
    pub ip: IpAddr,
    /// Bits of the network part.
    pub prefix_len: u8,
    /// Label of an IPv4 address (`dummy0:1`); empty for IPv6.
    pub label: String,
}

/// A neighbour, from `RTM_GETNEIGH`.
#[derive(Debug, Clone)]
pub struct Neighbour {
    /// Inode number of the network namespace.
    pub namespace: u64,
    /// Index of the device.
    pub index: i32,
    /// Its address.
    pub ip: IpAddr,
    /// Its hardware address.
    pub mac: String,
    /// `NUD_*` bits.
    pub state: u16,
}

const INTERNET: [&str; 10] =
    ["tcp", "tcp6", "udp", "udp6", "udplite", "udplite6", "raw", "raw6", "icmp", "icmp6"];

impl Truth {
    /// Namespaces with the process through which the guest read each.
    fn net_namespaces(&self) -> Result<Vec<(u64, u32)>> {
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for process in self.processes()? {
            if let Some(namespace) = self.namespace(process.pid, "net")
                && self.bytes(&format!("proc/{}/net/unix", process.pid)).is_ok()
                && seen.insert(namespace)
            {
                all.push((namespace, process.pid));
            }
        }
        Ok(all)
    }

    /// All sockets of all namespaces.
    pub fn sockets(&self) -> Result<Vec<Socket>> {
        let mut all = Vec::new();
        for (namespace, pid) in self.net_namespaces()? {
            let mut add = |protocol: &str, parse: fn(&str) -> Option<Socket>| -> Result<()> {
                let path = format!("proc/{pid}/net/{protocol}");
                if !self.names(&format!("proc/{pid}/net")).contains(&protocol) {
                    return Ok(()); // a protocol this kernel has not
                }
                for line in self.text(&path)?.lines().skip(1) {
                    let socket = parse(line).with_context(|| format!("{path}: bad line: {line}"))?;
                    all.push(Socket { protocol: protocol.to_owned(), namespace, ..socket });
                }
                Ok(())
            };
            for protocol in INTERNET {
                add(protocol, internet)?;
            }
            add("unix", unix)?;
            add("netlink", netlink)?;
            add("packet", packet)?;
        }
        Ok(all)
    }

    /// All network devices.
    pub fn links(&self) -> Result<Vec<Link>> {
        self.rtnl("link", |namespace, line| {
            let ([index, name, flags, mtu, mac], _) = fields::<5>(line)?;
            Some(Link {
                namespace,
                index: index.parse().ok()?,
                name: name.to_owned(),
                flags: u32::from_str_radix(flags.strip_prefix("flags=0x")?, 16).ok()?,
                mtu: mtu.strip_prefix("mtu=")?.parse().ok()?,
                mac: mac.strip_prefix("mac=")?.to_owned(),
            })
        })
    }

    /// All addresses of network devices.
    pub fn addresses(&self) -> Result<Vec<Address>> {
        self.rtnl("addr", |namespace, line| {
            let ([index, _, address, _, label], _) = fields::<5>(line)?;
            let (ip, prefix_len) = address.split_once('/')?;
            Some(Address {
                namespace,
                index: index.parse().ok()?,
                ip: ip.parse().ok()?,
                prefix_len: prefix_len.parse().ok()?,
                label: label.strip_prefix("label=")?.to_owned(),
            })
        })
    }

    /// All neighbours.
    pub fn neighbours(&self) -> Result<Vec<Neighbour>> {
        self.rtnl("neigh", |namespace, line| {
            let ([index, _, ip, mac, state], _) = fields::<5>(line)?;
            Some(Neighbour {
                namespace,
                index: index.parse().ok()?,
                ip: ip.parse().ok()?,
                mac: mac.strip_prefix("mac=")?.to_owned(),
                state: u16::from_str_radix(state.strip_prefix("state=0x")?, 16).ok()?,
            })
        })
    }

    fn rtnl<T>(&self, name: &str, parse: fn(u64, &str) -> Option<T>) -> Result<Vec<T>> {
        let mut all = Vec::new();
        for folder in self.names("rtnl") {
            let namespace = folder.parse()?;
            for line in self.text(&format!("rtnl/{folder}/{name}"))?.lines() {
                all.push(parse(namespace, line).with_context(|| format!("rtnl {name}: bad line: {line}"))?);
            }
        }
        Ok(all)
    }
}

/// `sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode ref pointer ...`. In TIME_WAIT the kernel has
/// forgotten who it was and prints 0 for the user (`get_timewait4_sock()`).
fn internet(line: &str) -> Option<Socket> {
    let ([_, local, remote, state, _, timer, _, uid, _, inode, _, pointer], _) = fields::<12>(line)?;
    // Kind of timer and what is left of it in ticks of 1/100 s (`USER_HZ`).
    let ticks = timer.split_once(':').and_then(|(_, ticks)| u64::from_str_radix(ticks, 16).ok())?;
    Some(Socket {
        time_left: (state == "06").then(|| Duration::from_millis(ticks.saturating_mul(10))),
        address: kernel_address(pointer)?,
        inode: inode.parse().ok()?,
        tuple: Some([endpoint(local)?, endpoint(remote)?]),
        state: u8::from_str_radix(state, 16).ok(),
        uid: uid.parse().ok().filter(|_| state != "06"),
        ..Socket::default()
    })
}

/// Address as 32-bit words in the machine's byte order, port: `0100007F:115C`.
fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for at in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(at..at + 8)?, 16).ok()?;
        bytes.extend(word.to_le_bytes());
    }
    let ip = match bytes.len() {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        _ => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

/// A kernel address has its upper bits set; the hash of one (`%p`) has 32 bits. `None` for neither.
fn kernel_address(text: &str) -> Option<Option<u64>> {
    let value = u64::from_str_radix(text, 16).ok()?;
    Some(Some(value).filter(|value| value >> 47 != 0))
}

/// `Num: RefCount Protocol Flags Type St Inode [Path]`
fn unix(line: &str) -> Option<Socket> {
    let ([pointer, _, _, flags, kind, state, inode], path) = fields::<7>(line)?;
    Some(Socket {
        address: kernel_address(pointer.strip_suffix(':')?)?,
        inode: inode.parse().ok()?,
        state: u8::from_str_radix(state, 16).ok(),
        listening: u32::from_str_radix(flags, 16).ok()? & 0x1_0000 != 0,
        kind: u16::from_str_radix(kind, 16).ok(),
        path: Some(path.to_owned()),
        ..Socket::default()
    })
}

/// `sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode`
fn netlink(line: &str) -> Option<Socket> {
    let ([pointer, protocol, port_id, _, _, _, _, _, _, inode], _) = fields::<10>(line)?;
    Some(Socket {
        address: kernel_address(pointer)?,
        inode: inode.parse().ok()?,
        number: protocol.parse().ok(),
        port_id: port_id.parse().ok(),
        ..Socket::default()
    })
}

/// `sk RefCnt Type Proto Iface R Rmem User Inode`
fn packet(line: &str) -> Option<Socket> {
    let ([pointer, _, kind, protocol, device, _, _, uid, inode], _) = fields::<9>(line)?;
    Some(Socket {
        address: kernel_address(pointer)?,
        inode: inode.parse().ok()?,
        uid: uid.parse().ok(),
        kind: kind.parse().ok(),
        number: u16::from_str_radix(protocol, 16).ok(),
        device: device.parse().ok(),
        ..Socket::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internet_addresses_are_in_the_byte_order_of_the_machine() {
        let socket = internet(
            "   3: 0100007F:C739 0100007F:115C 01 00000000:00000000 00:00000000 00000000  1000        0 10549 1 ffff8dedc31d5a00 22 4 30 10 -1",
        )
        .unwrap();
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(socket.tuple, Some([(loopback, 51001), (loopback, 4444)]));
        assert_eq!((socket.state, socket.uid, socket.inode), (Some(1), Some(1000), 10549));
        assert_eq!(socket.address, Some(0xffff_8ded_c31d_5a00));
        assert_eq!(socket.time_left, None);
        let forgotten = internet(
            "   7: 0100007F:C73F 0100007F:1E61 06 00000000:00000000 03:00001679 00000000     0        0 0 3 ffff8eeb44363000",
        );
        assert_eq!(forgotten.unwrap().time_left, Some(Duration::from_millis(57_530)));
        assert_eq!(kernel_address("00000000f354729b"), Some(None));
        assert_eq!(
            endpoint("B80D0120000000000000000010000000:1A0A"),
            Some(("2001:db8::10".parse().unwrap(), 6666))
        );
    }

    #[test]
    fn unix_sockets_may_have_a_path() {
        let socket =
            unix("ffff8dedc2ac7000: 00000002 00000000 00010000 0001 01 10560 /run/gt unix.sock").unwrap();
        assert_eq!(socket.path.as_deref(), Some("/run/gt unix.sock"));
        assert!(socket.listening);
        assert_eq!(
            unix("ffff8dedc2ac6c00: 00000003 00000000 00000000 0001 03 10565").unwrap().path.as_deref(),
            Some("")
        );
    }
}
