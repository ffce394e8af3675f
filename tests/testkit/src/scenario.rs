//! One description for every system: a small office machine with a hidden process, injected code, a hooked driver, a hidden
//! driver, and a process that has exited.
//!
//! Tests compare what plugins say with the fields of [`Scenario`]; addresses are in [`Built`].

use std::net::IpAddr;

use crate::drivers::{Device, Driver, PlacedDriver};
use crate::handles::Handle;
use crate::hooks::{Callback, Unloaded};
use crate::image::Snapshot;
use crate::machine::Machine;
use crate::modules::Module;
use crate::network::{Endpoint, Protocol};
use crate::processes::{Parameters, Process, Thread, filetime};
use crate::store::Stored;
use crate::system::System;
use crate::token::{Privilege, Token};
use crate::vads::{Page, Vad};

/// Start of the machine, seconds since 1970.
const BOOT: u64 = 1_329_909_000;

/// The process whose handle table has three levels: its only listed handle is far up.
pub const DEEP_TABLE_PID: u64 = 860;

/// Where in the page file a page of every process is, and what it holds.
pub const PAGED_OUT: (u64, &[u8]) = (0x77, b"page in the page file");

/// Where in process 1888 code is injected as such.
pub const INJECTED_CODE: u64 = 0x50_0000;
/// Where in process 1888 an area that may hold code is, whose page is in the page file.
pub const PAGED_RWX: u64 = 0x52_0000;
/// Where in process 1888 a library is injected.
pub const INJECTED_DLL: u64 = 0x54_0000;

/// What a handle refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A file by name, open nowhere else.
    File(String),
    /// An object of the tree by its path.
    Named(String),
    /// A process by its id.
    Process(u64),
    /// A thread by the id of its process and its index there.
    Thread(u64, usize),
}

/// An open handle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Process id of the owner.
    pub pid: u64,
    /// Value of the handle.
    pub value: u64,
    /// What it refers to.
    pub target: Target,
    /// Granted access.
    pub access: u64,
}

/// The description.
#[derive(Debug, Clone, Default)]
pub struct Scenario {
    /// Processes, System first.
    pub processes: Vec<Process>,
    /// Modules without a driver object, in load order: kernel and HAL.
    pub modules: Vec<Module>,
    /// Drivers, loaded after those.
    pub drivers: Vec<Driver>,
    /// Named mutants with the owner's process id; 0: free.
    pub mutants: Vec<(String, u64)>,
    /// Symbolic links: path, target, creation time.
    pub symlinks: Vec<(String, String, u64)>,
    /// Open handles.
    pub handles: Vec<Open>,
    /// Timers: due in interrupt time, period in milliseconds, index of the driver with the routine, offset there.
    pub timers: Vec<(u64, u64, usize, u64)>,
    /// Callbacks: kind, index of the driver, offset there. Shutdown callbacks name the driver's first device.
    pub callbacks: Vec<(Callback, usize, u64)>,
    /// Unloaded drivers, oldest first.
    pub unloaded: Vec<Unloaded>,
    /// Network endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Pages in the compressed store.
    pub stored: Option<Stored>,
}

/// A built scenario.
pub struct Built {
    /// The machine.
    pub snapshot: Snapshot,
    /// Drivers in the order of the description.
    pub drivers: Vec<PlacedDriver>,
    /// Entries of the modules without driver.
    pub modules: Vec<u64>,
    /// Mutants in order.
    pub mutants: Vec<u64>,
    /// Bodies that the handles refer to, in order.
    pub targets: Vec<u64>,
    /// Timers in order.
    pub timers: Vec<u64>,
    /// Callback records in order.
    pub callbacks: Vec<u64>,
    /// Endpoints in order.
    pub endpoints: Vec<u64>,
}

/// Shell code that the injected area starts with: a call, pops, a jump; not zero is what matters.
pub const INJECTED: &[u8] = b"\xFC\xE8\x82\x00\x00\x00\x60\x89\xE5\x31\xC0\x64\x8B\x50\x30\x8B";

