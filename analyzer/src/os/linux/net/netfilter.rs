//! Netfilter hooks: functions that see every packet (include/linux/netfilter.h, include/net/netns/netfilter.h).

use object::{Absent, Missing, Ptr, Read, Target, Uint, layout};
use profile::Type;

use super::device::devices;
use super::{Net, namespaces};
use crate::error::Error;
use crate::notes::Notes;

/// Most functions at one hook: `MAX_HOOK_COUNT` (net/netfilter/core.c).
const MAX_HOOKS: u64 = 1024;
/// Most hooks of one protocol; there are 8 at most.
const MAX_POINTS: u64 = 16;

/// Fields of `netns_nf`, the protocol, and names of its hooks (include/uapi/linux/netfilter*.h).
const PROTOCOLS: [(&str, &str, &[&str]); 5] = [
    ("nf.hooks_ipv4", "ipv4", &INTERNET),
    ("nf.hooks_ipv6", "ipv6", &INTERNET),
    ("nf.hooks_arp", "arp", &["input", "output", "forward"]),
    ("nf.hooks_bridge", "bridge", &INTERNET),
    (
        "nf.hooks_decnet",
        "decnet",
        &["prerouting", "input", "forward", "output", "postrouting", "hello", "route"],
    ),
];
const INTERNET: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];

layout! {
    struct Entries / EntriesLayout = "nf_hook_entries" {
        count: Uint = "num_hook_entries",
    }

    struct Entry / EntryLayout = "nf_hook_entry" {
        function: Ptr = "hook",
    }

    struct Ops / OpsLayout = "nf_hook_ops" {
        priority: i32 = "priority",
    }

    struct Ingress / IngressLayout = "net_device" {
        ingress: Ptr = "nf_hooks_ingress",
        egress: Ptr = "nf_hooks_egress",
    }
}

/// A function at a hook.
pub struct Hook {
    /// Inode number of the network namespace.
    pub net_ns: Read<u32>,
    /// Protocol, or `netdev`.
    pub protocol: &'static str,
    /// Name of the hook.
    pub point: String,
    /// Device of an ingress or egress hook.
    pub device: Option<Read<String>>,
    /// Functions of lower priority are called first.
    pub priority: Read<i32>,
    /// The function.
    pub function: Read<u64>,
}

/// Functions of all hooks of all network namespaces, then those of their devices, in the order they are called.
///
/// Kernels from Linux commit 960632ece694 (v4.14) keep arrays of them; the lists before are not read.
pub fn hooks(notes: &Notes, target: &Target) -> Result<Vec<Hook>, Error> {
    target.types().structure(Entries::STRUCT)?;
    let width = u64::from(target.types().model().pointer_size());
    // Asked before, so that a list of namespaces that is lost is not taken for a kernel without hooks.
    if !PROTOCOLS.iter().any(|(field, ..)| target.types().resolve(Net::STRUCT, field).is_ok()) {
        return Err(Missing::Field { structure: Net::STRUCT.into(), field: "nf.hooks_ipv4".into() }.into());
    }
    let mut found = Vec::new();
    for net in namespaces(notes, target)? {
        for (field, protocol, names) in PROTOCOLS {
            let Ok(place) = target.types().resolve(Net::STRUCT, field) else { continue };
            let Type::Array { count: Some(count), .. } = place.ty else { continue };
            for point in 0..count.min(MAX_POINTS) {
                let slot = net.addr().wrapping_add(place.offset).wrapping_add(point.wrapping_mul(width));
                let name = usize::try_from(point).ok().and_then(|point| names.get(point).copied());
                let name = name.map_or_else(|| point.to_string(), str::to_owned);
                let entries = target.read_ptr(slot).and_then(|entries| functions(target, entries));
                add(notes, &mut found, entries, |function, priority| Hook {
                    net_ns: net.inum(),
                    protocol,
                    point: name.clone(),
                    device: None,
                    priority,
                    function,
                });
            }
        }
    }
    for (net, device) in devices(notes, target)? {
        let hooks = Ingress::at(target, device.addr());
        for (point, entries) in [("ingress", hooks.ingress()), ("egress", hooks.egress())] {
            let entries = match entries {
                Err(Absent::NoProfile(_)) => continue,
                entries => entries.and_then(|Ptr(entries)| functions(target, entries)),
            };
            add(notes, &mut found, entries, |function, priority| Hook {
                net_ns: net.inum(),
                protocol: "netdev",
                point: point.to_owned(),
                device: Some(device.label()),
                priority,
                function,
            });
        }
    }
    Ok(found)
}

/// Function and priority of each entry.
type Functions = Vec<(Read<u64>, Read<i32>)>;

fn add(
    notes: &Notes,
    found: &mut Vec<Hook>,
    entries: Read<Functions>,
    hook: impl Fn(Read<u64>, Read<i32>) -> Hook,
) {
    match entries {
        Ok(entries) => found.extend(entries.into_iter().map(|(function, priority)| hook(function, priority))),
        Err(why) => notes.partial(format!("functions of a netfilter hook cannot be read: {why}")),
    }
}

/// The array at an address, none for null. Behind the functions stand pointers to what registered them.
fn functions(target: &Target, entries: u64) -> Read<Functions> {
    if entries == 0 {
        return Ok(Vec::new());
    }
    let Uint(count) = Entries::at(target, entries).count()?;
    if count > MAX_HOOKS {
        return Err(Absent::Malformed("more functions than a hook can have"));
    }
    let first = entries.wrapping_add(target.offset_of(Entries::STRUCT, "hooks")?);
    let stride = target.types().struct_size(Entry::STRUCT)?;
    let width = u64::from(target.types().model().pointer_size());
    let owners = first.wrapping_add(stride.wrapping_mul(count));
    let one = |index: u64| {
        let function = Entry::at(target, first.wrapping_add(stride.wrapping_mul(index))).function();
        let owner = target.read_ptr(owners.wrapping_add(width.wrapping_mul(index)));
        (function.map(|Ptr(function)| function), owner.and_then(|owner| Ops::at(target, owner).priority()))
    };
    Ok((0..count).map(one).collect())
}
