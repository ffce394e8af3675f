//! kdump-compressed dumps (`makedumpfile`, QEMU `dump-guest-memory -z/-l/-s`), little endian, 32 and 64 bit.
//!
//! ```text
//! block 0            main header: signature "KDUMP   ", version, utsname, flags, block size
//! block 1            sub header: dump level, split range, where VMCOREINFO and notes are
//! 1 + sub            1st bitmap: pages that exist      2nd bitmap: pages that are stored
//! ... + bitmaps      one 24-byte descriptor per stored page: offset u64, size u32, flags u32, page_flags u64
//! ...                page data
//! ```
//! A block has the size of a page. Pages are compressed one by one (zlib, lzo, snappy, zstd) or stored as
//! they are. Source: `diskdump_mod.h` and `IMPLEMENTATION` of makedumpfile, `include/sysemu/dump.h` of QEMU.

use crate::bitmap::{Bitmap, ones};
use crate::blocks::{Block, BlockSpace, BlockStore};
use crate::bytes::{to_u64, to_usize, u32_at, u64_at};
use crate::codec::Codec;
use crate::format::{Layer, Opened, Refused, expect_magic, notes};
use crate::image::Limits;
use crate::{AddressSpace, Fault, Hints};
use std::sync::Arc;

/// Offset of `utsname.machine` and the size of each of the six `utsname` strings.
const MACHINE: usize = 12 + 4 * 65;
const UTS_LEN: usize = 65;
/// Size of a page descriptor, in bytes.
const DESCRIPTOR: u64 = 24;
/// Header and page flags.
const ZLIB: u32 = 0x1;
const LZO: u32 = 0x2;
const SNAPPY: u32 = 0x4;
const INCOMPLETE: u32 = 0x8;
const ZSTD: u32 = 0x20;
/// Bytes of bitmap per entry of the rank index.
const RANK_STRIDE: usize = 64;

/// What the main and sub header say.
struct Header {
    status: u32,
    block_size: u32,
    sub_blocks: u32,
    bitmap_blocks: u32,
    max_mapnr: u64,
    machine: Option<u16>,
    wide: bool,
    version: u32,
}

impl Header {
    /// Tries the 64-bit layout, then the 32-bit one; they differ in the size of `struct timeval` before the
    /// status.
    fn parse(head: &[u8]) -> Result<Self, Refused> {
        let version = u32_at(head, 8).ok_or("the header is cut off")?;
        if !(1..=6).contains(&version) {
            let hint = if (1..=6).contains(&version.swap_bytes()) { " (big endian?)" } else { "" };
            return Err(format!("unknown header version{hint}: {version}").into());
        }
        [(424, true), (412, false)]
            .into_iter()
            .find_map(|(status, wide)| Self::layout(head, version, status, wide))
            .ok_or_else(|| "the header makes no sense in the 64-bit or 32-bit layout".into())
    }

    fn layout(head: &[u8], version: u32, status: usize, wide: bool) -> Option<Self> {
        let field = |index: usize| u32_at(head, status.saturating_add(index.saturating_mul(4)));
        let machine = head.get(MACHINE..MACHINE.saturating_add(UTS_LEN))?;
        let header = Self {
            status: field(0)?,
            block_size: field(1)?,
            sub_blocks: field(2)?,
            bitmap_blocks: field(3)?,
            max_mapnr: u64::from(field(4)?),
            machine: machine.starts_with(b"x86_64").then_some(notes::EM_X86_64),
            wide,
            version,
        };
        let page = header.block_size.is_power_of_two() && (4096..=65536).contains(&header.block_size);
        (page && (1..=0x1_0000).contains(&header.sub_blocks) && header.bitmap_blocks > 0).then_some(header)
    }

    /// File offset of a block number.
    fn block(&self, number: u64) -> u64 {
        number.saturating_mul(u64::from(self.block_size))
    }
}

/// What the sub header says; its fields grew with the version.
#[derive(Default)]
struct SubHeader {
    split: bool,
    max_mapnr: u64,
    /// File offset and size.
    vmcoreinfo: Option<(u64, u64)>,
    notes: Option<(u64, u64)>,
}

