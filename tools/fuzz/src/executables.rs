//! Executables and what is in them.

use std::sync::Arc;

use analyzer::pe::{Pe, VersionInfo, rsds};
use memory::{AddressSpace, FileSpace};

/// Asks `data` as an executable for everything, and scans it.
pub fn pe(data: &[u8]) {
    let space: Arc<dyn AddressSpace> = Arc::new(FileSpace::from_vec(data.to_vec()));
    for pe in [Pe::file(&space, 0), Pe::mapped(&space, 0)].into_iter().flatten() {
        let _ =
            (pe.rsds(), pe.exports(), pe.imports(), pe.bound_imports(), pe.version(), pe.is_reproducible());
    }
    for (at, record) in rsds::scan(&*space).records {
        assert!(at < data.len() as u64 && record.file_name().to_ascii_lowercase().ends_with(".pdb"));
    }
}

/// Reads `data` as a version resource.
pub fn version_resource(data: &[u8]) {
    if let Ok(version) = VersionInfo::parse(data) {
        assert!(version.strings.items.len() <= data.len(), "each text takes a block of at least six bytes");
    }
}
