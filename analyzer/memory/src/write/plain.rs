//! Formats that hold memory as it is: raw, LiME, ELF core.

use super::{Copied, Progress, pieces, ranges};
use crate::bytes::to_u64;
use crate::{AddressSpace, Hints};
use std::io::{self, Seek, SeekFrom, Write};

/// Blocks of zeros of this size are left out of raw files, in bytes.
const BLOCK: usize = 4096;

/// Writes a file in which offset and physical address are the same. Holes and pages of zeros are left out of it:
/// set its length (the end of the space) before, so that they read as zeros.
///
/// # Errors
/// Those of `out`.
pub fn raw(
    space: &dyn AddressSpace,
    out: &mut (impl Write + Seek),
    progress: Progress<'_>,
) -> io::Result<Vec<Copied>> {
    let copy = |run| {
        pieces(space, run, progress, |at, piece| {
            let mut offset = at;
            for block in piece.chunks(BLOCK) {
                if block.iter().any(|byte| *byte != 0) {
                    out.seek(SeekFrom::Start(offset))?;
                    out.write_all(block)?;
                }
                offset = offset.saturating_add(to_u64(block.len()));
            }
            Ok(())
        })
    };
    ranges(space).into_iter().map(copy).collect()
}

/// Writes LiME: each range behind a header of 32 bytes.
///
/// # Errors
/// Those of `out`.
pub fn lime(
    space: &dyn AddressSpace,
    out: &mut impl Write,
    progress: Progress<'_>,
) -> io::Result<Vec<Copied>> {
    let copy = |run: crate::Run| {
        out.write_all(b"EMiL\x01\0\0\0")?;
        for word in [run.start, run.end().saturating_sub(1), 0] {
            out.write_all(&word.to_le_bytes())?;
        }
        pieces(space, run, progress, |_, piece| out.write_all(piece))
    };
    ranges(space).into_iter().map(copy).collect()
}

/// Size of the ELF64 header, of a program header and of a section header, in bytes.
const HEADER: u64 = 64;
const SEGMENT: u64 = 56;
const SECTION: u64 = 64;
/// The number of segments that says that it stands in section 0.
const PN_XNUM: u64 = 0xffff;

/// Writes an ELF64 core for x86-64: one `PT_LOAD` per range, and `VMCOREINFO` as a note where the hints have it.
///
/// # Errors
/// Those of `out`.
pub fn elf_core(
    space: &dyn AddressSpace,
    hints: &Hints,
    out: &mut impl Write,
    progress: Progress<'_>,
) -> io::Result<Vec<Copied>> {
    let ranges = ranges(space);
    let notes = hints.vmcoreinfo.as_deref().map(vmcoreinfo).unwrap_or_default();
    let count = to_u64(ranges.len()).saturating_add(1);
    let escaped = count >= PN_XNUM;
    let sections = HEADER.saturating_add(count.saturating_mul(SEGMENT));
    let notes_at = sections.saturating_add(if escaped { SECTION } else { 0 });
    let first = notes_at.saturating_add(to_u64(notes.len())).next_multiple_of(0x1000);

    let mut head = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // ET_CORE, EM_X86_64, EV_CURRENT; entry, program headers, section headers; flags and sizes.
    head.extend([4, 0, 62, 0, 1, 0, 0, 0]);
    for word in [0, HEADER, if escaped { sections } else { 0 }] {
        head.extend(word.to_le_bytes());
    }
    head.extend([0; 4]);
    let number = u16::try_from(count).ok().filter(|_| !escaped).unwrap_or(u16::MAX);
    for half in [64u16, 56, number, if escaped { 64 } else { 0 }, u16::from(escaped), 0] {
        head.extend(half.to_le_bytes());
    }
    segment(&mut head, 4, notes_at, 0, to_u64(notes.len()));
    let mut at = first;
    for run in &ranges {
        segment(&mut head, 1, at, run.start, run.len);
        at = at.saturating_add(run.len);
    }
    if escaped {
        let mut section = vec![0; 64];
        let count = u32::try_from(count).map_err(|_| io::ErrorKind::FileTooLarge)?;
        section.splice(44..48, count.to_le_bytes());
        head.extend(section);
    }
    head.extend(&notes);
    head.resize(usize::try_from(first).unwrap_or(head.len()), 0);
    out.write_all(&head)?;
    let copy = |run| pieces(space, run, progress, |_, piece| out.write_all(piece));
    ranges.into_iter().map(copy).collect()
}

/// A program header: type, file offset, physical address and size.
fn segment(head: &mut Vec<u8>, kind: u32, offset: u64, start: u64, len: u64) {
    head.extend(kind.to_le_bytes());
    head.extend([0; 4]);
    for word in [offset, 0, start, len, len, 0] {
        head.extend(word.to_le_bytes());
    }
}

/// The `VMCOREINFO` note.
fn vmcoreinfo(text: &[u8]) -> Vec<u8> {
    let Ok(len) = u32::try_from(text.len()) else { return Vec::new() };
    let mut note = Vec::new();
    for word in [11, len, 0] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"VMCOREINFO\0\0");
    note.extend(text);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}
