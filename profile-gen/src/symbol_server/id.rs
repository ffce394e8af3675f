//! What a store is asked for: names and identifiers, checked, because both become parts of paths and URLs.

use std::fmt;

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
pub struct PdbId {
    name: String,
    guid: String,
    age: u32,
}

impl PdbId {
    /// Checks a name (directories in front are dropped, `.pdb` is added where there is no extension) and a GUID followed
    /// by the age in hex, in either case, with or without dashes and braces.
    pub fn new(name: &str, guid_age: &str) -> Result<Self, IdError> {
        let wrong = || IdError::Guid(guid_age.chars().take(64).collect());
        let digits: String = guid_age.trim().chars().filter(|c| !"{}-".contains(*c)).collect();
        if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let (guid, age) = digits.split_at_checked(32).ok_or_else(wrong)?;
        let age = u32::from_str_radix(age, 16).map_err(|_| wrong())?;
        if guid.bytes().all(|byte| byte == b'0') {
            return Err(IdError::Blank(guid.to_owned()));
        }
        let name = file_name(name)?;
        let name = if name.contains('.') { name } else { format!("{name}.pdb") };
        Ok(Self { name, guid: guid.to_ascii_uppercase(), age })
    }

    /// Name of the file, e.g. `ntkrnlmp.pdb`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The GUID: 32 upper-case hex digits.
    #[must_use]
    pub fn guid(&self) -> &str {
        &self.guid
    }

    /// The age asked for. A file may have another one: see [`super::SymbolServer::fetch_pdb`].
    #[must_use]
    pub fn age(&self) -> u32 {
        self.age
    }

    /// GUID and age as one word, the age in upper-case hex without leading zeros: the name of directories and profiles.
    #[must_use]
    pub fn guid_age(&self) -> String {
        format!("{}{:X}", self.guid, self.age)
    }
}

impl fmt::Display for PdbId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.name, self.guid_age())
    }
}

/// An executable by what a debugger asks for: name, time stamp and size of its image.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ExecutableId {
    name: String,
    time_stamp: u32,
    image_size: u32,
}

impl ExecutableId {
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

impl fmt::Display for ExecutableId {
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
    fn identifiers_come_in_many_spellings() {
        for text in [
            "f8e2a8b5c9b74bf4a6e4a48f180099942",
            "F8E2A8B5C9B74BF4A6E4A48F180099942",
            "{F8E2A8B5-C9B7-4BF4-A6E4-A48F18009994}2",
            "f8e2a8b5-c9b7-4bf4-a6e4-a48f18009994-2",
        ] {
            let id = PdbId::new("ntkrnlmp", text).unwrap();
            assert_eq!(id.to_string(), format!("ntkrnlmp.pdb/{GUID}2"), "{text}");
        }
        let id = PdbId::new("x.pdb", &format!("{GUID}1a")).unwrap();
        assert_eq!((id.age(), id.guid_age()), (0x1a, format!("{GUID}1A")));
        assert_eq!(PdbId::new("C:\\build\\x.pdb", &format!("{GUID}1")).unwrap().name(), "x.pdb");
    }

    #[test]
    fn what_is_no_identifier_is_refused() {
        let long = format!("{GUID}123456789");
        for text in ["", GUID, "xyz", long.as_str(), "F8E2A8B5C9B74BF4A6E4A48F1800999é2"] {
            assert!(matches!(PdbId::new("a.pdb", text), Err(IdError::Guid(_))), "{text}");
        }
        assert!(matches!(PdbId::new("a.pdb", &"0".repeat(33)), Err(IdError::Blank(_))));
        for name in ["", "..", ".", "a/..", "a:b.pdb", "a\u{1b}.pdb", "a?.pdb", ".a.pdb", "a.", "x/"] {
            assert!(matches!(PdbId::new(name, &format!("{GUID}1")), Err(IdError::Name(_))), "{name}");
        }
    }

    #[test]
    fn executables_are_named_as_stores_name_them() {
        let id = ExecutableId::parse("ntoskrnl.exe", "4A5BC600005dc000").unwrap();
        assert_eq!((id.time_stamp(), id.image_size()), (0x4a5b_c600, 0x5d_c000));
        assert_eq!(id.to_string(), "ntoskrnl.exe/4A5BC6005dc000");
        assert!(ExecutableId::parse("a.exe", "4A5BC600").is_err());
    }
}