impl Scenario {
    /// The office machine on a system.
    pub fn office(system: &System) -> Self {
        let base = system.drivers;
        let module = |name: &str, index: u64| Module {
            path: format!("\\SystemRoot\\System32\\drivers\\{name}"),
            ..Module::new("", base + index * 0x10_0000, 0x8000)
        };
        let named =
            |path: &str, device_type| Device { path: Some(path.to_owned()), device_type, attached_to: None };
        let driver = |object: &str, module: Module, devices| Driver {
            object: object.to_owned(),
            service: object.rsplit('\\').next().unwrap_or_default().to_owned(),
            module,
            functions: vec![(0, 0x1100), (2, 0x1140), (14, 0x1200)],
            devices,
            unlinked: false,
        };
        let mut hooked =
            driver("\\Driver\\Disk", module("disk.sys", 2), vec![named("\\Device\\Harddisk0", 7)]);
        hooked.functions.push((16, 0x1240));
        // Device control goes to the filter instead.
        hooked.functions.push((15, base + 0x30_1000 - (base + 0x20_0000)));
        let filter =
            Device { path: None, device_type: 7, attached_to: Some("\\Device\\Harddisk0".to_owned()) };
        let mut hidden =
            driver("\\Driver\\Hidden", module("hidden.sys", 5), vec![named("\\Device\\Hidden", 0x22)]);
        hidden.unlinked = true;
        let hal = if system.is_64() { base - 0x10_0000 } else { system.kernel_base + 0x21_0000 };
        let processes = processes(system);
        let handles = handles(&processes, system);
        Self {
            modules: vec![
                Module::new("\\SystemRoot\\system32\\ntoskrnl.exe", system.kernel_base, 0x5_E000),
                Module::new("\\SystemRoot\\system32\\hal.dll", hal, 0x8000),
            ],
            drivers: vec![
                driver("\\Driver\\Null", module("null.sys", 0), vec![named("\\Device\\Null", 0x15)]),
                driver("\\FileSystem\\Ntfs", module("ntfs.sys", 1), vec![named("\\Device\\Ntfs", 8)]),
                hooked,
                driver("\\Driver\\Filter", module("filter.sys", 3), vec![filter]),
                driver(
                    "\\Driver\\Tcpip",
                    tcpip(module("tcpip.sys", 16), system),
                    vec![named("\\Device\\Tcp", 0x12), named("\\Device\\Udp", 0x12)],
                ),
                hidden,
            ],
            mutants: vec![
                ("\\BaseNamedObjects\\ShimCacheMutex".to_owned(), 0),
                ("\\BaseNamedObjects\\!evil!".to_owned(), 1888),
            ],
            symlinks: vec![
                ("\\GLOBAL??\\C:".to_owned(), "\\Device\\HarddiskVolume1".to_owned(), filetime(BOOT + 2)),
                ("\\GLOBAL??\\NUL".to_owned(), "\\Device\\Null".to_owned(), filetime(BOOT + 2)),
                (
                    "\\SystemRoot".to_owned(),
                    "\\Device\\HarddiskVolume1\\Windows".to_owned(),
                    filetime(BOOT + 1),
                ),
            ],
            handles,
            timers: vec![
                (0x2_DC6C_0000, 1000, 0, 0x1300),
                (0x2_EC6C_0000, 0, 3, 0x1400),
                (0x3_0C6C_0000, 60_000, 5, 0x1500),
            ],
            callbacks: vec![
                (Callback::Process, 3, 0x1600),
                (Callback::Process, 5, 0x1640),
                (Callback::Thread, 3, 0x1680),
                (Callback::Image, 5, 0x16C0),
                (Callback::Registry, 5, 0x1700),
                (Callback::BugCheck, 2, 0x1740),
                (Callback::BugCheckReason, 4, 0x1780),
                (Callback::Shutdown, 2, 0),
                (Callback::FileSystem, 3, 0x17C0),
                (Callback::DebugPrint, 5, 0x1840),
                (Callback::Profile, 3, 0x1880),
                (Callback::DeviceClass, 5, 0x18C0),
                (Callback::NonMaskable, 5, 0x1900),
                (Callback::ProcessHandles, 5, 0x1940),
            ],
            unloaded: vec![
                Unloaded {
                    name: "fdc.sys".to_owned(),
                    start: base + 0x80_0000,
                    end: base + 0x80_8000,
                    time: filetime(BOOT + 30),
                },
                Unloaded {
                    name: "dropper.sys".to_owned(),
                    start: base + 0x81_0000,
                    end: base + 0x81_4000,
                    time: filetime(BOOT + 900),
                },
            ],
            endpoints: endpoints(system),
            processes,
            stored: None,
        }
    }

