//! gzip, xz and zstd around any other format.
//!
//! An .xz of many small blocks is read block by block when needed; everything else is unpacked once, to memory or
//! (above [`Limits::max_in_memory`]) to an unlinked temporary file. Damage in the middle keeps what came before it.

use crate::blocks::{Block, BlockSpace};
use crate::bytes::{array_at, to_u64, to_usize};
use crate::codec::decompress;
use crate::file::SpaceReader;
use crate::format::{Opened, Refused, expect_magic};
use crate::image::{Hints, Limits};
use crate::spool::Spool;
use crate::xz::{self, XzBlocks};
use crate::{AddressSpace, FileSpace};
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use rayon::prelude::*;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;

/// Largest xz block that is decoded on demand, in bytes: a page walk that touches a new block pays this much.
const LAZY_BLOCK: usize = 4 << 20;
/// Bytes of a zstd frame decoded in one go.
const ZSTD_STEP: usize = 1 << 20;
/// Largest zstd window, in bytes (`--long=28`).
const ZSTD_WINDOW: u64 = 256 << 20;
const ZSTD_MAGIC: u32 = 0xfd2f_b528;
/// Skippable zstd frames have this magic with any lowest 4 bits.
const ZSTD_SKIP: u32 = 0x184d_2a50;

pub(super) fn probe_gzip(head: &[u8]) -> Result<(), &'static str> {
    expect_magic(head, b"\x1f\x8b\x08", "no gzip signature at the start")
}

pub(super) fn probe_xz(head: &[u8]) -> Result<(), &'static str> {
    expect_magic(head, xz::MAGIC, "no xz signature at the start")
}

pub(super) fn probe_zstd(head: &[u8]) -> Result<(), &'static str> {
    let magic = array_at(head, 0).map(u32::from_le_bytes).unwrap_or(0);
    let known = magic == ZSTD_MAGIC || magic & !0xf == ZSTD_SKIP;
    if known { Ok(()) } else { Err("no zstd signature at the start") }
}

pub(super) fn open_gzip(
    base: &Arc<dyn AddressSpace>,
    _head: &[u8],
    limits: &Limits,
) -> Result<Opened, Refused> {
    unpack("gzip", MultiGzDecoder::new(reader(&**base)), limits)
}

pub(super) fn open_zstd(
    base: &Arc<dyn AddressSpace>,
    _head: &[u8],
    limits: &Limits,
) -> Result<Opened, Refused> {
    unpack("zstd", ZstdReader::new(reader(&**base)), limits)
}

pub(super) fn open_xz(
    base: &Arc<dyn AddressSpace>,
    _head: &[u8],
    limits: &Limits,
) -> Result<Opened, Refused> {
    if let Some(blocks) = XzBlocks::parse(&**base, limits.max_runs, limits.max_table) {
        let len = crate::blocks::BlockStore::end(&blocks);
        if len > limits.max_unpacked {
            return Err(format!("more than the limit of {} bytes: {len}", limits.max_unpacked).into());
        }
        let many = blocks.blocks().len() > 1;
        if many && blocks.blocks().iter().all(|block| block.len <= LAZY_BLOCK) {
            // Decoded blocks are kept as if the file had been unpacked to memory: decoding is dear.
            let space = BlockSpace::new(Arc::clone(base), blocks, to_usize(limits.max_in_memory));
            return Ok(Opened { space: Arc::new(space), hints: Hints::default(), warnings: Vec::new() });
        }
        if many
            && len <= limits.max_in_memory
            && let Some(bytes) = unpack_parallel(&**base, blocks.blocks(), to_usize(len))
        {
            let space = FileSpace::from_vec(bytes).named("xz");
            return Ok(Opened { space: Arc::new(space), hints: Hints::default(), warnings: Vec::new() });
        }
    }
    unpack("xz", XzReader::new_mem_limit(reader(&**base), true, xz::MEMORY_KIB), limits)
}

/// Decodes all blocks on all cores; `None` when one is damaged.
fn unpack_parallel(base: &dyn AddressSpace, blocks: &[Block], len: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut rest = bytes.as_mut_slice();
    let mut parts = Vec::with_capacity(blocks.len());
    for block in blocks {
        let (part, tail) = rest.split_at_mut_checked(block.len)?;
        parts.push((block, part));
        rest = tail;
    }
    let decoded = parts.into_par_iter().map(|(block, part)| {
        let stored = base.read_vec(block.offset, to_u64(block.stored), to_usize(base.end())).ok()?;
        decompress(block.codec?, &stored, part)
    });
    decoded.collect::<Option<()>>()?;
    Some(bytes)
}

fn reader(base: &dyn AddressSpace) -> BufReader<SpaceReader<'_>> {
    BufReader::with_capacity(256 << 10, SpaceReader::new(base))
}

/// Unpacks a stream; what an early end leaves is kept with a warning.
fn unpack(name: &'static str, mut from: impl Read, limits: &Limits) -> Result<Opened, Refused> {
    let mut spool = Spool::new(limits);
    let mut warnings = Vec::new();
    let mut piece = vec![0; ZSTD_STEP];
    loop {
        let read = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if spool.len() > 0 => {
                warnings.push(format!("damaged or cut off after {} unpacked bytes: {error}", spool.len()));
                break;
            }
            Err(error) => return Err(format!("cannot be unpacked: {error}").into()),
        };
        let unpacked = io::Write::write_all(&mut spool, piece.get(..read).unwrap_or_default());
        unpacked.map_err(|error| format!("cannot keep what it unpacks to: {error}"))?;
    }
    if spool.len() == 0 {
        return Err("unpacks to nothing".into());
    }
    let space = spool.finish().map_err(|error| format!("cannot keep what it unpacks to: {error}"))?;
    Ok(Opened { space: Arc::new(space.named(name)), hints: Hints::default(), warnings })
}

/// All frames of a zstd file, one after the other.
struct ZstdReader<R> {
    from: R,
    decoder: FrameDecoder,
    in_frame: bool,
}

impl<R: BufRead> ZstdReader<R> {
    fn new(from: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW);
        Self { from, decoder, in_frame: false }
    }

    /// Starts the next frame; `false` at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            let mut magic = [0; 4];
            if self.from.fill_buf()?.is_empty() {
                return Ok(false);
            }
            self.from.read_exact(&mut magic)?;
            if u32::from_le_bytes(magic) & !0xf == ZSTD_SKIP {
                let mut len = [0; 4];
                self.from.read_exact(&mut len)?;
                let len = u64::from(u32::from_le_bytes(len));
                if io::copy(&mut self.from.by_ref().take(len), &mut io::sink())? < len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                continue;
            }
            self.decoder.init(magic.chain(&mut self.from)).map_err(io::Error::other)?;
            return Ok(true);
        }
    }
}

impl<R: BufRead> Read for ZstdReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.in_frame = true;
            }
            if self.decoder.can_collect() > 0 {
                return self.decoder.read(buf);
            }
            if self.decoder.is_finished() {
                self.in_frame = false;
                let (stored, found) =
                    (self.decoder.get_checksum_from_data(), self.decoder.get_calculated_checksum());
                if stored.is_some() && stored != found {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "checksum mismatch"));
                }
                continue;
            }
            let step = BlockDecodingStrategy::UptoBytes(ZSTD_STEP);
            self.decoder.decode_blocks(&mut self.from, step).map_err(io::Error::other)?;
        }
    }
}
