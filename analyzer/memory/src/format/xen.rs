//! Cores of Xen domains (`xl dump-core`): ELF files without segments, whose sections hold pages and their
//! numbers.
//!
//! `.xen_pages` holds pages one behind the other; entry `i` of `.xen_pfn` (u64, of fully virtualised domains) or
//! of `.xen_p2m` (pairs of u64: number in the guest and in the machine) says which page of the guest is at `i`.
//! Source: "Xen Core Format" in the documentation of Xen.

use crate::bytes::{to_u64, to_usize, u16_at, u32_at, u64_at};
use crate::format::{Layer, Opened, Refused};
use crate::{Overlap, Run, RunSpace};
use std::sync::Arc;

const PAGE: u64 = 4096;
/// Size of a section header, in bytes.
const HEADER: u64 = 64;
/// Most sections; Xen writes 7.
const MAX_SECTIONS: u16 = 1024;
/// Most bytes of section names.
const MAX_NAMES: usize = 64 << 10;

/// Opens a core of Xen; `None` when the ELF file has no such sections.
pub(super) fn open(layer: &Layer<'_>) -> Option<Result<Opened, Refused>> {
    let Layer { base, head, limits, .. } = *layer;
    let (offset, count, names) = (u64_at(head, 40)?, u16_at(head, 60)?, u16_at(head, 62)?);
    if head.get(4) != Some(&2) || count == 0 || count > MAX_SECTIONS {
        return None;
    }
    let headers = base.read_vec(offset, u64::from(count).saturating_mul(HEADER), 1 << 20).ok()?;
    let header = |index: u16| {
        let bytes = headers.chunks_exact(64).nth(usize::from(index))?;
        Some((u32_at(bytes, 0)?, u64_at(bytes, 24)?, u64_at(bytes, 32)?))
    };
    let (_, at, size) = header(names)?;
    let names = base.read_vec(at, size, MAX_NAMES).ok()?;
    let section = |wanted: &[u8]| {
        let found = (0..count).filter_map(header).find(|(name, ..)| {
            let name = usize::try_from(*name).ok().and_then(|name| names.get(name..)).unwrap_or_default();
            name.split(|byte| *byte == 0).next() == Some(wanted)
        });
        found.map(|(_, at, size)| (at, size))
    };
    let (pages, stored) = section(b".xen_pages")?;
    let (list, stride) = match (section(b".xen_pfn"), section(b".xen_p2m")) {
        (Some(list), _) => (list, 8),
        (None, Some(list)) => (list, 16),
        (None, None) => return Some(Err("a core of Xen without page numbers".into())),
    };
    let number = (stored / PAGE).min(list.1 / to_u64(stride));
    if number > to_u64(limits.max_runs) {
        return Some(Err(format!("more pages than the limit: {number}").into()));
    }
    let Ok(list) = base.read_vec(list.0, number.saturating_mul(to_u64(stride)), limits.max_table) else {
        return Some(Err("the page numbers are cut off".into()));
    };
    let page = |(index, entry): (usize, &[u8])| {
        // All bits set: no page.
        let number = u64_at(entry, 0).filter(|number| *number != u64::MAX)?;
        let target = pages.checked_add(to_u64(index).checked_mul(PAGE)?)?;
        Some(Run { start: number.checked_mul(PAGE)?, len: PAGE, target })
    };
    let runs: Vec<Run> = list.chunks_exact(to_usize(to_u64(stride))).enumerate().filter_map(page).collect();
    if runs.is_empty() {
        return Some(Err("no page is stored".into()));
    }
    let space = RunSpace::new("Xen core", Arc::clone(base), runs, Overlap::FirstWins);
    let promised = space.stored_beyond(base.end());
    let warnings = if promised > 0 {
        vec![format!("the file is cut off, bytes missing: {promised}")]
    } else {
        Vec::new()
    };
    Some(Ok(Opened::new(Arc::new(space)).warnings(warnings)))
}
