//! Sockets, devices and neighbours of a small synthetic kernel.

use std::collections::BTreeMap;

use object::{Absent, Target};

use super::super::testkit::{Memory, texts};
use super::device::devices;
use super::neigh::neighbours;
use super::socket::{Found, Holder, sockets};
use crate::notes::Notes;

/// Structs of v6.x, with as few members as the code needs and offsets of our own.
const STRUCTS: &str = r#"{
    "list_head": [16, {"next": [0, ["Pointer"]], "prev": [8, ["Pointer"]]}],
    "net": [256, {"list": [0, ["list_head"]], "ns": [16, ["ns_common"]], "dev_base_head": [32, ["list_head"]],
        "packet": [48, ["netns_packet"]], "unx": [64, ["netns_unix"]]}],
    "ns_common": [16, {"inum": [8, ["unsigned int"]]}],
    "netns_packet": [8, {"sklist": [0, ["Pointer"]]}],
    "netns_unix": [16, {"table": [0, ["unix_table"]]}],
    "unix_table": [16, {"buckets": [8, ["Pointer"]]}],
    "sock_common": [96, {"skc_daddr": [0, ["unsigned int"]], "skc_rcv_saddr": [4, ["unsigned int"]],
        "skc_dport": [8, ["unsigned short"]], "skc_num": [10, ["unsigned short"]], "skc_family": [12, ["unsigned short"]],
        "skc_state": [14, ["unsigned char"]], "skc_bound_dev_if": [16, ["int"]], "skc_net": [24, ["possible_net_t"]],
        "skc_v6_daddr": [32, ["in6_addr"]], "skc_v6_rcv_saddr": [48, ["in6_addr"]], "skc_listener": [64, ["Pointer"]],
        "skc_node": [72, ["list_head"]], "skc_nulls_node": [72, ["list_head"]], "skc_refcnt": [88, ["refcount_t"]]}],
    "possible_net_t": [8, {"net": [0, ["Pointer"]]}],
    "in6_addr": [16, {"in6_u": [0, ["Array", {"count": 16, "target": "unsigned char"}]]}],
    "refcount_t": [4, {"refs": [0, ["atomic_t"]]}],
    "atomic_t": [4, {"counter": [0, ["int"]]}],
    "sock": [128, {"__sk_common": [0, ["sock_common"]], "sk_type": [96, ["unsigned short"]],
        "sk_protocol": [98, ["unsigned short"]], "sk_socket": [104, ["Pointer"]]}],
    "inet_sock": [160, {"sk": [0, ["sock"]], "inet_sport": [128, ["unsigned short"]]}],
    "inet_timewait_sock": [128, {"tw_sport": [96, ["unsigned short"]], "tw_substate": [98, ["unsigned char"]]}],
    "unix_sock": [160, {"sk": [0, ["sock"]], "addr": [128, ["Pointer"]]}],
    "unix_address": [8, {"len": [0, ["int"]], "name": [8, ["Array", {"count": 0, "target": "char"}]]}],
    "inet_hashinfo": [64, {"ehash": [0, ["Pointer"]], "ehash_mask": [8, ["unsigned int"]],
        "lhash2_mask": [12, ["unsigned int"]], "lhash2": [16, ["Pointer"]]}],
    "inet_ehash_bucket": [8, {"chain": [0, ["Pointer"]]}],
    "inet_listen_hashbucket": [16, {"nulls_head": [8, ["Pointer"]]}],
    "udp_table": [24, {"hash": [0, ["Pointer"]], "mask": [16, ["unsigned int"]]}],
    "udp_hslot": [16, {"head": [0, ["Pointer"]]}],
    "netlink_table": [208, {"hash": [0, ["rhashtable"]]}],
    "rhashtable": [136, {"tbl": [0, ["Pointer"]]}],
    "netlink_sock": [160, {"node": [128, ["Pointer"]], "portid": [136, ["unsigned int"]]}],
    "net_device": [256, {"name": [0, ["Array", {"count": 16, "target": "char"}]], "dev_list": [16, ["list_head"]],
        "ifindex": [32, ["int"]], "mtu": [36, ["unsigned int"]], "flags": [40, ["unsigned int"]],
        "gflags": [44, ["unsigned short"]], "state": [48, ["unsigned long"]], "operstate": [56, ["unsigned char"]],
        "addr_len": [57, ["unsigned char"]], "ip_ptr": [64, ["Pointer"]], "ip6_ptr": [72, ["Pointer"]],
        "dev_addr": [80, ["Pointer"]], "nd_net": [88, ["possible_net_t"]]}],
    "in_device": [8, {"ifa_list": [0, ["Pointer"]]}],
    "in_ifaddr": [40, {"ifa_next": [0, ["Pointer"]], "ifa_local": [8, ["unsigned int"]],
        "ifa_prefixlen": [12, ["unsigned char"]], "ifa_label": [16, ["Array", {"count": 16, "target": "char"}]]}],
    "neigh_table": [64, {"family": [0, ["int"]], "key_len": [4, ["unsigned int"]], "nht": [8, ["Pointer"]]}],
    "neigh_hash_table": [16, {"hash_buckets": [0, ["Pointer"]], "hash_shift": [8, ["unsigned int"]]}],
    "neighbour": [64, {"next": [0, ["Pointer"]], "nud_state": [8, ["unsigned char"]], "flags": [9, ["unsigned char"]],
        "ha": [16, ["Array", {"count": 32, "target": "unsigned char"}]], "dev": [48, ["Pointer"]],
        "primary_key": [56, ["Array", {"count": 0, "target": "unsigned char"}]]}]}"#;

