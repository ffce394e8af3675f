//! One description of a Windows machine, rendered for every kernel there is a profile of: each command gives back what was
//! described.
//!
//! Truth: the description. The maker of the images shares no decoding code with the program; where each struct member stands comes
//! from real symbols (Rekall's profile of Windows 7, Volatility's tables of Windows 10 and 11).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod made;

use made::{CREATED, Image, last, offices, sorted, systems};
use testkit::scenario::Target;
use testkit::{
    Handle, MAJOR_FUNCTIONS, Machine, Module, Page, Parameters, Process, System, Thread, Vad, filetime,
};

/// System and two programs, one of which has everything.
fn described(system: System, pages: Vec<(u64, Page)>) -> Image {
    let mut machine = Machine::new(system);
    let created = filetime(CREATED);
    machine.process(&Process { created, ..Process::new(4, 0, "System") });
    machine.process(&Process { created, session: Some(0), ..Process::new(300, 4, "csrss.exe") });
    let file = machine.file("\\Windows\\System32\\drivers\\etc\\hosts", None);
    let mutant = machine.mutant(Some("\\BaseNamedObjects\\one-instance"), None);
    machine.process(&Process {
        created,
        session: Some(1),
        threads: vec![Thread { tid: 1604, ..Thread::default() }, Thread { tid: 1608, ..Thread::default() }],
        handles: vec![
            Handle { value: 4, object: file, access: 0x12_0089 },
            Handle { value: 0x810, object: mutant, access: 0x1f_0001 },
        ],
        more_handles: 3,
        parameters: Some(Parameters {
            image_path: "C:\\Windows\\System32\\calc.exe".to_owned(),
            command_line: "calc.exe /x".to_owned(),
            ..Parameters::default()
        }),
        modules: vec![
            Module::new("C:\\Windows\\System32\\calc.exe", 0xff00_0000, 0x10_0000),
            Module::new("C:\\Windows\\System32\\kernel32.dll", 0x7700_0000, 0x12_0000),
        ],
        vads: vec![
            Vad { commit: 5, pages, ..Vad::private(0x1000_0000, 0x1000_ffff) },
            Vad::image(0xff00_0000, 0xff0f_ffff, "\\Windows\\System32\\calc.exe"),
            Vad::file(0x2000_0000, 0x2000_ffff, "\\Windows\\Globalization\\Sorting\\sortdefault.nls"),
        ],
        ..Process::new(1600, 300, "calc.exe")
    });
    Image::new(machine)
}

#[test]
fn processes_are_those_described() {
    for (name, system) in systems() {
        let image = described(system, Vec::new());
        let output = image.run(&["pslist"]);
        assert!(output.complete, "{name}: {:?}", output.notes);
        let rows: Vec<String> = output
            .rows
            .iter()
            .map(|row| {
                let cell = |column: &str| row.text_or_empty(column);
                [
                    row.object("_EPROCESS", "pid"),
                    row.object("_EPROCESS", "name"),
                    cell("ppid"),
                    cell("thread_count"),
                    cell("handle_count"),
                    cell("session_id"),
                    cell("wow64"),
                    cell("process_create_time"),
                    cell("process_exit_time"),
                ]
                .join(" ")
            })
            .collect();
        let created = "2012-02-22T11:10:00Z";
        assert_eq!(
            rows,
            [
                format!("4 System 0 1 0  false {created} "),
                format!("300 csrss.exe 4 1 0 0 false {created} "),
                format!("1600 calc.exe 300 2 5 1 false {created} "),
            ],
            "{name}"
        );
        let tree = image.run(&["pstree", "1600"]);
        assert_eq!(tree.rows[0].text("cmd"), "calc.exe /x", "{name}");
        assert_eq!(tree.rows[0].text("path"), "C:\\Windows\\System32\\calc.exe", "{name}");
        let view = image.run(&["psxview"]);
        for row in &view.rows {
            for column in ["PsActiveProcessHead", "PspCidTable", "Handles", "PSScan", "Thrdproc"] {
                assert_eq!(
                    row.text(column),
                    "true",
                    "{name}: {column} of {}",
                    row.object("_EPROCESS", "name")
                );
            }
        }
        assert_eq!(view.rows.len(), 3, "{name}");
    }
}

