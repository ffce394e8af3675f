//! Neighbours: the ARP and NDP caches (net/core/neighbour.c, include/net/neighbour.h).

use std::net::IpAddr;

use object::{Absent, Addr, Bytes, Ptr, Read, Target, Uint, layout, walk};

use super::device::{Device, MAX_ADDR_LEN};
use super::hash::{Table, Walker};
use super::{Net, hardware_address, inet};
use crate::error::Error;
use crate::notes::Notes;

/// Most tables: ARP, NDP, and DECnet up to v6.1 (`NEIGH_NR_TABLES`).
const MAX_TABLES: u64 = 3;

/// Buckets of a table of proxy entries: `PNEIGH_HASHMASK` + 1 (net/core/neighbour.c).
const PROXY_BUCKETS: u64 = 16;

layout! {
    /// `neigh_table`: the neighbours of one protocol.
    struct NeighTable / NeighTableLayout = "neigh_table" {
        family: i32 = "family",
        key_len: Uint = "key_len",
        /// From Linux commit d6bf781712a1 (v2.6.37); the buckets stand in the table itself before.
        nht: Ptr = "nht",
        /// Before v2.6.37.
        hash_buckets: Ptr = "hash_buckets",
        /// Before v2.6.37: buckets minus 1.
        hash_mask: u32 = "hash_mask",
        proxies: Ptr = "phash_buckets",
        /// Up to v3.18 the tables form a list.
        next: Ptr = "next",
    }

    /// `neigh_hash_table`. Linux commit a01a67ab2fff (v6.13) turned the chains into `hlist`s.
    struct NeighHash / NeighHashLayout = "neigh_hash_table" {
        buckets: Ptr = "hash_heads | hash_buckets",
        /// Binary logarithm of the number of buckets; before Linux commit cd089336252e (v3.1) `hash_mask`.
        shift: u32 = "hash_shift",
        mask: u32 = "hash_mask",
    }

    /// `neighbour`.
    struct Neighbour / NeighbourLayout = "neighbour" {
        state: u8 = "nud_state",
        flags: Uint = "flags",
        hardware: Bytes = "ha",
        device: Ptr = "dev",
        key: Addr = "primary_key",
    }

    /// `pneigh_entry`: an address this machine answers for.
    struct Proxy / ProxyLayout = "pneigh_entry" {
        flags: Uint = "flags",
        device: Ptr = "dev",
        net: Ptr = "net.net | net",
        key: Addr = "key",
    }
}

/// A neighbour.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its address on the network layer.
    pub ip: Read<IpAddr>,
    /// Its address on the link layer; of a neighbour that was never reached all zero.
    pub mac: Read<String>,
    /// Name of the device it is behind; proxy entries may be for all devices.
    pub device: Read<String>,
    /// `NUD_*` states without the prefix; `NONE` where there are none.
    pub state: Read<String>,
    /// `NTF_*` flags without the prefix, empty for none.
    pub flags: Read<String>,
    /// Address family: `inet` or `inet6`.
    pub family: &'static str,
    /// Inode number of the network namespace.
    pub net_ns: Read<u32>,
}

/// All neighbours, sorted by namespace, device, family and address.
pub fn neighbours(notes: &Notes, target: &Target) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    let mut walker = Walker::new(target, notes);
    for table in tables(notes, target)? {
        if let Err(why) = walk_table(&mut walker, table, &mut entries) {
            notes.partial(format!("neighbour table at {table:#x} cannot be walked: {why}"));
        }
    }
    entries.sort_by_cached_key(|entry| {
        let device = entry.device.clone().unwrap_or_default();
        (entry.net_ns.clone().unwrap_or(u32::MAX), device, entry.family, entry.ip.clone().ok())
    });
    Ok(entries)
}

/// Addresses of the tables: an array from Linux commit d7480fd3b173 (v3.19), a list before.
fn tables(notes: &Notes, target: &Target) -> Result<Vec<u64>, Error> {
    let symbol = target.symbol("neigh_tables")?;
    if target.types().has_field(NeighTable::STRUCT, "next") {
        let first = target.read_ptr(symbol)?;
        let next = |addr| NeighTable::at(target, addr).next().map(|Ptr(next)| next);
        let walked = walk::chain(first, 64, next);
        notes.walk("neigh_tables", &walked.end);
        return Ok(walked.nodes);
    }
    let count =
        target.types().enumerator(None, "NEIGH_NR_TABLES").and_then(|count| u64::try_from(count).ok());
    let width = u64::from(target.types().model().pointer_size());
    // Two tables since v6.2. Where the profile does not say how many there are, the ones with symbols are taken.
    let Some(count) = count.filter(|&count| count <= MAX_TABLES) else {
        return Ok(["arp_tbl", "nd_tbl"].iter().filter_map(|name| target.symbol(name).ok()).collect());
    };
    let read = |index: u64| target.read_ptr(symbol.wrapping_add(width.wrapping_mul(index)));
    let tables: Read<Vec<u64>> = (0..count).map(read).filter(|table| *table != Ok(0)).collect();
    Ok(tables?)
}

