//! arp, ifconfig, netstat.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::hex;
use crate::rekal::Row;
use crate::table::Record;
use crate::truth::{Link, Socket, Truth};

/// `IFF_*` of include/uapi/linux/if.h by bit number, as `ip link` names them.
const LINK_FLAGS: [&str; 19] = [
    "UP",
    "BROADCAST",
    "DEBUG",
    "LOOPBACK",
    "POINTOPOINT",
    "NOTRAILERS",
    "RUNNING",
    "NOARP",
    "PROMISC",
    "ALLMULTI",
    "MASTER",
    "SLAVE",
    "MULTICAST",
    "PORTSEL",
    "AUTOMEDIA",
    "DYNAMIC",
    "LOWER_UP",
    "DORMANT",
    "ECHO",
];

/// `NUD_*` of include/uapi/linux/neighbour.h by bit number.
const NEIGHBOUR_STATES: [&str; 8] =
    ["INCOMPLETE", "REACHABLE", "STALE", "DELAY", "PROBE", "FAILED", "NOARP", "PERMANENT"];

/// The names of the bits that are set, sorted.
fn bits(names: &[&str], value: u32) -> String {
    let mut set: Vec<&str> =
        names.iter().enumerate().filter(|(bit, _)| value >> bit & 1 != 0).map(|(_, name)| *name).collect();
    set.sort_unstable();
    set.join(",")
}

fn sorted(list: &str) -> String {
    let mut parts: Vec<&str> = list.split(',').collect();
    parts.sort_unstable();
    parts.join(",")
}

pub(super) fn ifconfig(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let addresses = truth.addresses()?;
    let mut wanted = Vec::new();
    for link in truth.links()? {
        let mine = || addresses.iter().filter(|a| (a.namespace, a.index) == (link.namespace, link.index));
        let mut six: Vec<_> =
            mine().filter(|a| a.ip.is_ipv6()).map(|a| format!("{}/{}", a.ip, a.prefix_len)).collect();
        six.sort_unstable();
        let row = |four: &str, prefix_len: &str| {
            Record::new(format!("device {} in {}", link.index, link.namespace))
                .cell("flags", bits(&LINK_FLAGS, link.flags))
                .cell("MAC", &link.mac)
                .cell("mtu", link.mtu)
                .cell("ipv4", four)
                .cell("prefix_len", prefix_len)
                .cell("ipv6", six.join(","))
        };
        let before = wanted.len();
        for four in mine().filter(|a| a.ip.is_ipv4()) {
            wanted.push(
                row(&four.ip.to_string(), &four.prefix_len.to_string())
                    .cell("interface", label(&link, &four.label)),
            );
        }
        if wanted.len() == before {
            wanted.push(row("", "").cell("interface", &link.name));
        }
    }
    let found = rows
        .iter()
        .map(|row| {
            let mut six = row.list("ipv6");
            six.sort_unstable();
            row.record(
                format!("device {} in {}", row.text("ifindex"), row.text("net_ns")),
                &["interface", "MAC", "mtu"],
            )
            .cell("flags", sorted(&row.text("flags")))
            .cell("ipv4", row.text_or_empty("ipv4"))
            .cell("prefix_len", row.text_or_empty("prefix_len"))
            .cell("ipv6", six.join(","))
        })
        .collect();
    Ok((wanted, found))
}

/// The label of an address names the device or an alias of it.
fn label<'a>(link: &'a Link, label: &'a str) -> &'a str {
    if label.is_empty() { &link.name } else { label }
}

pub(super) fn arp(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let names: BTreeMap<(u64, i32), String> =
        truth.links()?.into_iter().map(|link| ((link.namespace, link.index), link.name)).collect();
    let mut wanted = Vec::new();
    for neighbour in truth.neighbours()? {
        let device = names.get(&(neighbour.namespace, neighbour.index)).context("neighbour of no device")?;
        wanted.push(
            Record::new(format!("{} on {device} in {}", neighbour.ip, neighbour.namespace))
                .cell("mac", neighbour.mac)
                .cell("state", bits(&NEIGHBOUR_STATES, neighbour.state.into())),
        );
    }
    let found = rows
        .iter()
        .map(|row| {
            row.record(
                format!("{} on {} in {}", row.text("ip"), row.text("dev"), row.text("net_ns")),
                &["mac"],
            )
            .cell("state", sorted(&row.text("state")))
        })
        .collect();
    Ok((wanted, found))
}