#[test]
fn threads_handles_and_modules_are_those_described() {
    for (name, system) in systems() {
        let image = described(system, Vec::new());
        let threads: Vec<String> =
            image.run(&["threads", "1600"]).rows.iter().map(|row| row.text("tid")).collect();
        assert_eq!(threads, ["1604", "1608"], "{name}");
        let handles: Vec<String> = image
            .run(&["handles", "1600"])
            .rows
            .iter()
            .map(|row| {
                ["handle", "access", "obj_type", "details"].map(|column| row.text_or_empty(column)).join(" ")
            })
            .filter(|row| !row.contains("Event"))
            .collect();
        assert_eq!(handles.len(), 2, "{name}: {handles:?}");
        assert!(handles[0].starts_with("4 0x120089 File "), "{name}: {handles:?}");
        assert!(handles[0].ends_with("\\Windows\\System32\\drivers\\etc\\hosts"), "{name}: {handles:?}");
        assert_eq!(handles[1], format!("{} 0x1f0001 Mutant one-instance", 0x810), "{name}");
        let modules: Vec<String> = image
            .run(&["dlllist", "1600"])
            .rows
            .iter()
            .map(|row| ["base", "size", "dll_path"].map(|column| row.text_or_empty(column)).join(" "))
            .collect();
        assert_eq!(
            modules,
            [
                "0xff000000 1048576 C:\\Windows\\System32\\calc.exe",
                "0x77000000 1179648 C:\\Windows\\System32\\kernel32.dll",
            ],
            "{name}"
        );
    }
}

#[test]
fn ranges_are_those_described() {
    for (name, system) in systems() {
        let image = described(system, Vec::new());
        let rows: Vec<String> = image
            .run(&["vad", "1600"])
            .rows
            .iter()
            .map(|row| {
                let columns = ["start", "end", "com", "type", "exe", "protect", "filename"];
                columns.map(|column| row.text_or_empty(column)).join(" ")
            })
            .collect();
        for expected in [
            "0x10000000 0x1000ffff 5 Private  READWRITE ",
            "0x20000000 0x2000ffff 0 Mapped  READONLY \\Windows\\Globalization\\Sorting\\sortdefault.nls",
            "0xff000000 0xff0fffff 0 Mapped Exe EXECUTE_WRITECOPY \\Windows\\System32\\calc.exe",
        ] {
            assert!(rows.iter().any(|row| row == expected), "{name}: {expected:?} is not in {rows:#?}");
        }
    }
}

#[test]
fn pages_are_read_wherever_they_are() {
    let page = |byte: u8| vec![byte; 4096];
    for (name, system) in systems() {
        let pages = vec![
            (0x1000_0000, Page::Resident(page(0x11))),
            (0x1000_1000, Page::Transition(page(0x22))),
            (0x1000_2000, Page::PageFile(0, 3)),
            (0x1000_3000, Page::DemandZero),
        ];
        let image = described(system, pages);
        let pagefile = image.folder.path().join("pagefile.sys");
        std::fs::write(&pagefile, [page(0), page(0), page(0), page(0x33)].concat()).unwrap();
        let dump = |options: &[&str], addr: &str| {
            let command = ["dump", addr, "--address_space", "pid@1600", "--length", "4"];
            image.text(options, &command)
        };
        assert!(dump(&[], "0x10000000").contains("11 11 11 11"), "{name}");
        assert!(dump(&[], "0x10001000").contains("22 22 22 22"), "{name}");
        assert!(dump(&[], "0x10002000").contains("?? ?? ?? ??"), "{name}");
        assert!(dump(&[], "0x10003000").contains("?? ?? ?? ??"), "{name}");
        let pagefile = pagefile.to_str().unwrap();
        assert!(dump(&["--pagefile", pagefile], "0x10002000").contains("33 33 33 33"), "{name}");
        for (addr, why) in [("0x10002000", "is in a pagefile"), ("0x10003000", "is demand zero")] {
            let text = image.text(&[], &["vtop", addr, "1600"]);
            assert!(text.contains(why), "{name}: {text}");
        }
    }
}

