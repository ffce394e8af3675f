//! What commands say of the network and the kernel of made Windows machines equals their description.
//!
//! Truth: the description. The maker of the images shares no decoding code with the program. Where the network driver keeps
//! its variables comes from real symbols of two builds; the offsets in its structs are those that other tools agree on, and
//! Volatility reads the images alike (`testkit/tests/volatility.rs`).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod made;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use made::{CREATED, Image, offices, sorted, systems};
use testkit::scenario::Scenario;
use testkit::{Callback, Endpoint, Kind, Protocol, filetime};

/// A time of the machine as commands print it; it is less than an hour old.
fn time(filetime_of: u64) -> String {
    let after = (filetime_of - filetime(CREATED)) / 10_000_000;
    format!("2012-02-22T11:{:02}:{:02}Z", 10 + after / 60, after % 60)
}

fn name_of(scenario: &Scenario, pid: u64) -> String {
    scenario.processes.iter().find(|process| process.pid == pid).expect("a process").name.clone()
}

/// The rows of an endpoint.
fn endpoint_rows(scenario: &Scenario, endpoint: &Endpoint) -> Vec<String> {
    let state = match endpoint.protocol {
        Protocol::Connection(4) => "ESTABLISHED",
        Protocol::Connection(7) => "CLOSE_WAIT",
        Protocol::Connection(other) => panic!("state {other}"),
        Protocol::Listener => "LISTENING",
        Protocol::Udp => "",
    };
    let v6 = endpoint.local.map_or(endpoint.v6, |local| local.is_ipv6());
    let families = if v6 && endpoint.local.is_none() { vec![false, true] } else { vec![v6] };
    let row = |v6: bool| {
        let any = if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
        let local = SocketAddr::new(endpoint.local.unwrap_or(any), endpoint.local_port);
        let remote = match (endpoint.protocol, endpoint.remote) {
            (Protocol::Udp, _) => "*:*".to_owned(),
            (_, Some((remote, port))) => SocketAddr::new(remote, port).to_string(),
            (_, None) => SocketAddr::new(any, 0).to_string(),
        };
        let kind = if endpoint.protocol == Protocol::Udp { "UDP" } else { "TCP" };
        let version = if v6 { 6 } else { 4 };
        let (pid, owner) = (endpoint.pid, name_of(scenario, endpoint.pid));
        format!(
            "{kind}v{version} | {local} | {remote} | {state} | {pid} | {owner} | {}",
            time(endpoint.created)
        )
    };
    families.into_iter().map(row).collect()
}

const ENDPOINT: [&str; 7] = ["protocol", "local_addr", "remote_addr", "state", "pid", "owner", "created"];

#[test]
fn endpoints_are_those_described() {
    for (name, scenario, built, image) in
        offices().filter(|(_, _, built, _)| built.snapshot.machine.system.is_64())
    {
        let rows = |unlinked: bool| {
            let kept = scenario.endpoints.iter().filter(move |endpoint| unlinked || !endpoint.unlinked);
            sorted(kept.flat_map(|endpoint| endpoint_rows(&scenario, endpoint)).collect())
        };
        assert_eq!(sorted(image.cells(&["netscan"], &ENDPOINT)), rows(true), "{name}");
        // What was taken off the tables is not listed.
        assert_eq!(sorted(image.cells(&["netstat"], &ENDPOINT)), rows(false), "{name}");
        let addresses = image.cells(&["netscan"], &["offset"]);
        for at in &built.endpoints {
            assert!(addresses.contains(&format!("{at:#x}")), "{name}: {at:#x} is not in {addresses:?}");
        }
        // The debug file may also be named.
        let guid = &built.snapshot.machine.system.tcpip.as_ref().unwrap().pdb.guid_age;
        assert_eq!(sorted(image.cells(&["netstat", "--tcpip_guid", guid], &ENDPOINT)), rows(false), "{name}");
        for command in ["connections", "connscan", "sockets", "sockscan"] {
            let error = image.rekal.run(&[command]).expect_err("a command for XP").to_string();
            assert!(error.contains("only for Windows XP and 2003"), "{name}: {error}");
        }
    }
}