    /// Builds the machine.
    pub fn build(&self, system: System) -> Built {
        let mut machine = Machine::new(system);
        for (path, target, created) in &self.symlinks {
            machine.symlink(path, target, *created);
        }
        for process in &self.processes {
            machine.process(process);
        }
        machine.page_out(0, PAGED_OUT.0, PAGED_OUT.1);
        if let Some(stored) = &self.stored {
            machine.make_store(stored);
        }
        let modules = self.modules.iter().map(|module| machine.kernel_module(module)).collect();
        let drivers: Vec<PlacedDriver> = self.drivers.iter().map(|driver| machine.driver(driver)).collect();
        let mutants = self
            .mutants
            .iter()
            .map(|(path, pid)| {
                let holder = machine.placed(*pid).filter(|_| *pid != 0);
                let owner = holder.and_then(|process| process.threads.first().copied());
                machine.mutant(Some(path), owner)
            })
            .collect();
        let mut targets = Vec::new();
        for open in &self.handles {
            let object = match &open.target {
                Target::File(name) => machine.file(name, None),
                Target::Named(path) => machine.named(path),
                Target::Process(pid) => machine.placed(*pid).expect("a process").eprocess,
                Target::Thread(pid, index) => machine.placed(*pid).expect("a process").threads[*index],
            };
            machine.open(open.pid, Handle { value: open.value, object, access: open.access });
            targets.push(object);
        }
        let routine = |index: usize, offset: u64| self.drivers[index].module.base + offset;
        let timers = self
            .timers
            .iter()
            .map(|&(due, period, index, offset)| machine.timer(due, period, routine(index, offset)))
            .collect();
        let callbacks = self
            .callbacks
            .iter()
            .map(|&(kind, index, offset)| {
                let target = if kind == Callback::Shutdown {
                    drivers[index].devices[0]
                } else {
                    routine(index, offset)
                };
                machine.callback(kind, target)
            })
            .collect();
        machine.unloaded_drivers(&self.unloaded);
        let services = services(&machine, routine(5, 0x1800));
        machine.system_services(&services);
        let endpoints: Vec<u64> = self.endpoints.iter().map(|endpoint| machine.endpoint(endpoint)).collect();
        let placed: Vec<(Endpoint, u64)> =
            self.endpoints.iter().copied().zip(endpoints.iter().copied()).collect();
        machine.network_tables(self.drivers[4].module.base, &placed);
        Built { snapshot: machine.finish(), drivers, modules, mutants, targets, timers, callbacks, endpoints }
    }
}

/// The network driver's module, as big as its symbols need.
fn tcpip(module: Module, system: &System) -> Module {
    let Some(companion) = &system.tcpip else { return module };
    let last = companion.profile.symbols().map(|symbol| symbol.value).max().unwrap_or(0);
    Module { size: (last + 0x1000).next_multiple_of(0x1000), pdb: Some(companion.pdb.clone()), ..module }
}

/// The first system services that the profile names, the third one hooked.
fn services(machine: &Machine, hook: u64) -> Vec<(u64, u64)> {
    let base = machine.system.kernel_base;
    let names = machine.system.layouts.profile().symbols();
    let services = names.filter(|symbol| {
        let name = symbol.name.as_bytes();
        name.starts_with(b"Nt")
            && name.get(2).is_some_and(u8::is_ascii_uppercase)
            && !symbol.name.starts_with("NtBuild")
    });
    let mut services: Vec<(u64, u64)> = services.take(12).map(|symbol| (base + symbol.value, 2)).collect();
    if let Some(third) = services.get_mut(2) {
        third.0 = hook;
    }
    services
}

