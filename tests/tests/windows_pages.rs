//! Pages and what leads to them: from physical to virtual addresses, the page frame database, pagefiles, ranges of the kernel, and what
//! processes were started with.
//!
//! Truth: the description of the machine, and its page tables as the maker of the image keeps them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail by panicking"
)]

mod made;

use std::collections::BTreeMap;

use made::{offices, sorted};
use testkit::scenario::Built;
use testkit::{SpaceId, System};

/// The process that has everything.
const PID: u64 = 1888;

/// Where a page of the process is in physical memory.
fn physical(built: &Built, address: u64) -> u64 {
    let space = built.snapshot.process(PID).space;
    built.snapshot.physical_of(space, address).expect("a page in memory")
}

#[test]
fn processes_were_started_as_described() {
    for (name, scenario, _, image) in offices() {
        for process in scenario.processes.iter().filter(|process| process.parameters.is_some()) {
            let parameters = process.parameters.as_ref().unwrap();
            let output = image.run(&["procinfo", &process.pid.to_string()]);
            assert!(output.complete, "{name}: {:?}", output.notes);
            let part = |wanted: &str| -> BTreeMap<String, String> {
                let rows = output.rows.iter().filter(|row| row.text("part") == wanted);
                rows.map(|row| (row.text("name"), row.text_or_empty("value"))).collect()
            };
            let texts = part("parameters");
            for (field, expected) in [
                ("ImagePathName", &parameters.image_path),
                ("CommandLine", &parameters.command_line),
                ("CurrentDirectory", &parameters.current_directory),
                ("WindowTitle", &parameters.image_path),
                ("DllPath", &String::new()),
            ] {
                assert_eq!(&texts[field], expected, "{name}: {field} of {}", process.name);
            }
            let variables = parameters.environment.iter().map(|text| text.split_once('=').unwrap());
            let expected: BTreeMap<String, String> =
                variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            assert_eq!(part("environment"), expected, "{name}: {}", process.name);
            let facts = part("process");
            assert_eq!(facts["Parent"], process.ppid.to_string(), "{name}");
            assert_eq!(facts["PEB"], format!("{:#x}", process.peb), "{name}");
            assert_eq!(facts["Audited path"], process.image_file.clone().unwrap(), "{name}");
            assert_eq!(facts["Memory ranges"], process.vads.len().to_string(), "{name}: {}", process.name);
        }
        let mut pids: Vec<String> =
            image.run(&["procinfo"]).rows.iter().map(|row| row.object("_EPROCESS", "pid")).collect();
        pids.dedup();
        // The idle process is on no list.
        let expected = scenario.processes.iter().map(|process| process.pid).filter(|pid| *pid != 0);
        let expected = expected.map(|pid| pid.to_string());
        assert_eq!(sorted(pids), sorted(expected.collect()), "{name}");
    }
}

#[test]
fn physical_addresses_are_mapped_where_described() {
    for (name, scenario, built, image) in offices() {
        let (private, shared) = (physical(&built, 0x30_0010), physical(&built, 0x40_0020));
        let everywhere = physical(&built, System::USER_SHARED_DATA);
        let columns = ["Physical", "Virtual", "Pid", "Name"];
        let asked = [private, shared].map(|address| format!("{address:#x}"));
        let found = image.cells(&["pas2vas", &asked[0], &asked[1]], &columns);
        let mut expected = vec![format!("{private:#x} | 0x300010 | 1888 | notepad.exe")];
        for process in scenario.processes.iter().filter(|process| !process.torn_down) {
            let space = built.snapshot.process(process.pid).space;
            // A page of a section is where each process that touched it maps it.
            if built.snapshot.physical_of(space, 0x40_0020) == Some(shared) {
                expected.push(format!("{shared:#x} | 0x400020 | {} | {}", process.pid, process.name));
            }
        }
        assert_eq!(sorted(found), sorted(expected), "{name}");
        let found = image.cells(&["pas2vas", &format!("{everywhere:#x}")], &["Virtual", "Pid"]);
        let mut expected: Vec<String> = scenario
            .processes
            .iter()
            .filter(|process| process.pid != 0)
            .map(|process| format!("{:#x} | {}", System::USER_SHARED_DATA, process.pid))
            .collect();
        expected.sort();
        assert_eq!(sorted(found), expected, "{name}");
        let found =
            image.cells(&["pas2vas", &format!("{everywhere:#x}"), "--pid", "604", "--pid", "4"], &["Pid"]);
        assert_eq!(sorted(found), ["4", "604"], "{name}");
    }
}

