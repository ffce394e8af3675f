//! What Volatility 3 finds in the made images, compared with what original Rekall printed or with their descriptions.
//! Volatility knows nothing of this project. It takes its time, so the tests run only where `REKAL_TEST_VOLATILITY` is set.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::process::Command;

use profile::Profile;
use profile::isf::document_to_isf;
use serde_json::Value;
use testkit::scenario::{DEEP_TABLE_PID, INJECTED_CODE, INJECTED_DLL, Scenario};
use testkit::{
    Backing, Callback, CrashDump, Pdb, Protocol, Snapshot, System, profiles, user_image, win7_trial,
};

/// Volatility and Rekall print kernel addresses without their upper 16 bits.
const MASK: u64 = 0xFFFF_FFFF_FFFF;

/// An image in a scratch folder with the symbols that Volatility needs.
struct Written {
    folder: tempfile::TempDir,
}

impl Written {
    fn new(snapshot: &Snapshot) -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        snapshot.write_raw(&folder.path().join("image.raw")).expect("a written image");
        let system = &snapshot.machine.system;
        std::fs::create_dir(folder.path().join("cache")).expect("a folder");
        let machine = if system.is_64() { 34404 } else { 332 };
        write_symbols(folder.path(), system.layouts.profile(), &system.pdb, machine);
        if let Some(tcpip) = &system.tcpip {
            write_symbols(folder.path(), &tcpip.profile, &tcpip.pdb, machine);
        }
        Self { folder }
    }

    /// Rows of a plugin.
    fn rows(&self, plugin: &str) -> Vec<Value> {
        self.rows_of("image.raw", plugin)
    }

    /// Rows of a plugin on another file of the folder. Files that it writes go into the folder too.
    fn rows_of(&self, image: &str, plugin: &str) -> Vec<Value> {
        let mut words = plugin.split(' ');
        let plugin = words.next().expect("a name");
        let output = Command::new("vol")
            .args(["--offline", "-q", "-r", "json", "-s"])
            .arg(self.folder.path())
            // A cache of its own: the symbols are gone after the test.
            .arg("--cache-path")
            .arg(self.folder.path().join("cache"))
            .arg("-f")
            .arg(self.folder.path().join(image))
            .arg("-o")
            .arg(self.folder.path())
            .arg(plugin)
            .args(words)
            .output()
            .expect("an installed volatility3 whose program is called vol");
        let text = String::from_utf8_lossy(&output.stdout);
        let start =
            text.find('[').unwrap_or_else(|| panic!("{plugin}: {}", String::from_utf8_lossy(&output.stderr)));
        serde_json::from_str(&text[start..]).expect("rows")
    }
}

/// Writes symbols where Volatility finds them below a folder.
fn write_symbols(folder: &Path, profile: &Profile, pdb: &Pdb, machine: u32) {
    let document = profile.to_document().expect("a readable profile");
    let mut isf: Value = serde_json::from_str(&document_to_isf(&document)).expect("JSON");
    // Names of strings, which it refuses.
    isf["symbols"].as_object_mut().expect("symbols").retain(|name, _| !name.contains('!'));
    // Types that its plugins ask for though no struct has them.
    for (name, signed) in [("int", true), ("unsigned int", false)] {
        isf["base_types"][name] =
            serde_json::json!({"size": 4, "signed": signed, "kind": "int", "endian": "little"});
    }
    let (guid, age) = pdb.guid_age.split_at(32);
    isf["metadata"]["windows"] = serde_json::json!({"pdb": {
        "GUID": guid, "age": age.parse::<u32>().expect("a number"), "database": pdb.name, "machine_type": machine
    }});
    let symbols = folder.join("windows").join(&pdb.name);
    std::fs::create_dir_all(&symbols).expect("a folder");
    std::fs::write(symbols.join(format!("{guid}-{age}.json")), isf.to_string()).expect("a file");
}

/// Whether Volatility may be run.
fn wanted() -> bool {
    let wanted = std::env::var_os("REKAL_TEST_VOLATILITY").is_some();
    if !wanted {
        eprintln!("skipped: set REKAL_TEST_VOLATILITY=1 to compare with volatility3");
    }
    wanted
}

/// Statements of Rekall's output of a plugin on the trial image.
fn rekall(plugin: &str) -> Vec<Value> {
    let path = profiles::data()
        .expect("checked before")
        .join(format!("rekall/output/win7_trial_64bit.{plugin}.json.gz"));
    let file = std::fs::File::open(path).expect("a file");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("a whole gzip file");
    serde_json::from_str(&text).expect("JSON")
}