fn processes(system: &System) -> Vec<Process> {
    let wide = system.is_64();
    let process = |pid: u64, ppid: u64, name: &str, seconds: u64, session: u32| -> Process {
        let folder = if name == "explorer.exe" { "Windows" } else { "Windows\\System32" };
        let path = format!("\\{folder}\\{name}");
        let exe = if wide { 0x7_FF00_0000 } else { 0x0100_0000 };
        let (ntdll, kernel32) =
            if wide { (0x7_7700_0000, 0x7_7600_0000) } else { (0x7C90_0000, 0x7C80_0000) };
        let module = |path: &str, base| Module {
            loaded: filetime(BOOT + seconds),
            ..Module::new(&format!("C:{path}"), base, 0x2_0000)
        };
        let system_file = |name: &str| format!("\\Windows\\System32\\{name}");
        Process {
            created: filetime(BOOT + seconds),
            session: Some(session),
            threads: vec![
                Thread {
                    start: kernel32 + 0x1200,
                    win32_start: exe + 0x1000,
                    wait_reason: 6,
                    ..Thread::default()
                },
                Thread {
                    start: kernel32 + 0x1200,
                    win32_start: ntdll + 0x1400,
                    wait_reason: 15,
                    ..Thread::default()
                },
            ],
            image_file: Some(format!("\\Device\\HarddiskVolume1{path}")),
            parameters: Some(Parameters {
                image_path: format!("C:{path}"),
                command_line: format!("C:{path} -k {pid}"),
                current_directory: "C:\\Windows\\".to_owned(),
                environment: vec!["Path=C:\\Windows\\System32".to_owned(), format!("PID={pid}")],
                paged_out: false,
            }),
            section_base: exe,
            modules: vec![
                module(&path, exe),
                module(&system_file("ntdll.dll"), ntdll),
                module(&system_file("kernel32.dll"), kernel32),
            ],
            vads: vec![
                Vad { commit: 0x10, ..Vad::private(0x20_0000, 0x20_FFFF) },
                Vad {
                    commit: 4,
                    pages: vec![
                        (0x30_0000, Page::Resident(b"resident page".to_vec())),
                        (0x30_1000, Page::Transition(b"page in transition".to_vec())),
                        (0x30_2000, Page::PageFile(0, PAGED_OUT.0)),
                        (0x30_3000, Page::DemandZero),
                    ],
                    ..Vad::private(0x30_0000, 0x30_FFFF)
                },
                Vad {
                    pages: vec![
                        (0x40_0000, Page::Shared(b"shared page".to_vec())),
                        (0x40_1000, Page::Prototype(b"page behind a prototype".to_vec())),
                        (0x40_2000, Page::PrototypeByVad(b"page behind the area's prototype".to_vec())),
                        (0x40_3000, Page::Mapped),
                        // In the second part of the section.
                        (0x40_5000, Page::PrototypeByVad(b"page of a later part".to_vec())),
                        (0x40_6000, Page::Mapped),
                    ],
                    ..Vad::file(0x40_0000, 0x40_7FFF, "\\Windows\\System32\\locale.nls")
                },
                Vad { commit: 2, ..Vad::image(exe, exe + 0x1_FFFF, &path) },
                Vad { commit: 3, ..Vad::image(kernel32, kernel32 + 0x1_FFFF, &system_file("kernel32.dll")) },
                Vad { commit: 5, ..Vad::image(ntdll, ntdll + 0x1_FFFF, &system_file("ntdll.dll")) },
                Vad { commit: 1, ..Vad::private(0x7FFD_F000, 0x7FFD_FFFF) },
            ],
            token: Some(token(pid)),
            more_handles: 20,
            ..Process::new(pid, ppid, name)
        }
    };
    let mut kernel = Process {
        created: filetime(BOOT),
        threads: vec![Thread { start: system.kernel_base + 0x1000, ..Thread::default() }; 5],
        image_file: Some(String::new()),
        more_handles: 40,
        token: Some(token(4)),
        peb: 0,
        ..Process::new(4, 0, "System")
    };
    kernel.vads = vec![Vad::file(0x1_0000, 0x3_2FFF, "\\Windows\\System32\\ntdll.dll")];
    let idle = Process { torn_down: true, peb: 0, ..Process::new(0, 0, "Idle") };
    let mut smss = process(368, 4, "smss.exe", 1, 0);
    smss.session = None;
    let mut notepad = process(1888, 1524, "notepad.exe", 400, 1);
    let mut injected = Vad { protection: 6, commit: 1, ..Vad::private(INJECTED_CODE, INJECTED_CODE + 0xFFF) };
    injected.pages = vec![(INJECTED_CODE, Page::Resident(INJECTED.to_vec()))];
    notepad.vads.push(injected);
    // More of that kind: its only page is in the page file; never touched; a library that no loader knows.
    let area = |start: u64| Vad { protection: 6, commit: 1, ..Vad::private(start, start + 0xFFFF) };
    notepad.vads.push(Vad { pages: vec![(PAGED_RWX, Page::PageFile(0, PAGED_OUT.0))], ..area(PAGED_RWX) });
    notepad.vads.push(area(0x53_0000));
    let module = Module::new("C:\\injected.dll", INJECTED_DLL, 0x1_0000);
    let parts = crate::user::user_image(&module, wide).make().parts;
    let pages = parts.into_iter().map(|(rva, bytes)| (INJECTED_DLL + u64::from(rva), Page::Resident(bytes)));
    notepad.vads.push(Vad { pages: pages.collect(), ..area(INJECTED_DLL) });
    // A library in no list of the loader.
    let mut secret = Module::new("C:\\Windows\\System32\\secret.dll", 0x60_0000, 0x1_0000);
    secret.unlinked = true;
    notepad.vads.push(Vad::image(secret.base, secret.base + 0xFFFF, "\\Windows\\System32\\secret.dll"));
    notepad.modules.push(secret);
    let mut hidden = process(2040, 1888, "evil.exe", 500, 1);
    hidden.unlinked = true;
    let exited = Process {
        created: filetime(BOOT + 300),
        exited: filetime(BOOT + 310),
        session: Some(1),
        torn_down: true,
        threads: Vec::new(),
        ..Process::new(1700, 1524, "exited.exe")
    };
    let mut all = vec![
        kernel,
        idle,
        smss,
        process(604, 368, "csrss.exe", 3, 0),
        process(628, 368, "winlogon.exe", 4, 0),
        process(672, 628, "services.exe", 5, 0),
        process(684, 628, "lsass.exe", 5, 0),
        process(860, 672, "svchost.exe", 8, 0),
        process(1200, 368, "csrss.exe", 60, 1),
        process(1524, 1500, "explorer.exe", 100, 1),
        exited,
        notepad,
        hidden,
    ];
    if wide {
        let mut old = process(1996, 1524, "old32.exe", 600, 1);
        old.wow64 = true;
        let at = 0x40_0000 + 0x10_0000;
        old.vads.push(Vad::image(at, at + 0xFFFF, "\\Program Files (x86)\\old32.exe"));
        old.vads.push(Vad { commit: 1, ..Vad::private(0x7EFD_E000, 0x7EFD_EFFF) });
        let wow = |path: &str, base| Module { wow64: true, ..Module::new(path, base, 0x1_0000) };
        old.modules.push(wow("C:\\Program Files (x86)\\old32.exe", at));
        old.modules.push(wow("C:\\Windows\\SysWOW64\\ntdll.dll", 0x7700_0000));
        old.vads.push(Vad::image(0x7700_0000, 0x7700_FFFF, "\\Windows\\SysWOW64\\ntdll.dll"));
        all.push(old);
    }
    all
}

