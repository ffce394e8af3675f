//! A fast 64-bit hash that gives the same value on every machine and in every release.
//!
//! Names of anonymous types are made of it (`__unnamed_<hex>`), so changing it renames them in every profile.
//! It is no defence against collisions made on purpose: whoever can forge a kernel's symbols needs none.

/// Multipliers: the fractional digits of the golden ratio and of pi.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const PI: u64 = 0x2437_54a4_0a2c_3d1b | 1;

/// Hash state; feed words and texts in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hash64(u64);

impl Hash64 {
    /// A fresh state; `tag` keeps hashes of different kinds of things apart.
    pub(crate) fn new(tag: u64) -> Self {
        let mut hash = Self(PI);
        hash.word(tag);
        hash
    }

    /// Takes a number.
    pub(crate) fn word(&mut self, word: u64) {
        let product =
            u128::from((self.0 ^ word).wrapping_add(GOLDEN)) * u128::from(PI ^ self.0.rotate_left(29));
        let bytes = product.to_le_bytes();
        self.0 = read_le(&bytes[..8]) ^ read_le(&bytes[8..]);
    }

    /// Takes a text with its length.
    pub(crate) fn text(&mut self, text: &[u8]) {
        self.word(text.len() as u64);
        for chunk in text.chunks(8) {
            self.word(read_le(chunk));
        }
    }

    /// The hash. Never 0 or 1, which callers use as marks.
    pub(crate) fn finish(mut self) -> u64 {
        self.word(GOLDEN);
        self.0.max(2)
    }
}

/// Up to eight little-endian bytes as a number.
fn read_le(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(parts: &[&[u8]]) -> u64 {
        let mut hash = Hash64::new(1);
        for part in parts {
            hash.text(part);
        }
        hash.finish()
    }

    #[test]
    fn boundaries_between_texts_matter() {
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_ne!(hash(&[b""]), hash(&[b"\0"]));
        assert_eq!(hash(&[b"task_struct"]), hash(&[b"task_struct"]));
    }

    /// Names of anonymous types in published profiles depend on it.
    #[test]
    fn the_hash_never_changes() {
        assert_eq!(hash(&[b"task_struct", b"pid"]), 0x374d_66bc_7986_39e1);
    }

    #[test]
    fn short_words_do_not_collide() {
        let mut seen: Vec<u64> = (0..100_000u64)
            .map(|n| {
                let mut hash = Hash64::new(2);
                hash.word(n);
                hash.finish()
            })
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 100_000);
    }
}
