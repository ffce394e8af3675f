//! Scans of physical memory and what limits them; symbols of modules; what an image is of.
//!
//! Truth: the description of the machine; for symbols of a module a real PDB, as llvm-pdbutil reads it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod made;

use made::{CREATED, Image, offices, sorted};
use rekal_tests::rekal::Output;
use testkit::scenario::Scenario;
use testkit::{Machine, Module, Pdb, Process, filetime, profiles};

fn notes(output: &Output) -> String {
    output.notes.iter().map(|note| note["text"].as_str().unwrap().to_owned() + "\n").collect()
}

#[test]
fn processes_are_found_listed_or_not() {
    for (name, scenario, built, image) in offices() {
        let expected = scenario.processes.iter().map(|process| {
            let placed = built.snapshot.process(process.pid);
            let dtb = built.snapshot.machine.dtb(placed.space);
            let ended = if process.exited == 0 { "" } else { "E" };
            // The idle process is on no list.
            let listed = if process.unlinked || process.pid == 0 { "" } else { "P" };
            format!("{:#x} | {} | {dtb:#x} | {ended}{listed}", placed.eprocess, process.ppid)
        });
        let found = image.cells(&["psscan"], &["offset_v", "ppid", "pdb", "stat"]);
        assert_eq!(sorted(found), sorted(expected.collect()), "{name}");
        let rows = image.run(&["psscan"]).rows;
        for (process, row) in rows.iter().map(|row| (row.object("offset_p", "pid"), row)) {
            let described = scenario.processes.iter().find(|known| known.pid.to_string() == process).unwrap();
            assert_eq!(row.object("offset_p", "name"), described.name, "{name}");
            assert_eq!(row.text_or_empty("exit_time").is_empty(), described.exited == 0, "{name}: {process}");
        }
    }
}

#[test]
fn scans_show_what_was_found_where_asked() {
    for (name, _, _, image) in offices() {
        let rows = |command: &[&str]| image.run(command).rows.len();
        // Objects of these kinds are in the one pool, symbolic links in the other.
        for command in ["filescan", "driverscan", "modscan", "psscan", "thrdscan", "mutantscan"] {
            let all = rows(&[command]);
            assert!(all > 0, "{name}: {command}");
            assert_eq!(rows(&[command, "--scan_physical"]), all, "{name}: {command}");
            assert_eq!(rows(&[command, "--scan_kernel"]), all, "{name}: {command}");
            assert_eq!(rows(&[command, "--scan_kernel_nonpaged_pool"]), all, "{name}: {command}");
            assert_eq!(
                rows(&[command, "--scan_kernel_code", "--scan_kernel_nonpaged_pool"]),
                all,
                "{name}: {command}"
            );
            for nowhere in [
                &["--scan_kernel_code"][..],
                &["--scan_kernel_session_pools"],
                &["--scan_process_memory"],
                &["1888"],
                &["--limit", "0x1000"],
                &["--scan_kernel_nonpaged_pool", "--limit", "0"],
            ] {
                let command = [&[command][..], nowhere].concat();
                assert_eq!(rows(&command), 0, "{name}: {command:?}");
            }
        }
        let links = rows(&["symlinkscan"]);
        assert!(links > 0 && rows(&["symlinkscan", "--scan_kernel_nonpaged_pool"]) == 0, "{name}");
        let output = image.run(&["symlinkscan", "--scan_kernel_paged_pool"]);
        if name == "Windows 7" {
            // It has no variable for the start.
            assert!(notes(&output).contains("where the PagedPool is cannot be told"), "{}", notes(&output));
        } else {
            assert_eq!((output.rows.len(), output.complete), (links, true), "{name}");
        }
        let network = if name == "Windows XP" { ["connscan", "sockscan"] } else { ["netscan", "netscan"] };
        for command in network {
            let all = rows(&[command]);
            assert!(all > 0 && rows(&[command, "--scan_kernel_nonpaged_pool"]) == all, "{name}: {command}");
            assert_eq!(rows(&[command, "--scan_kernel_code"]), 0, "{name}: {command}");
        }
    }
}