fn token(pid: u64) -> Token {
    let system = pid < 1000;
    let user = if system { "S-1-5-18" } else { "S-1-5-21-1004336348-1177238915-682003330-1000" };
    let sids = [(user, 0), ("S-1-1-0", 7), ("S-1-5-32-544", 0xE), ("S-1-5-11", 7)];
    let privilege = |number, enabled| Privilege { number, enabled, by_default: enabled };
    Token {
        sids: sids.map(|(sid, attributes)| (sid.to_owned(), attributes)).to_vec(),
        // SeChangeNotify, SeShutdown, SeDebug, SeLoadDriver.
        privileges: vec![
            privilege(23, true),
            privilege(19, false),
            Privilege { number: 20, enabled: system || pid == 2040, by_default: false },
            privilege(10, system),
        ],
    }
}

fn handles(processes: &[Process], system: &System) -> Vec<Open> {
    let open = |pid, value, target, access| Open { pid, value, target, access };
    let file = |name: &str| Target::File(name.to_owned());
    let mut handles = vec![
        open(1888, 0x200, file("\\Users\\user\\Documents\\notes.txt"), 0x12_0089),
        open(1888, 0x204, Target::Named("\\BaseNamedObjects\\!evil!".to_owned()), 0x1F_0001),
        open(1888, 0x208, Target::Thread(1524, 0), 0x1F_FFFF),
        open(2040, 0x200, file("\\Windows\\Temp\\exfiltrate.bin"), 0x13_019F),
        open(684, 0x200, Target::Named("\\KernelObjects".to_owned()), 3),
        open(672, 0x200, Target::Named("\\Device\\Null".to_owned()), 0x12_0089),
        open(4, 0x400, file("\\$Directory"), 0x3),
    ];
    // Far enough to need tables of three levels.
    let (entry, pointer) = if system.is_64() { (16, 8) } else { (8, 4) };
    let far = (4096 / entry) * (4096 / pointer) * 4 + 0x10;
    handles.push(open(DEEP_TABLE_PID, far, file("\\Windows\\System32\\far.log"), 0x12_0116));
    // csrss.exe has a handle to every process of its session, the hidden one included.
    for (csrss, session) in [(604, 0), (1200, 1)] {
        let own = processes.iter().filter(|process| process.session == Some(session) && process.pid != csrss);
        for (index, process) in (0u64..).zip(own.filter(|process| !process.torn_down)) {
            handles.push(open(csrss, 0x400 + 4 * index, Target::Process(process.pid), 0x1F_FFFF));
        }
    }
    handles
}

