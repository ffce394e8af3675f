//! The debug directory: where the symbols are.

use object::{Absent, Read};

use super::fields::Fields;
use super::headers::DirectoryIndex;
use super::{Listing, Pe, Rsds};

/// Length of an entry.
const ENTRY: u32 = 28;
/// Most entries looked at; linkers write about five.
const MAX_ENTRIES: u32 = 64;
/// Type of an entry that names a PDB.
const CODEVIEW: u32 = 2;
/// Type of an entry that marks a reproducible build.
const REPRO: u32 = 16;

/// An entry of the debug directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebugEntry {
    /// Time stamp; a hash in reproducible builds.
    pub timestamp: u32,
    /// Type (`IMAGE_DEBUG_TYPE_*`).
    pub kind: u32,
    /// Bytes of the data.
    pub size: u32,
    /// Relative address of the data; 0 where it is not loaded.
    pub rva: u32,
    /// Offset of the data in the file.
    pub raw_offset: u32,
}

impl Pe {
    /// The entries of the debug directory.
    ///
    /// # Errors
    /// Where the executable has none.
    pub fn debug_entries(&self) -> Read<Listing<DebugEntry>> {
        let directory = self.directory(DirectoryIndex::Debug)?;
        let count = directory.size / ENTRY;
        let mut listing = Listing::default();
        for index in 0..count.min(MAX_ENTRIES) {
            match self.debug_entry(u64::from(directory.rva) + u64::from(index * ENTRY)) {
                Ok(entry) => listing.items.push(entry),
                Err(why) => {
                    listing.cut = Some(why);
                    return Ok(listing);
                }
            }
        }
        if count > MAX_ENTRIES {
            listing.cut = Some(Absent::Malformed("more than 64 entries in the debug directory"));
        }
        Ok(listing)
    }

    fn debug_entry(&self, rva: u64) -> Read<DebugEntry> {
        let mut bytes = [0; ENTRY as usize];
        self.read(rva, &mut bytes)?;
        let fields = Fields(&bytes);
        Ok(DebugEntry {
            timestamp: fields.u32(4)?,
            kind: fields.u32(12)?,
            size: fields.u32(16)?,
            rva: fields.u32(20)?,
            raw_offset: fields.u32(24)?,
        })
    }

    /// The record that names the PDB.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn rsds(&self) -> Read<Rsds> {
        let entries = self.debug_entries()?;
        let Some(entry) = entries.items.iter().find(|entry| entry.kind == CODEVIEW) else {
            return Err(entries.cut.unwrap_or(Absent::NotApplicable("the debug directory names no PDB")));
        };
        let bytes = self.debug_data(entry)?;
        if bytes.starts_with(super::rsds::SIGNATURE) {
            Rsds::parse(&bytes).ok_or(Absent::Malformed("the RSDS record names no PDB"))
        } else {
            Err(Absent::Malformed("the CodeView record is no RSDS record"))
        }
    }

    /// Whether the build is reproducible: its time stamps are hashes of its content.
    #[must_use]
    pub fn is_reproducible(&self) -> bool {
        self.debug_entries().is_ok_and(|entries| entries.items.iter().any(|entry| entry.kind == REPRO))
    }

    fn debug_data(&self, entry: &DebugEntry) -> Read<Vec<u8>> {
        let cap = super::rsds::MAX_RECORD;
        let len = u64::from(entry.size).min(cap as u64);
        if entry.rva != 0 {
            return self.bytes(entry.rva.into(), len, cap);
        }
        let Some((file, offset)) = &self.file else {
            return Err(Absent::NotApplicable("the record is in the file but not loaded"));
        };
        let addr = offset.saturating_add(entry.raw_offset.into());
        file.read_vec(addr, len, cap).map_err(|fault| Absent::Unreadable { addr, fault })
    }
}