#[test]
fn prototypes_lead_to_shared_pages() {
    let page = |byte: u8| vec![byte; 4096];
    for (name, system) in systems() {
        let mut machine = Machine::new(system);
        machine.process(&Process { created: filetime(CREATED), ..Process::new(4, 0, "System") });
        let file = Vad {
            pages: vec![
                (0x2000_0000, Page::Shared(page(0x44))),
                (0x2000_1000, Page::Prototype(page(0x55))),
                (0x2000_2000, Page::PrototypeByVad(page(0x66))),
                (0x2000_3000, Page::Mapped),
                // The second half of the file is a part of its own.
                (0x2000_9000, Page::PrototypeByVad(page(0x77))),
                (0x2000_a000, Page::Mapped),
            ],
            ..Vad::file(0x2000_0000, 0x2000_ffff, "\\shared.dat")
        };
        machine.process(&Process {
            created: filetime(CREATED),
            vads: vec![file],
            ..Process::new(1600, 4, "calc.exe")
        });
        let image = Image::new(machine);
        for (addr, bytes) in [
            ("0x20000000", "44 44"),
            ("0x20001000", "55 55"),
            ("0x20002000", "66 66"),
            ("0x20003000", "?? ??"),
            ("0x20009000", "77 77"),
            ("0x2000a000", "?? ??"),
        ] {
            let command = ["dump", addr, "--address_space", "pid@1600", "--length", "4"];
            let text = image.text(&[], &command);
            assert!(text.contains(bytes), "{name}: {addr}: {text}");
        }
        for addr in ["0x20003000", "0x2000a000"] {
            let text = image.text(&[], &["vtop", addr, "1600"]);
            assert!(text.contains("is in a mapped file"), "{name}: {text}");
        }
    }
}

#[test]
fn roots_of_page_tables_are_found_without_low_memory() {
    for (name, system) in systems() {
        let mut machine = Machine::new(system);
        machine.process(&Process { created: filetime(CREATED), ..Process::new(4, 0, "System") });
        let image = Image::new(machine);
        // The stub that starts processors, and all else below 1 MiB.
        let file = std::fs::OpenOptions::new().write(true).open(&image.rekal.image).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &vec![0; 1 << 20], 0).unwrap();
        let output = image.run(&["load_as"]);
        let decisions: String = output.rows.iter().map(|row| row.text("comment") + "\n").collect();
        assert!(decisions.contains("that maps itself"), "{name}: {decisions}");
        assert_eq!(image.run(&["pslist"]).rows.len(), 1, "{name}");
    }
}