const SYMBOLS: [(&str, u64); 6] = [
    ("net_namespace_list", 0x1000),
    ("tcp_hashinfo", 0x1100),
    ("udp_table", 0x1200),
    ("nl_table", 0x1300),
    ("neigh_tables", 0x1400),
    ("arp_tbl", 0x1500),
];

const NET: u64 = 0x2000;
const NODE: u64 = 72;

/// One namespace, number 77, with empty tables: two TCP buckets, one for listening, one for UDP, 512 for Unix sockets.
fn kernel() -> Memory {
    let mut memory = Memory::default();
    memory.words(0x1000, &[NET, NET]);
    memory.words(NET, &[0x1000, 0x1000]).half(NET + 24, 77).words(NET + 32, &[NET + 32, NET + 32]);
    memory.word(NET + 72, 0x7000).words(0x7000, &[0; 512]);
    memory.words(0x1100, &[0x3000, 1, 0x3100]).words(0x3000, &[1, 3]).words(0x3100, &[0, 1]);
    memory.words(0x1200, &[0x3200, 0, 0]).words(0x3200, &[0, 0]);
    memory.word(0x1300, 0x8000).words(0x8000, &[0; 32 * 26]);
    memory
}

/// The common part of a socket of family and state, in the namespace, at the end of its chain.
fn sock(memory: &mut Memory, addr: u64, family: u16, state: u8) {
    memory.bytes(addr + 12, &family.to_le_bytes()).bytes(addr + 14, &[state]).word(addr + 24, NET);
    memory.word(addr + NODE, 1).half(addr + 88, 2);
}

fn found(target: &Target, held: BTreeMap<u64, Vec<Holder>>) -> (Vec<Found>, Vec<String>) {
    let notes = Notes::default();
    let sockets = sockets(&notes, target, held).expect("tables");
    (sockets, texts(&notes))
}

/// Protocol, addresses with ports, state.
fn line(found: &Found) -> String {
    let entry = &found.entry;
    let end = |ip: &object::Read<std::net::IpAddr>, port: &object::Read<u32>| match (ip, port) {
        (Ok(ip), Ok(port)) => format!("{ip} {port}"),
        _ => "-".to_owned(),
    };
    let (proto, state) = (entry.proto.clone().unwrap_or("?".into()), entry.state.clone().unwrap_or("?"));
    let (local, remote) = (end(&entry.local, &entry.local_port), end(&entry.remote, &entry.remote_port));
    format!("{proto} {local} {remote} {state}")
}

