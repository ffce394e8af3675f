//! Files that commands make of the memory of Windows machines: each holds what the machine was described with, zeros elsewhere,
//! and the command says what is missing.
//!
//! Truth: the description, whose images are laid out by code that shares nothing with the program; `llvm-readobj`, which must read
//! what was rebuilt.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "helpers of tests fail by panicking"
)]

mod made;

use std::path::Path;
use std::process::Command;

use made::offices;
use rekal_tests::rekal::Row;
use testkit::{driver_image, pe, user_image};

/// Whether a file made of a module is what was laid out: every byte that is in memory, and zeros for the rest.
fn assert_rebuilt(file: &Path, image: &pe::Image, name: &str) {
    let bytes = std::fs::read(file).unwrap();
    let made = image.make();
    let mut expected = vec![0; bytes.len()];
    for (rva, part) in &made.parts {
        // Headers take 0x400 bytes of the file, sections stand where they are in memory.
        let start = *rva as usize;
        let end = (start + part.len()).min(expected.len());
        expected[start..end].copy_from_slice(&part[..end - start]);
    }
    let last = made.parts.iter().map(|(rva, part)| *rva as usize + part.len()).max().unwrap();
    assert!(bytes.len() >= last && bytes.len() <= made.size as usize, "{name}: {} bytes", bytes.len());
    let differs = bytes.iter().zip(&expected).position(|(a, b)| a != b);
    assert_eq!(differs, None, "{name}: {}", file.display());
    match Command::new("llvm-readobj")
        .args(["--file-headers", "--sections", "--coff-exports"])
        .arg(file)
        .output()
    {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("Name: .text"), "{name}: {text}");
            for (export, _) in &image.exports {
                assert!(text.contains(export), "{name}: {export} is not in {text}");
            }
        }
        Err(_) => eprintln!("skipped: llvm-readobj is not installed"),
    }
}

fn file(row: &Row) -> String {
    row.text("Filename")
}

#[test]
fn executables_of_processes_are_those_described() {
    for (name, scenario, built, image) in offices() {
        let is_64 = built.snapshot.machine.system.is_64();
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().to_str().unwrap();
        let output = image.run(&["procdump", "--dump_dir", to]);
        // The rest of each code section is in no page.
        assert!(!output.complete, "{name}");
        let mut seen = 0;
        for process in scenario.processes.iter().filter(|process| process.parameters.is_some()) {
            let row =
                output.rows.iter().find(|row| row.object("_EPROCESS", "pid") == process.pid.to_string());
            let row = row.unwrap_or_else(|| panic!("{name}: no row of {}", process.pid));
            let expected = format!("{to}/executable.{}_{}.exe", process.name, process.pid);
            assert_eq!(file(row), expected, "{name}");
            let own = process.modules.iter().find(|module| module.base == process.section_base).unwrap();
            assert_rebuilt(Path::new(&expected), &user_image(own, is_64), name);
            let missing = own.size - 0x2000 - 0x1000;
            assert_eq!(row.number("missing"), Some(missing), "{name}: {}", process.name);
            let note = format!("{missing} of ");
            assert!(
                output.notes.iter().any(|note_| note_["text"].as_str().unwrap().starts_with(&note)),
                "{name}: {:?}",
                output.notes
            );
            seen += 1;
        }
        assert!(seen > 5, "{name}");
        // Of the process that has exited the row says that the executable is gone; the kernel's own processes have none.
        let gone: Vec<&Row> = output.rows.iter().filter(|row| row.reason("Filename").is_some()).collect();
        assert_eq!((gone.len(), output.rows.len()), (1, seen + 1), "{name}");
        assert_eq!(gone[0].object("_EPROCESS", "name"), "exited.exe", "{name}");
        // Nothing is overwritten unasked.
        assert!(image.rekal.run(&["procdump", "1888", "--dump_dir", to]).is_err(), "{name}");
    }
}

