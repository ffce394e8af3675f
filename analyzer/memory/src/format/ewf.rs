//! EWF containers (`.E01`, `.E02`, ... of EnCase, FTK and ewf-tools; `.s01` of SMART): compressed chunks with
//! checksums, in one or more segment files. What they hold is a file of its own, mostly a raw image.
//!
//! ```text
//! segment   "EVF\x09\r\n\xff\0", 1, number u16, 0, then sections, each naming the offset of the next
//! section   type (16 characters), next u64, size u64, 40 bytes of padding, Adler-32 of those 72 bytes
//! volume    chunks u32 at 4, sectors per chunk u32, bytes per sector u32, sectors u64 (SMART: u32)
//! sectors   chunks, one behind the other: zlib, or as they are with an Adler-32 behind
//! table     number of entries u32, base u64 at 8, Adler-32 at 20; at 24 u32 entries: bit 31 compressed, then offset
//! table2    the same once more, used where the first is damaged
//! ```
//! A chunk ends where the next one of its table begins, the last one where the next section does.
//! Further segments are found by the names that writers give them and accepted by signature and number.
//! Source: "Expert Witness Compression Format" by J. Metz; compared with files of EnCase writers and of
//! ewfacquire in the tests.

use crate::blocks::{Block, BlockList, BlockSpace};
use crate::bytes::{array_at, to_u64, to_usize, u16_at, u32_at, u64_at};
use crate::codec::{Codec, adler32};
use crate::format::{Layer, Opened, Refused, Yields, expect_magic};
use crate::join::JoinSpace;
use crate::{AddressSpace, Beside, Limits};
use std::sync::Arc;

const MAGIC: &[u8] = b"EVF\x09\x0d\x0a\xff\x00";
/// Sizes of the segment header and of a section descriptor, in bytes.
const HEADER: u64 = 13;
const DESCRIPTOR: u64 = 76;
/// Largest chunk, in bytes; writers use 32 KiB, at most 16 MiB can be chosen anywhere.
const MAX_CHUNK: u64 = 16 << 20;
/// Most sections of a segment: one table holds 65,534 chunks at most times.
const MAX_SECTIONS: usize = 1 << 20;
/// Most segments: `.E01` to `.ZZZ`.
const MAX_SEGMENTS: u16 = 14_971;
/// The bit of a table entry that says that the chunk is compressed.
const COMPRESSED: u32 = 0x8000_0000;

pub(super) fn probe(layer: &Layer<'_>) -> Result<(), &'static str> {
    expect_magic(layer, MAGIC, "no \"EVF\" signature at the start")
}

/// The extension of a segment: `E01` to `E99`, then `EAA` to `ZZZ`, in the letter case of the first one.
fn extension(first: &str, number: u16) -> Option<String> {
    let initial = *first.as_bytes().first().filter(|_| first.len() == 3 && first.ends_with("01"))?;
    let base = if initial.is_ascii_lowercase() { b'a' } else { b'A' };
    if number < 100 {
        return Some(format!("{}{number:02}", char::from(initial)));
    }
    let index = number.checked_sub(100)?;
    let letter = |value: u16| u8::try_from(value).ok()?.checked_add(base);
    let initial = u8::try_from(index / 676).ok()?.checked_add(initial)?;
    let name = [initial, letter(index / 26 % 26)?, letter(index % 26)?];
    (initial <= base.checked_add(25)?).then(|| String::from_utf8(name.to_vec()).ok())?
}

/// The segments behind the first, as far as they are there.
fn segments(beside: &Beside, limits: &Limits) -> Vec<Arc<dyn AddressSpace>> {
    let Some((_, first)) = beside.name() else { return Vec::new() };
    let open = |number: u16| {
        let segment = beside.with_extension(&extension(first, number)?, limits)?;
        let mut head = [0; 13];
        segment.read_at(0, &mut head).ok()?;
        (head.starts_with(MAGIC) && u16_at(&head, 9) == Some(number)).then_some(segment)
    };
    (2..=MAX_SEGMENTS).map_while(open).collect()
}

/// What the volume section says.
#[derive(Clone, Copy)]
struct Volume {
    chunks: u64,
    chunk_size: u64,
    media_size: u64,
}

impl Volume {
    fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let word = |at| u32_at(bytes, at).map(u64::from).ok_or("the volume section is cut off");
        let (chunks, sectors, sector_size) = (word(4)?, word(8)?, word(12)?);
        // The volume section of SMART has 94 bytes and a shorter count.
        let count = if bytes.len() <= 94 { word(16)? } else { u64_at(bytes, 16).unwrap_or(0) };
        let chunk_size = sectors.saturating_mul(sector_size);
        if chunk_size == 0 || chunk_size > MAX_CHUNK {
            return Err(format!("unlikely chunk size: {chunk_size}").into());
        }
        let media_size = count.saturating_mul(sector_size);
        Ok(Self { chunks, chunk_size, media_size })
    }
}

