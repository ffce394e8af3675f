//! Real PDBs by way of a server: what is fetched converts to the same profile as the file itself.
//!
//! Reads `pdb/` and `rekall-golden/` of the test data; without them the tests say so and pass.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use profile_gen::pdb::{PdbOptions, convert_pdb, identify};
use profile_gen::symbol_server::PdbFile;

use crate::Lab;
use crate::samples::mszip;
use crate::server::{Page, Server};

pub(crate) fn data(folder: &str) -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join("data");
    std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from).join(folder)
}

pub(crate) fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: no {what} in the test data");
}

fn profile(bytes: &[u8], id: &PdbFile) -> String {
    let options = PdbOptions {
        file_name: Some(id.name().to_owned()),
        guid_age: Some(id.id().to_string()),
        ..PdbOptions::default()
    };
    convert_pdb(bytes, &options).expect("a PDB").document.to_canonical_json()
}

#[test]
fn real_pdbs_give_the_same_profile_by_way_of_a_server() {
    let folders = [data("pdb"), data("rekall-golden").join("inputs")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let mut seen = 0;
    for path in files.map(|entry| entry.path()) {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.ends_with(".pdb") || name == "fuzzed.pdb" {
            continue;
        }
        let bytes = fs::read(&path).expect("test data is readable");
        let identity = identify(&bytes).expect("an identity");
        // Asked for with an age that no stream has, as an executable may.
        let id = PdbFile::new(&name, profile::names::PdbId { age: identity.id.age + 0x10, ..identity.id })
            .expect("an identifier");
        let at = format!("/{name}/{}/{name}", id.id());
        for compressed in [false, true] {
            let (server, lab) = (Server::start(), Lab::new());
            if compressed {
                let at = at.strip_suffix('b').expect(".pdb");
                server.serve(&format!("{at}_"), Page::file(mszip(&[("X.PDB", &bytes)])));
            } else {
                let page =
                    Page::Broken { bytes: bytes.clone(), tag: Some("\"t\""), after: bytes.len() / 2 + 1 };
                server.serve(&at, page);
            }
            let fetched =
                lab.client(&format!("srv*@/store*{}", server.base())).fetch_pdb(&id).expect("fetched");
            assert!(fetched.bytes == bytes, "{name}");
            assert!(fs::read(fetched.path.expect("kept")).expect("kept") == bytes, "{name}");
            let made = profile(&fetched.bytes, &id);
            assert!(made.contains(&id.id().to_string()), "filed under what was asked: {name}");
            assert!(made == profile(&bytes, &id), "{name}");
        }
        seen += 1;
    }
    if seen == 0 {
        skipped("PDBs");
    }
}
