//! Decompression of single blocks into buffers of known size.

use crate::bytes::u32_at;
use crate::{lzo_rle, xpress, xz};
use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::FrameDecoder;
use std::cell::RefCell;
use std::io::Read;

/// How a block is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As it is, with its Adler-32 behind, which is verified.
    Adler32,
    /// A zlib stream; its checksum is verified.
    Zlib,
    /// As zlib, without header and checksum.
    Deflate,
    /// A raw lz4 block.
    Lz4,
    /// A raw LZO1X block.
    Lzo,
    /// As LZO1X, with the version and the runs of zeros of the kernel's `lzo-rle`.
    LzoRle,
    /// A raw snappy block.
    Snappy,
    /// One chunk of the snappy framing format, from its 4-byte header; its checksum is verified.
    SnappyFrame,
    /// One zstd frame; its checksum is verified if it has one.
    Zstd,
    /// Xpress of Windows, plain LZ77.
    Xpress,
    /// Xpress of Windows with Huffman codes.
    XpressHuffman,
    /// One block of an .xz stream with its padding (in bytes) and check (by type), which is verified.
    Xz {
        /// Type of the check, by the format's number.
        check: u8,
        /// Bytes behind the block.
        padding: u8,
    },
}

/// What a snappy framing stream begins with.
const SNAPPY_STREAM: &[u8] = b"\xff\x06\x00\x00sNaPpY";

thread_local! {
    // Setting these up costs more than a page: one per thread, reset for each block.
    static ZLIB: RefCell<Decompress> = RefCell::new(Decompress::new(true));
    static ZSTD: RefCell<FrameDecoder> = RefCell::new(FrameDecoder::new());
}

/// Decompresses `stored` into exactly `out`; `None` when it is damaged, too long or too short.
#[must_use]
pub fn decompress(codec: Codec, stored: &[u8], out: &mut [u8]) -> Option<()> {
    let written = match codec {
        Codec::Zlib | Codec::Deflate => ZLIB.with_borrow_mut(|zlib| {
            zlib.reset(codec == Codec::Zlib);
            let status = zlib.decompress(stored, out, FlushDecompress::Finish).ok()?;
            (status == Status::StreamEnd).then(|| usize::try_from(zlib.total_out()).ok())?
        })?,
        // pyaff4 puts the size in front, others do not.
        Codec::Lz4 => match stored.split_first_chunk() {
            Some((size, block)) if usize::try_from(u32::from_le_bytes(*size)) == Ok(out.len()) => {
                lz4_flex::block::decompress_into(block, out).ok()?
            }
            _ => lz4_flex::block::decompress_into(stored, out).ok()?,
        },
        Codec::Adler32 => {
            let (bytes, sum) = stored.split_at_checked(out.len())?;
            out.copy_from_slice(bytes);
            (u32_at(sum, 0)? == adler32(bytes)).then_some(bytes.len())?
        }
        Codec::Lzo => lzo::decompress_into(stored, out).ok()?,
        Codec::LzoRle => lzo_rle::decompress(stored, out)?,
        Codec::Snappy => snap::raw::Decoder::new().decompress(stored, out).ok()?,
        Codec::SnappyFrame => {
            let mut frames = snap::read::FrameDecoder::new(SNAPPY_STREAM.chain(stored));
            frames.read_exact(out).ok()?;
            out.len()
        }
        Codec::Xpress => xpress::plain(stored, out)?,
        Codec::XpressHuffman => xpress::huffman(stored, out)?,
        Codec::Xz { check, padding } => xz::decode_block(stored, check, padding, out)?,
        Codec::Zstd => ZSTD.with_borrow_mut(|zstd| {
            let written = zstd.decode_all(stored, out).ok()?;
            let checksum = zstd.get_checksum_from_data();
            (checksum.is_none() || checksum == zstd.get_calculated_checksum()).then_some(written)
        })?,
    };
    (written == out.len()).then_some(())
}

/// The Adler-32 checksum of RFC 1950.
pub(crate) fn adler32(bytes: &[u8]) -> u32 {
    const BASE: u32 = 65_521;
    let (mut a, mut b) = (1u32, 0u32);
    // The longest run for which 32 bits are enough without a remainder.
    for run in bytes.chunks(5_552) {
        for byte in run {
            a = a.wrapping_add(u32::from(*byte));
            b = b.wrapping_add(a);
        }
        (a, b) = (a % BASE, b % BASE);
    }
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_must_fill_its_page_exactly() {
        let mut encoder = snap::raw::Encoder::new();
        let stored = encoder.compress_vec(&[7; 100]).unwrap();
        let mut out = [0; 100];
        assert_eq!(decompress(Codec::Snappy, &stored, &mut out), Some(()));
        assert_eq!(out, [7; 100]);
        assert_eq!(decompress(Codec::Snappy, &stored, &mut [0; 101]), None);
        assert_eq!(decompress(Codec::Snappy, &stored, &mut [0; 99]), None);
        for codec in [Codec::Zlib, Codec::Lzo, Codec::Zstd] {
            assert_eq!(decompress(codec, &stored, &mut out), None);
        }
    }
}
