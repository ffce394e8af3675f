//! Searching physical memory for byte strings.

use std::ops::ControlFlow;

use memchr::memmem;
use memory::AddressSpace;

/// Bytes looked at in one piece.
const CHUNK: u64 = 1 << 20;

/// Calls `hit` with the physical address of every occurrence of `needle`, ascending, until it breaks. Only memory that
/// is stored in the image is looked at; an occurrence across a gap is not found.
pub(super) fn find(space: &dyn AddressSpace, needle: &[u8], mut hit: impl FnMut(u64) -> ControlFlow<()>) {
    let finder = memmem::Finder::new(needle);
    let overlap = needle.len().saturating_sub(1) as u64;
    let mut buf = Vec::new();
    // Runs that continue each other in memory are one run here even where the file stores them apart.
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for run in space.runs(0, u64::MAX) {
        match merged.last_mut() {
            Some((_, end)) if *end == run.start => *end = run.end(),
            _ => merged.push((run.start, run.end())),
        }
    }
    for (start, end) in merged {
        let mut at = start;
        while at < end {
            let len = usize::try_from((CHUNK + overlap).min(end - at)).unwrap_or(0);
            let chunk = match space.borrow(at, len) {
                Some(bytes) => bytes,
                None => {
                    buf.resize(len, 0);
                    space.read_padded(at, &mut buf);
                    &buf
                }
            };
            for offset in finder.find_iter(chunk) {
                if hit(at + offset as u64).is_break() {
                    return;
                }
            }
            at += CHUNK;
        }
    }
}