/// Process, descriptor and name of a holder of a socket.
type Holder = (u32, u32, String);

/// The holders of sockets, by inode number.
fn holders(truth: &Truth) -> Result<BTreeMap<u64, Vec<Holder>>> {
    let mut holders: BTreeMap<u64, Vec<Holder>> = BTreeMap::new();
    for process in truth.processes()? {
        for descriptor in truth.descriptors(process.pid)? {
            let inode = descriptor.target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            if let Some(inode) = inode {
                let holder = (process.pid, descriptor.fd, process.comm.clone());
                holders.entry(inode.parse()?).or_default().push(holder);
            }
        }
    }
    Ok(holders)
}

/// The sockets of `/proc/net`, without those in `TIME_WAIT` that are not found and that the kernel may have forgotten.
fn lasting(truth: &Truth, rows: &[&Row]) -> Result<Vec<(Socket, Record)>> {
    let mut lasting = Vec::new();
    for socket in truth.sockets()? {
        let described = describe(&socket);
        let is_same = |row: &Row| {
            let is_equal =
                |column| described.cells.get(column).is_some_and(|value| *value == row.text(column));
            ["State", "SAddr", "SPort", "DAddr", "DPort"].into_iter().all(is_equal)
        };
        if let Some(left) = socket.time_left
            && truth.may_have_run_out(left)?
            && !rows.iter().copied().any(is_same)
        {
            continue;
        }
        lasting.push((socket, described));
    }
    Ok(lasting)
}

/// Each socket of `/proc/net` and each that a process holds, once, all of which netstat lists. Besides there are released ones, and those
/// that the kernel made for itself and keeps out of `/proc/net`.
pub(super) fn sockscan(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let mut holders = holders(truth)?;
    let mut wanted = Vec::new();
    let key = |inode: &str, protocol: &str| match inode {
        "0" => format!("{protocol} without inode"),
        inode => format!("socket {inode}"),
    };
    let join = |list: Vec<Holder>| {
        let mut pids: Vec<u32> = list.into_iter().map(|(pid, ..)| pid).collect();
        pids.sort_unstable();
        pids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
    };
    let is_meant = |row: &&Row| {
        row.text("freed") != "true" && (row.text("listed") == "true" || row.text("of_kernel") != "true")
    };
    let rows: Vec<&Row> = rows.iter().filter(is_meant).collect();
    for (socket, mut described) in lasting(truth, &rows)? {
        for column in ["uid", "ifindex"] {
            described.cells.remove(column);
        }
        let key = key(&socket.inode.to_string(), &socket.protocol);
        let pids = join(holders.remove(&socket.inode).unwrap_or_default());
        wanted.push(Record { key, ..described }.cell("Pids", pids).cell("listed", true));
    }
    for (inode, list) in holders {
        wanted.push(Record::new(format!("socket {inode}")).cell("Pids", join(list)).cell("listed", true));
    }
    let columns = [
        "Proto", "net_ns", "sock", "State", "Type", "protocol", "SPort", "SAddr", "DAddr", "DPort", "Pids",
        "listed",
    ];
    let found = rows.iter().map(|row| {
        let inode = if row.is_not_applicable("Inode") { "0".to_owned() } else { row.text("Inode") };
        row.record(key(&inode, &row.text("Proto")), &columns).cell("Path", row.text_or_empty("Path"))
    });
    Ok((wanted, found.collect()))
}