/// What is gathered while the sections of all segments are walked.
struct Reader<'a> {
    base: &'a dyn AddressSpace,
    limits: &'a Limits,
    volume: Option<Volume>,
    blocks: Vec<Block>,
    /// Whether the last table was damaged, so that its copy is to be used.
    wants_copy: bool,
    /// End of the last section of chunks.
    sectors_end: u64,
    done: bool,
    warnings: Vec<String>,
}

/// One section: its type and where it lies in the joined segments.
struct Section {
    kind: [u8; 16],
    /// Offset of its data, behind the descriptor.
    data: u64,
    /// Exclusive end.
    end: u64,
    /// Offset of the next section, itself for the last one.
    next: u64,
}

impl Reader<'_> {
    /// Walks the sections of the segment that lies at `start..end`.
    fn segment(&mut self, start: u64, end: u64) -> Result<(), Refused> {
        let mut at = start.saturating_add(HEADER);
        for _ in 0..MAX_SECTIONS {
            let section = match self.section(start, end, at) {
                Ok(section) => section,
                Err(reason) => {
                    self.warnings.push(format!("{reason} at offset: {at:#x}"));
                    return Ok(());
                }
            };
            let name = section.kind.split(|byte| *byte == 0).next().unwrap_or_default();
            match name {
                b"volume" | b"disk" | b"data" if self.volume.is_none() => {
                    let size = section.end.saturating_sub(section.data).min(1052);
                    self.volume = Some(Volume::parse(&self.base.read_vec(section.data, size, 1052)?)?);
                }
                b"table" => self.wants_copy = self.table(start, &section)?.is_none(),
                b"table2" if self.wants_copy => {
                    self.wants_copy = false;
                    if self.table(start, &section)?.is_none() {
                        self.warnings
                            .push(format!("both chunk tables are damaged at offset: {:#x}", section.data));
                    }
                }
                b"sectors" => self.sectors_end = section.end,
                b"done" => self.done = true,
                _ => {}
            }
            // The last section names itself as the next one; in SMART files, its end.
            if section.next <= at || matches!(name, b"done" | b"next") {
                return Ok(());
            }
            at = section.next;
        }
        Ok(())
    }

    fn section(&self, start: u64, end: u64, at: u64) -> Result<Section, &'static str> {
        let mut bytes = [0; 76];
        if at.saturating_add(DESCRIPTOR) > end || self.base.read_at(at, &mut bytes).is_err() {
            return Err("the segment is cut off");
        }
        let (head, sum) = bytes.split_at(72);
        if array_at(sum, 0).map(u32::from_le_bytes) != Some(adler32(head)) {
            return Err("a section descriptor is damaged");
        }
        let (Some(kind), Some(next), Some(size)) = (array_at(head, 0), u64_at(head, 16), u64_at(head, 24))
        else {
            return Err("a section descriptor is damaged");
        };
        let next = start.saturating_add(next);
        let data = at.saturating_add(DESCRIPTOR);
        // Old writers leave the size 0; then the section lasts until the next one.
        let own = at.saturating_add(size);
        let end = if size < DESCRIPTOR { next.max(data) } else { own }.min(end);
        Ok(Section { kind, data, end, next })
    }

    /// Adds the chunks of a table; `None` when it is damaged.
    fn table(&mut self, start: u64, section: &Section) -> Result<Option<()>, Refused> {
        let volume = self.volume.ok_or("a chunk table before the volume section")?;
        let Ok(head) = self.base.read_vec(section.data, 24, 24) else { return Ok(None) };
        let (Some(count), Some(base)) = (u32_at(&head, 0), u64_at(&head, 8)) else { return Ok(None) };
        if head.get(..20).map(adler32) != u32_at(&head, 20) {
            return Ok(None);
        }
        let list = section.data.saturating_add(24);
        let size = u64::from(count).saturating_mul(4);
        if list.saturating_add(size) > section.end || count == 0 {
            return Ok(None);
        }
        if self.blocks.len().saturating_add(to_usize(u64::from(count))) > self.limits.max_runs {
            return Err(format!("more chunks than the limit: {}", self.limits.max_runs).into());
        }
        let entries = self.base.read_vec(list, size, self.limits.max_table)?;
        // SMART has neither a checksum behind the entries nor the chunks elsewhere.
        let behind = list.saturating_add(size);
        let sum = self.base.read_u32(behind).ok();
        if section.end == behind.saturating_add(4) && sum != Some(adler32(&entries)) {
            return Ok(None);
        }
        let smart = u32_at(&entries, 0).is_some_and(|first| {
            start.saturating_add(base).saturating_add(u64::from(first & !COMPRESSED)) >= behind
        });
        let bound = if smart { section.end } else { self.sectors_end };
        let mut entries = entries.chunks_exact(4).filter_map(|entry| u32_at(entry, 0)).peekable();
        while let Some(entry) = entries.next() {
            let place =
                |entry: u32| start.saturating_add(base).saturating_add(u64::from(entry & !COMPRESSED));
            let (offset, end) = (place(entry), entries.peek().map_or(bound, |next| place(*next)));
            self.chunk(volume, offset, end, entry & COMPRESSED != 0);
        }
        Ok(Some(()))
    }

    /// Adds the next chunk. One whose place makes no sense stays, so that the others keep theirs; reading it
    /// fails.
    fn chunk(&mut self, volume: Volume, offset: u64, end: u64, compressed: bool) {
        let start = to_u64(self.blocks.len()).saturating_mul(volume.chunk_size);
        let len = to_usize(volume.chunk_size.min(volume.media_size.saturating_sub(start)));
        if len == 0 {
            return;
        }
        // No writer keeps what compression made longer by more than a checksum.
        let stored = end.saturating_sub(offset).min(volume.chunk_size.saturating_add(1024));
        let codec = if compressed { Codec::Zlib } else { Codec::Adler32 };
        self.blocks.push(Block { start, len, offset, stored: to_usize(stored), codec: Some(codec) });
    }
}

