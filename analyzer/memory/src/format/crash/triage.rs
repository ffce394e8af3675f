//! Triage dumps ("minidumps" of the kernel): blocks of kernel virtual memory, no physical pages.
//!
//! ```text
//! 0x1000 or 0x2000   18 u32: offsets of context, exception, PRCB, process, thread, call stack, drivers, strings
//! then               top of stack, a data page, debugger data, and the list of data blocks: address, offset, size
//! ```
//! What the list maps is read at its virtual addresses ([`crate::Image::virtual_space`]). Process and thread
//! are stored as copies without an address; a `DISPATCHER_HEADER` begins with a list head that is empty unless
//! someone waits and then points to itself, 8 bytes (4 in 32-bit dumps: 8) into the structure, which tells it.
//! Source: rizin's `dmp_specs.h`, checked on a real dump of Windows 10 19041.

use super::header::Header;
use crate::bytes::{to_usize, u16_at, u32_at, u64_at};
use crate::format::{Layer, Opened, Refused};
use crate::{AddressSpace, Driver, Overlap, Run, RunSpace};
use std::sync::Arc;

/// Most drivers and most UTF-16 units of a driver's name that are taken.
const MAX_DRIVERS: u32 = 4096;
const MAX_NAME: u32 = 1024;

/// The header of a triage dump.
struct Triage {
    bytes: Vec<u8>,
    wide: bool,
}

impl Triage {
    /// One of the first 18 words: an offset in the file, 0 for nothing.
    fn offset(&self, index: usize) -> Option<u64> {
        u32_at(&self.bytes, index.checked_mul(4)?).map(u64::from).filter(|offset| *offset != 0)
    }

    /// One of the words behind the top of the stack and the data page's address.
    fn tail(&self, index: usize) -> Option<u32> {
        u32_at(&self.bytes, index.checked_mul(4)?.checked_add(if self.wide { 0x68 } else { 0x50 })?)
    }

    fn word(&self, at32: usize, at64: usize) -> Option<u64> {
        if self.wide { u64_at(&self.bytes, at64) } else { u32_at(&self.bytes, at32).map(u64::from) }
    }

    /// A structure's offset and its size: structures lie one behind the other.
    fn section(&self, index: usize) -> Option<(u64, u64)> {
        let start = self.offset(index)?;
        let others = [3, 4, 5, 6, 7, 8, 9, 10, 12, 14].into_iter().filter_map(|other| self.offset(other));
        let end = others.chain(self.tail(2).map(u64::from)).filter(|offset| *offset > start).min()?;
        Some((start, end.checked_sub(start)?))
    }
}

pub(super) fn open(layer: &Layer<'_>, header: &Header) -> Result<Opened, Refused> {
    let Layer { base, limits, .. } = *layer;
    let bytes = base.read_vec(header.size(), 0x80, 0x80).map_err(|_| "the triage header is cut off")?;
    let triage = Triage { bytes, wide: header.wide };
    let mut warnings = Vec::new();
    let valid = triage.offset(2).and_then(|at| base.read_u32(at).ok());
    if valid.map(u32::to_le_bytes) != Some(*b"TRGD") {
        warnings.push("the file is cut off or was never finished: its end mark is missing".to_owned());
    }
    let mut runs = blocks(&**base, &triage, limits.max_runs)?;
    let mut hints = header.hints();
    let mut windows = hints.windows.take().unwrap_or_default();
    let place = |(target, len): (u64, u64), start: u64| Run { start, len, target };
    if let Some((start, section)) = header.kdbg().zip(triage.tail(2).zip(triage.tail(3))) {
        runs.push(place((u64::from(section.0), u64::from(section.1)), start));
    }
    if let Some((start, target)) = triage.word(0x48, 0x48).zip(triage.offset(10)) {
        runs.push(place((target, triage.offset(11).unwrap_or(0)), start));
    }
    if let Some((start, target)) = triage.word(0x4c, 0x60).zip(triage.tail(0)) {
        runs.push(place((u64::from(target), triage.tail(1).map_or(0, u64::from)), start));
    }
    let own_address = |section: (u64, u64)| dispatcher_address(&**base, header.wide, section.0);
    for (index, hint) in [(8, &mut windows.process), (9, &mut windows.thread)] {
        if let Some(section) = triage.section(index)
            && let Some(start) = own_address(section)
        {
            runs.push(place(section, start));
            *hint = Some(start);
        }
    }
    windows.prcb = triage.section(7).and_then(|section| same_block(&**base, &runs, section));
    windows.drivers = drivers(&**base, &triage);
    hints.windows = Some(windows);
    runs.retain(|run| run.start != 0 && run.len != 0);
    let memory = RunSpace::new("crash dump (triage blocks)", Arc::clone(base), runs, Overlap::FirstWins);
    let promised = memory.stored_beyond(base.end());
    if promised > 0 {
        warnings.push(format!("the file is cut off, bytes missing: {promised}"));
    }
    warnings.push(
        "a triage dump: a few blocks of kernel memory around the crash and no physical memory; ask the system \
         for a kernel or full dump to see more"
            .to_owned(),
    );
    let physical = RunSpace::new("crash dump (triage)", Arc::clone(base), Vec::new(), Overlap::FirstWins);
    let opened = Opened::new(Arc::new(physical)).hints(hints).warnings(warnings);
    Ok(Opened { virtual_space: Some(Arc::new(memory)), ..opened })
}