impl SubHeader {
    fn parse(bytes: &[u8], header: &Header) -> Option<Self> {
        let word = |at32, at64| {
            if header.wide { u64_at(bytes, at64) } else { u32_at(bytes, at32).map(u64::from) }
        };
        let long = |at32, at64| u64_at(bytes, if header.wide { at64 } else { at32 });
        let mut sub = Self { max_mapnr: header.max_mapnr, ..Self::default() };
        if header.version >= 2 {
            sub.split = u32_at(bytes, if header.wide { 12 } else { 8 })? != 0;
        }
        if header.version >= 3 {
            sub.vmcoreinfo = Some((long(20, 32)?, word(28, 40)?)).filter(|(_, size)| *size > 0);
        }
        if header.version >= 4 {
            sub.notes = Some((long(32, 48)?, word(40, 56)?)).filter(|(_, size)| *size > 0);
        }
        if header.version >= 6 {
            sub.max_mapnr = long(72, 96)?.max(header.max_mapnr);
        }
        Some(sub)
    }
}

pub(super) fn probe(layer: &Layer<'_>) -> Result<(), &'static str> {
    expect_magic(layer, b"KDUMP   ", "no \"KDUMP\" signature at the start")
}

pub(super) fn open(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let Layer { base, head, limits, .. } = *layer;
    let header = Header::parse(head)?;
    let sub = base.read_vec(header.block(1), 104, 104)?;
    let sub = SubHeader::parse(&sub, &header).ok_or("the sub header is cut off")?;
    if sub.split {
        return Err("one part of a split dump; join the parts with makedumpfile --reassemble".into());
    }
    let mut warnings = Vec::new();
    if header.status & INCOMPLETE != 0 {
        warnings.push("the writer marked the dump as incomplete".to_owned());
    }
    let hints = read_hints(&**base, &sub, header.machine, limits, &mut warnings);

    let bitmaps = u64::from(header.sub_blocks).saturating_add(1);
    let bitmap_len = header.block(u64::from(header.bitmap_blocks));
    // Two bitmaps of equal size, unless the space is only enough for one.
    let two = bitmap_len.saturating_mul(4) >= sub.max_mapnr;
    let half = if two { bitmap_len / 2 } else { bitmap_len };
    let first_bitmap = header.block(bitmaps);
    let stored_bitmap = first_bitmap.saturating_add(if two { half } else { 0 });
    let needed = sub.max_mapnr.div_ceil(8).min(half);
    let bitmap = base.read_vec(stored_bitmap, needed.min(base.end()), limits.max_table)?;
    if to_u64(bitmap.len()) < needed {
        return Err("the page bitmap is cut off".into());
    }
    let descriptors = header.block(bitmaps.saturating_add(u64::from(header.bitmap_blocks)));
    let pages = Pages::new(bitmap, descriptors, header.block_size, codec_name(header.status));
    let table_end = descriptors.saturating_add(pages.count.saturating_mul(DESCRIPTOR));
    if pages.count == 0 {
        return Err("no page is stored".into());
    }
    match pages.descriptor(&**base, pages.count.saturating_sub(1)) {
        Err(_) => warnings
            .push(format!("the file is cut off in the page descriptors, which end at: {table_end:#x}")),
        Ok((offset, size, _)) if offset.saturating_add(u64::from(size)) > base.end() => {
            warnings.push(format!("the file is cut off, it ends before the last page at: {offset:#x}"));
        }
        Ok(_) => {}
    }
    let space = BlockSpace::new(Arc::clone(base), pages, limits.cache);
    Ok(Opened::new(Arc::new(space)).hints(hints).warnings(warnings))
}

fn codec_name(status: u32) -> &'static str {
    match status & (ZLIB | LZO | SNAPPY | ZSTD) {
        ZLIB => "kdump (zlib)",
        LZO => "kdump (lzo)",
        SNAPPY => "kdump (snappy)",
        ZSTD => "kdump (zstd)",
        0 => "kdump (plain)",
        _ => "kdump (mixed)",
    }
}

/// Registers from the notes, `VMCOREINFO` from its own place or from the notes.
fn read_hints(
    base: &dyn AddressSpace,
    sub: &SubHeader,
    machine: Option<u16>,
    limits: &Limits,
    warnings: &mut Vec<String>,
) -> Hints {
    let mut section = |what: &str, place: Option<(u64, u64)>| {
        let (offset, size) = place?;
        let bytes = base.read_vec(offset, size, limits.max_table.min(to_usize(base.end())));
        bytes.map_err(|fault| warnings.push(format!("the {what} cannot be read: {fault}"))).ok()
    };
    let mut hints =
        section("notes", sub.notes).map(|bytes| notes::hints(&bytes, machine)).unwrap_or_default();
    if let Some(text) = section("VMCOREINFO", sub.vmcoreinfo) {
        hints.vmcoreinfo = Some(text);
    }
    hints
}