pub(super) fn open(layer: &Layer<'_>) -> Result<Opened, Refused> {
    match u16_at(layer.head, 9) {
        Some(1) => {}
        Some(number) => {
            return Err(format!("segment {number} of a set; open the first one, mostly named .E01").into());
        }
        None => return Err("the segment header is cut off".into()),
    }
    let mut parts = vec![Arc::clone(layer.base)];
    parts.extend(segments(layer.beside, layer.limits));
    let files = parts.len();
    let bounds: Vec<(u64, u64)> = parts
        .iter()
        .scan(0u64, |end, part| {
            let start = *end;
            *end = start.saturating_add(part.end());
            Some((start, *end))
        })
        .collect();
    let base: Arc<dyn AddressSpace> = match files {
        1 => Arc::clone(layer.base),
        _ => Arc::new(JoinSpace::new("segments", parts)),
    };
    let mut reader = Reader {
        base: &*base,
        limits: layer.limits,
        volume: None,
        blocks: Vec::new(),
        sectors_end: 0,
        wants_copy: false,
        done: false,
        warnings: Vec::new(),
    };
    for (start, end) in bounds {
        reader.segment(start, end)?;
    }
    let Reader { volume, blocks, done, mut warnings, .. } = reader;
    let volume = volume.ok_or("no volume section says how large it is")?;
    if blocks.is_empty() {
        return Err("no chunk is stored".into());
    }
    let found = to_u64(blocks.len());
    if found < volume.media_size.div_ceil(volume.chunk_size) {
        let hint = if done { "" } else { "; are all segments (.E02, ...) next to the first, with its name?" };
        warnings.push(format!("{found} of {} chunks are there in {files} segments{hint}", volume.chunks));
    }
    let list = BlockList::new("EWF", Yields::File, blocks);
    Ok(Opened::new(Arc::new(BlockSpace::new(base, list, layer.limits.cache))).warnings(warnings))
}

#[cfg(test)]
mod tests {
    use super::extension;

    #[test]
    fn segments_are_named_as_the_writers_do() {
        let name = |first, number| extension(first, number).unwrap_or_default();
        assert_eq!([name("E01", 2), name("e01", 99), name("E01", 100)], ["E02", "e99", "EAA"]);
        assert_eq!([name("s01", 126), name("E01", 776), name("E01", 14_971)], ["sba", "FAA", "ZZZ"]);
        assert_eq!([name("E01", 14_972), name("E02", 3), name("raw", 2)], [""; 3]);
    }
}
