//! What tells one PDB from another, read without converting it.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::pdb::PDB;
use profile::names::PdbId;

use super::{Information, Input, PdbError, check};

/// What a PDB says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PdbIdentity {
    /// GUID and age of the information stream; the age is raised whenever a tool rewrites the file.
    pub id: PdbId,
    /// Age of the DBI stream, which is that of the executable's link; absent where there is no such stream.
    pub dbi_age: Option<u32>,
}

/// Reads the identity of a PDB.
pub fn identify(bytes: &[u8]) -> Result<PdbIdentity, PdbError> {
    let mut input: Box<dyn Input + '_> = Box::new(Cursor::new(bytes));
    check(&mut *input)?;
    // The library asserts what damaged files break; nothing of it is used after a panic.
    catch_unwind(AssertUnwindSafe(|| {
        let mut pdb = PDB::open(input)?;
        let Information { id, .. } = Information::read(&mut pdb)?;
        let dbi_age = pdb.debug_information().ok().and_then(|dbi| dbi.age());
        Ok(PdbIdentity { id, dbi_age })
    }))
    .unwrap_or_else(|_| Err(PdbError::Damaged("its parts contradict each other".to_owned())))
}
