//! Names of profiles: repository paths, GUID+age, GNU build-ids.
//!
//! A name is slash-separated, has no extension and no version directory: `nt/GUID/BF9E190359784C2D8796CF5537B238B42`,
//! `Linux/BuildID/3b43fad5...`. Names reach the file system and URLs, so only harmless components pass.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is no profile name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name or one of its components is empty.
    #[error("empty component in profile name: {0:?}")]
    Empty(String),
    /// A component is `.` or `..`, or the name is absolute.
    #[error("profile name leaves the repository: {0:?}")]
    Escapes(String),
    /// A character that no file system and no URL treats as plain.
    #[error("forbidden character in profile name: {0:?}")]
    Character(String),
    /// Longer than 512 bytes.
    #[error("profile name is longer than 512 bytes")]
    TooLong,
}

/// A checked profile name: relative, no `..`, no control or shell-special characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName(String);

impl ProfileName {
    /// Checks a name. Back-slashes become slashes, as in the original; a trailing `.gz` is not part of a name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let text = text.replace('\\', "/");
        let name = text.strip_suffix(".gz").unwrap_or(&text);
        if name.len() > 512 {
            return Err(NameError::TooLong);
        }
        if name.starts_with('/') {
            return Err(NameError::Escapes(name.to_owned()));
        }
        for part in name.split('/') {
            if part.is_empty() {
                return Err(NameError::Empty(name.to_owned()));
            }
            if part == "." || part == ".." {
                return Err(NameError::Escapes(name.to_owned()));
            }
            let plain =
                |c: char| c.is_ascii_alphanumeric() || "._-+~@$ ()#,=".contains(c) || (c as u32) > 0x9f;
            if !part.chars().all(plain) {
                return Err(NameError::Character(name.to_owned()));
            }
        }
        Ok(Self(name.to_owned()))
    }

    /// The name of a Linux kernel's profile by its GNU build-id.
    #[must_use]
    pub fn linux_build_id(id: &BuildId) -> Self {
        Self(format!("Linux/BuildID/{id}"))
    }

    /// The text, without version directory and extension.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProfileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A GNU build-id (`NT_GNU_BUILD_ID` note), 8 to 32 bytes, written in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BuildId(String);

impl TryFrom<String> for BuildId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::from_hex(&text).ok_or_else(|| format!("not a build-id (16 to 64 hex digits): {text}"))
    }
}

impl From<BuildId> for String {
    fn from(id: BuildId) -> Self {
        id.0
    }
}

impl BuildId {
    /// From the raw bytes of the note's descriptor; `None` unless 8 to 32 bytes long.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        (8..=32).contains(&bytes.len()).then(|| Self(bytes.iter().map(|b| format!("{b:02x}")).collect()))
    }

    /// From hex text in either case; `None` where it is no build-id.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let text = text.trim();
        let fits = (16..=64).contains(&text.len()) && text.len().is_multiple_of(2);
        (fits && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| Self(text.to_ascii_lowercase()))
    }

    /// The lower-case hex text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BuildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identity of a PDB: the GUID and age by which executables and symbol servers name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PdbId {
    /// The GUID as stored: its first three fields (4, 2 and 2 bytes) are little-endian.
    pub guid: [u8; 16],
    /// How often the PDB was rewritten, from 1.
    pub age: u32,
}

impl PdbId {
    /// From the text form, 32 hexadecimal digits of the GUID and 1 to 8 of the age, in either case. Dashes and braces
    /// of a GUID are passed over. `None` where it is something else.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let digits: String = text.trim().chars().filter(|c| !"-{}".contains(*c)).collect();
        let (guid, age) = digits.split_at_checked(32)?;
        if !(1..=8).contains(&age.len()) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let [d3, d2, d1, d0, c1, c0, b1, b0, rest @ ..] = u128::from_str_radix(guid, 16).ok()?.to_be_bytes();
        let mut stored = [d0, d1, d2, d3, c0, c1, b0, b1, 0, 0, 0, 0, 0, 0, 0, 0];
        stored.iter_mut().skip(8).zip(rest).for_each(|(to, from)| *to = from);
        Some(Self { guid: stored, age: u32::from_str_radix(age, 16).ok()? })
    }
}

/// 32 upper-case hexadecimal digits of the GUID, then the age in upper-case hexadecimal without leading zeros.
impl fmt::Display for PdbId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [d0, d1, d2, d3, c0, c1, b0, b1, rest @ ..] = self.guid;
        let number = [d3, d2, d1, d0, c1, c0, b1, b0];
        number.iter().chain(&rest).try_for_each(|byte| write!(f, "{byte:02X}"))?;
        write!(f, "{:X}", self.age)
    }
}

/// The kernel release (`uname -r`) in a banner `Linux version <release> (...`.
#[must_use]
pub fn release_of_banner(banner: &str) -> Option<&str> {
    banner.strip_prefix("Linux version ")?.split_whitespace().next().filter(|release| !release.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_repository() {
        for bad in
            ["", "/etc/passwd", "a/../b", "..", "a//b", "a/./b", "a\\..\\b", "a\u{1b}[2J", "a:b", "a%2e"]
        {
            assert!(ProfileName::new(bad).is_err(), "{bad:?} was accepted");
        }
        let name = ProfileName::new("nt\\GUID\\F8E2A8B5C9B74BF4A6E4A48F180099942.gz");
        assert_eq!(name.map(|n| n.to_string()).as_deref(), Ok("nt/GUID/F8E2A8B5C9B74BF4A6E4A48F180099942"));
    }

    #[test]
    fn build_ids_are_lower_case_hex() {
        let id = BuildId::from_hex("3B43FAD5034874490492495D552C0AF6A5FAB235").expect("forty hex digits");
        assert_eq!(
            ProfileName::linux_build_id(&id).as_str(),
            "Linux/BuildID/3b43fad5034874490492495d552c0af6a5fab235"
        );
        assert_eq!(BuildId::from_hex("3b43"), None);
        assert_eq!(BuildId::from_hex("zz43fad5034874490492495d552c0af6a5fab235"), None);
    }

    #[test]
    fn pdb_ids_survive_a_round_trip() {
        let text = "F8E2A8B5C9B74BF4A6E4A48F180099942";
        let id = PdbId::from_text(text).unwrap();
        assert_eq!(&id.guid[..8], [0xb5, 0xa8, 0xe2, 0xf8, 0xb7, 0xc9, 0xf4, 0x4b]);
        assert_eq!((id.age, id.to_string().as_str()), (2, text));
        assert_eq!(PdbId::from_text("{f8e2a8b5-c9b7-4bf4-a6e4-a48f18009994}2"), Some(id));
        for bad in ["", "F8E2A8B5C9B74BF4A6E4A48F18009994", "F8E2A8B5C9B74BF4A6E4A48F18009994123456789", "g"]
        {
            assert_eq!(PdbId::from_text(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn release_comes_from_the_banner() {
        assert_eq!(
            release_of_banner("Linux version 6.1.0-56-cloud-amd64 (debian-kernel@..."),
            Some("6.1.0-56-cloud-amd64")
        );
        assert_eq!(release_of_banner("Darwin Kernel Version 10"), None);
    }
}
