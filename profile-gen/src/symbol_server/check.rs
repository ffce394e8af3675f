//! Whether what a store gave is what was asked for.

use object_file::read::pe::{ImageNtHeaders, ImageOptionalHeader, PeFile};
use object_file::{LittleEndian, pe};

use super::answer::Answer;
use super::id::{ExecutableFile, PdbFile};
use crate::cabinet;
use crate::pdb::{self, PdbIdentity};

/// The file that is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    Pdb(PdbFile),
    Executable(ExecutableFile),
}

impl Wanted {
    /// Name of the file, checked.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Pdb(id) => id.name(),
            Self::Executable(id) => id.name(),
        }
    }

    /// Name of its directory below that of the name.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Pdb(id) => id.id().to_string(),
            Self::Executable(id) => id.key(),
        }
    }

    /// Name of the compressed form: `_` for the last character.
    pub(super) fn compressed_name(&self) -> String {
        let mut name = self.name().to_owned();
        name.pop();
        name.push('_');
        name
    }

    /// Expands a cabinet and checks the identity of the file; what to say of the store where it is another one.
    pub(super) fn accept(&self, bytes: Vec<u8>, limit: u64) -> Result<Vec<u8>, Answer> {
        let bytes = if cabinet::is_cabinet(&bytes) {
            cabinet::expand(&bytes, self.name(), limit).map_err(|error| Answer::Wrong(error.to_string()))?
        } else {
            bytes
        };
        if is_markup(&bytes) {
            return Err(Answer::WebPage);
        }
        match self {
            Self::Pdb(id) => check_pdb(&bytes, id),
            Self::Executable(id) => check_executable(&bytes, id),
        }
        .map_err(Answer::Wrong)?;
        Ok(bytes)
    }
}

/// Only the GUID must be that asked for: linkers raise the age of a PDB that they rewrite, its DBI stream has another
/// count than its information stream, and executables keep that of their own link.
fn check_pdb(bytes: &[u8], wanted: &PdbFile) -> Result<(), String> {
    let PdbIdentity { id, .. } = pdb::identify(bytes).map_err(|error| error.to_string())?;
    if id.guid == wanted.id().guid { Ok(()) } else { Err(format!("the PDB of another build, {id}")) }
}

fn check_executable(bytes: &[u8], id: &ExecutableFile) -> Result<(), String> {
    let (time_stamp, image_size) = match optional_header_magic(bytes) {
        Some(pe::IMAGE_NT_OPTIONAL_HDR64_MAGIC) => headers::<pe::ImageNtHeaders64>(bytes),
        _ => headers::<pe::ImageNtHeaders32>(bytes),
    }
    .ok_or("not an executable")?;
    if (time_stamp, image_size) == (id.time_stamp(), id.image_size()) {
        Ok(())
    } else {
        Err(format!("an executable of another build, time stamp and size {time_stamp:08X}{image_size:x}"))
    }
}

fn optional_header_magic(bytes: &[u8]) -> Option<u16> {
    object_file::read::pe::optional_header_magic(bytes).ok()
}

fn headers<Pe: ImageNtHeaders>(bytes: &[u8]) -> Option<(u32, u32)> {
    let file = PeFile::<Pe>::parse(bytes).ok()?;
    let headers = file.nt_headers();
    let time_stamp = headers.file_header().time_date_stamp.get(LittleEndian);
    Some((time_stamp, headers.optional_header().size_of_image()))
}

/// Whether a text starts as HTML or XML does.
fn is_markup(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    matches!(text, [b'<', b'!' | b'?' | b'a'..=b'z' | b'A'..=b'Z', ..])
}
