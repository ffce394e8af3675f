//! AFF4, a zip volume of the standard: a map of the runs over one stream of compressed chunks, in the category of
//! physical memory, with what is known of the system beside it.

use super::{Copied, PIECE, Progress, pieces, ranges, zlib};
use crate::bytes::to_u64;
use crate::{AddressSpace, Hints};
use rayon::prelude::*;
use std::fmt::Write as _;
use std::io::{self, Seek, Write};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

const CHUNK: usize = 32 << 10;
/// Chunks of a bevy.
const BEVY: usize = 1024;

/// How chunks are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Snappy: at the speed of disks.
    #[default]
    Snappy,
    /// Zlib: smaller, slower.
    Zlib,
    /// Not at all.
    Stored,
}

impl Compression {
    fn iri(self) -> &'static str {
        match self {
            Self::Snappy => "http://code.google.com/p/snappy/",
            Self::Zlib => "https://www.ietf.org/rfc/rfc1950.txt",
            Self::Stored => "http://aff4.org/Schema#NullCompressor",
        }
    }

    /// A chunk as it is stored: a whole one that would not become shorter stays as it is, which its size tells.
    fn pack(self, chunk: &[u8]) -> io::Result<Vec<u8>> {
        let packed = match self {
            Self::Snappy => snap::raw::Encoder::new().compress_vec(chunk).map_err(io::Error::other)?,
            Self::Zlib => zlib(chunk)?,
            Self::Stored => return Ok(chunk.to_vec()),
        };
        Ok(if packed.len() < chunk.len() || chunk.len() < CHUNK { packed } else { chunk.to_vec() })
    }
}

/// Writes a volume. `uuid` names it and has the usual form; the caller makes it unique.
///
/// # Errors
/// Those of `out`.
pub fn aff4(
    space: &dyn AddressSpace,
    hints: &Hints,
    compression: Compression,
    uuid: &str,
    out: &mut (impl Write + Seek),
    progress: Progress<'_>,
) -> io::Result<Vec<Copied>> {
    let urn = format!("aff4://{uuid}");
    let mut volume = Volume { zip: ZipWriter::new(out) };
    volume.zip.set_comment(urn.as_str())?;
    volume.member("container.description", urn.as_bytes())?;
    volume.member("version.txt", b"major=1\nminor=0\ntool=rekal\n")?;
    let mut stream = Stream { compression, pending: Vec::new(), bevies: 0, size: 0 };
    let (mut map, mut copied) = (Vec::new(), Vec::new());
    for run in ranges(space) {
        for word in [run.start, run.len, stream.size] {
            map.extend(word.to_le_bytes());
        }
        map.extend(0u32.to_le_bytes());
        copied.push(pieces(space, run, progress, |_, piece| stream.write(&mut volume, piece))?);
    }
    stream.finish(&mut volume)?;
    volume.member("PhysicalMemory/map", &map)?;
    volume.member("PhysicalMemory/idx", format!("{urn}/PhysicalMemory/data").as_bytes())?;
    let notes = notes(hints);
    if !notes.is_empty() {
        volume.member("PhysicalMemory/information.yaml", notes.as_bytes())?;
    }
    volume.member("information.turtle", metadata(&urn, compression, stream.size).as_bytes())?;
    volume.zip.finish()?.flush()?;
    Ok(copied)
}

fn metadata(urn: &str, compression: Compression, size: u64) -> String {
    format!(
        "@prefix aff4: <http://aff4.org/Schema#> .\n\n\
         <{urn}/PhysicalMemory> a aff4:Map ;\n    \
             aff4:category <http://aff4.org/Schema#memory/physical> ;\n    \
             aff4:stored <{urn}> .\n\n\
         <{urn}/PhysicalMemory/data> a aff4:ImageStream ;\n    \
             aff4:chunkSize {CHUNK} ;\n    aff4:chunksInSegment {BEVY} ;\n    \
             aff4:compressionMethod <{}> ;\n    aff4:size {size} ;\n    aff4:stored <{urn}> .\n",
        compression.iri()
    )
}

/// What pmem notes of a system, as far as it is known.
fn notes(hints: &Hints) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    if let Some(dtb) = hints.dtb.first() {
        let _ = write!(text, "Registers:\n  CR3: {dtb:#x}\n");
    }
    if let Some(base) = hints.windows.as_ref().and_then(|windows| windows.kernel_base) {
        let _ = writeln!(text, "KernBase: {base:#x}");
    }
    if let Some(slide) = hints.kernel_slide {
        let _ = writeln!(text, "kaslr_slide: {slide:#x}");
    }
    text
}

struct Volume<W: Write + Seek> {
    zip: ZipWriter<W>,
}

impl<W: Write + Seek> Volume<W> {
    fn member(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        // A zero time stamp: same memory, same bytes.
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default());
        self.zip.start_file(name, options)?;
        self.zip.write_all(bytes)
    }
}

/// The stream of chunks.
struct Stream {
    compression: Compression,
    /// What does not fill a bevy yet.
    pending: Vec<u8>,
    bevies: u32,
    size: u64,
}

impl Stream {
    fn write<W: Write + Seek>(&mut self, volume: &mut Volume<W>, piece: &[u8]) -> io::Result<()> {
        // Pieces divide a bevy, but not every run is a whole number of them.
        debug_assert!(piece.len() <= PIECE);
        self.pending.extend_from_slice(piece);
        self.size = self.size.saturating_add(to_u64(piece.len()));
        while self.pending.len() >= BEVY * CHUNK {
            let rest = self.pending.split_off(BEVY * CHUNK);
            let bevy = std::mem::replace(&mut self.pending, rest);
            self.bevy(volume, &bevy)?;
        }
        Ok(())
    }

    fn finish<W: Write + Seek>(&mut self, volume: &mut Volume<W>) -> io::Result<()> {
        let bevy = std::mem::take(&mut self.pending);
        if bevy.is_empty() { Ok(()) } else { self.bevy(volume, &bevy) }
    }

    fn bevy<W: Write + Seek>(&mut self, volume: &mut Volume<W>, bytes: &[u8]) -> io::Result<()> {
        let compression = self.compression;
        let packed: Vec<Vec<u8>> =
            bytes.par_chunks(CHUNK).map(|chunk| compression.pack(chunk)).collect::<io::Result<_>>()?;
        let mut index = Vec::new();
        let mut offset = 0u64;
        for chunk in &packed {
            index.extend(offset.to_le_bytes());
            index.extend(u32::try_from(chunk.len()).unwrap_or(0).to_le_bytes());
            offset = offset.saturating_add(to_u64(chunk.len()));
        }
        let name = format!("PhysicalMemory/data/{:08}", self.bevies);
        volume.member(&name, &packed.concat())?;
        volume.member(&format!("{name}.index"), &index)?;
        self.bevies = self.bevies.saturating_add(1);
        Ok(())
    }
}