/// The list of data blocks.
fn blocks(base: &dyn AddressSpace, triage: &Triage, max: usize) -> Result<Vec<Run>, Refused> {
    let (Some(at), Some(count)) = (triage.tail(4), triage.tail(5)) else {
        return Err("the triage header is cut off".into());
    };
    let size = if triage.wide { 16u64 } else { 12 };
    if usize::try_from(count).map_or(true, |count| count > max) {
        return Err(format!("more data blocks than the limit: {count}").into());
    }
    let len = u64::from(count).saturating_mul(size).min(base.end());
    let list = base.read_vec(u64::from(at), len, to_usize(base.end()))?;
    let block = |bytes: &[u8]| {
        let (start, rest) = match triage.wide {
            true => (u64_at(bytes, 0)?, bytes.get(8..)?),
            false => (u64::from(u32_at(bytes, 0)?), bytes.get(4..)?),
        };
        Some(Run { start, target: u64::from(u32_at(rest, 0)?), len: u64::from(u32_at(rest, 4)?) })
    };
    Ok(list.chunks_exact(to_usize(size)).filter_map(block).collect())
}

/// The address of a dispatcher object that is stored at `at`, from its empty wait list.
fn dispatcher_address(base: &dyn AddressSpace, wide: bool, at: u64) -> Option<u64> {
    let word = |at: u64| if wide { base.read_u64(at).ok() } else { base.read_u32(at).ok().map(u64::from) };
    let list = at.checked_add(8)?;
    let next = word(list)?;
    let empty = next == word(list.checked_add(if wide { 8 } else { 4 })?)?;
    next.checked_sub(8).filter(|addr| empty && *addr != 0 && addr.is_multiple_of(8))
}

/// The address of the block that holds the same bytes as a section; both are written from one structure.
fn same_block(base: &dyn AddressSpace, runs: &[Run], (at, len): (u64, u64)) -> Option<u64> {
    const COMPARED: usize = 256;
    let section = base.read_vec(at, len.min(0x100), COMPARED).ok()?;
    let same = |run: &&Run| {
        run.len == len
            && base.read_vec(run.target, len.min(0x100), COMPARED).is_ok_and(|bytes| bytes == section)
    };
    runs.iter().find(same).map(|run| run.start)
}

/// The drivers that were loaded.
fn drivers(base: &dyn AddressSpace, triage: &Triage) -> Vec<Driver> {
    let (Some(first), Some(count)) = (triage.offset(12), triage.offset(13)) else { return Vec::new() };
    let (size, dll_base, image_size, time) =
        if triage.wide { (144u64, 0x38, 0x48, 0x88) } else { (76, 0x1c, 0x24, 0x48) };
    let driver = |index: u64| {
        let entry = base.read_vec(first.checked_add(index.checked_mul(size)?)?, size, 144).ok()?;
        let base_addr = match triage.wide {
            true => u64_at(&entry, dll_base)?,
            false => u64::from(u32_at(&entry, dll_base)?),
        };
        let name = u64::from(u32_at(&entry, 0)?);
        let units = base.read_u32(name).ok().filter(|units| *units <= MAX_NAME)?;
        let text = base.read_vec(name.checked_add(4)?, u64::from(units).saturating_mul(2), 0x1000).ok()?;
        let units = text.chunks_exact(2).filter_map(|pair| u16_at(pair, 0));
        Some(Driver {
            name: char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect(),
            base: base_addr,
            size: u32_at(&entry, image_size)?,
            time_date_stamp: u32_at(&entry, time)?,
        })
    };
    (0..count.min(u64::from(MAX_DRIVERS))).map_while(driver).collect()
}