fn walk_table(walker: &mut Walker<'_>, addr: u64, entries: &mut Vec<Entry>) -> Read<()> {
    const AF_INET: i32 = 2;
    const AF_INET6: i32 = 10;
    let target = walker.target();
    let table = NeighTable::at(target, addr);
    let (family, name, proxy_name) = match table.family()? {
        AF_INET => ("inet", "arp_tbl", "arp_tbl.phash_buckets"),
        AF_INET6 => ("inet6", "nd_tbl", "nd_tbl.phash_buckets"),
        _ => return Ok(()),
    };
    let Uint(key_len) = table.key_len()?;
    let (first, buckets) = match table.nht() {
        Ok(Ptr(hash)) => {
            let hash = NeighHash::at(target, hash);
            let Ptr(first) = hash.buckets()?;
            let by_mask = || hash.mask().map(|mask| u64::from(mask).saturating_add(1));
            // A shift beyond any table is left for the walk to cap and report.
            let by_shift = |shift: u32| 1u64.checked_shl(shift).unwrap_or(u64::MAX);
            (first, hash.shift().map(by_shift).or_else(|_| by_mask())?)
        }
        Err(Absent::NoProfile(_)) => {
            let Ptr(first) = table.hash_buckets()?;
            (first, u64::from(table.hash_mask()?).saturating_add(1))
        }
        Err(why) => return Err(why),
    };
    // The chain runs through `next`, or from v6.13 through an `hlist_node`.
    let (node, link) = match target.offset_of(Neighbour::STRUCT, "hash") {
        Ok(node) => (node, 0),
        Err(_) => (0, target.offset_of(Neighbour::STRUCT, "next")?),
    };
    let found = walker.nodes(&Table { link, ..Table::of_heads(target, name, first, buckets) });
    entries
        .extend(found.into_iter().map(|found| neighbour(target, found.wrapping_sub(node), family, key_len)));

    if let Ok(Ptr(first)) = table.proxies()
        && first != 0
        && let Ok(link) = target.offset_of(Proxy::STRUCT, "next")
    {
        let proxies = Table::of_heads(target, proxy_name, first, PROXY_BUCKETS);
        let found = walker.nodes(&Table { link, ..proxies });
        entries.extend(found.into_iter().map(|addr| proxy(target, addr, family, key_len)));
    }
    Ok(())
}

fn neighbour(target: &Target, addr: u64, family: &'static str, key_len: u64) -> Entry {
    let neighbour = Neighbour::at(target, addr);
    let device = neighbour
        .device()
        .and_then(|device| device.non_null("no device"))
        .map(|addr| Device::at(target, addr));
    let mac = device.clone().and_then(|device| device.addr_len()).and_then(|len| {
        let Bytes(bytes) = neighbour.hardware()?;
        bytes
            .get(..usize::from(len.min(MAX_ADDR_LEN)))
            .map(hardware_address)
            .ok_or(Absent::Malformed("length of a hardware address"))
    });
    let net_ns =
        device.clone().and_then(|device| device.net()).and_then(|Ptr(net)| Net::at(target, net).inum());
    Entry {
        ip: neighbour.key().and_then(|Addr(key)| ip(target, key, key_len)),
        mac,
        device: device.and_then(|device| device.label()),
        state: neighbour.state().map(state_names),
        flags: neighbour.flags().map(|Uint(flags)| flag_names(flags)),
        family,
        net_ns,
    }
}

fn proxy(target: &Target, addr: u64, family: &'static str, key_len: u64) -> Entry {
    let proxy = Proxy::at(target, addr);
    let device = proxy.device().and_then(|device| device.non_null("for all devices"));
    Entry {
        ip: proxy.key().and_then(|Addr(key)| ip(target, key, key_len)),
        mac: Err(Absent::NotApplicable("a proxy entry has no hardware address")),
        device: device.and_then(|device| Device::at(target, device).label()),
        state: Err(Absent::NotApplicable("a proxy entry has no state")),
        flags: proxy.flags().map(|Uint(flags)| flag_names(flags)),
        family,
        net_ns: proxy.net().and_then(|Ptr(net)| Net::at(target, net).inum()),
    }
}

fn ip(target: &Target, key: u64, key_len: u64) -> Read<IpAddr> {
    match key_len {
        4 => target.read_u32(key).map(inet::v4),
        16 => target.read_bytes(key, 16, 16).and_then(|bytes| inet::v6(&bytes)),
        _ => Err(Absent::Malformed("length of a network address")),
    }
}

/// Names of `NUD_*` states (include/uapi/linux/neighbour.h).
fn state_names(state: u8) -> String {
    const NAMES: [&str; 8] =
        ["INCOMPLETE", "REACHABLE", "STALE", "DELAY", "PROBE", "FAILED", "NOARP", "PERMANENT"];
    if state == 0 { "NONE".to_owned() } else { bit_names(state.into(), &NAMES) }
}

/// Names of `NTF_*` flags; `NTF_EXT_*` follow from bit 8 (include/uapi/linux/neighbour.h).
fn flag_names(flags: u64) -> String {
    const NAMES: [&str; 10] = [
        "USE",
        "SELF",
        "MASTER",
        "PROXY",
        "EXT_LEARNED",
        "OFFLOADED",
        "STICKY",
        "ROUTER",
        "MANAGED",
        "LOCKED",
    ];
    bit_names(flags, &NAMES)
}

fn bit_names(bits: u64, names: &[&str]) -> String {
    let set = names.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(",")
}