#[test]
fn the_page_frame_database_leads_back_to_virtual_addresses() {
    for (name, _, built, image) in offices() {
        let process = built.snapshot.process(PID);
        // In memory, in transition, behind the process environment block's own page.
        for address in [0x30_0010, 0x30_1020, 0x7FFD_F008] {
            let from = physical(&built, address);
            let output = image.run(&["ptov", &format!("{from:#x}")]);
            assert!(output.complete, "{name}: {:?}", output.notes);
            let last = output.rows.last().unwrap();
            assert_eq!(last.text("address"), format!("{address:#x}"), "{name}: {:?}", output.rows);
            assert_eq!(
                last.object("_EPROCESS", "address"),
                format!("{:#x}", process.eprocess),
                "{name}: {address:#x}"
            );
            assert_eq!(output.rows[0].text("step"), "PTE", "{name}");
        }
        // Memory of the kernel is nobody's.
        let from = built.snapshot.physical_of(SpaceId::SYSTEM, process.eprocess).unwrap();
        let output = image.run(&["ptov", &format!("{from:#x}")]);
        assert!(output.complete, "{name}: {:?}", output.notes);
        let last = output.rows.last().unwrap();
        assert_eq!(last.text("address"), format!("{:#x}", process.eprocess), "{name}");
        // A page of a section has the entry of the section.
        let from = physical(&built, 0x40_1000);
        let output = image.run(&["ptov", &format!("{from:#x}")]);
        assert!(output.complete, "{name}: {:?}", output.notes);
        let steps: Vec<String> = output.rows.iter().map(|row| row.text("step")).collect();
        assert_eq!(steps, ["prototype", "virtual"], "{name}");
        let entry = u64::from_str_radix(output.rows[0].text("address").trim_start_matches("0x"), 16).unwrap();
        let entry = built.snapshot.machine.read(SpaceId::SYSTEM, entry, 8);
        let entry = u64::from_le_bytes(entry.try_into().unwrap());
        assert_eq!(entry & 0x000f_ffff_ffff_f000, from, "{name}: the entry names the page");
    }
}

#[test]
fn entries_of_pages_are_those_described() {
    for (name, _, built, image) in offices() {
        for (address, location, prototype) in [
            (0x30_0000, "ActiveAndValid", "0"),
            (0x30_1000, "StandbyPageList", "0"),
            (0x40_1000, "ActiveAndValid", "1"),
        ] {
            let number = physical(&built, address) / 4096;
            let output = image.run(&["pfn", &format!("{number:#x}")]);
            assert!(output.complete, "{name}: {:?}", output.notes);
            let facts: BTreeMap<String, String> =
                output.rows.iter().map(|row| (row.text("fact"), row.text_or_empty("Value"))).collect();
            assert_eq!(facts["PageLocation"], location, "{name}: {address:#x}");
            assert_eq!(facts["PrototypePte"], prototype, "{name}: {address:#x}");
            assert_eq!(facts["ReferenceCount"], "1", "{name}: {address:#x}");
            let system = &built.snapshot.machine.system;
            if prototype == "0" {
                let entry = system.paging.pte_address(system.self_map, address);
                assert_eq!(facts["PteAddress"], format!("{entry:#x}"), "{name}: {address:#x}");
            }
            let layouts = &system.layouts;
            let entry = system.pfn_database + number * layouts.size("_MMPFN");
            let row = output.rows.iter().find(|row| row.text("fact") == "PteAddress").unwrap();
            let place = entry + layouts.offset("_MMPFN", "PteAddress");
            assert_eq!(row.text("Address"), format!("{place:#x}"), "{name}");
        }
    }
}

#[test]
fn tables_of_all_processes_are_found_the_hidden_ones_too() {
    for (name, scenario, built, image) in offices() {
        let system = &built.snapshot.machine.system;
        // Where the tables have the map of themselves.
        let own = system.paging.self_entry(system.self_map) & !0xfff;
        let mut expected = Vec::new();
        for process in scenario.processes.iter().filter(|process| process.pid != 0) {
            let placed = built.snapshot.process(process.pid);
            let dtb = built.snapshot.machine.dtb(placed.space);
            expected.push(format!("{dtb:#x} | {own:#x} | {}", !process.unlinked));
        }
        let found = image.cells(&["dtbscan"], &["DTB", "VA", "Known"]);
        assert_eq!(sorted(found), sorted(expected), "{name}");
        let output = image.run(&["dtbscan"]);
        for row in &output.rows {
            let pid = row.object("Owner", "pid").parse().unwrap();
            let dtb = built.snapshot.machine.dtb(built.snapshot.process(pid).space);
            assert_eq!(row.text("DTB"), format!("{dtb:#x}"), "{name}: of {pid}");
        }
        let output = image.run(&["dtbscan", "--limit", "2"]);
        assert_eq!((output.rows.len(), output.complete), (2, false), "{name}");
    }
}

#[test]
fn pagefiles_and_ranges_are_those_described() {
    for (name, _, built, image) in offices() {
        let found = image.cells(&["pagefiles"], &["number", "size", "filename"]);
        assert_eq!(found, [format!("0 | {} | \\??\\C:\\pagefile.sys", 0x1000 * 4096)], "{name}");
        let found = image.cells(&["virt_map"], &["region", "virt_start", "length", "virt_end"]);
        let regions = built.snapshot.machine.regions();
        let expected = regions.map(|(region, start, len)| {
            let end = start + len;
            match (name, region) {
                // Windows 7 has no variable for its start.
                ("Windows 7", "PagedPool") => format!("{region} |  |  | {end:#x}"),
                _ => format!("{region} | {start:#x} | {len} | {end:#x}"),
            }
        });
        assert_eq!(sorted(found), sorted(expected.to_vec()), "{name}");
    }
}