/// Reads the rows of Rekall's `vad`: node to (start, end, private, protection, file).
type Areas = BTreeSet<(u64, u64, u64, bool, String, String)>;

#[test]
fn volatility_reads_the_rebuilt_trial_image() {
    if !wanted() {
        return;
    }
    let Some(snapshot) = win7_trial::snapshot() else { return };
    let written = Written::new(&snapshot);
    let rows = written.rows("windows.pslist");
    let process = |row: &Value| {
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| row[key].as_u64();
        let address = number("Offset(V)").unwrap() & MASK;
        let seconds = |key: &str| text(key).get(..19).unwrap_or_default().replace('T', " ");
        (
            address,
            number("PID"),
            number("PPID"),
            text("ImageFileName"),
            number("Threads"),
            number("Handles"),
            number("SessionId"),
            row["Wow64"].as_bool(),
            seconds("CreateTime"),
            seconds("ExitTime"),
        )
    };
    let found: BTreeSet<_> = rows.iter().map(process).collect();
    let truth: BTreeSet<_> = rekall("pslist")
        .iter()
        .filter(|statement| statement[0] == "r")
        .map(|statement| {
            let row = &statement[1];
            let facts = &row["_EPROCESS"]["Cybox"];
            let time = |key: &str| {
                row[key]["string_value"].as_str().unwrap_or_default().get(..19).unwrap_or_default().to_owned()
            };
            (
                row["_EPROCESS"]["offset"].as_u64().unwrap(),
                facts["PID"].as_u64(),
                row["ppid"].as_u64(),
                facts["Name"].as_str().unwrap().to_owned(),
                row["thread_count"].as_u64(),
                row["handle_count"].as_u64(),
                row["session_id"].as_u64(),
                row["wow64"].as_bool(),
                time("process_create_time"),
                time("process_exit_time"),
            )
        })
        .collect();
    assert_eq!(found, truth);

    let mut truth: BTreeMap<u64, Areas> = BTreeMap::new();
    let mut pid = 0;
    for statement in rekall("vad") {
        match statement[0].as_str() {
            Some("f") => pid = statement[2].as_u64().unwrap(),
            Some("r") => {
                let row = &statement[1];
                truth.entry(pid).or_default().insert((
                    row["offset"]["offset"].as_u64().unwrap(),
                    row["start_pfn"]["target"].as_u64().or(row["start_pfn"].as_u64()).unwrap(),
                    row["end_pfn"]["target"].as_u64().or(row["end_pfn"].as_u64()).unwrap(),
                    row["type"] == "Private",
                    format!("PAGE_{}", row["protection"]["enum"].as_str().unwrap()),
                    // What Rekall says where a file object has no name.
                    row["filename"].as_str().unwrap().replace("Pagefile-backed section", ""),
                ));
            }
            _ => {}
        }
    }
    let mut found: BTreeMap<u64, Areas> = BTreeMap::new();
    for row in written.rows("windows.vadinfo") {
        let number = |key: &str| row[key].as_u64().unwrap();
        found.entry(number("PID")).or_default().insert((
            number("Offset") & MASK,
            number("Start VPN"),
            number("End VPN"),
            number("PrivateMemory") == 1,
            row["Protection"].as_str().unwrap().to_owned(),
            row["File"].as_str().unwrap_or_default().to_owned(),
        ));
    }
    for (pid, truth) in &truth {
        let found = &found[pid];
        let missing: Vec<_> = truth.difference(found).take(3).collect();
        let extra: Vec<_> = found.difference(truth).take(3).collect();
        assert!(missing.is_empty() && extra.is_empty(), "{pid}: missing {missing:?}, extra {extra:?}");
    }
}

/// Sorted values of a column.
fn column(rows: &[Value], name: &str) -> Vec<String> {
    let mut values: Vec<String> = rows
        .iter()
        .map(|row| row[name].as_str().map_or_else(|| row[name].to_string(), str::to_owned))
        .collect();
    values.sort();
    values
}

fn sorted<T: ToString>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    let mut values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    values.sort();
    values
}