#[test]
fn modules_of_processes_are_those_described() {
    for (name, scenario, built, image) in offices() {
        let is_64 = built.snapshot.machine.system.is_64();
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().to_str().unwrap();
        let output = image.run(&["dlldump", "--regex", "ntdll", "--dump_dir", to]);
        let expected = scenario.processes.iter().flat_map(|process| {
            let modules = process.modules.iter().filter(|module| module.name() == "ntdll.dll");
            modules.map(move |module| (process.pid, module))
        });
        let expected: Vec<_> = expected.collect();
        assert_eq!(output.rows.len(), expected.len(), "{name}");
        for (pid, module) in expected {
            let base = format!("{:#x}", module.base);
            let row = output
                .rows
                .iter()
                .find(|row| row.object("_EPROCESS", "pid") == pid.to_string() && row.text("base") == base);
            let row = row.unwrap_or_else(|| panic!("{name}: no module at {base} of {pid}"));
            assert_eq!(row.text("module"), "ntdll.dll", "{name}");
            let file = file(row);
            assert!(file.starts_with(&format!("{to}/module.{pid}.")), "{name}: {file}");
            assert!(file.ends_with(&format!(".{:x}.ntdll.dll", module.base)), "{name}: {file}");
            assert_rebuilt(Path::new(&file), &user_image(module, is_64 && !module.wow64), name);
        }
        // One that is on no list is written by its address.
        let secret = scenario.processes.iter().flat_map(|process| &process.modules);
        let secret = secret.into_iter().find(|module| module.unlinked).expect("a hidden library");
        let address = format!("{:#x}", secret.base);
        let command = [
            "pedump",
            &address,
            "--address_space",
            "pid@1888",
            "--out_file",
            "../secret.dll",
            "--dump_dir",
            to,
        ];
        let output = image.run(&command);
        assert_eq!(file(&output.rows[0]), format!("{to}/.._secret.dll"), "{name}");
        assert_rebuilt(Path::new(&file(&output.rows[0])), &user_image(secret, is_64), name);
        let info = image.run(&["peinfo", &address, "--address_space", "pid@1888"]);
        let exports: Vec<String> = info
            .rows
            .iter()
            .filter(|row| row.text("part") == "export")
            .map(|row| format!("{} {}", row.text("name"), row.text("vma")))
            .collect();
        let function = |name: &str, rva: u64| format!("{name} {:#x}", secret.base + rva);
        assert_eq!(exports, [function("DllGetVersion", 0x1040), function("DllMain", 0x1000)], "{name}");
    }
}

#[test]
fn drivers_and_the_kernel_are_those_described() {
    for (name, scenario, built, image) in offices() {
        let system = &built.snapshot.machine.system;
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().to_str().unwrap();
        let output = image.run(&["moddump", "--regex", "sys$|ntoskrnl", "--dump_dir", to]);
        let listed = scenario.drivers.iter().filter(|driver| !driver.unlinked);
        for driver in listed.clone() {
            let module = &driver.module;
            let row = output.rows.iter().find(|row| row.text("Name") == module.name());
            let row = row.unwrap_or_else(|| panic!("{name}: no row of {}", module.name()));
            assert_eq!(file(row), format!("{to}/driver.{:x}.{}", module.base, module.name()), "{name}");
            assert_eq!(row.text("Base"), format!("{:#x}", module.base), "{name}");
            // The variables of this one hold the tables of connections.
            if module.name() != "tcpip.sys" {
                assert_rebuilt(Path::new(&file(row)), &driver_image(module, system.is_64()), name);
            }
        }
        assert_eq!(output.rows.len(), listed.count() + 1, "{name}: drivers and the kernel");
        let kernel = output.rows.iter().find(|row| row.text("Name") == "ntoskrnl.exe").unwrap();
        let bytes = std::fs::read(file(kernel)).unwrap();
        assert_eq!((&bytes[..2], kernel.number("missing")), (&b"MZ"[..], Some(0)), "{name}");
        // The kernel by its symbol, and what its record says.
        let info = image.run(&["peinfo", "nt"]);
        let id = info.rows.iter().find(|row| row.text("name") == "GUID/Age").unwrap();
        assert_eq!(id.text("value"), system.pdb.guid_age, "{name}");
    }
}
