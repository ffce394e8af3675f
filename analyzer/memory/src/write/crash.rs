//! Windows crash dumps: full (type 1), and full with a bitmap (type 5) where the header has no room for all runs.

use super::{Copied, Progress, pieces, ranges};
use crate::bytes::to_usize;
use crate::{AddressSpace, Hints, Run};
use std::io::{self, Write};

const PAGE: u64 = 4096;
/// Runs the header has room for.
const ROOM_64: usize = 43;
const ROOM_32: usize = 86;

/// Writes a crash dump that debuggers open: 32 bit for machine 0x14c, else 64 bit. The hints give the page table
/// root (the first one) and what else the header tells; what they lack stays unset. Pages that the space has only
/// in part are filled up with zeros.
///
/// # Errors
/// Those of `out`; [`io::ErrorKind::InvalidInput`] when the hints name no page table root or the space is empty,
/// or has more runs than a 32-bit header can take.
pub fn crash_dump(
    space: &dyn AddressSpace,
    hints: &Hints,
    out: &mut impl Write,
    progress: Progress<'_>,
) -> io::Result<Vec<Copied>> {
    let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidInput, reason.to_owned());
    let windows = hints.windows.clone().unwrap_or_default();
    let wide = windows.machine != Some(0x14c);
    let dtb = *hints.dtb.first().ok_or_else(|| invalid("a crash dump needs a page table root"))?;
    let runs = pages(space);
    if runs.is_empty() {
        return Err(invalid("there is no physical memory to write"));
    }
    let with_bitmap = runs.len() > if wide { ROOM_64 } else { ROOM_32 };
    if with_bitmap && !wide {
        return Err(invalid("more runs of memory than a 32-bit crash dump can have"));
    }
    let count = runs.iter().map(|run| run.len / PAGE).fold(0, u64::saturating_add);
    let mut header = Header { bytes: b"PAGE".repeat(if wide { 0x800 } else { 0x400 }), wide };
    header.put(4, 4, if wide { b"DU64" } else { b"DUMP" });
    header.u32(0x8, 0x8, windows.major.or(Some(15)));
    header.u32(0xc, 0xc, windows.build);
    header.word(0x10, 0x10, Some(dtb));
    header.word(0x14, 0x18, windows.pfn_database);
    header.word(0x18, 0x20, windows.loaded_modules);
    header.word(0x1c, 0x28, windows.active_processes);
    header.u32(0x20, 0x30, Some(u32::from(windows.machine.unwrap_or(0x8664))));
    header.u32(0x24, 0x34, windows.processors);
    // Nothing crashed, and a debugger wants to know with which code.
    let (code, parameters) = windows.bug_check.map_or((0, [0; 4]), |check| (check.code, check.parameters));
    header.u32(0x28, 0x38, Some(code));
    for (index, parameter) in parameters.into_iter().enumerate() {
        header.word(0x2c + index * 4, 0x40 + index * 8, Some(parameter));
    }
    if !wide {
        header.put(0x5c, 0x5c, &[u8::from(windows.pae.unwrap_or(false))]);
    }
    header.word(0x60, 0x80, windows.kdbg);
    if !with_bitmap {
        let (list, width) = if wide { (0x98, 8) } else { (0x6c, 4) };
        header.u32(0x64, 0x88, u32::try_from(runs.len()).ok());
        header.word(0x68, 0x90, Some(count));
        for (index, run) in runs.iter().enumerate() {
            let at = list + index * 2 * width;
            header.word(at, at, Some(run.start / PAGE));
            header.word(at + width, at + width, Some(run.len / PAGE));
        }
    }
    header.u32(0xf88, 0xf98, Some(if with_bitmap { 5 } else { 1 }));
    header.u64(
        0xfa0,
        0xfa0,
        Some(count.saturating_mul(PAGE).saturating_add(if wide { 0x2000 } else { 0x1000 })),
    );
    header.u64(0xfc0, 0xfa8, windows.system_time);
    header.u64(0xfb8, 0x1030, windows.up_time);
    out.write_all(&header.bytes)?;
    if with_bitmap {
        out.write_all(&bitmap(&runs, count)?)?;
    }
    let copy = |run| pieces(space, run, progress, |_, piece| out.write_all(piece));
    runs.into_iter().map(copy).collect()
}

/// The runs of a space in whole pages.
fn pages(space: &dyn AddressSpace) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for run in ranges(space) {
        let start = run.start / PAGE * PAGE;
        let end = run.end().checked_next_multiple_of(PAGE).unwrap_or(u64::MAX / PAGE * PAGE);
        match runs.last_mut() {
            Some(last) if start <= last.end() => last.len = end.saturating_sub(last.start).max(last.len),
            _ => runs.push(Run { start, len: end.saturating_sub(start), target: run.target }),
        }
    }
    runs
}

/// The bitmap and its header, padded to whole pages.
fn bitmap(runs: &[Run], count: u64) -> io::Result<Vec<u8>> {
    let pages = runs.last().map_or(0, |run| run.end() / PAGE);
    let size = usize::try_from(pages.div_ceil(8)).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bits = vec![0u8; size];
    for page in runs.iter().flat_map(|run| run.start / PAGE..run.end() / PAGE) {
        if let Some(byte) = bits.get_mut(to_usize(page / 8)) {
            *byte |= 1 << (page % 8);
        }
    }
    let len = size.saturating_add(0x38).next_multiple_of(to_usize(PAGE));
    let mut bytes = b"FDMPDUMP".to_vec();
    bytes.extend([0; 0x18]);
    let first = 0x2000u64.saturating_add(u64::try_from(len).unwrap_or(0));
    for word in [first, count, pages] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(bits);
    bytes.resize(len, 0);
    Ok(bytes)
}

/// A header under construction.
struct Header {
    bytes: Vec<u8>,
    wide: bool,
}

impl Header {
    fn put(&mut self, at32: usize, at64: usize, value: &[u8]) {
        let at = if self.wide { at64 } else { at32 };
        let room = self.bytes.iter_mut().skip(at);
        room.zip(value).for_each(|(place, byte)| *place = *byte);
    }

    fn u32(&mut self, at32: usize, at64: usize, value: Option<u32>) {
        if let Some(value) = value {
            self.put(at32, at64, &value.to_le_bytes());
        }
    }

    fn u64(&mut self, at32: usize, at64: usize, value: Option<u64>) {
        if let Some(value) = value {
            self.put(at32, at64, &value.to_le_bytes());
        }
    }

    /// A word of the dump's width; of addresses of 32-bit systems only the lower half counts.
    fn word(&mut self, at32: usize, at64: usize, value: Option<u64>) {
        if let Some(value) = value {
            let bytes = value.to_le_bytes();
            let (low, _) = bytes.split_at(if self.wide { 8 } else { 4 });
            self.put(at32, at64, low);
        }
    }
}