/// Compares the office machine with what Volatility finds in it.
fn check_office(system: System) {
    let mut scenario = Scenario::office(&system);
    // Volatility lists the hundred thousands of free entries before this one, and miscounts it in tables of three levels.
    scenario.handles.retain(|open| open.pid != DEEP_TABLE_PID);
    let built = scenario.build(system);
    let written = Written::new(&built.snapshot);
    let listed = scenario.processes.iter().filter(|process| process.pid != 0 && !process.unlinked);
    assert_eq!(column(&written.rows("windows.pslist"), "PID"), sorted(listed.map(|process| process.pid)));
    let scanned = scenario.processes.iter().filter(|process| process.pid != 0);
    assert_eq!(column(&written.rows("windows.psscan"), "PID"), sorted(scanned.map(|process| process.pid)));
    let modules = scenario
        .modules
        .iter()
        .chain(scenario.drivers.iter().filter(|driver| !driver.unlinked).map(|driver| &driver.module));
    assert_eq!(column(&written.rows("windows.modules"), "Path"), sorted(modules.map(|module| &module.path)));
    let drivers = scenario.drivers.iter().map(|driver| &driver.object);
    assert_eq!(column(&written.rows("windows.driverscan"), "Name"), sorted(drivers));
    let mutants = scenario.mutants.iter().filter_map(|(path, _)| path.rsplit('\\').next());
    assert_eq!(column(&written.rows("windows.mutantscan"), "Name"), sorted(mutants));
    let loaded: usize = scenario
        .processes
        .iter()
        .filter(|process| !process.unlinked)
        .flat_map(|process| &process.modules)
        .filter(|module| !module.unlinked)
        .count();
    assert_eq!(written.rows("windows.dlllist").len(), loaded);
    let found: BTreeSet<(u64, u64, u64)> = written
        .rows("windows.handles")
        .iter()
        .filter(|row| row["Type"] != "Event")
        .map(|row| ["PID", "HandleValue", "GrantedAccess"].map(|key| row[key].as_u64().unwrap()).into())
        .collect();
    let visible = scenario.handles.iter().filter(|open| open.pid != 2040);
    assert_eq!(found, visible.map(|open| (open.pid, open.value, open.access)).collect());
}

/// Compares the endpoints of the office machine with what Volatility finds.
fn check_network(system: System) {
    let scenario = Scenario::office(&system);
    let grown = system.version.2 >= 22000;
    let written = Written::new(&scenario.build(system).snapshot);
    let rows = |unlinked: bool| -> BTreeSet<String> {
        let mut rows = BTreeSet::new();
        for endpoint in scenario.endpoints.iter().filter(|endpoint| unlinked || !endpoint.unlinked) {
            let v6 = endpoint.local.map_or(endpoint.v6, |local| local.is_ipv6());
            for v6 in if v6 && endpoint.local.is_none() { vec![false, true] } else { vec![v6] } {
                let any = if v6 { "::" } else { "0.0.0.0" };
                let local = endpoint.local.map_or(any.to_owned(), |local| local.to_string());
                let (state, remote) = match (endpoint.protocol, endpoint.remote) {
                    (Protocol::Udp, _) => ("", "* 0".to_owned()),
                    (Protocol::Connection(7), Some((ip, port))) => ("CLOSE_WAIT", format!("{ip} {port}")),
                    (_, Some((ip, port))) => ("ESTABLISHED", format!("{ip} {port}")),
                    (_, None) => ("LISTENING", format!("{any} 0")),
                };
                let proto = if endpoint.protocol == Protocol::Udp { "UDP" } else { "TCP" };
                let (version, port, pid) = (if v6 { 6 } else { 4 }, endpoint.local_port, endpoint.pid);
                let owner = scenario.processes.iter().find(|process| process.pid == pid).expect("a process");
                rows.insert(format!(
                    "{proto}v{version} {local} {port} {remote} {state} {pid} {}",
                    owner.name
                ));
            }
        }
        rows
    };
    let found = |plugin: &str| -> BTreeSet<String> {
        let text =
            |row: &Value, key: &str| row[key].as_str().map_or_else(|| row[key].to_string(), str::to_owned);
        let row = |row: &Value| {
            let keys =
                ["Proto", "LocalAddr", "LocalPort", "ForeignAddr", "ForeignPort", "State", "PID", "Owner"];
            keys.map(|key| text(row, key)).join(" ")
        };
        written.rows(plugin).iter().map(row).collect()
    };
    assert_eq!(found("windows.netscan"), rows(true));
    // It reads a table that has grown as one array.
    if !grown {
        assert_eq!(found("windows.netstat"), rows(false));
    }
}

