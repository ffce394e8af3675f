//! Mach-O cores, 64 bit, little endian: physical memory as Mac Memory Reader and osxpmem write it, and core
//! files of a Darwin kernel, whose segments are virtual.
//!
//! ```text
//! header    magic 0xfeedfacf, CPU type, subtype, file type (4 = core), commands u32, their size u32, flags, reserved
//! command   u32, size u32; LC_SEGMENT_64 (0x19): name[16], vmaddr u64, vmsize u64, fileoff u64, filesize u64
//! ```
//! Source: `mach-o/loader.h`. Segments above half of the address space are the kernel's; a core with threads
//! and lower ones only is a process.

use crate::bytes::{to_u64, u32_at, u64_at};
use crate::format::{Layer, Opened, Refused, expect_magic};
use crate::{Overlap, Run, RunSpace};
use std::sync::Arc;

const MH_CORE: u32 = 4;
const LC_THREAD: u32 = 4;
const LC_SEGMENT_64: u32 = 0x19;
const HEADER: u64 = 32;
/// No machine has physical addresses from here on.
const VIRTUAL: u64 = 1 << 52;

pub(super) fn probe(layer: &Layer<'_>) -> Result<(), &'static str> {
    expect_magic(layer, b"\xcf\xfa\xed\xfe", "no 64-bit Mach-O signature at the start")
}

pub(super) fn open(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let Layer { base, limits, .. } = *layer;
    let word = |at| u32_at(layer.head, at).ok_or("the Mach-O header is cut off");
    if word(12)? != MH_CORE {
        return Err(Refused::Foreign("a Mach-O program or library"));
    }
    let size = u64::from(word(20)?).min(base.end());
    let commands = base.read_vec(HEADER, size, limits.max_table).map_err(|_| "the commands are cut off")?;
    let (mut physical, mut kernel, mut threads) = (Vec::new(), Vec::new(), false);
    let mut rest = commands.as_slice();
    // Every command has at least 8 bytes, so the list bounds the loop.
    while let (Some(kind), Some(size)) = (u32_at(rest, 0), u32_at(rest, 4)) {
        let Some(next) =
            usize::try_from(size).ok().filter(|size| *size >= 8).and_then(|size| rest.get(size..))
        else {
            return Err("a load command is cut off".into());
        };
        threads |= kind == LC_THREAD;
        if kind == LC_SEGMENT_64
            && let (Some(start), Some(target), Some(len)) =
                (u64_at(rest, 24), u64_at(rest, 40), u64_at(rest, 48))
            && len > 0
        {
            let runs = if start < VIRTUAL { &mut physical } else { &mut kernel };
            runs.push(Run { start, len, target });
        }
        rest = next;
    }
    if to_u64(physical.len().saturating_add(kernel.len())) > to_u64(limits.max_runs) {
        return Err(format!("more segments than the limit: {}", limits.max_runs).into());
    }
    if kernel.is_empty() && threads {
        return Err(Refused::Foreign("a core dump of a process, not of a machine"));
    }
    if kernel.is_empty() && physical.is_empty() {
        return Err("no segment stores any memory".into());
    }
    let is_kernel = !kernel.is_empty();
    // In a core of the kernel low segments are virtual too.
    let (physical, virt) =
        if is_kernel { (Vec::new(), [physical, kernel].concat()) } else { (physical, Vec::new()) };
    let space = RunSpace::new("Mach-O core", Arc::clone(base), physical, Overlap::FirstWins);
    let virt = RunSpace::new("Mach-O core (kernel)", Arc::clone(base), virt, Overlap::FirstWins);
    let promised = space.stored_beyond(base.end()).saturating_add(virt.stored_beyond(base.end()));
    let mut warnings = Vec::new();
    if promised > 0 {
        warnings.push(format!("the file is cut off, bytes missing: {promised}"));
    }
    let opened = Opened::new(Arc::new(space)).warnings(warnings);
    if !is_kernel {
        return Ok(opened);
    }
    Ok(Opened { virtual_space: Some(Arc::new(virt)), ..opened })
}