#[test]
fn scans_find_the_objects_described() {
    for (name, scenario, built, image) in offices() {
        let expected = scenario.drivers.iter().zip(&built.drivers).map(|(driver, placed)| {
            let (object, module) = (placed.object, &driver.module);
            let (base, size, path) = (module.base, module.size, &driver.object);
            format!("{object:#x} | {base:#x} | {size} | {} | {} | {path}", driver.service, last(path))
        });
        let columns = ["offset", "start", "size", "servicekey", "name", "path"];
        let found = image.cells(&["driverscan"], &columns);
        assert_eq!(sorted(found), sorted(expected.collect()), "{name}");

        let found = image.cells(&["filescan"], &["offset", "access", "path"]);
        for (open, object) in scenario.handles.iter().zip(&built.targets) {
            if let Target::File(path) = &open.target {
                let row = format!("{object:#x} | R--r-- | {path}");
                assert!(found.contains(&row), "{name}: {row:?} is not in {found:#?}");
            }
        }

        let found = image.cells(&["mutantscan"], &["offset", "signal", "thread", "cid", "name"]);
        let expected = scenario.mutants.iter().zip(&built.mutants).map(|((path, pid), object)| {
            let object = format!("{object:#x}");
            if *pid == 0 {
                return format!("{object} | 1 |  |  | {}", last(path));
            }
            let thread = built.snapshot.process(*pid).threads[0];
            let row = found.iter().find(|row| row.starts_with(&object)).expect("the mutant");
            let tid = row.split(" | ").nth(3).unwrap().strip_prefix(&format!("{pid}:")).unwrap();
            format!("{object} | 0 | {thread:#x} | {pid}:{tid} | {}", last(path))
        });
        assert_eq!(sorted(expected.collect()), sorted(found.clone()), "{name}");

        let expected = scenario.symlinks.iter().map(|(from, to, created)| {
            let second = if *created == filetime(CREATED + 1) { 1 } else { 2 };
            format!("2012-02-22T11:10:0{second}Z | {} | {to}", last(from))
        });
        let found = image.cells(&["symlinkscan"], &["creation_time", "from_link", "to_link"]);
        assert_eq!(sorted(found), sorted(expected.collect()), "{name}");

        let drivers = scenario.drivers.iter().map(|driver| &driver.module);
        let expected = scenario.modules.iter().chain(drivers).map(|module| {
            format!("{} | {:#x} | {} | {}", module.name(), module.base, module.size, module.path)
        });
        let found = image.cells(&["modscan"], &["name", "base", "size", "file"]);
        assert_eq!(sorted(found), sorted(expected.collect()), "{name}");
        let listed = image.cells(&["modules"], &["name"]);
        assert!(!listed.contains(&"hidden.sys".to_owned()), "{name}: {listed:?}");

        let expected = scenario.processes.iter().flat_map(|process| {
            process
                .threads
                .iter()
                .map(|thread| format!("{} | {:#x} | {}", process.pid, thread.start, process.name))
        });
        let found = image.cells(&["thrdscan"], &["pid", "start", "name"]);
        assert_eq!(sorted(found), sorted(expected.collect()), "{name}");
    }
}

#[test]
fn objects_have_the_names_and_types_described() {
    for (name, scenario, _, image) in offices() {
        let tree = image.cells(
            &["object_tree", "--type_regex", "^(Driver|SymbolicLink|Mutant)$"],
            &["_depth", "type", "name"],
        );
        for driver in &scenario.drivers {
            let row = format!("2 | Driver | {}", last(&driver.object));
            assert!(tree.contains(&row), "{name}: {row:?} is not in {tree:#?}");
        }
        for (from, to, _) in &scenario.symlinks {
            let depth = from.matches('\\').count();
            let row = format!("{depth} | SymbolicLink | {} -> {to}", last(from));
            assert!(tree.contains(&row), "{name}: {row:?} is not in {tree:#?}");
        }
        assert!(tree.contains(&"2 | Mutant | !evil!".to_owned()), "{name}: {tree:#?}");
        let types = image.cells(&["object_types"], &["name", "NumberOfObjects"]);
        for (kind, count) in [
            ("Driver", scenario.drivers.len()),
            ("SymbolicLink", scenario.symlinks.len()),
            ("Mutant", scenario.mutants.len()),
            ("Device", scenario.drivers.iter().map(|driver| driver.devices.len()).sum()),
        ] {
            let row = format!("{kind} | {count}");
            assert!(types.contains(&row), "{name}: {row:?} is not in {types:#?}");
        }
    }
}

