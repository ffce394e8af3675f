//! ELF core dumps of machines, 32 and 64 bit, little endian: QEMU `dump-guest-memory` (with and without
//! paging), VirtualBox `dumpvmcore`, `makedumpfile -E`, `/proc/vmcore`, pmem. Cores of Xen are in [`super::xen`].
//!
//! Each `PT_LOAD` stores `p_filesz` bytes of physical memory from `p_paddr` at `p_offset`. Facts that bite:
//! * `e_ehsize` is not looked at: QEMU wrote 8 there for years;
//! * with paging, QEMU describes virtual mappings: the same physical pages appear many times, at the same
//!   offset;
//! * segments with nothing stored have `p_filesz` 0 (VirtualBox MMIO) and even `p_offset` -1 (QEMU filters);
//! * more than 65534 segments: `e_phnum` is 0xffff and the number is in `sh_info` of section 0;
//! * `p_paddr` -1 (`/proc/kcore`) is no physical address; writers that know none leave all of them 0;
//! * before v4.11 `/proc/kcore` is one of those: the direct map, which is all of memory, is told by its place.

use crate::bytes::{to_u64, to_usize, u16_at, u32_at, u64_at};
use crate::format::{Layer, Opened, Refused, expect_magic, notes, pmem, xen};
use crate::image::Limits;
use crate::{AddressSpace, Hints, Overlap, Run, RunSpace};
use std::sync::Arc;

const ET_CORE: u16 = 4;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// The segment with the YAML of the pmem tools ("pmem").
const PT_PMEM: u32 = 0x6d65_6d70;
const PN_XNUM: u16 = 0xffff;
/// Note types only a process dump has: `NT_AUXV` and `NT_FILE`.
const PROCESS_NOTES: [u32; 2] = [6, 0x4649_4c45];

/// The fields of an ELF header that matter, of either class.
struct Header {
    wide: bool,
    machine: u16,
    /// File offset of the program headers and of the section headers.
    phoff: u64,
    shoff: u64,
    phentsize: u16,
    phnum: u16,
}

/// One program header, of either class.
struct Segment {
    kind: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
}

impl Header {
    fn parse(head: &[u8]) -> Option<Self> {
        let wide = head.get(4) == Some(&2);
        let word = |at32, at64| if wide { u64_at(head, at64) } else { u32_at(head, at32).map(u64::from) };
        let half = |at32, at64| u16_at(head, if wide { at64 } else { at32 });
        Some(Self {
            wide,
            machine: u16_at(head, 18)?,
            phoff: word(28, 32)?,
            shoff: word(32, 40)?,
            phentsize: half(42, 54)?,
            phnum: half(44, 56)?,
        })
    }

    /// Size of a program header of this class, in bytes.
    fn segment_size(&self) -> usize {
        if self.wide { 56 } else { 32 }
    }

    fn segment(&self, bytes: &[u8]) -> Option<Segment> {
        let kind = u32_at(bytes, 0)?;
        let narrow = |at| u32_at(bytes, at).map(u64::from);
        Some(if self.wide {
            Segment {
                kind,
                offset: u64_at(bytes, 8)?,
                vaddr: u64_at(bytes, 16)?,
                paddr: u64_at(bytes, 24)?,
                filesz: u64_at(bytes, 32)?,
            }
        } else {
            Segment { kind, offset: narrow(4)?, vaddr: narrow(8)?, paddr: narrow(12)?, filesz: narrow(16)? }
        })
    }

    /// Number of program headers, with the escape for more than 65534.
    fn segment_count(&self, base: &dyn AddressSpace) -> Result<u64, Refused> {
        if self.phnum != PN_XNUM || self.shoff == 0 {
            return Ok(u64::from(self.phnum));
        }
        let sh_info = self.shoff.saturating_add(if self.wide { 44 } else { 28 });
        Ok(u64::from(base.read_u32(sh_info)?))
    }
}

