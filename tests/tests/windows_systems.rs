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

use std::path::PathBuf;
use std::process::Command;

use rekal_tests::rekal::{Output, Rekal};
use testkit::{Handle, Machine, Module, Page, Parameters, Process, System, Thread, Vad, filetime, profiles};

/// The systems that the data at hand can describe.
fn systems() -> Vec<(&'static str, System)> {
    let all = [
        ("Windows 7", profiles::windows_7()),
        ("Windows 10", profiles::windows_10()),
        ("Windows 11", profiles::windows_11()),
    ];
    all.into_iter().filter_map(|(name, system)| Some((name, system?))).collect()
}

fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.ancestors().nth(2).expect("tests lie in PROFILE/deps");
    let program = profile.join("rekal");
    assert!(program.is_file(), "build it first: cargo build --bin rekal: {}", program.display());
    program
}

/// An image with a repository that has the profile of its kernel.
struct Image {
    folder: tempfile::TempDir,
    rekal: Rekal,
}

impl Image {
    fn new(machine: Machine) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = machine.finish();
        let image = folder.path().join("memory.raw");
        snapshot.write_raw(&image).unwrap();
        let system = &snapshot.machine.system;
        let profile = folder.path().join("repository/v1.0/nt/GUID").join(&system.pdb.guid_age);
        std::fs::create_dir_all(profile.parent().unwrap()).unwrap();
        let document = system.layouts.profile().to_document().unwrap();
        std::fs::write(&profile, document.to_canonical_json()).unwrap();
        let repository = Some(folder.path().join("repository"));
        Self { rekal: Rekal { program: program(), image, repository }, folder }
    }

    fn run(&self, command: &[&str]) -> Output {
        self.rekal.run(command).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Standard output as text.
    fn text(&self, options: &[&str], command: &[&str]) -> String {
        let mut process = Command::new(&self.rekal.program);
        process
            .args(["--offline", "--format", "test", "-f"])
            .arg(&self.rekal.image)
            .env("HOME", "/nonexistent");
        process.arg("--repository_path").arg(self.rekal.repository.as_ref().unwrap());
        let output = process.args(options).args(command).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

const CREATED: u64 = 1_329_909_000;

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
        ] {
            let command = ["dump", addr, "--address_space", "pid@1600", "--length", "4"];
            let text = image.text(&[], &command);
            assert!(text.contains(bytes), "{name}: {addr}: {text}");
        }
        let text = image.text(&[], &["vtop", "0x20003000", "1600"]);
        assert!(text.contains("is in a mapped file"), "{name}: {text}");
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
