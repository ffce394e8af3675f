//! Hibernation files of Windows (`hiberfil.sys`): XP to 7, and 8 to 11.
//!
//! Both keep pages in compressed blocks of up to 16, each with a list of the pages in it: the blocks become one
//! decoded stream, of which a block is decompressed when it is read, and a list of runs maps physical memory
//! into that stream. Pages that were free or zero are not in the file. After a resume the first page is
//! overwritten (`wake`, `RSTR`, zeros) while the rest may still be there.
//! Sources: libhibr's description of the headers; the tables of original Rekall's address space (XP to 7);
//! "Modern Windows Hibernation File Analysis" (Sylve et al.) and LeechCore for 8 to 11. No real file was at
//! hand: the tests build both forms, the codecs are checked by the examples of \[MS-XCA\] and a real encoder.

mod legacy;
mod modern;

use crate::blocks::{Block, BlockList, BlockSpace};
use crate::bytes::{to_u64, to_usize, u32_at, u64_at};
use crate::codec::Codec;
use crate::format::{Layer, Opened, Refused, Yields};
use crate::image::Limits;
use crate::{AddressSpace, Cpu, Hints, Overlap, Run, RunSpace, WindowsHints};
use std::sync::Arc;

const PAGE: u64 = 4096;
/// Most pages of a block.
const BLOCK_PAGES: u64 = 16;
/// What a hibernation file begins with; the last ones after it was used.
const MAGICS: [&[u8; 4]; 6] = [b"hibr", b"HIBR", b"wake", b"WAKE", b"rstr", b"RSTR"];

/// Blocks and runs under construction.
struct Pages<'a> {
    base: &'a dyn AddressSpace,
    limits: &'a Limits,
    blocks: Vec<Block>,
    runs: Vec<Run>,
}

impl Pages<'_> {
    /// End of the decoded stream so far.
    fn end(&self) -> u64 {
        self.blocks.last().map_or(0, Block::end)
    }

    /// Maps physical pages to the stream from `target` on.
    fn map(&mut self, page: u64, count: u64, target: u64) -> Result<(), Refused> {
        if self.runs.len() >= self.limits.max_runs {
            return Err(format!("more page ranges than the limit: {}", self.limits.max_runs).into());
        }
        self.runs.push(Run { start: page.saturating_mul(PAGE), len: count.saturating_mul(PAGE), target });
        Ok(())
    }

    /// Adds a block of `pages` pages.
    fn block(&mut self, offset: u64, stored: u64, pages: u64, codec: Codec) {
        let len = to_usize(pages.saturating_mul(PAGE));
        // What did not become shorter is stored as it is.
        let codec = (to_u64(len) != stored).then_some(codec);
        self.blocks.push(Block { start: self.end(), len, offset, stored: to_usize(stored), codec });
    }
}

pub(super) fn probe(layer: &Layer<'_>) -> Result<(), &'static str> {
    let signed =
        layer.head.get(..4).is_some_and(|start| MAGICS.iter().any(|magic| magic.as_slice() == start));
    let wiped = || layer.head.iter().all(|byte| *byte == 0) && legacy::first_block(&**layer.base).is_some();
    if signed || wiped() { Ok(()) } else { Err("no \"hibr\", \"HIBR\" or \"wake\" signature at the start") }
}

pub(super) fn open(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let Layer { base, head, limits, .. } = *layer;
    let mut pages = Pages { base: &**base, limits, blocks: Vec::new(), runs: Vec::new() };
    let mut warnings = Vec::new();
    if head.get(..4) != Some(b"hibr") && head.get(..4) != Some(b"HIBR") {
        warnings.push("the system was resumed from this file: parts may be overwritten".to_owned());
    }
    let (name, hints) = match modern::Header::read(head) {
        Some(header) => ("hibernation file (8-11)", modern::read(&header, head, &mut pages, &mut warnings)?),
        None => ("hibernation file (XP-7)", legacy::read(head, &mut pages, &mut warnings)?),
    };
    let Pages { blocks, runs, .. } = pages;
    if runs.is_empty() {
        return Err("no page is stored".into());
    }
    let stream = BlockList::new("decompressed pages", Yields::File, blocks);
    let stream = BlockSpace::new(Arc::clone(base), stream, limits.cache);
    let space = RunSpace::new(name, Arc::new(stream), runs, Overlap::LastWins);
    Ok(Opened::new(Arc::new(space)).hints(hints).warnings(warnings))
}

/// CR3 and what goes with it from a saved processor state, if it looks like one: protected mode with paging, a
/// page table root, and page address extensions where they must be.
fn processor(base: &dyn AddressSpace, page: u64, wide: bool) -> Option<Cpu> {
    let state = base.read_vec(page.checked_mul(PAGE)?, PAGE, to_usize(PAGE)).ok()?;
    // Behind the context on x86; in front of it on x64.
    let word = |index: usize| match wide {
        true => u64_at(&state, index.checked_mul(8)?),
        false => u32_at(&state, index.checked_mul(4)?.checked_add(0x2cc)?).map(u64::from),
    };
    let cpu = Cpu { cr0: word(0)?, cr3: word(2)?, cr4: word(3)?, long_mode: wide };
    let on = cpu.cr0 & 0x8000_0001 == 0x8000_0001 && cpu.cr0 >> 32 == 0;
    let fits = on && cpu.cr3 & !0xfff != 0 && (!wide || cpu.cr4 & 1 << 5 != 0) && cpu.cr4 >> 32 == 0;
    fits.then_some(cpu)
}

/// Hints from a processor state and the time of the header.
fn hints(cpu: Option<Cpu>, time: Option<u64>, wide: bool) -> Hints {
    let machine = Some(if wide { 0x8664 } else { 0x14c });
    let system_time = time.filter(|time| *time != 0);
    Hints {
        dtb: cpu.iter().map(|cpu| cpu.cr3).collect(),
        cpus: cpu.into_iter().collect(),
        windows: Some(WindowsHints { machine, system_time, ..WindowsHints::default() }),
        ..Hints::default()
    }
}