#[test]
fn drivers_serve_what_is_described() {
    for (name, scenario, built, image) in offices() {
        let kernel = built.snapshot.machine.system.kernel_base;
        // The made image of the kernel is shorter than the real one, where most functions of the profile lie.
        let loaded = image.cells(&["modules"], &["base", "size"]);
        let own = loaded.iter().find_map(|row| row.strip_prefix(&format!("{kernel:#x} | ")));
        let end = kernel + own.expect("the kernel is loaded").parse::<u64>().expect("a number");
        let found = image.run(&["driverirp"]);
        assert_eq!(found.rows.len() as u64, scenario.drivers.len() as u64 * MAJOR_FUNCTIONS, "{name}");
        for row in &found.rows {
            let driver =
                scenario.drivers.iter().find(|driver| row.object("_DRIVER_OBJECT", "name") == driver.object);
            let driver = driver.expect("a driver that is described");
            let own = driver.functions.iter().find(|(index, _)| row.number("idx") == Some(*index));
            match own {
                Some((_, offset)) => {
                    assert_eq!(
                        row.text("func_addres"),
                        format!("{:#x}", driver.module.base + offset),
                        "{name}"
                    );
                }
                None => {
                    let address = u64::from_str_radix(&row.text("func_addres")[2..], 16).unwrap();
                    assert!(address >= kernel && address < kernel + 0x200_0000, "{name}: {address:#x}");
                    let named = row.text("name").starts_with("nt!");
                    assert_eq!(named, address < end, "{name}: {}", row.text("name"));
                }
            }
        }
        let hooked = image.cells(&["driverirp", "--regex", "disk"], &["idx", "function", "name"]);
        assert_eq!(hooked[15], "15 | IRP_MJ_INTERNAL_DEVICE_CONTROL | filter+0x1000", "{name}");

        let columns = ["Type", "Name", "device_type", "Path"];
        let found = image.cells(&["devicetree"], &columns);
        let at = found.iter().position(|row| row == "DRV | \\Driver\\Disk |  | ").expect("the driver");
        let below = [
            "DEV | Harddisk0 | FILE_DEVICE_DISK | \\Device\\Harddisk0",
            "ATT | \\Driver\\Filter | FILE_DEVICE_DISK | ",
        ];
        assert_eq!(found[at + 1..at + 3], below, "{name}");
        let devices: usize = scenario.drivers.iter().map(|driver| driver.devices.len()).sum();
        // The filter's device is its own, and on top of the disk's.
        assert_eq!(found.len(), scenario.drivers.len() + devices + 1, "{name}");

        let services = image.cells(&["ssdt"], &["table", "entry", "target", "symbol"]);
        // The hand-written profile of XP names only eight services.
        let described = if *name == *"Windows XP" { 8 } else { 12 };
        assert_eq!(services.len(), described, "{name}");
        let hook = scenario.drivers[5].module.base + 0x1800;
        for (index, row) in services.iter().enumerate() {
            if index != 2 {
                assert!(row.starts_with(&format!("nt | {index:#x} | ")), "{name}: {row}");
                let target = row.split(" | ").nth(2).and_then(|text| text.strip_prefix("0x"));
                let target = u64::from_str_radix(target.expect("an address"), 16).expect("hex");
                assert_eq!(row.contains(" | nt!"), target < end, "{name}: {row}");
            } else if hook.abs_diff(kernel) < 1 << 26 || !built.snapshot.machine.system.is_64() {
                // Tables of 64-bit kernels reach 128 MiB far.
                assert!(row.contains(&format!("{hook:#x}")), "{name}: {row}");
            }
        }
    }
}

