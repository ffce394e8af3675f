//! EWF (`.E01`), one segment: raw memory in zlib chunks of 32 KiB, with checksums and MD5.
//!
//! What lies between runs is zeros. Layout as in [`crate::format`]'s reader; tables of at most 16,375 chunks,
//! whose offsets count from the table's own base, so that a segment may be of any size.

use super::{Copied, Progress, ranges, zlib};
use crate::bytes::{to_u64, to_usize};
use crate::codec::adler32;
use crate::{AddressSpace, Gaps, Run};
use md5::{Digest, Md5};
use rayon::prelude::*;
use std::io::{self, Seek, SeekFrom, Write};

const CHUNK: usize = 32 << 10;
const SECTOR: u64 = 512;
/// Chunks of one table; more are not understood by every reader.
const TABLE: usize = 16_375;
/// Chunks compressed at once, on all cores.
const BATCH: usize = 256;
const COMPRESSED: u32 = 0x8000_0000;
/// Size of a section descriptor, in bytes.
const DESCRIPTOR: u64 = 76;

/// Writes an EWF file. `notes` describes the image for people; its characters other than ASCII are left out.
///
/// # Errors
/// Those of `out`.
pub fn ewf(
    space: &dyn AddressSpace,
    notes: &str,
    out: &mut (impl Write + Seek),
    progress: Progress<'_>,
) -> io::Result<Vec<Copied>> {
    let media = space.end().next_multiple_of(SECTOR);
    let chunks = media.div_ceil(to_u64(CHUNK));
    let mut file = File { out, at: 13, sections: 0 };
    file.out.seek(SeekFrom::Start(0))?;
    file.out.write_all(b"EVF\x09\x0d\x0a\xff\x00\x01\x01\0\0\0")?;
    let header = header(notes)?;
    file.section("header", &header)?;
    file.section("header", &header)?;
    file.section("volume", &volume(media, chunks)?)?;
    let mut reader = Reader { space, runs: ranges(space), copied: Vec::new() };
    reader.copied = reader.runs.iter().map(|run| Copied { run: *run, gaps: Gaps::default() }).collect();
    let mut hash = Md5::new();
    let mut next = 0u64;
    while next < chunks {
        let count = chunks.saturating_sub(next).min(to_u64(TABLE));
        let entries = file.sectors(&mut reader, &mut hash, media, next, count, progress)?;
        let table = table(file.sections.saturating_add(DESCRIPTOR), &entries);
        file.section("table", &table)?;
        file.section("table2", &table)?;
        next = next.saturating_add(count);
    }
    let mut sum = hash.finalize().to_vec();
    sum.resize(32, 0);
    sum.extend(adler32(&sum).to_le_bytes());
    file.section("hash", &sum)?;
    file.last()?;
    Ok(reader.copied)
}

/// Reads the media: memory and the zeros between.
struct Reader<'a> {
    space: &'a dyn AddressSpace,
    runs: Vec<Run>,
    copied: Vec<Copied>,
}

impl Reader<'_> {
    /// Fills `buf`, which is zeros, from `at`.
    fn read(&mut self, at: u64, buf: &mut [u8]) {
        let end = at.saturating_add(to_u64(buf.len()));
        let first = self.runs.partition_point(|run| run.end() <= at);
        for (run, copied) in self.runs.iter().zip(&mut self.copied).skip(first) {
            let Some(part) = run.clipped(at, end) else { break };
            let from = to_usize(part.start.saturating_sub(at));
            let Some(piece) = buf.get_mut(from..from.saturating_add(to_usize(part.len))) else { break };
            let gaps = self.space.read_padded(part.start, piece);
            copied.gaps.missing = copied.gaps.missing.saturating_add(gaps.missing);
            copied.gaps.first = copied.gaps.first.or(gaps.first);
        }
    }
}

/// The file, with the offset where it ends and that of the last section of chunks.
struct File<'a, W> {
    out: &'a mut W,
    at: u64,
    sections: u64,
}