/// Compares callbacks and timers of the office machine with what Volatility finds.
fn check_hooks(system: System) {
    let scenario = Scenario::office(&system);
    let is_64 = system.is_64();
    let built = scenario.build(system);
    let written = Written::new(&built.snapshot);
    let routine = |index: usize, offset: u64| (scenario.drivers[index].module.base + offset) & MASK;
    let mut expected: BTreeSet<(&str, u64)> = BTreeSet::new();
    for &(kind, index, offset) in &scenario.callbacks {
        let name = match kind {
            Callback::Process => "PspCreateProcessNotifyRoutine",
            Callback::Thread => "PspCreateThreadNotifyRoutine",
            Callback::Image => "PspLoadImageNotifyRoutine",
            Callback::Registry if is_64 => "CmRegisterCallbackEx",
            Callback::Registry => "CmRegisterCallback",
            // It reads the others by scans of pool tags, with other words.
            _ => continue,
        };
        expected.insert((name, routine(index, offset)));
    }
    let rows = written.rows("windows.callbacks");
    let address = |row: &Value, key: &str| row[key].as_u64().expect("an address") & MASK;
    let known = ["PspCreate", "PspLoad", "CmRegister"];
    let found =
        rows.iter().filter(|row| known.iter().any(|name| row["Type"].as_str().unwrap().starts_with(name)));
    let found: BTreeSet<(&str, u64)> =
        found.map(|row| (row["Type"].as_str().unwrap(), address(row, "Callback"))).collect();
    assert_eq!(found, expected);
    let expected: BTreeSet<(u64, u64, u64)> = scenario
        .timers
        .iter()
        .zip(&built.timers)
        .map(|(&(_, period, index, offset), at)| (at & MASK, period, routine(index, offset)))
        .collect();
    let rows = written.rows("windows.timers");
    let timer = |row: &Value| {
        (address(row, "Offset"), row["Period(ms)"].as_u64().expect("a number"), address(row, "Routine"))
    };
    assert_eq!(rows.iter().map(timer).collect::<BTreeSet<_>>(), expected);
}

/// Where a file made of a module has what is mapped at an address of it.
fn file_offset(file: &[u8], rva: u32) -> usize {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("four bytes"));
    let half = |at: usize| usize::from(u16::from_le_bytes(file[at..at + 2].try_into().expect("two bytes")));
    let header = word(0x3C) as usize;
    let sections = header + 24 + half(header + 20);
    let found = (0..half(header + 6)).map(|n| sections + n * 40).find(|at| {
        let start = word(at + 12);
        (start..start + word(at + 8)).contains(&rva)
    });
    let at = found.expect("a section");
    (word(at + 20) + rva - word(at + 12)) as usize
}