pub(super) fn probe(layer: &Layer<'_>) -> Result<(), &'static str> {
    expect_magic(layer, b"\x7fELF", "no ELF signature at the start")
}

pub(super) fn open(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let Layer { base, head, limits, .. } = *layer;
    if head.get(5) != Some(&1) {
        return Err("big-endian ELF is not supported".into());
    }
    let header = Header::parse(head).ok_or("the ELF header is cut off")?;
    match u16_at(head, 16) {
        Some(ET_CORE) => {}
        Some(1) => return Err(Refused::Foreign("an ELF object or kernel module")),
        Some(2 | 3) => {
            return Err(Refused::Foreign("an ELF executable (a kernel with symbols is no memory)"));
        }
        _ => return Err(Refused::Foreign("an ELF file of unknown type")),
    }
    if header.phnum == 0
        && let Some(opened) = xen::open(layer)
    {
        return opened;
    }
    let segments = segments(&**base, &header, limits)?;
    let mut warnings = Vec::new();
    let notes = read_notes(&**base, &segments, limits, &mut warnings);
    let loads = || segments.iter().filter(|segment| segment.kind == PT_LOAD && segment.filesz > 0);
    let physical = loads().any(|segment| segment.paddr != 0);
    if !physical
        && notes::notes(&notes).any(|note| note.name == b"CORE" && PROCESS_NOTES.contains(&note.kind))
    {
        return Err(Refused::Foreign("a core dump of a process, not of a machine"));
    }
    let nowhere = if header.wide { u64::MAX } else { u64::from(u32::MAX) };
    let direct = if physical { None } else { direct_map(header.machine, &segments) };
    let address = |segment: &Segment| match direct {
        _ if physical => Some(segment.paddr).filter(|address| *address != nowhere),
        Some((start, end)) => segment.vaddr.checked_sub(start).filter(|_| segment.vaddr < end),
        None => Some(segment.vaddr),
    };
    let run = |segment: &Segment| {
        Some(Run { start: address(segment)?, len: segment.filesz, target: segment.offset })
    };
    let runs: Vec<Run> = loads().filter_map(run).collect();
    if runs.is_empty() {
        return Err("no segment stores any memory".into());
    }
    let space = RunSpace::new("ELF core", Arc::clone(base), runs, Overlap::FirstWins);
    let promised = space.stored_beyond(base.end());
    if promised > 0 {
        warnings.push(format!("the file is cut off, bytes missing: {promised}"));
    }
    let mut hints = notes::hints(&notes, Some(header.machine));
    if let Some(noted) = pmem_notes(&**base, &segments) {
        hints.merge(noted);
    }
    Ok(Opened::new(Arc::new(space)).hints(hints).warnings(warnings))
}

/// Start and end of the direct map of physical memory in the `/proc/kcore` of x86-64, where segments have kernel addresses only.
///
/// It is the lowest part (Documentation/arch/x86/x86_64/mm.rst), moved by whole GiB, and before the segment of all of `vmalloc`,
/// which has terabytes.
fn direct_map(machine: u16, segments: &[Segment]) -> Option<(u64, u64)> {
    const EM_X86_64: u16 = 62;
    const GIB: u64 = 1 << 30;
    const TIB: u64 = 1 << 40;
    const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;
    let loads = || segments.iter().filter(|segment| segment.kind == PT_LOAD && segment.filesz > 0);
    let lowest = loads().map(|segment| segment.vaddr).min().filter(|lowest| *lowest >= KERNEL_HALF)?;
    let vmalloc = loads().filter(|segment| segment.filesz >= TIB).map(|segment| segment.vaddr).min();
    let image = 0xffff_ffff_8000_0000;
    (machine == EM_X86_64).then_some((lowest & !(GIB - 1), vmalloc.unwrap_or(image).min(image)))
}

fn segments(base: &dyn AddressSpace, header: &Header, limits: &Limits) -> Result<Vec<Segment>, Refused> {
    let stride = usize::from(header.phentsize);
    if stride < header.segment_size() {
        return Err(format!("program headers are too small: {stride} bytes").into());
    }
    let count = header.segment_count(base)?;
    if count == 0 || count > to_u64(limits.max_runs) {
        return Err(format!("unlikely number of program headers: {count}").into());
    }
    let size = count.saturating_mul(to_u64(stride));
    let table = base.read_vec(header.phoff, size.min(base.end()), limits.max_table)?;
    if to_u64(table.len()) < size {
        return Err("the program headers are cut off".into());
    }
    Ok(table.chunks_exact(stride).filter_map(|bytes| header.segment(bytes)).collect())
}

/// What pmem notes in a segment of its own.
fn pmem_notes(base: &dyn AddressSpace, segments: &[Segment]) -> Option<Hints> {
    let segment = segments.iter().find(|segment| segment.kind == PT_PMEM)?;
    pmem::hints(&base.read_vec(segment.offset, segment.filesz, 1 << 20).ok()?)
}

/// The bytes of all note segments, up to the first one that cannot be read, which becomes a warning.
fn read_notes(
    base: &dyn AddressSpace,
    segments: &[Segment],
    limits: &Limits,
    warnings: &mut Vec<String>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    for segment in segments.iter().filter(|segment| segment.kind == PT_NOTE) {
        let cap = limits.max_table.saturating_sub(bytes.len());
        let size = segment.filesz.min(base.end());
        match base.read_vec(segment.offset, size, cap.min(to_usize(base.end()))) {
            Ok(notes) => bytes.extend(notes),
            Err(fault) => {
                warnings.push(format!("the notes cannot be read: {fault}"));
                break;
            }
        }
    }
    bytes
}