#[test]
fn an_image_is_of_what_is_described() {
    for (name, _, built, image) in offices() {
        let system = &built.snapshot.machine.system;
        let (major, minor, build) = system.version;
        let found = image.cells(&["imageinfo"], &["key", "value"]);
        for row in [
            format!("Kernel base | {:#x}", system.kernel_base),
            format!("Page tables (DTB) | {:#x}", built.snapshot.dtb()),
            format!("Profile | nt/GUID/{}", system.pdb.guid_age),
            format!("NT build | {}", system.build_lab),
            "System root | C:\\Windows".to_owned(),
            "Product type | workstation".to_owned(),
            "Processors | 1".to_owned(),
            "Time (UTC) | 2012-02-22T11:31:30Z".to_owned(),
            "Up since (UTC) | 2012-02-22T11:11:30Z".to_owned(),
        ] {
            assert!(found.contains(&row), "{name}: {row:?} is not in {found:#?}");
        }
        let version = found.iter().find(|row| row.starts_with("NT version | ")).unwrap();
        assert!(version.contains(&format!("{major}.{minor}")), "{name}: {version}");
        // XP's page has no build.
        assert!(major < 10 || version.contains(&build.to_string()), "{name}: {version}");
    }
}

#[test]
fn symbols_of_a_module_come_from_its_debug_file_when_it_is_named() {
    let (Some(data), Some(system)) = (profiles::data(), profiles::windows_10()) else { return };
    let (pdb, id) = ("dump_syms_regtest64.pdb", "72E103A85CB249078B76B2E7C06257B13");
    let base = system.drivers + (48 << 20);
    let mut machine = Machine::new(system);
    machine.process(&Process { created: filetime(CREATED), ..Process::new(4, 0, "System") });
    machine.kernel_module(&Module {
        pdb: Some(Pdb::new(pdb, id)),
        ..Module::new("\\SystemRoot\\System32\\win32k.sys", base, 0x4_0000)
    });
    let image = Image::new(machine);
    let store = image.folder.path().join("symbols");
    std::fs::create_dir_all(store.join(pdb).join(id)).unwrap();
    std::fs::copy(data.join("pdb").join(pdb), store.join(pdb).join(id).join(pdb)).unwrap();
    // llvm-pdbutil dump --publics: 0001:14416, where section 1 begins at 0x1000.
    let symbol = format!("{:#x}", base + 0x1000 + 14_416);
    let run = |store: &str, command: &[&str]| {
        let output =
            image.command(&["--format", "test", "--symbol_path", store]).args(command).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
    };
    let store = store.to_str().unwrap();
    // Nobody named the module: an address has the name of its module, and nothing is fetched.
    let text = run(store, &["address_resolver", &symbol]);
    assert!(text.contains("win32k+0x4850"), "{text}");
    let text = run("", &["address_resolver", "win32k!_FindPESection"]);
    assert!(text.contains("only exports of module win32k are known"), "{text}");
    for command in [
        &["address_resolver", "win32k!_FindPESection"][..],
        &["address_resolver", "win32k!_FindPESect*n"],
        &["dump", "win32k!_FindPESection", "--length", "16"],
    ] {
        let text = run(store, command);
        assert!(text.contains(&symbol), "{command:?}: {text}");
    }
}

#[test]
fn a_scan_of_one_process_is_of_its_memory_alone() {
    let Some(system) = profiles::windows_7() else { return };
    let scenario = Scenario::office(&system);
    let image = Image::of(&scenario.build(system).snapshot);
    let output = image.run(&["psscan", "--proc_regex", "^notepad"]);
    assert!(output.rows.is_empty() && output.complete, "{}", notes(&output));
}
