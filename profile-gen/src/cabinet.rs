//! Cabinets: the compressed form in which stores keep single files (`.pd_`, `.ex_`).
//!
//! `cab` reads the container, MSZIP and LZX. Sizes are checked before and while reading, panics of the library end as
//! errors, and the name inside serves to choose a member, never as a path.

use std::io::{Cursor, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};

use cab::Cabinet;

/// First bytes of a cabinet.
const MAGIC: &[u8] = b"MSCF";
/// Fixed size of the header, in bytes.
const HEADER: usize = 36;

/// Why a cabinet gives no file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CabinetError {
    /// Its parts contradict each other, or it is cut off.
    #[error("damaged cabinet: {0}")]
    Damaged(String),
    /// It says to hold more than may be read, or does.
    #[error("cabinet holds more than the limit of {0} bytes")]
    TooLarge(u64),
    /// It holds no file like the one wanted.
    #[error("cabinet holds {0} files and none of them is a {1}")]
    NoSuchFile(usize, String),
}

/// Whether bytes are a cabinet.
pub(crate) fn is_cabinet(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Expands the file of a cabinet that has the extension of `name`, or its only file, to at most `limit` bytes.
pub fn expand(bytes: &[u8], name: &str, limit: u64) -> Result<Vec<u8>, CabinetError> {
    // Total size by the header: 4 bytes at offset 8.
    let promised = bytes.get(8..12).and_then(|word| word.try_into().ok()).map(u32::from_le_bytes);
    match promised {
        Some(promised) if promised as usize <= bytes.len() && bytes.len() >= HEADER => {}
        _ => return Err(CabinetError::Damaged("it ends early".to_owned())),
    }
    // The library indexes what damaged files leave empty; nothing of it is used after a panic.
    catch_unwind(AssertUnwindSafe(|| read(bytes, name, limit)))
        .unwrap_or_else(|_| Err(CabinetError::Damaged("its parts contradict each other".to_owned())))
}

fn read(bytes: &[u8], name: &str, limit: u64) -> Result<Vec<u8>, CabinetError> {
    let damaged = |error: std::io::Error| CabinetError::Damaged(error.to_string());
    let mut cabinet = Cabinet::new(Cursor::new(bytes)).map_err(damaged)?;
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_wanted = |member: &str| {
        let found = member.rsplit_once('.').map_or("", |(_, extension)| extension);
        found.eq_ignore_ascii_case(extension)
    };
    let members = || cabinet.folder_entries().flat_map(cab::FolderEntry::file_entries);
    let count = members().count();
    let chosen =
        members().find(|file| is_wanted(file.name())).or_else(|| members().next().filter(|_| count == 1));
    let Some(chosen) = chosen else { return Err(CabinetError::NoSuchFile(count, extension.to_owned())) };
    let size = u64::from(chosen.uncompressed_size());
    if size > limit {
        return Err(CabinetError::TooLarge(limit));
    }
    let member = chosen.name().to_owned();
    let mut out = Vec::new();
    let reader = cabinet.read_file(&member).map_err(damaged)?;
    reader.take(limit.saturating_add(1)).read_to_end(&mut out).map_err(damaged)?;
    match out.len() as u64 {
        len if len > limit => Err(CabinetError::TooLarge(limit)),
        len if len != size => {
            Err(CabinetError::Damaged(format!("{len} bytes come out of it, and its list says {size}")))
        }
        _ => Ok(out),
    }
}
