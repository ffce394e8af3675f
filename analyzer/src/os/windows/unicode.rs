//! `UNICODE_STRING`: UTF-16 text with a length in bytes.

use object::{Absent, Addr, Ptr, Read, Target, layout};

/// Longest text read, in bytes: the length has 16 bits.
const MAX_BYTES: usize = 1 << 16;

layout! {
    /// `_UNICODE_STRING` (Windows SDK, ntdef.h).
    pub struct UnicodeString / UnicodeStringLayout = "_UNICODE_STRING" {
        /// Bytes in use.
        length: u16 = "Length",
        /// Bytes of the buffer.
        maximum_length: u16 = "MaximumLength",
        /// The text, not terminated.
        buffer: Ptr = "Buffer",
    }
}

impl UnicodeString<'_> {
    /// The text; empty for an empty one, whatever its buffer. Unpaired surrogates appear as `\u{d800}`.
    pub fn text(&self) -> Read<String> {
        self.text_in(self.target())
    }

    /// The same for a string that was found in physical memory: its buffer is at an address of `memory`.
    pub fn text_in(&self, memory: &Target) -> Read<String> {
        let (length, maximum) = (self.length()?, self.maximum_length()?);
        if length == 0 {
            return Ok(String::new());
        }
        if length % 2 != 0 || length > maximum {
            return Err(Absent::Malformed("length of a UNICODE_STRING"));
        }
        let Ptr(buffer) = self.buffer()?;
        if buffer == 0 {
            return Err(Absent::Malformed("UNICODE_STRING without a buffer"));
        }
        Ok(decode(&memory.read_bytes(buffer, length.into(), MAX_BYTES)?))
    }
}

/// The text of the `_UNICODE_STRING` embedded at a place.
pub fn text_at(target: &Target, place: Read<Addr>) -> Read<String> {
    let Addr(addr) = place?;
    UnicodeString::at(target, addr).text()
}

/// The text of the `_UNICODE_STRING` embedded at a place of one memory, with its buffer in another.
pub fn text_through(fields: &Target, place: Read<Addr>, memory: &Target) -> Read<String> {
    let Addr(addr) = place?;
    UnicodeString::at(fields, addr).text_in(memory)
}

/// Text of UTF-16 bytes, up to the first NUL; unpaired surrogates appear as `\u{d800}`.
#[must_use]
pub fn decode(bytes: &[u8]) -> String {
    let units = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    let units = units.take_while(|unit| *unit != 0);
    let mut text = String::with_capacity(bytes.len() / 2);
    for unit in char::decode_utf16(units) {
        match unit {
            Ok(character) => text.push(character),
            Err(error) => text.push_str(&format!("\\u{{{:x}}}", error.unpaired_surrogate())),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn text_ends_at_a_nul_and_keeps_what_is_no_text() {
        assert_eq!(decode(b"a\0\xe9\0\0\0b\0"), "a\u{e9}");
        assert_eq!(decode(b"\x3d\xd8\x00\xde"), "\u{1f600}");
        assert_eq!(decode(b"x\0\x3d\xd8y\0"), "x\\u{d83d}y");
        assert_eq!(decode(b"x"), "");
    }
}
