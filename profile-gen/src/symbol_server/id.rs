//! What a store is asked for: names and identifiers, checked, because both become parts of paths and URLs.

use std::fmt;

use profile::names::PdbId;

/// Longest file name in bytes.
const MAX_NAME: usize = 200;

/// Why a name or an identifier cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not the plain name of a file.
    #[error("not a file name that a symbol store can hold: {0:?}")]
    Name(String),
    /// Not a GUID with an age.
    #[error("not a GUID and age (32 hex digits, then the age in hex, as version_scan prints them): {0:?}")]
    Guid(String),
    /// A GUID that no linker writes.
    #[error("no file has this GUID: {0}")]
    Blank(String),
    /// Not the identifier of an executable.
    #[error(
        "not the identifier of an executable (8 hex digits of time stamp, then the image's size in hex): {0:?}"
    )]
    Executable(String),
}

/// A PDB by what a debugger asks for: name, GUID, age.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PdbFile {
    name: String,
    id: PdbId,
}

impl PdbFile {
    /// Checks a name: directories in front are dropped, `.pdb` is added where there is no extension.
    pub fn new(name: &str, id: PdbId) -> Result<Self, IdError> {
        if id.guid == [0; 16] {
            return Err(IdError::Blank(id.to_string()));
        }
        let name = file_name(name)?;
        let name = if name.contains('.') { name } else { format!("{name}.pdb") };
        Ok(Self { name, id })
    }

    /// The same for GUID and age as text, see [`PdbId::from_text`].
    pub fn parse(name: &str, guid_age: &str) -> Result<Self, IdError> {
        let id =
            PdbId::from_text(guid_age).ok_or_else(|| IdError::Guid(guid_age.chars().take(64).collect()))?;
        Self::new(name, id)
    }

    /// Name of the file, e.g. `ntkrnlmp.pdb`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// GUID and age asked for. A file may have another age: see [`super::SymbolServer::fetch_pdb`].
    #[must_use]
    pub fn id(&self) -> PdbId {
        self.id
    }
}

impl fmt::Display for PdbFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.id)
    }
}

/// An executable by what a debugger asks for: name, time stamp and size of its image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExecutableFile {
    name: String,
    time_stamp: u32,
    image_size: u32,
}

impl ExecutableFile {
    /// Checks a name; `time_stamp` is `TimeDateStamp` of the COFF header, `image_size` is `SizeOfImage` in bytes.
    pub fn new(name: &str, time_stamp: u32, image_size: u32) -> Result<Self, IdError> {
        Ok(Self { name: file_name(name)?, time_stamp, image_size })
    }

    /// Reads the identifier as stores write it: 8 hex digits of time stamp, then the size in hex.
    pub fn parse(name: &str, id: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Executable(id.chars().take(64).collect());
        if !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let (time_stamp, size) = id.split_at_checked(8).ok_or_else(wrong)?;
        let number = |text| u32::from_str_radix(text, 16).map_err(|_| wrong());
        Self::new(name, number(time_stamp)?, number(size)?)
    }

    /// Name of the file, e.g. `ntoskrnl.exe`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `TimeDateStamp` of the COFF header.
    #[must_use]
    pub fn time_stamp(&self) -> u32 {
        self.time_stamp
    }

    /// `SizeOfImage` in bytes.
    #[must_use]
    pub fn image_size(&self) -> u32 {
        self.image_size
    }

    /// Both as one word: the name of the directory in a store.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{:08X}{:x}", self.time_stamp, self.image_size)
    }
}

impl fmt::Display for ExecutableFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.key())
    }
}

/// The name of a file without directories; nothing that a path or a URL gives a meaning to.
fn file_name(path: &str) -> Result<String, IdError> {
    let name = path.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    let plain = |c: char| !c.is_control() && !":*?\"<>|".contains(c);
    let fits = (1..=MAX_NAME).contains(&name.len()) && name.chars().all(plain);
    // Windows drops dots and blanks at the end; a dot at the start hides a file or is no name at all.
    if !fits || name.starts_with('.') || name.ends_with('.') {
        return Err(IdError::Name(path.chars().take(64).collect()));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "F8E2A8B5C9B74BF4A6E4A48F18009994";

    #[test]
    fn files_are_named_as_stores_name_them() {
        let file = PdbFile::parse("C:\\build\\ntkrnlmp", "f8e2a8b5-c9b7-4bf4-a6e4-a48f18009994-1a").unwrap();
        assert_eq!(file.to_string(), format!("ntkrnlmp.pdb/{GUID}1A"));
    }

    #[test]
    fn what_is_no_name_or_identifier_is_refused() {
        assert!(matches!(PdbFile::parse("a.pdb", GUID), Err(IdError::Guid(_))));
        assert!(matches!(PdbFile::parse("a.pdb", &"0".repeat(33)), Err(IdError::Blank(_))));
        for name in ["", "..", ".", "a/..", "a:b.pdb", "a\u{1b}.pdb", "a?.pdb", ".a.pdb", "a.", "x/"] {
            assert!(matches!(PdbFile::parse(name, &format!("{GUID}1")), Err(IdError::Name(_))), "{name}");
        }
    }

    #[test]
    fn executables_are_named_as_stores_name_them() {
        let id = ExecutableFile::parse("ntoskrnl.exe", "4A5BC600005dc000").unwrap();
        assert_eq!((id.time_stamp(), id.image_size()), (0x4a5b_c600, 0x5d_c000));
        assert_eq!(id.to_string(), "ntoskrnl.exe/4A5BC6005dc000");
        assert!(ExecutableFile::parse("a.exe", "4A5BC600").is_err());
    }
}