/// Compares areas, injected code, modules and files made of them with what Volatility finds.
fn check_memory(system: System) {
    let scenario = Scenario::office(&system);
    let is_64 = system.is_64();
    let written = Written::new(&scenario.build(system).snapshot);
    let number = |row: &Value, key: &str| row[key].as_u64().expect("a number");
    let found: BTreeSet<(u64, u64, u64)> = written
        .rows("windows.malware.malfind")
        .iter()
        .map(|row| (number(row, "PID"), number(row, "Start VPN"), number(row, "End VPN")))
        .collect();
    let injected = [(INJECTED_CODE, 0xFFF), (INJECTED_DLL, 0xFFFF)];
    assert_eq!(found, injected.map(|(start, len)| (1888, start, start + len)).into());
    // It lists no hidden process.
    let listed = || scenario.processes.iter().filter(|process| process.pid != 0 && !process.unlinked);
    let file = |backing: &Backing| match backing {
        Backing::Image(path) | Backing::File(path) => path.clone(),
        _ => String::new(),
    };
    let mut areas = BTreeSet::new();
    let mut modules = BTreeSet::new();
    for process in listed() {
        for vad in &process.vads {
            let private = vad.backing == Backing::Private;
            areas.insert((process.pid, vad.start, vad.end, private, file(&vad.backing)));
        }
        for loader in [false, true] {
            let of_loader = process.modules.iter().filter(|module| module.wow64 == loader);
            for (index, module) in of_loader.enumerate() {
                let vad = process.vads.iter().find(|vad| vad.start == module.base).expect("its area");
                let listed = !module.unlinked;
                modules.insert((process.pid, module.base, listed, listed && index > 0, file(&vad.backing)));
            }
        }
    }
    // It tells of any area with the header of an executable; rekal of those that map one, the others are for malfind.
    modules.insert((1888, INJECTED_DLL, false, false, String::new()));
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let found: BTreeSet<_> = written
        .rows("windows.vadinfo")
        .iter()
        .map(|row| {
            let private = number(row, "PrivateMemory") == 1;
            (number(row, "PID"), number(row, "Start VPN"), number(row, "End VPN"), private, text(row, "File"))
        })
        .collect();
    assert_eq!(found, areas);
    let flag = |row: &Value, key: &str| row[key].as_bool().expect("a flag");
    let found: BTreeSet<_> = written
        .rows("windows.malware.ldrmodules")
        .iter()
        .map(|row| {
            assert_eq!(row["InMem"], row["InLoad"]);
            let (load, init) = (flag(row, "InLoad"), flag(row, "InInit"));
            (number(row, "Pid"), number(row, "Base"), load, init, text(row, "MappedPath"))
        })
        .collect();
    assert_eq!(found, modules);
    let notepad = listed().find(|process| process.pid == 1888).expect("described");
    let rows = written.rows("windows.dlllist --pid 1888 --dump");
    assert_eq!(rows.len(), 3);
    for row in &rows {
        let module = notepad.modules.iter().find(|module| module.base == number(row, "Base")).expect("known");
        let file = std::fs::read(written.folder.path().join(text(row, "File output"))).expect("a file");
        let parts = user_image(module, is_64).make().parts;
        for (rva, bytes) in parts.iter().filter(|(rva, _)| *rva != 0) {
            let at = file_offset(&file, *rva);
            assert!(file[at..].starts_with(bytes), "{}: {rva:#x}", module.path);
        }
    }
}

#[test]
fn volatility_reads_the_memory_of_the_processes_of_the_office_machine() {
    if wanted() {
        let systems = [profiles::windows_7(), profiles::windows_10(), profiles::windows_11()];
        systems.into_iter().flatten().chain([profiles::windows_xp_pae()]).for_each(check_memory);
    }
}

#[test]
fn volatility_reads_the_callbacks_and_timers_of_the_office_machine() {
    if wanted() {
        let systems = [profiles::windows_7(), profiles::windows_10(), profiles::windows_11()];
        systems.into_iter().flatten().chain([profiles::windows_xp_pae()]).for_each(check_hooks);
    }
}

#[test]
fn volatility_reads_the_network_of_the_office_machine() {
    for system in wanted()
        .then(|| [profiles::windows_7(), profiles::windows_10(), profiles::windows_11()])
        .into_iter()
        .flatten()
        .flatten()
    {
        check_network(system);
    }
}

#[test]
fn volatility_reads_the_office_machine_on_windows_7() {
    if let Some(system) = wanted().then(profiles::windows_7).flatten() {
        check_office(system);
    }
}

#[test]
fn volatility_reads_the_office_machine_on_windows_10() {
    if let Some(system) = wanted().then(profiles::windows_10).flatten() {
        check_office(system);
    }
}

#[test]
fn volatility_reads_the_office_machine_on_windows_11() {
    if let Some(system) = wanted().then(profiles::windows_11).flatten() {
        check_office(system);
    }
}

#[test]
fn volatility_reads_the_office_machine_on_windows_xp() {
    if wanted() {
        check_office(profiles::windows_xp_pae());
    }
}

#[test]
fn volatility_reads_other_formats() {
    if !wanted() {
        return;
    }
    let system = profiles::windows_xp_pae();
    let scenario = Scenario::office(&system);
    let snapshot = scenario.build(system).snapshot;
    let written = Written::new(&snapshot);
    let at = |name: &str| written.folder.path().join(name);
    snapshot.write_crash_dump(&at("memory.dmp"), CrashDump::Full).expect("a written dump");
    snapshot.write_elf_core(&at("memory.elf")).expect("a written core");
    snapshot.write_vmware(&at("memory.vmem"), &at("memory.vmss")).expect("a written machine");
    let listed = scenario.processes.iter().filter(|process| process.pid != 0 && !process.unlinked);
    let listed = sorted(listed.map(|process| process.pid));
    for image in ["memory.dmp", "memory.elf", "memory.vmem"] {
        assert_eq!(column(&written.rows_of(image, "windows.pslist"), "PID"), listed, "{image}");
    }
}