#[test]
fn the_system_says_of_itself_what_is_described() {
    for (name, scenario, built, image) in offices() {
        let system = &built.snapshot.machine.system;
        let expected: Vec<String> = scenario
            .unloaded
            .iter()
            .map(|driver| {
                let after = (driver.time - filetime(CREATED)) / 10_000_000;
                let (minutes, seconds) = (10 + after / 60, after % 60);
                let (start, end) = (driver.start, driver.end);
                format!("{} | {start:#x} | {end:#x} | 2012-02-22T11:{minutes}:{seconds:02}Z", driver.name)
            })
            .collect();
        let found = image.cells(&["unloaded_modules"], &["name", "start", "end", "time"]);
        assert_eq!(found, expected, "{name}");

        let found = image.cells(&["version_modules", "^ntos"], &["offset_v", "name", "guid", "pdb"]);
        let (base, pdb) = (system.kernel_base, &system.pdb);
        assert_eq!(found, [format!("{base:#x} | ntoskrnl.exe | {} | {}", pdb.guid_age, pdb.name)], "{name}");

        let found = image.cells(&["times"], &["Times", "value"]);
        assert!(found.contains(&"Seconds up | 1200".to_owned()), "{name}: {found:?}");

        let found = image.cells(&["phys_map"], &["phys_start", "phys_end", "pages"]);
        let end = built.snapshot.end();
        let upper = format!("0x100000 | {end:#x} | {}", (end - 0x10_0000) / 4096);
        assert_eq!(found, ["0x1000 | 0x9f000 | 158".to_owned(), upper], "{name}");

        let symbol = |name: &str| base + system.layouts.profile().symbol(name).expect("a symbol");
        let found = image.cells(&["kdbgscan"], &["Key", "Value"]);
        for row in [
            "Tag found | true".to_owned(),
            format!("Kernel base | {base:#x}"),
            format!("PsActiveProcessHead | {:#x}", symbol("PsActiveProcessHead")),
            format!("PsLoadedModuleList | {:#x}", symbol("PsLoadedModuleList")),
            format!("Build | {}", system.build_lab),
        ] {
            assert!(found.contains(&row), "{name}: {row:?} is not in {found:#?}");
        }
        let blocks = image.cells(&["kdbgscan", "--full_scan"], &["Key"]);
        assert_eq!(blocks.iter().filter(|key| *key == "Offset (P)").count(), 1, "{name}");

        let found = image.cells(&["kpcr"], &["Property", "Value"]);
        let rows = ["Vendor | GenuineIntel".to_owned(), "MHz | 2400".to_owned()];
        for row in rows.into_iter().chain([format!("CR3 | {:#x}", built.snapshot.dtb())]) {
            assert!(found.contains(&row), "{name}: {row:?} is not in {found:#?}");
        }
    }
}

#[test]
fn tokens_hold_what_is_described() {
    for (name, scenario, _, image) in offices() {
        for process in scenario.processes.iter().filter(|process| process.token.is_some()) {
            let token = process.token.as_ref().unwrap();
            let pid = process.pid.to_string();
            let mut privileges = token.privileges.clone();
            privileges.sort_by_key(|privilege| privilege.number);
            let expected: Vec<String> = privileges
                .iter()
                .map(|privilege| {
                    let enabled = if privilege.enabled { ",Enabled" } else { "" };
                    let default = if privilege.by_default { ",Default" } else { "" };
                    let number = privilege.number;
                    let known = match number {
                        10 => "SeLoadDriverPrivilege",
                        19 => "SeShutdownPrivilege",
                        20 => "SeDebugPrivilege",
                        _ => "SeChangeNotifyPrivilege",
                    };
                    format!("{number} | {known} | Present{enabled}{default}")
                })
                .collect();
            let found = image.cells(&["privileges", &pid], &["Value", "Privileges", "Attributes"]);
            // A hidden process is on no list.
            if process.unlinked && found.is_empty() {
                continue;
            }
            assert_eq!(found, expected, "{name}: {pid}");
            let expected: Vec<&str> = token.sids.iter().map(|(sid, _)| sid.as_str()).collect();
            assert_eq!(image.cells(&["tokens", &pid], &["Sid"]), expected, "{name}: {pid}");
        }
    }
}