#[test]
fn the_smaller_structures_of_the_tcp_table_are_told_apart_by_state() {
    let mut memory = kernel();
    // A socket in TIME_WAIT, a request of its bucket, and a listening socket; ports and addresses are big-endian.
    memory.word(0x3000, 0x4000 + NODE);
    sock(&mut memory, 0x4000, 2, 6);
    memory.bytes(0x4000, &[10, 0, 0, 2, 10, 0, 0, 1, 0x1f, 0x90]).bytes(0x4000 + 96, &[0, 80, 5]);
    memory.word(0x4000 + NODE, 0x4100 + NODE);
    sock(&mut memory, 0x4100, 10, 12);
    memory.bytes(0x4108, &[0x1f, 0x91]).bytes(0x410a, &443u16.to_le_bytes());
    memory.bytes(0x4100 + 32 + 15, &[1]).bytes(0x4100 + 48 + 10, &[0xff, 0xff, 127, 0, 0, 1]);
    memory.word(0x3108, 0x4200 + NODE);
    sock(&mut memory, 0x4200, 2, 10);
    memory.bytes(0x4200 + 96, &[1, 0, 6, 0]).word(0x4200 + 104, 0).bytes(0x4200 + 128, &[0, 22]);

    let (found, notes) = found(&memory.target(STRUCTS, &SYMBOLS), BTreeMap::new());
    assert_eq!(notes, Vec::<String>::new());
    assert_eq!(
        found.iter().map(line).collect::<Vec<_>>(),
        [
            "tcp 0.0.0.0 22 0.0.0.0 0 LISTEN",
            "tcp 10.0.0.1 80 10.0.0.2 8080 FIN_WAIT2",
            "tcp6 ::ffff:127.0.0.1 443 ::1 8081 SYN_RECV"
        ]
    );
    assert!(found.iter().all(|found| found.tabled && found.holders.is_empty()));
    assert_eq!((found[1].entry.net_ns.clone(), found[1].entry.refcount.clone()), (Ok(77), Ok(2)));
    assert!(matches!(found[1].entry.inode, Err(Absent::NotApplicable(_))));
}

#[test]
fn a_socket_found_by_descriptor_and_by_table_is_one_and_one_that_only_a_process_has_is_not_lost() {
    let mut memory = kernel();
    memory.word(0x3200, 0x4000 + NODE);
    for addr in [0x4000, 0x4100] {
        sock(&mut memory, addr, 2, 7);
        memory.bytes(addr + 96, &[2, 0, 17, 0]).word(addr + 104, 0).bytes(addr + 128, &[0, 53]);
    }
    memory.word(0x4000 + NODE, 0);
    let holder = |pid, fd| Holder { pid: Ok(pid), comm: Ok("named".into()), fd };
    let held = BTreeMap::from([(0x4000, vec![holder(9, 1), holder(8, 3)]), (0x4100, vec![holder(9, 2)])]);
    let (found, _) = found(&memory.target(STRUCTS, &SYMBOLS), held);
    let short: Vec<_> = found.iter().map(|f| (f.entry.addr, f.tabled, f.holders.clone())).collect();
    assert_eq!(
        short,
        [(0x4000, true, vec![holder(8, 3), holder(9, 1)]), (0x4100, false, vec![holder(9, 2)])]
    );
}

#[test]
fn unix_paths_are_shown_as_the_kernel_prints_them() {
    let path = |len: u32, name: &[u8]| {
        let mut memory = kernel();
        memory.word(0x7008, 0x4000 + NODE);
        sock(&mut memory, 0x4000, 1, 1);
        memory.word(0x4000 + NODE, 0).words(0x4000 + 96, &[1, 0, 0, 0, 0x5000]);
        memory.half(0x5000, len).bytes(0x5008, &[1, 0]).bytes(0x500a, name);
        let (found, _) = found(&memory.target(STRUCTS, &SYMBOLS), BTreeMap::new());
        found[0].entry.path.clone()
    };
    assert_eq!(path(2 + 7, b"/run/\xff\0").as_deref(), Ok("/run/\\xff"));
    assert_eq!(path(2 + 5, b"\0a\0b\0junk").as_deref(), Ok("@a@b@"));
    assert_eq!(path(2, b"").as_deref(), Ok(""));
    for hostile in [0, 1, 113, u32::MAX, 0x8000_0000] {
        assert_eq!(path(hostile, b"/x\0"), Err(Absent::Malformed("length of a Unix address")), "{hostile}");
    }
}

