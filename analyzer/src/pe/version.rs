//! The version resource: `VS_VERSIONINFO`, blocks of length, value and children. Source: the documented layout of
//! `VS_VERSIONINFO`, `StringFileInfo`, `StringTable` and `String`.

use object::{Absent, Read};

use super::fields::Fields;
use super::{Listing, Pe};

/// Number of the resource type.
const RT_VERSION: u32 = 16;
/// Longest resource: lengths in it have 16 bits.
const MAX_RESOURCE: u32 = 1 << 16;
/// Signature of the binary part.
const FIXED_SIGNATURE: u32 = 0xfeef_04bd;

/// What the version resource says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionInfo {
    /// The binary part.
    pub fixed: Read<FixedVersion>,
    /// The texts, of all languages, in order.
    pub strings: Listing<VersionString>,
}

/// The binary part (`VS_FIXEDFILEINFO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedVersion {
    /// Version of the file: major, minor, build, private.
    pub file: [u16; 4],
    /// Version of the product it belongs to.
    pub product: [u16; 4],
    /// Flags that are set (`VS_FF_*`).
    pub flags: u32,
    /// Operating system (`VOS_*`).
    pub os: u32,
    /// Sort of file (`VFT_*`).
    pub kind: u32,
}

/// A text of the version resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionString {
    /// Language and code page, each as four hexadecimal digits: `040904b0`.
    pub language: String,
    /// Name: `FileVersion`.
    pub key: String,
    /// Text.
    pub value: String,
}

impl Pe {
    /// What the version resource says.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn version(&self) -> Read<VersionInfo> {
        let found = self.resources(RT_VERSION)?;
        let Some(resource) = found.items.first() else {
            return Err(found.cut.unwrap_or(Absent::NotApplicable("no version resource")));
        };
        let len = resource.size.min(MAX_RESOURCE);
        VersionInfo::parse(&self.bytes(resource.rva.into(), len.into(), MAX_RESOURCE as usize)?)
    }
}

impl VersionInfo {
    /// Decodes a version resource.
    ///
    /// # Errors
    /// Where the outermost block is damaged.
    pub fn parse(bytes: &[u8]) -> Read<Self> {
        let root = Block::parse(bytes, 0)?;
        if root.key != "VS_VERSION_INFO" {
            return Err(Absent::Malformed("resource is no VS_VERSION_INFO"));
        }
        let mut strings = Listing::default();
        strings.cut = root.each_child(bytes, |block| {
            if block.key != "StringFileInfo" {
                return Ok(());
            }
            block
                .each_child(bytes, |table| {
                    let end = table.each_child(bytes, |text| {
                        let value = text.text(bytes);
                        strings.items.push(VersionString {
                            language: table.key.clone(),
                            key: text.key.clone(),
                            value,
                        });
                        Ok(())
                    });
                    end.map_or(Ok(()), Err)
                })
                .map_or(Ok(()), Err)
        });
        Ok(Self { fixed: FixedVersion::parse(root.value(bytes)), strings })
    }
}

impl FixedVersion {
    fn parse(bytes: &[u8]) -> Read<Self> {
        let fields = Fields(bytes);
        if bytes.is_empty() {
            return Err(Absent::NotApplicable("the version resource has no binary part"));
        }
        if fields.u32(0)? != FIXED_SIGNATURE {
            return Err(Absent::Malformed("VS_FIXEDFILEINFO has another signature"));
        }
        // Each version is two numbers of 32 bits, the upper half of the first being the major version.
        let version = |at| -> Read<[u16; 4]> {
            Ok([fields.u16(at + 2)?, fields.u16(at)?, fields.u16(at + 6)?, fields.u16(at + 4)?])
        };
        let mask = fields.u32(24)?;
        Ok(Self {
            file: version(8)?,
            product: version(16)?,
            flags: fields.u32(28)? & mask,
            os: fields.u32(32)?,
            kind: fields.u32(36)?,
        })
    }
}

/// A block: its key, and where in the resource its value and children are.
struct Block {
    key: String,
    value: usize,
    value_len: usize,
    end: usize,
}

impl Block {
    /// The block at an offset of the resource; offsets are what alignment counts from.
    fn parse(bytes: &[u8], at: usize) -> Read<Self> {
        let field = |skip: usize| Fields(bytes).u16(at.saturating_add(skip));
        let (len, value_len, is_text) = (usize::from(field(0)?), usize::from(field(2)?), field(4)? == 1);
        let end = at.saturating_add(len).min(bytes.len());
        let key_at = at.saturating_add(6);
        let key = utf16_to_nul(bytes.get(key_at..end).unwrap_or_default());
        let Some((key, key_len)) = key else {
            return Err(Absent::Malformed("name in the version resource does not end"));
        };
        let value = align(key_at.saturating_add(key_len)).min(end);
        // Lengths of texts count characters; some resource compilers count bytes, so the block's end rules.
        let value_len = if is_text { value_len.saturating_mul(2) } else { value_len };
        Ok(Self { key, value, value_len: value_len.min(end.saturating_sub(value)), end })
    }

    fn value<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.value..self.value.saturating_add(self.value_len)).unwrap_or_default()
    }

    /// The value as text: up to a NUL or the end of the block.
    fn text(&self, bytes: &[u8]) -> String {
        let bytes = bytes.get(self.value..self.end).unwrap_or_default();
        utf16_to_nul(bytes).map_or_else(|| utf16(bytes), |(text, _)| text)
    }

    /// Calls `f` for each child; what ends that early is the result.
    fn each_child(&self, bytes: &[u8], mut f: impl FnMut(&Self) -> Read<()>) -> Option<Absent> {
        let mut at = align(self.value.saturating_add(self.value_len));
        let mut first = None;
        // A block is at least six bytes long, so this ends with the resource.
        while at.saturating_add(6) <= self.end {
            let child = match Self::parse(bytes, at) {
                Ok(child) if child.end > at => child,
                Ok(_) => return first.or(Some(Absent::Malformed("empty block in the version resource"))),
                Err(why) => return first.or(Some(why)),
            };
            if let Err(why) = f(&child) {
                first.get_or_insert(why);
            }
            at = align(child.end);
        }
        first
    }
}

/// The next multiple of four.
fn align(at: usize) -> usize {
    at.saturating_add(3) & !3
}

/// The text up to a NUL and the bytes it takes with it; `None` without a NUL.
fn utf16_to_nul(bytes: &[u8]) -> Option<(String, usize)> {
    let len = bytes.chunks_exact(2).position(|unit| unit == [0, 0])?;
    Some((utf16(bytes.get(..len * 2).unwrap_or_default()), len * 2 + 2))
}

fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|unit| match unit {
        [low, high] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    });
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}