/// The stored pages: bit `n` of the bitmap says that page `n` is stored; its descriptor is the one whose
/// index is the number of set bits before.
struct Pages {
    name: &'static str,
    bitmap: Bitmap,
    /// Number of set bits before each [`RANK_STRIDE`] bytes of bitmap.
    ranks: Vec<u64>,
    count: u64,
    page_size: u32,
    /// File offset of the first descriptor.
    descriptors: u64,
}

impl Pages {
    fn new(bitmap: Vec<u8>, descriptors: u64, page_size: u32, name: &'static str) -> Self {
        let mut count = 0u64;
        let ranks = bitmap.chunks(RANK_STRIDE).map(|chunk| {
            let before = count;
            count = count.saturating_add(ones(chunk));
            before
        });
        let ranks = ranks.collect();
        Self { name, bitmap: Bitmap::new(bitmap), ranks, count, page_size, descriptors }
    }

    /// Index of the descriptor of a page, if the page is stored.
    fn rank(&self, page: u64) -> Option<u64> {
        let byte = usize::try_from(page / 8).ok()?;
        let bit = 1u8 << (page % 8);
        let value = *self.bitmap.bytes().get(byte)?;
        if value & bit == 0 {
            return None;
        }
        let stride = byte / RANK_STRIDE;
        let before = self.bitmap.bytes().get(stride.checked_mul(RANK_STRIDE)?..byte)?;
        let below = u64::from((value & bit.wrapping_sub(1)).count_ones());
        Some(self.ranks.get(stride)?.saturating_add(ones(before)).saturating_add(below))
    }

    /// Size, flags and offset of a page's data.
    fn descriptor(&self, base: &dyn AddressSpace, index: u64) -> Result<(u64, u32, u32), Fault> {
        let at = self.descriptors.saturating_add(index.saturating_mul(DESCRIPTOR));
        let mut bytes = [0; 16];
        base.read_at(at, &mut bytes).map_err(|_| Fault::Truncated { offset: at })?;
        let corrupt = Fault::Corrupt { offset: at };
        Ok((
            u64_at(&bytes, 0).ok_or(corrupt)?,
            u32_at(&bytes, 8).ok_or(corrupt)?,
            u32_at(&bytes, 12).ok_or(corrupt)?,
        ))
    }
}

impl BlockStore for Pages {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn find(&self, base: &dyn AddressSpace, addr: u64) -> Result<Block, Fault> {
        let size = u64::from(self.page_size);
        let page = addr.checked_div(size).unwrap_or(0);
        let index = self.rank(page).ok_or(Fault::NotInImage { phys: addr })?;
        let (offset, stored, flags) = self.descriptor(base, index)?;
        let (codec, plausible) = match flags & (ZLIB | LZO | SNAPPY | ZSTD) {
            0 => (None, stored == self.page_size),
            ZLIB => (Some(Codec::Zlib), true),
            LZO => (Some(Codec::Lzo), true),
            SNAPPY => (Some(Codec::Snappy), true),
            ZSTD => (Some(Codec::Zstd), true),
            _ => (None, false),
        };
        // No codec makes a page longer than twice its size.
        if !plausible || stored > self.page_size.saturating_mul(2) {
            return Err(Fault::Corrupt { offset });
        }
        let stored = to_usize(u64::from(stored));
        Ok(Block { start: page.wrapping_mul(size), len: to_usize(size), offset, stored, codec })
    }

    fn ranges(&self, start: u64) -> Box<dyn Iterator<Item = (u64, u64)> + '_> {
        let size = u64::from(self.page_size);
        let ranges = self.bitmap.ranges(start.checked_div(size).unwrap_or(0));
        Box::new(ranges.map(move |(first, end)| {
            (first.saturating_mul(size), end.wrapping_sub(first).saturating_mul(size))
        }))
    }

    fn end(&self) -> u64 {
        let last = self.bitmap.bytes().iter().rposition(|byte| *byte != 0);
        let Some(last) = last else { return 0 };
        let bits = self.bitmap.bytes().get(last).map_or(0, |byte| 8u32.saturating_sub(byte.leading_zeros()));
        let pages = to_u64(last).saturating_mul(8).saturating_add(u64::from(bits));
        pages.saturating_mul(u64::from(self.page_size))
    }

    fn largest_block(&self) -> usize {
        to_usize(u64::from(self.page_size))
    }
}
