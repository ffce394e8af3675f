//! RSDS records: which PDB holds the symbols of an executable. In the debug directory of a module, or anywhere.
//!
//! Layout: `"RSDS"`, GUID of 16 bytes, age as `u32`, path of the PDB in UTF-8 up to a NUL. Source: CodeView format, as
//! described for `IMAGE_DEBUG_TYPE_CODEVIEW`.

use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memmem;
use memory::{AddressSpace, CHUNK, Gaps};
use profile::names::PdbId;

/// The signature.
pub const SIGNATURE: &[u8; 4] = b"RSDS";
/// Length of what precedes the path.
const HEAD: usize = 24;
/// Longest path of a PDB, in bytes.
const MAX_PATH: usize = 1024;
/// Longest record: head, path, NUL.
pub const MAX_RECORD: usize = HEAD + MAX_PATH + 1;

/// An RSDS record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rsds {
    /// GUID and age.
    pub id: PdbId,
    /// The PDB as the linker named it: a file name, or the path on the machine that linked it.
    pub path: String,
}

impl Rsds {
    /// Decodes the record that `bytes` begin with. `None` where they are none: another signature, or a path that does
    /// not end, is no printable UTF-8, or does not end in `.pdb`.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(SIGNATURE)?;
        let (guid, rest) = rest.split_first_chunk::<16>()?;
        let (age, rest) = rest.split_first_chunk::<4>()?;
        let len = memchr::memchr(0, rest.get(..MAX_PATH + 1).unwrap_or(rest))?;
        let path = std::str::from_utf8(rest.get(..len)?).ok()?;
        let extension = path.len().checked_sub(4).and_then(|at| path.get(at..))?;
        let plausible = extension.eq_ignore_ascii_case(".pdb") && !path.chars().any(char::is_control);
        plausible
            .then(|| Self { id: PdbId { guid: *guid, age: u32::from_le_bytes(*age) }, path: path.to_owned() })
    }

    /// The last part of the path.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.path.rsplit(['\\', '/']).next().unwrap_or_default()
    }
}

/// Most records of one piece of [`CHUNK`] bytes that are kept: real memory has a few, only a forged image has more.
const MAX_IN_PIECE: usize = 1024;

/// What [`scan`] found.
#[derive(Debug)]
pub struct Found {
    /// The records with their addresses, ascending.
    pub records: Vec<(u64, Rsds)>,
    /// Records left out because there were too many in one place.
    pub left_out: u64,
    /// What could not be read.
    pub gaps: Gaps,
}

/// Looks for RSDS records in a whole space, on all cores.
#[must_use]
pub fn scan(space: &dyn AddressSpace) -> Found {
    let finder = memmem::Finder::new(SIGNATURE);
    let left_out = AtomicU64::new(0);
    let (records, gaps) = memory::scan(space, CHUNK, MAX_RECORD - 1, |piece| {
        let hits = finder.find_iter(piece.bytes).take_while(|at| *at < piece.own);
        let mut records = Vec::new();
        for at in hits {
            let Some(record) = piece.bytes.get(at..).and_then(Rsds::parse) else { continue };
            if records.len() < MAX_IN_PIECE {
                records.push((piece.addr.wrapping_add(at as u64), record));
            } else {
                left_out.fetch_add(1, Ordering::Relaxed);
            }
        }
        records
    });
    Found { records, left_out: left_out.into_inner(), gaps }
}

#[cfg(test)]
mod tests {
    use super::*;
    use memory::FileSpace;

    fn record(path: &[u8]) -> Vec<u8> {
        let mut bytes = b"RSDS".to_vec();
        bytes.extend([0x5c, 0x6d, 0xd6, 0x0a, 0x79, 0xf4, 0x1d, 0x45, 1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.extend(2u32.to_le_bytes());
        bytes.extend(path);
        bytes.push(0);
        bytes
    }

    #[test]
    fn only_plausible_records_are_taken() {
        let rsds = Rsds::parse(&record(b"C:\\out\\ntkrnlmp.PDB")).unwrap();
        assert_eq!(rsds.id.to_string(), "0AD66D5CF479451D01020304050607082");
        assert_eq!(rsds.file_name(), "ntkrnlmp.PDB");
        assert_eq!(Rsds::parse(&record("größe.pdb".as_bytes())).unwrap().path, "größe.pdb");
        for path in [&b"a\x1b.pdb"[..], b"a.pd", b"pdb", b"", b"\xff.pdb", &[b'a'; 2000]] {
            assert_eq!(Rsds::parse(&record(path)), None, "{path:?}");
        }
        let whole = record(b"a.pdb");
        for len in 0..whole.len() {
            assert_eq!(Rsds::parse(&whole[..len]), None, "{len}");
        }
    }

    #[test]
    fn records_are_found_in_order_across_pieces() {
        let mut bytes = vec![0; 3 * CHUNK];
        let places = [0, 77, CHUNK - 3, 2 * CHUNK - 20, 3 * CHUNK - 30];
        for at in places {
            let record = record(b"a.pdb");
            bytes[at..at + record.len()].copy_from_slice(&record);
        }
        let found = scan(&FileSpace::from_vec(bytes));
        let offsets: Vec<u64> = found.records.iter().map(|(at, _)| *at).collect();
        assert_eq!(offsets, places.map(|at| at as u64));
        assert!(found.gaps.is_empty() && found.left_out == 0);
    }

    #[test]
    fn a_forged_image_full_of_records_is_bounded() {
        let bytes = record(b"a.pdb").repeat(2000);
        let found = scan(&FileSpace::from_vec(bytes));
        assert_eq!((found.records.len(), found.left_out), (1024, 976));
    }
}
