//! A tree of profiles that the original wrote: `rekall/` below `REKAL_TEST_DATA`, or below the data folder beside the
//! checkout. Without it the tests say so and pass.

#![allow(clippy::expect_used, reason = "helpers of tests fail by panicking")]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use profile::names::ProfileName;
use profile::{Kind, Profile};
use repository::{Answer, Config, Directory, Inventory, Limits, LinuxEvidence, Reason, SearchPath};

/// The root of the tree, or nothing and a message that the test harness does not swallow.
fn tree() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join("data");
    let root = std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from).join("rekall");
    if !root.join("v1.0").is_dir() {
        let _ = writeln!(std::io::stderr(), "SKIPPED: no original profiles at {}", root.display());
        return None;
    }
    Some(root)
}

fn open(root: &Path) -> SearchPath {
    let entries = vec![root.display().to_string()];
    SearchPath::open(&Config { entries, ..Config::default() }).expect("a search path")
}

#[test]
fn every_document_of_the_original_loads() {
    let Some(root) = tree() else { return };
    let path = open(&root);
    let kernel = path.load("nt/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942").expect("the Windows 7 kernel");
    assert_eq!(kernel.profile.kind(), Kind::Profile);
    let process = kernel.profile.struct_def("_EPROCESS").expect("a struct").expect("defined");
    // Windows 7 x64: offsets as `dt nt!_EPROCESS` of the Windows debugger shows them.
    assert_eq!(process.size, Some(0x4d0));
    assert_eq!(process.fields.get("UniqueProcessId").map(|field| field.offset), Some(0x180));
    assert_eq!(process.fields.get("ActiveProcessLinks").map(|field| field.offset), Some(0x188));
    assert_eq!(path.load("nt/index").expect("an index").profile.kind(), Kind::Index);
    for name in ["pe", "tcpip/index", "win32k/index", "nt/eprocess_index"] {
        path.load(name).expect(name);
    }
    // Also when the path names the versioned directory itself.
    open(&root.join("v1.0")).load("pe").expect("pe");
}

#[test]
fn the_original_inventory_is_read_whole() {
    let Some(root) = tree() else { return };
    let bytes = std::fs::read(root.join("v1.0/inventory.gz")).expect("the inventory");
    let inventory = Inventory::parse(&bytes, Limits::default().max_inventory).expect("an inventory");
    assert_eq!((inventory.entries.len(), inventory.rejected), (673, 0));
    let debian = inventory.get(&ProfileName::new("Debian/3.2.0-4-amd64").expect("a name")).expect("listed");
    assert_eq!((debian.last_modified, debian.text("arch")), (1_407_274_367.13, Some("AMD64")));
    let again = Inventory::parse(&inventory.to_gzip(), Limits::default().max_inventory).expect("our own");
    assert_eq!(again, inventory);
}

#[test]
fn names_listed_but_not_there_are_no_candidates() {
    let Some(root) = tree() else { return };
    let evidence = LinuxEvidence { release: Some("3.2.0-4-amd64".to_owned()), ..LinuxEvidence::default() };
    let error =
        open(&root).find_linux(&evidence).expect_err("the file is not in this part of the repository");
    assert_eq!(error.trace.last().map(|asked| &asked.answer), Some(&Answer::NotListed));
    // Reasons order candidates, best first.
    assert!(Reason::BuildIdName < Reason::Banner && Reason::Banner < Reason::Release);
}

#[test]
fn a_synthesised_inventory_lists_the_files() {
    let Some(root) = tree() else { return };
    let full = Directory::new(&root, Limits::default()).full_inventory(&Inventory::default());
    let kernel = ProfileName::new("nt/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942").expect("a name");
    let entry = full.get(&kernel).expect("listed");
    assert_eq!(entry.text("ProfileClass"), Some("Nt"));
    let stored = Directory::new(&root, Limits::default()).get(&kernel).expect("the file");
    Profile::parse(&stored.bytes, &profile::Limits::default()).expect("a profile");
}