fn endpoints(system: &System) -> Vec<Endpoint> {
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let endpoint =
        |protocol, local: Option<&str>, local_port, remote: Option<(&str, u16)>, pid, seconds| Endpoint {
            protocol,
            local: local.map(address),
            local_port,
            remote: remote.map(|(text, port)| (address(text), port)),
            pid,
            created: filetime(BOOT + seconds),
            v6: false,
            unlinked: false,
        };
    let (tcp, listener, udp) = (Protocol::Connection(4), Protocol::Listener, Protocol::Udp);
    let mut all = vec![
        endpoint(listener, None, 135, None, 860, 9),
        endpoint(listener, Some("192.168.1.20"), 139, None, 4, 10),
        endpoint(tcp, Some("192.168.1.20"), 49_160, Some(("93.184.216.34", 443)), 1524, 700),
        Endpoint {
            unlinked: true,
            ..endpoint(tcp, Some("192.168.1.20"), 49_161, Some(("203.0.113.9", 4444)), 2040, 710)
        },
        endpoint(Protocol::Connection(7), Some("192.168.1.20"), 49_162, Some(("198.51.100.7", 80)), 860, 715),
        endpoint(udp, None, 123, None, 860, 12),
        endpoint(udp, Some("127.0.0.1"), 53_000, None, 2040, 720),
        endpoint(udp, Some("192.168.1.20"), 500, None, 860, 14),
    ];
    if system.is_64() {
        all.push(endpoint(tcp, Some("fe80::20"), 49_170, Some(("2001:db8::9", 8080)), 1524, 730));
        all.push(Endpoint { v6: true, ..endpoint(udp, None, 500, None, 860, 13) });
    }
    all
}