#[test]
fn a_torn_socket_keeps_its_row() {
    let mut memory = kernel();
    // Its link is the last word of a page; what is behind it is missing.
    let addr = 0x5000 - NODE - 8;
    memory.word(0x3000, addr + NODE);
    sock(&mut memory, addr, 2, 1);
    let memory = {
        let mut torn = kernel();
        torn.word(0x3000, addr + NODE).bytes(addr + 12, &[2, 0, 1]).word(addr + 24, NET).word(addr + NODE, 1);
        torn
    };
    let (found, _) = found(&memory.target(STRUCTS, &SYMBOLS), BTreeMap::new());
    assert_eq!((found.len(), found[0].entry.state.clone()), (1, Ok("ESTABLISHED")));
    assert!(matches!(found[0].entry.proto, Err(Absent::Unreadable { .. })));
    assert_eq!(found[0].entry.local.clone().map(|ip| ip.to_string()), Ok("0.0.0.0".to_owned()));
}

#[test]
fn a_missing_table_is_a_note_and_the_others_are_walked() {
    let mut memory = kernel();
    memory.word(0x7000, 0x4000 + NODE);
    sock(&mut memory, 0x4000, 1, 7);
    memory.word(0x4000 + NODE, 0);
    let symbols: Vec<_> = SYMBOLS.into_iter().filter(|(name, _)| *name != "tcp_hashinfo").collect();
    let (found, notes) = found(&memory.target(STRUCTS, &symbols), BTreeMap::new());
    assert_eq!(found.len(), 1);
    assert_eq!(notes, ["tcp_hashinfo cannot be walked: profile lacks symbol: tcp_hashinfo"]);
}

#[test]
fn devices_show_every_address_and_the_flags_that_the_kernel_derives() {
    let mut memory = kernel();
    let device = 0x4000;
    memory.words(NET + 32, &[device + 16, device + 16]);
    memory.bytes(device, b"eth0\0").words(device + 16, &[NET + 32, NET + 32]).half(device + 32, 2);
    // UP and RUNNING as kept, PROMISC as set by the user; running, no carrier, operational state up.
    memory
        .half(device + 40, 0x1041)
        .half(device + 44, 0x100)
        .word(device + 48, 0b111)
        .bytes(device + 56, &[6, 6]);
    memory.words(device + 64, &[0x5000, 0, 0x5100, NET]).word(0x5000, 0x5200);
    memory.bytes(0x5100, &[2, 0, 0, 0, 0, 1]);
    memory.word(0x5200, 0x5300).bytes(0x5208, &[192, 0, 2, 1, 24]).bytes(0x5210, b"eth0\0");
    memory.word(0x5300, 0x5200).bytes(0x5308, &[192, 0, 2, 2, 32]).bytes(0x5310, b"eth0:1\0");
    let (notes, target) = (Notes::default(), memory.target(STRUCTS, &SYMBOLS));
    let devices = devices(&notes, &target).expect("devices");
    let (net, device) = devices[0];
    assert_eq!((net.inum(), device.label().as_deref()), (Ok(77), Ok("eth0")));
    assert_eq!(device.flags().map(|flags| flags.join(",")).as_deref(), Ok("UP,RUNNING,PROMISC,MULTICAST"));
    assert_eq!((device.state(), device.hardware_address().as_deref()), (Ok("up"), Ok("02:00:00:00:00:01")));
    let addresses = device.ipv4(&notes).expect("addresses");
    let short: Vec<_> = addresses
        .iter()
        .map(|a| format!("{}/{}", a.ip.clone().unwrap(), a.prefix_len.clone().unwrap()))
        .collect();
    assert_eq!(short, ["192.0.2.1/24", "192.0.2.2/32"]);
    assert_eq!(texts(&notes), ["list in_device.ifa_list ends in a loop at 0x5200"]);
    assert_eq!(device.ipv6(&notes), Ok(vec![]));
}