/// Each socket of `/proc/net`, once for every descriptor that holds it, or once without process. A socket that a process
/// holds but that no file of `/proc/net` lists (it was never bound) is known by its inode number only. A socket in
/// `TIME_WAIT` that the kernel may have forgotten before the dump need not be found.
pub(super) fn netstat(truth: &Truth, rows: &[Row]) -> Result<(Vec<Record>, Vec<Record>)> {
    let mut holders = holders(truth)?;
    let mut wanted = Vec::new();
    for (socket, described) in lasting(truth, &rows.iter().collect::<Vec<_>>())? {
        match holders.remove(&socket.inode) {
            None => {
                let key = format!("{} socket {} held by nobody", socket.protocol, socket.inode);
                wanted.push(Record { key, ..described });
            }
            Some(list) => {
                for (pid, fd, comm) in list {
                    let key = format!("socket {} held by pid {pid} fd {fd}", socket.inode);
                    wanted.push(Record { key, ..described.clone() }.cell("Comm", comm));
                }
            }
        }
    }
    for (inode, list) in holders {
        for (pid, fd, comm) in list {
            wanted.push(Record::new(format!("socket {inode} held by pid {pid} fd {fd}")).cell("Comm", comm));
        }
    }
    let columns = [
        "Proto", "net_ns", "sock", "State", "uid", "Comm", "Type", "protocol", "SPort", "SAddr", "DAddr",
        "DPort",
    ];
    let found = rows
        .iter()
        .map(|row| {
            let key = if row.is_not_applicable("Pid") {
                let inode = if row.is_not_applicable("Inode") { "0".to_owned() } else { row.text("Inode") };
                format!("{} socket {inode} held by nobody", row.text("Proto"))
            } else {
                format!("socket {} held by pid {} fd {}", row.text("Inode"), row.text("Pid"), row.text("fd"))
            };
            row.record(key, &columns)
                .cell(
                    "ifindex",
                    if row.is_not_applicable("ifindex") { "0".to_owned() } else { row.text("ifindex") },
                )
                .cell("Path", row.text_or_empty("Path"))
        })
        .collect();
    Ok((wanted, found))
}

fn describe(socket: &Socket) -> Record {
    const TCP: [&str; 12] = [
        "",
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
    ];
    const UNIX: [&str; 5] = ["FREE", "UNCONNECTED", "CONNECTING", "CONNECTED", "DISCONNECTING"];
    const TYPES: [&str; 11] =
        ["", "STREAM", "DGRAM", "RAW", "RDM", "SEQPACKET", "DCCP", "", "", "", "PACKET"];
    let mut record = Record::new("").cell("Proto", &socket.protocol).cell("net_ns", socket.namespace);
    if let Some(address) = socket.address {
        record = record.cell("sock", hex(address));
    }
    if let Some([(local, local_port), (remote, remote_port)]) = socket.tuple {
        record = record
            .cell("SAddr", local)
            .cell("SPort", local_port)
            .cell("DAddr", remote)
            .cell("DPort", remote_port);
    }
    if let Some(state) = socket.state {
        let names: &[&str] = if socket.protocol == "unix" { &UNIX } else { &TCP };
        let name = names.get(usize::from(state)).copied().unwrap_or("?");
        record = record.cell("State", if socket.listening { "LISTEN" } else { name });
    }
    if let Some(uid) = socket.uid {
        record = record.cell("uid", uid);
    }
    if let Some(kind) = socket.kind {
        record = record.cell("Type", TYPES.get(usize::from(kind)).copied().unwrap_or("?"));
    }
    if let Some(number) = socket.number {
        record = record.cell("protocol", number);
    }
    if let Some(port_id) = socket.port_id {
        record = record.cell("SPort", port_id);
    }
    if let Some(device) = socket.device {
        record = record.cell("ifindex", device);
    }
    if let Some(path) = &socket.path {
        record = record.cell("Path", path);
    }
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_named_by_bit_and_sorted() {
        assert_eq!(bits(&LINK_FLAGS, 0x1_0049), "LOOPBACK,LOWER_UP,RUNNING,UP");
        assert_eq!(bits(&NEIGHBOUR_STATES, 0x80), "PERMANENT");
        assert_eq!(sorted("UP,LOOPBACK"), "LOOPBACK,UP");
    }
}