#[test]
fn a_build_that_keeps_owners_elsewhere_is_learned() {
    for (name, system) in systems() {
        let mut system = system;
        system.other_owner = Some(0x2b0);
        let scenario = Scenario::office(&system);
        let image = Image::of(&scenario.build(system).snapshot);
        // The time follows the owner from Windows 10 on; before, it was first, which nothing tells.
        let columns = if name == "Windows 7" { &ENDPOINT[..6] } else { &ENDPOINT[..] };
        let cut = |row: String| row.split(" | ").take(columns.len()).collect::<Vec<_>>().join(" | ");
        let rows = scenario.endpoints.iter().flat_map(|endpoint| endpoint_rows(&scenario, endpoint)).map(cut);
        let rows = sorted(rows.collect());
        let output = image.run(&["netscan"]);
        let found = output.rows.iter().map(|row| {
            columns.iter().map(|column| row.text_or_empty(column)).collect::<Vec<_>>().join(" | ")
        });
        assert_eq!(sorted(found.collect()), rows, "{name}");
        assert!(
            output.notes.iter().any(|note| note.to_string().contains("0x2b0")),
            "{name}: {:?}",
            output.notes
        );
    }
}

#[test]
fn connections_and_sockets_of_xp_are_those_described() {
    let (_, scenario, built, image) = offices().find(|(name, ..)| *name == "Windows XP").expect("XP");
    let pairs = || scenario.endpoints.iter().zip(&built.endpoints);
    let connection = |(endpoint, at): (&Endpoint, &u64)| {
        let end = |address: std::net::IpAddr, port| SocketAddr::new(address, port).to_string();
        let (remote, port) = endpoint.remote?;
        let local = end(endpoint.local?, endpoint.local_port);
        Some(format!("{at:#x} | {local} | {} | {}", end(remote, port), endpoint.pid))
    };
    let listed = pairs().filter(|(endpoint, _)| !endpoint.unlinked).filter_map(connection);
    let columns = ["offset_v", "local", "remote", "pid"];
    assert_eq!(sorted(image.cells(&["connections"], &columns)), sorted(listed.collect()));
    assert_eq!(
        sorted(image.cells(&["connscan"], &columns)),
        sorted(pairs().filter_map(connection).collect())
    );
    let socket = |(endpoint, at): (&Endpoint, &u64)| {
        let (number, name) = if endpoint.protocol == Protocol::Udp { (17, "UDP") } else { (6, "TCP") };
        let address = endpoint.local.map_or("0.0.0.0".to_owned(), |local| local.to_string());
        let (pid, port, time) = (endpoint.pid, endpoint.local_port, time(endpoint.created));
        endpoint
            .remote
            .is_none()
            .then(|| format!("{at:#x} | {pid} | {port} | {number} | {name} | {address} | {time}"))
    };
    let sockets: Vec<String> = sorted(pairs().filter_map(socket).collect());
    let columns = ["offset_v", "pid", "port", "proto", "protocol", "address", "create_time"];
    assert_eq!(sorted(image.cells(&["sockets"], &columns)), sockets);
    assert_eq!(sorted(image.cells(&["sockscan"], &columns)), sockets);
    for command in ["netscan", "netstat"] {
        let error = image.rekal.run(&[command]).expect_err("a command for later systems").to_string();
        assert!(error.contains("not for Windows before Vista"), "{error}");
    }
}

