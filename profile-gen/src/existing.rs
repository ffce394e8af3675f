//! Sources that are documents already: profiles of whoever made them, and symbol tables of Volatility 3.

use std::fs::File;
use std::io::{Read, Seek as _};
use std::path::Path;

use profile::Profile;

use crate::archive::base_name;
use crate::unpack::Wrapper;
use crate::{ConvertError, Converted, FitnessReport};

/// How far into a file its first brace may stand.
const HEAD: u64 = 64;
/// Largest compressed document in bytes.
const MAX_FILE: u64 = 256 << 20;

/// Reads a profile or a symbol table of Volatility 3 (ISF), plain or inside gzip or xz; `None` where the file is something
/// else.
///
/// # Errors
/// [`ConvertError::Document`] where it is JSON, but neither, and those of reading a file.
pub fn read_document(path: &Path) -> Result<Option<Converted>, ConvertError> {
    let failed = |error| ConvertError::Io { path: path.to_owned(), error };
    if path.is_dir() {
        return Ok(None);
    }
    let mut file = File::open(path).map_err(failed)?;
    if !starts_as_json(&mut file).map_err(failed)? {
        return Ok(None);
    }
    file.rewind().map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(failed)?;
    let name = base_name(path);
    if bytes.len() as u64 > MAX_FILE {
        return Err(ConvertError::TooLarge { name, limit: MAX_FILE });
    }
    let read = || Profile::parse(&bytes, &profile::Limits::default())?.to_document();
    let document = read().map_err(|error| ConvertError::Document { name, error })?;
    let report = FitnessReport::of(&document);
    Ok(Some(Converted { document, report }))
}

/// Whether the file, decompressed, begins as a JSON object does.
fn starts_as_json(file: &mut File) -> std::io::Result<bool> {
    let mut head = [0; 8];
    let read = file.read(&mut head)?;
    file.rewind()?;
    let mut start = Vec::new();
    // What cannot be decompressed is no document; the other readers say what is wrong with it.
    match Wrapper::of(head.get(..read).unwrap_or_default()) {
        None => {
            file.take(HEAD).read_to_end(&mut start)?;
        }
        Some(Wrapper::Gzip) => {
            let _ = flate2::read::MultiGzDecoder::new(file).take(HEAD).read_to_end(&mut start);
        }
        Some(Wrapper::Xz) => {
            let reader = lzma_rust2::XzReader::new_mem_limit(file, true, crate::unpack::DICTIONARY_KIB);
            let _ = reader.take(HEAD).read_to_end(&mut start);
        }
        Some(Wrapper::Zstd) => {}
    }
    Ok(start.trim_ascii_start().starts_with(b"{"))
}