#[test]
fn a_neighbour_table_with_a_hostile_size_is_capped() {
    let mut memory = kernel();
    memory.words(0x1500, &[4 << 32 | 2, 0x4000]).word(0x4000, 0xaff8).half(0x4008, 63);
    // One bucket is there, the last word of the last page.
    memory.word(0xaff8, 0x4200).word(0x4200, 0).bytes(0x4208, &[0x82, 1]).bytes(0x4210, &[2, 0, 0, 0, 0, 9]);
    memory.word(0x4230, 0x6000).bytes(0x4238, &[192, 0, 2, 9]);
    memory.bytes(0x6000, b"eth0\0").bytes(0x6039, &[6]).word(0x6058, NET);
    let notes = Notes::default();
    let entries = neighbours(&notes, &memory.target(STRUCTS, &SYMBOLS)).expect("tables");
    assert_eq!(entries.len(), 1);
    let entry = &entries[0];
    assert_eq!(entry.ip.clone().map(|ip| ip.to_string()).as_deref(), Ok("192.0.2.9"));
    assert_eq!((entry.mac.as_deref(), entry.device.as_deref()), (Ok("02:00:00:00:00:09"), Ok("eth0")));
    assert_eq!((entry.state.as_deref(), entry.flags.as_deref()), (Ok("REACHABLE,PERMANENT"), Ok("USE")));
    assert_eq!((entry.family, entry.net_ns.clone()), ("inet", Ok(77)));
    let notes = texts(&notes);
    assert_eq!(notes[0], "hash table arp_tbl claims 9223372036854775808 buckets; only 16777216 were walked");
    assert!(notes[1].contains("buckets cannot be read"), "{notes:?}");
}

/// Words of [`kernel`] replaced at random: pointers into it, small numbers, garbage.
#[test]
fn mutated_kernels_neither_panic_nor_hang() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 24) % below
    };
    for round in 0..400 {
        let mut memory = kernel();
        memory.words(0x1500, &[4 << 32 | 2, 0x4800]).words(0x4800, &[0x4900, 2]).word(0x4900, 0x4a00);
        memory.words(NET + 32, &[0x4b10, 0x4b10]).word(0x3000, 0x4000 + NODE).word(0x3108, 0x4200 + NODE);
        for (addr, family, kind) in [(0x4000, 2, 6), (0x4200, 10, 10), (0x4400, 1, 1), (0x4600, 16, 7)] {
            sock(&mut memory, addr, family, kind);
        }
        memory
            .word(0x7000, 0x4400 + NODE)
            .word(0x8000, 0x4c00)
            .words(0x4c00, &[1, 0])
            .word(0x3200, 0x4600 + NODE);
        for _ in 0..=random(12) {
            let page =
                [0x1000, 0x2000, 0x3000, 0x4000, 0x7000, 0x8000][usize::try_from(random(6)).expect("small")];
            let value = match random(5) {
                0 => random(4),
                1 => u64::MAX - random(64),
                2 => random(1 << 20),
                _ => 0x1000 + random(0x8000),
            };
            memory.word(page + random(500) * 8, value);
        }
        let (notes, target) = (Notes::default(), memory.target(STRUCTS, &SYMBOLS));
        let sockets = sockets(&notes, &target, BTreeMap::new()).map_or(0, |sockets| sockets.len());
        let devices = devices(&notes, &target).unwrap_or_default();
        for (_, device) in devices.iter().take(1000) {
            let _ = (
                device.flags(),
                device.state(),
                device.hardware_address(),
                device.ipv4(&notes),
                device.ipv6(&notes),
            );
        }
        let neighbours = neighbours(&notes, &target).map_or(0, |entries| entries.len());
        assert!(sockets + devices.len() + neighbours < 100_000, "round {round}: more than memory can hold");
    }
}