/// The kernel's variable that leads to callbacks of a kind.
fn variable(kind: Callback, is_64: bool) -> &'static str {
    match kind {
        Callback::Process => "PspCreateProcessNotifyRoutine",
        Callback::Thread => "PspCreateThreadNotifyRoutine",
        Callback::Image => "PspLoadImageNotifyRoutine",
        Callback::Registry if is_64 => "CallbackListHead",
        Callback::Registry => "CmpCallBackVector",
        Callback::BugCheck => "KeBugCheckCallbackListHead",
        Callback::BugCheckReason => "KeBugCheckReasonCallbackListHead",
        Callback::Shutdown => "IopNotifyShutdownQueueHead",
        Callback::FileSystem => "IopFsNotifyChangeQueueHead",
        Callback::DebugPrint => "RtlpDebugPrintCallbackList",
        Callback::Profile => "PnpProfileNotifyList",
        Callback::DeviceClass => "PnpDeviceClassNotifyList",
        Callback::NonMaskable => "KiNmiCallbackListHead",
        Callback::ProcessHandles => "CallbackList",
    }
}

#[test]
fn callbacks_are_those_described() {
    for (name, scenario, built, image) in offices() {
        let machine = &built.snapshot.machine;
        let mut expected = Vec::new();
        for (&(kind, index, offset), record) in scenario.callbacks.iter().zip(&built.callbacks) {
            if !machine.has_callback(kind) {
                continue;
            }
            let driver = &scenario.drivers[index];
            // A device is told of the shutdown through its driver.
            let shutdown = driver.functions.iter().find(|(request, _)| *request == 16);
            let (routine, details) = match kind {
                Callback::Shutdown => (shutdown.expect("described").1, driver.object.as_str()),
                Callback::BugCheck | Callback::BugCheckReason => (offset, "testcomponent"),
                Callback::Registry if machine.system.is_64() => (offset, "altitude 380010"),
                Callback::ProcessHandles => (offset, "Process handles, before"),
                _ => (offset, ""),
            };
            let (base, module) = (driver.module.base, driver.module.name().trim_end_matches(".sys"));
            // Hidden drivers are on no list of modules.
            let symbol = if driver.unlinked { String::new() } else { format!("{module}+{routine:#x}") };
            let kind = variable(kind, machine.system.is_64());
            expected.push(format!("{kind} | {record:#x} | {:#x} | {symbol} | {details}", base + routine));
        }
        let columns = ["type", "offset", "callback", "symbol", "details"];
        // Only the network driver has symbols, those of another place.
        let plain = |row: String| match (row.find("tcpip!"), row.rfind(" | ")) {
            (Some(start), Some(end)) => format!("{}tcpip+0x1780{}", &row[..start], &row[end..]),
            _ => row,
        };
        let found = image.cells(&["callbacks"], &columns).into_iter().map(plain);
        assert_eq!(sorted(found.collect()), sorted(expected), "{name}");
    }
}

#[test]
fn timers_are_those_described() {
    for (name, scenario, built, image) in offices() {
        let expected =
            scenario.timers.iter().zip(&built.timers).map(|(&(due, period, index, offset), timer)| {
                let driver = &scenario.drivers[index];
                let module = driver.module.name().trim_end_matches(".sys");
                let symbol = if driver.unlinked { String::new() } else { format!("{module}+{offset:#x}") };
                // The clock stands at 11:31:30, and the machine is up for twenty minutes.
                let end = filetime(CREATED + 90) + due;
                let fraction = match due % 10_000_000 {
                    0 => String::new(),
                    rest => format!(".{rest:07}").trim_end_matches('0').to_owned(),
                };
                let wall = time(end).replace('Z', &format!("{fraction}Z"));
                let routine = driver.module.base + offset;
                format!("{timer:#x} | {due:#x} | {wall} | {period} | false | {routine:#x} | {symbol}")
            });
        let columns = ["_KTIMER", "due", "due_time", "period", "sig", "routine", "symbol"];
        assert_eq!(sorted(image.cells(&["timers"], &columns)), sorted(expected.collect()), "{name}");
    }
}

