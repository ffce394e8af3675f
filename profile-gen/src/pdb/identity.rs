//! What tells one PDB from another, read without converting it.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::pdb::PDB;

use super::{Information, PdbError, check_header};

/// What a PDB says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PdbIdentity {
    /// GUID of the information stream: 32 upper-case hex digits.
    pub guid: String,
    /// Age of the information stream: raised whenever a tool rewrites the file.
    pub age: u32,
    /// Age of the DBI stream, which is that of the executable's link; absent where there is no such stream.
    pub dbi_age: Option<u32>,
}

/// Reads the identity of a PDB.
pub fn identify(bytes: &[u8]) -> Result<PdbIdentity, PdbError> {
    check_header(bytes)?;
    // The library asserts what damaged files break; nothing of it is used after a panic.
    catch_unwind(AssertUnwindSafe(|| {
        let mut pdb = PDB::open(Cursor::new(bytes))?;
        let Information { guid, age, .. } = Information::read(&mut pdb)?;
        let dbi_age = pdb.debug_information().ok().and_then(|dbi| dbi.age());
        Ok(PdbIdentity { guid, age, dbi_age })
    }))
    .unwrap_or_else(|_| Err(PdbError::Damaged("its parts contradict each other".to_owned())))
}

/// A GUID as 32 upper-case hex digits: its first three fields are little-endian numbers, the rest bytes.
#[must_use]
pub fn guid_text(bytes: &[u8; 16]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    order.iter().filter_map(|at| bytes.get(*at)).map(|byte| format!("{byte:02X}")).collect()
}
