//! An executable file from a module in memory: headers and sections where the section table wants them in the file.
//!
//! What the loader changed stays changed: relocated addresses, filled import tables, the image base. What it does not
//! load (certificates, debug data behind the sections) is not there. Pages that cannot be read become zeros and are
//! reported. Truth: a library made by lld, laid out in memory and rebuilt, equals its file, and `llvm-readobj` reads it.

use std::io::{self, Seek, SeekFrom, Write};

use object::Absent;

use super::Pe;

/// Bytes read and written at a time.
const CHUNK: u64 = 64 << 10;

/// What [`Pe::rebuild`] made.
#[derive(Debug, Default)]
pub struct Rebuilt {
    /// Length of the file in bytes.
    pub len: u64,
    /// What is zeros in the file though it should not be.
    pub losses: Vec<Loss>,
}

/// A part of the file that could not be filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Name of the section; `headers` for what precedes them.
    pub part: String,
    /// Bytes that are missing.
    pub missing: u64,
    /// Why the first of them is.
    pub why: Absent,
}

/// A range of the module and where it belongs in the file.
struct Part {
    name: String,
    rva: u64,
    offset: u64,
    len: u64,
}

impl Pe {
    /// Writes the module as an executable file of at most `max_len` bytes, from the start of `out`.
    ///
    /// # Errors
    /// Those of `out`. What of the module cannot be read is no error but a [`Loss`].
    pub fn rebuild(&self, out: &mut (impl Write + Seek), max_len: u64) -> io::Result<Rebuilt> {
        let mut rebuilt = Rebuilt::default();
        let mut written = 0;
        // Sections of a forged table may lie over each other; together they take no more than the file may.
        let mut left = max_len;
        for part in self.parts() {
            let room = max_len.saturating_sub(part.offset).min(left);
            let len = part.len.min(room);
            if len < part.len {
                let why = Absent::Malformed("the section table asks for a larger file than allowed");
                rebuilt.losses.push(Loss { part: part.name.clone(), missing: part.len - len, why });
            }
            left -= len;
            written = self.copy(&Part { len, ..part }, out, &mut rebuilt)?.max(written);
        }
        // The file ends with the last section, whose rest may be zeros.
        let ends = self.headers.sections.items.iter().filter(|section| section.raw_offset != 0);
        let end = ends.map(|section| u64::from(section.raw_offset) + u64::from(section.raw_size)).max();
        rebuilt.len = rebuilt.len.max(end.unwrap_or(0).min(max_len));
        if rebuilt.len > written {
            out.seek(SeekFrom::Start(rebuilt.len - 1))?;
            out.write_all(&[0])?;
        }
        out.flush()?;
        Ok(rebuilt)
    }

    /// The headers and all sections that have data in the file.
    fn parts(&self) -> Vec<Part> {
        let len = self.headers.size_of_headers.into();
        let mut parts = vec![Part { name: "headers".to_owned(), rva: 0, offset: 0, len }];
        for section in self.headers.sections.items.iter().filter(|section| section.raw_offset != 0) {
            parts.push(Part {
                name: section.name.clone(),
                rva: section.rva.into(),
                offset: section.raw_offset.into(),
                len: section.initialized(self.headers.section_alignment).into(),
            });
        }
        parts
    }

    /// Copies a part. Where in the file the last byte that was written ends; chunks of which nothing can be read are skipped.
    fn copy(&self, part: &Part, out: &mut (impl Write + Seek), rebuilt: &mut Rebuilt) -> io::Result<u64> {
        if part.len == 0 {
            return Ok(0);
        }
        let mut written = 0;
        let mut buffer = vec![0; usize::try_from(CHUNK.min(part.len)).unwrap_or(0)];
        let mut loss: Option<Loss> = None;
        let mut done = 0;
        out.seek(SeekFrom::Start(part.offset))?;
        while done < part.len {
            let now = CHUNK.min(part.len - done);
            let chunk = buffer.get_mut(..usize::try_from(now).unwrap_or(0)).unwrap_or_default();
            let gaps = self.space.read_padded(self.address(part.rva.saturating_add(done)), chunk);
            if let Some((addr, fault)) = gaps.first {
                let why = Absent::Unreadable { addr, fault };
                let new = Loss { part: part.name.clone(), missing: 0, why };
                let loss = loss.get_or_insert(new);
                loss.missing = loss.missing.saturating_add(gaps.missing);
            }
            done += now;
            if gaps.missing == now {
                out.seek(SeekFrom::Start(part.offset + done))?;
            } else {
                out.write_all(chunk)?;
                written = part.offset + done;
            }
        }
        rebuilt.losses.extend(loss);
        rebuilt.len = rebuilt.len.max(part.offset + part.len);
        Ok(written)
    }
}