#[test]
fn pools_are_those_described() {
    for (name, scenario, built, image) in offices() {
        let machine = &built.snapshot.machine;
        let found =
            image.cells(&["pool_tracker"], &["tag", "nonpaged", "nonpaged_bytes", "paged", "paged_bytes"]);
        let mut rows: BTreeMap<[u8; 4], [(u64, u64); 2]> = BTreeMap::new();
        for (&(tag, kind), &total) in machine.tracked() {
            rows.entry(tag).or_default()[usize::from(kind == Kind::Paged)] = total;
        }
        let expected = rows.iter().map(|(tag, [nonpaged, paged])| {
            // The tags of objects are protected in older systems, which is no part of their name.
            let tag: Vec<char> = tag.iter().map(|byte| char::from(byte & 0x7f)).collect();
            let tag: String = tag.into_iter().collect();
            format!("{tag} | {} | {} | {} | {}", nonpaged.0, nonpaged.1, paged.0, paged.1)
        });
        assert_eq!(sorted(found), sorted(expected.collect()), "{name}");

        let columns = ["type", "index", "size", "start", "comment"];
        let found = image.cells(&["pools"], &columns);
        let (nonpaged, paged) = (machine.system.nonpaged_pool, machine.system.paged_pool);
        let pool = |kind: &str, of: Kind| {
            let bytes = machine.described()[&of].1;
            let (size, start) = match (name, of) {
                // Whole pages are counted.
                ("Windows XP", Kind::NonPaged) => (bytes.next_multiple_of(4096), format!("{nonpaged:#x}")),
                ("Windows XP", Kind::Paged) => (bytes.next_multiple_of(4096), format!("{paged:#x}")),
                (_, Kind::NonPaged) => (bytes, format!("{nonpaged:#x}")),
                // Windows 7 has no variable for it.
                (_, Kind::Paged) => (bytes, String::new()),
            };
            format!("{kind} | 0 | {size} | {start} | ")
        };
        let mut expected = if machine.described().is_empty() {
            let heap = |(slot, (kind, start)): (usize, (&str, u64))| {
                let size = (0x100 + slot) * 4096;
                format!("{kind} | 0 | {size} | {start:#x} | heap {slot} of memory node 0")
            };
            let kinds = [
                ("NonPagedPool", nonpaged),
                ("NonPagedPoolNx", nonpaged),
                ("PagedPool", paged),
                ("PagedPool", paged),
            ];
            kinds.into_iter().enumerate().map(heap).collect()
        } else {
            vec![pool("NonPagedPool", Kind::NonPaged), pool("PagedPool", Kind::Paged)]
        };
        let sessions = found.iter().filter(|row| row.starts_with("PagedPoolSession")).count();
        let mut numbers: Vec<u32> = scenario.processes.iter().filter_map(|process| process.session).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(sessions, numbers.len(), "{name}: {found:?}");
        expected.sort();
        let own: Vec<String> = found.into_iter().filter(|row| !row.starts_with("PagedPoolSession")).collect();
        assert_eq!(sorted(own), expected, "{name}");
    }
}

#[test]
fn a_hidden_debugger_block_is_read() {
    for (name, system) in systems() {
        let scenario = Scenario::office(&system);
        let mut built = scenario.build(system);
        built.snapshot.machine.encode_debugger_data();
        let image = Image::of(&built.snapshot);
        let system = &built.snapshot.machine.system;
        let base = system.kernel_base;
        let head = base + system.layouts.profile().symbol("PsActiveProcessHead").expect("a symbol");
        let found = image.cells(&["kdbgscan"], &["Key", "Value"]);
        for row in [
            "Hidden | true".to_owned(),
            "Tag found | true".to_owned(),
            format!("Kernel base | {base:#x}"),
            format!("PsActiveProcessHead | {head:#x}"),
            format!("Build | {}", system.build_lab),
        ] {
            assert!(found.contains(&row), "{name}: {row:?} is not in {found:#?}");
        }
        // Nothing in physical memory shows it.
        let found = image.cells(&["kdbgscan", "--full_scan"], &["Key"]);
        assert!(!found.contains(&"Offset (P)".to_owned()), "{name}: {found:?}");
    }
}
