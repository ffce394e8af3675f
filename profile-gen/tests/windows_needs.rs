//! The table of what Windows plugins need, against real kernels: of Windows 7 (a profile of the original) and of Windows 10
//! and 11 (symbol tables of Volatility 3). A field that none of them has is misspelt.
//!
//! Reads `rekall/` and `isf/` below `REKAL_TEST_DATA`, or below the data folder beside the checkout; without them the test
//! says so and passes.

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::io::Write as _;
use std::path::{Path, PathBuf};

use profile_gen::read_document;

#[test]
fn real_kernels_serve_every_plugin() {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join("data");
    let data = std::env::var_os("REKAL_TEST_DATA").map_or_else(beside, PathBuf::from);
    for name in [
        "rekall/v1.0/nt/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942.gz",
        "isf/ntkrnlmp.pdb/BBED7C2955FBE4522AAA23F4B8677AD9-1.json.xz",
        "isf/ntkrnlmp.pdb/0CE4A95C0CD782A7596B034D8648E585-1.json.xz",
    ] {
        let path = data.join(name);
        if !path.is_file() {
            let _ = writeln!(std::io::stderr(), "SKIPPED: no {}", path.display());
            continue;
        }
        let report = read_document(&path).unwrap().unwrap().report;
        assert!(report.usable, "{name}: {report}");
        assert!(report.missing.is_empty(), "{name}: {report}");
    }
}