impl<W: Write + Seek> File<'_, W> {
    fn section(&mut self, kind: &str, data: &[u8]) -> io::Result<()> {
        let size = DESCRIPTOR.saturating_add(to_u64(data.len()));
        let next = self.at.saturating_add(size);
        self.out.write_all(&descriptor(kind, next, size))?;
        self.out.write_all(data)?;
        self.at = next;
        Ok(())
    }

    /// The section that ends the file; it names itself as the next.
    fn last(&mut self) -> io::Result<()> {
        self.out.write_all(&descriptor("done", self.at, DESCRIPTOR))?;
        self.out.flush()
    }

    /// A section of chunks, and the entries of its table. Its size is known behind it and put in then.
    fn sectors(
        &mut self,
        reader: &mut Reader<'_>,
        hash: &mut Md5,
        media: u64,
        first: u64,
        count: u64,
        progress: Progress<'_>,
    ) -> io::Result<Vec<u32>> {
        let start = self.at;
        self.sections = start;
        self.out.write_all(&descriptor("sectors", 0, 0))?;
        let mut offset = 0u32;
        let mut entries = Vec::new();
        let mut next = first;
        let end = first.saturating_add(count);
        while next < end {
            let from = next.saturating_mul(to_u64(CHUNK));
            let left = media.saturating_sub(from).min(end.saturating_sub(next).saturating_mul(to_u64(CHUNK)));
            let mut batch = vec![0; to_usize(left).min(BATCH.saturating_mul(CHUNK))];
            reader.read(from, &mut batch);
            let (packed, ()) = rayon::join(
                || batch.par_chunks(CHUNK).map(pack).collect::<io::Result<Vec<_>>>(),
                || hash.update(&batch),
            );
            for (bytes, compressed) in packed? {
                self.out.write_all(&bytes)?;
                entries.push(offset | if compressed { COMPRESSED } else { 0 });
                // A table covers 512 MiB: no overflow.
                offset = offset.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
                next = next.saturating_add(1);
            }
            progress(to_u64(batch.len()));
        }
        let size = DESCRIPTOR.saturating_add(u64::from(offset));
        self.at = start.saturating_add(size);
        self.out.seek(SeekFrom::Start(start))?;
        self.out.write_all(&descriptor("sectors", self.at, size))?;
        self.out.seek(SeekFrom::Start(self.at))?;
        Ok(entries)
    }
}

fn descriptor(kind: &str, next: u64, size: u64) -> Vec<u8> {
    let mut bytes = kind.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes.extend(next.to_le_bytes());
    bytes.extend(size.to_le_bytes());
    bytes.resize(72, 0);
    bytes.extend(adler32(&bytes).to_le_bytes());
    bytes
}

/// A chunk as it is stored, and whether it is compressed: what would not become shorter stays as it is.
fn pack(chunk: &[u8]) -> io::Result<(Vec<u8>, bool)> {
    let packed = zlib(chunk)?;
    if packed.len() < chunk.len() {
        return Ok((packed, true));
    }
    let mut bytes = chunk.to_vec();
    bytes.extend(adler32(chunk).to_le_bytes());
    Ok((bytes, false))
}

/// The description: a table of one row in lines and tabs.
fn header(notes: &str) -> io::Result<Vec<u8>> {
    let notes: String = notes.chars().filter(|char| char.is_ascii() && !char.is_ascii_control()).collect();
    let version = env!("CARGO_PKG_VERSION");
    let text = format!(
        "1\r\nmain\r\nc\tn\ta\te\tt\tav\tov\tm\tu\tp\r\n\t\t{notes}\t\t\trekal {version}\t\t\t\t0\r\n\r\n"
    );
    zlib(text.as_bytes())
}

/// The volume section of EnCase 5 and later.
fn volume(media: u64, chunks: u64) -> io::Result<Vec<u8>> {
    let chunks = u32::try_from(chunks).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // Media of the type memory.
    let mut bytes = vec![0x10, 0, 0, 0];
    for word in [chunks, u32::try_from(CHUNK).unwrap_or(0) / 512, 512] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend((media / SECTOR).to_le_bytes());
    bytes.resize(36, 0);
    // An image of something physical; fast compression; as many sectors as a chunk has go together in errors.
    bytes.push(3);
    bytes.resize(52, 0);
    bytes.push(1);
    bytes.resize(56, 0);
    bytes.extend(64u32.to_le_bytes());
    bytes.resize(1048, 0);
    bytes.extend(adler32(&bytes).to_le_bytes());
    Ok(bytes)
}

/// A table of chunks whose offsets count from `base`.
fn table(base: u64, entries: &[u32]) -> Vec<u8> {
    let mut bytes = u32::try_from(entries.len()).unwrap_or(0).to_le_bytes().to_vec();
    bytes.resize(8, 0);
    bytes.extend(base.to_le_bytes());
    bytes.resize(20, 0);
    bytes.extend(adler32(&bytes).to_le_bytes());
    let entries: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    bytes.extend(&entries);
    bytes.extend(adler32(&entries).to_le_bytes());
    bytes
}
