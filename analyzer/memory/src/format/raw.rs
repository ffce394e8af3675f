//! Raw (dd, padded): the offset in the file is the physical address. No signature, hence the last resort,
//! taken for everything that is not recognisably something else.

use crate::bytes::{to_u64, to_usize, u32_at};
use crate::format::{Layer, Opened, Refused, pmem};
use crate::{AddressSpace, Fault, Hints, Overlap, Run, RunSpace};
use std::sync::Arc;

/// The smallest thing that can be called a memory: one page, in bytes.
const PAGE: u64 = 4096;
/// Most bytes at the end that are looked at for notes of pmem.
const FOOTER: u64 = 64 << 10;

/// What other files begin with: offset, signature, name with the article.
const FOREIGN: &[(usize, &[u8], &str)] = &[
    // What the other formats take; here because it was wrapped twice.
    (0, b"\x1f\x8b\x08", "a gzip file in a gzip file"),
    (0, b"\xfd7zXZ\0", "an xz file in an xz file"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file in a zstd file"),
    (0, b"makedumpfile\0\0\0\0", "a flattened file in a flattened file"),
    (0, b"MDMP", "a Windows minidump of a process"),
    (0, b"EVF\x09\x0d\x0a\xff\x00", "an EWF file in an EWF file"),
    (0, b"EVF2\x0d\x0a\x81\x00", "an EWF version 2 container (Ex01); convert it to E01 with its own tools"),
    (0, b"LVF\x09\x0d\x0a\xff\x00", "a logical EWF container (L01): files, not memory"),
    (0, b"LEF2\x0d\x0a\x81\x00", "a logical EWF container (Lx01): files, not memory"),
    (0, b"DISKDUMP", "an old diskdump file (only its successor kdump is supported)"),
    (0, b"QFI\xfb", "a qcow2 disk image"),
    (0, b"KDMV", "a VMDK disk image"),
    (0, b"conectix", "a VHD disk image"),
    (0, b"vhdxfile", "a VHDX disk image"),
    (0, b"\xce\xfa\xed\xfe", "a 32-bit Mach-O file"),
    (0, b"\xca\xfe\xba\xbe", "a Mach-O or Java class file"),
    (0, b"PK\x03\x04", "a zip archive in an AFF4 volume"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\x04\x22\x4d\x18", "an lz4 file"),
    (0, b"Rar!", "a rar archive"),
    (0, b"MSCF", "a cabinet archive"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x89PNG", "a picture (PNG)"),
    (0, b"\xff\xd8\xff", "a picture (JPEG)"),
    (0, b"GIF8", "a picture (GIF)"),
    (0, b"regf", "a Windows registry hive"),
    (0, b"ElfFile\0", "a Windows event log"),
    (3, b"NTFS    ", "an NTFS volume"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"Microsoft C/C++ MSF 7.00", "a PDB (symbols, not memory)"),
    (0, b"\x9f\xeb\x01\x00", "a BTF file (types, not memory)"),
    (0, b"!<arch>\n", "an archive (ar, deb)"),
    (257, b"ustar", "a tar archive"),
];

/// Raw has no signature: every layer may be raw.
pub(super) fn probe(_layer: &Layer<'_>) -> Result<(), &'static str> {
    Ok(())
}

/// Takes the layer as it is, unless it is recognisably something else.
pub(super) fn open(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let Layer { base, head, .. } = *layer;
    if let Some(content) = foreign(head) {
        return Err(Refused::Foreign(content));
    }
    let footer = footer(&**base);
    let len = footer.as_ref().map_or(base.end(), |(at, _)| *at);
    if len < PAGE {
        return Err(format!("smaller than one page of {PAGE} bytes: {len}").into());
    }
    let mut warnings = Vec::new();
    if !len.is_multiple_of(PAGE) {
        warnings.push(format!("size is no multiple of {PAGE}, the end may be cut off: {len}"));
    }
    let Some((_, hints)) = footer else {
        return Ok(Opened::new(Arc::new(Raw { base: Arc::clone(base) })).warnings(warnings));
    };
    let run = Run { start: 0, len, target: 0 };
    let space = RunSpace::new("raw (pmem)", Arc::clone(base), vec![run], Overlap::FirstWins);
    Ok(Opened::new(Arc::new(space)).hints(hints).warnings(warnings))
}

/// The YAML that older pmem tools append: where it begins, and what it tells.
fn footer(base: &dyn AddressSpace) -> Option<(u64, Hints)> {
    let len = base.end().min(FOOTER);
    let start = base.end().checked_sub(len)?;
    let tail = base.read_vec(start, len, to_usize(FOOTER)).ok()?;
    let text = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x20..=0x7e);
    if !tail.last().is_some_and(text) {
        return None;
    }
    let begin = tail.iter().rposition(|byte| !text(byte)).map_or(0, |last| last.saturating_add(1));
    let hints = pmem::hints(tail.get(begin..)?)?;
    // Memory ends with a page; printable bytes at its end belong to it.
    let at = start.checked_add(to_u64(begin))?;
    Some((at.checked_next_multiple_of(PAGE).filter(|at| *at < base.end()).unwrap_or(at), hints))
}

/// What the bytes are, when they are certainly no memory.
fn foreign(head: &[u8]) -> Option<&'static str> {
    let signature = FOREIGN
        .iter()
        .find(|(offset, magic, _)| head.get(*offset..).is_some_and(|tail| tail.starts_with(magic)));
    if let Some((.., content)) = signature {
        return Some(content);
    }
    if head.starts_with(b"MZ") && u32_at(head, 0x3c).is_some_and(|at| at < 0x1000) {
        return Some("a PE executable");
    }
    let printable = |byte: &u8| matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c | 0x1b | 0x20..=0x7e | 0x80..);
    if head.len() >= 4
        && head.iter().all(printable)
        && std::str::from_utf8(head).map_or_else(
            // A character may be cut off at the end of the head.
            |error| error.valid_up_to().saturating_add(4) > head.len(),
            |_| true,
        )
    {
        return Some("a text file");
    }
    None
}

/// The base itself under another name: addresses are physical.
struct Raw {
    base: Arc<dyn AddressSpace>,
}

impl AddressSpace for Raw {
    fn name(&self) -> String {
        "raw".to_owned()
    }

    fn read_at(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.base.read_at(addr, buf).map_err(|fault| match fault {
            Fault::Truncated { offset } => Fault::NotInImage { phys: offset },
            other => other,
        })
    }

    fn translate(&self, addr: u64) -> Result<u64, Fault> {
        if addr < self.base.end() { Ok(addr) } else { Err(Fault::NotInImage { phys: addr }) }
    }

    fn runs(&self, start: u64, end: u64) -> Box<dyn Iterator<Item = Run> + '_> {
        Box::new(self.base.runs(start, end).map(|run| Run { target: run.start, ..run }))
    }

    fn end(&self) -> u64 {
        self.base.end()
    }

    fn bits(&self) -> u8 {
        64
    }

    fn base(&self) -> Option<&dyn AddressSpace> {
        Some(&*self.base)
    }

    fn borrow(&self, addr: u64, len: usize) -> Option<&[u8]> {
        self.base.borrow(addr, len)
    }
}
