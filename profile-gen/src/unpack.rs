//! Bounded decompression of gzip, xz and zstd, told by content.

use std::io::Read;

/// Decoder memory for xz dictionaries and zstd windows, in KiB: 128 MiB, what the strongest preset of xz needs twice over.
pub(crate) const DICTIONARY_KIB: u32 = 128 << 10;

/// A compression wrapper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrapper {
    Gzip,
    Xz,
    Zstd,
}

impl Wrapper {
    /// The wrapper whose magic number `bytes` start with.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Why data cannot be decompressed.
pub(crate) enum UnpackError {
    TooLarge,
    Damaged(String),
}

/// Decompresses at most `limit` bytes; more are an error.
pub(crate) fn unpack(wrapper: Wrapper, data: &[u8], limit: u64) -> Result<Vec<u8>, UnpackError> {
    match wrapper {
        Wrapper::Gzip => read_bounded(flate2::bufread::MultiGzDecoder::new(data), limit),
        Wrapper::Xz => read_bounded(lzma_rust2::XzReader::new_mem_limit(data, true, DICTIONARY_KIB), limit),
        Wrapper::Zstd => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(data);
            read_bounded(decoder.map_err(|error| UnpackError::Damaged(error.to_string()))?, limit)
        }
    }
}

/// Reads to the end, at most `limit` bytes.
pub(crate) fn read_bounded(reader: impl Read, limit: u64) -> Result<Vec<u8>, UnpackError> {
    let mut out = Vec::new();
    reader
        .take(limit.saturating_add(1))
        .read_to_end(&mut out)
        .map_err(|error| UnpackError::Damaged(error.to_string()))?;
    if out.len() as u64 > limit { Err(UnpackError::TooLarge) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn a_bomb_is_stopped_at_the_limit() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        assert_eq!(Wrapper::of(&bomb), Some(Wrapper::Gzip));
        assert!(matches!(unpack(Wrapper::Gzip, &bomb, 1000), Err(UnpackError::TooLarge)));
        assert!(matches!(unpack(Wrapper::Gzip, &bomb, 1 << 20), Ok(data) if data.len() == 1 << 20));
        assert!(matches!(unpack(Wrapper::Gzip, &bomb[..20], 1 << 20), Err(UnpackError::Damaged(_))));
    }
}
