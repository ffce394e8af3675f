//! Where the pages of a crash dump are: run list, bitmaps, page ranges.

use super::header::Header;
use crate::bitmap::{Bitmap, ones};
use crate::bytes::{to_u64, to_usize, u32_at, u64_at};
use crate::format::Refused;
use crate::image::Limits;
use crate::{AddressSpace, Run};

const PAGE: u64 = 4096;

/// Lays page ranges back to back from a file offset on. Pages and offsets that do not fit into 64 bits end
/// the list with an error.
fn back_to_back(ranges: impl Iterator<Item = (u64, u64)>, first: u64) -> Result<Vec<Run>, Refused> {
    let mut target = first;
    let mut runs: Vec<Run> = Vec::new();
    for (page, count) in ranges {
        let place = || {
            let (start, len) = (page.checked_mul(PAGE)?, count.checked_mul(PAGE)?);
            start.checked_add(len)?;
            Some((Run { start, len, target }, target.checked_add(len)?))
        };
        let (run, next) =
            place().ok_or_else(|| format!("impossible range of {count} pages at page: {page:#x}"))?;
        runs.push(run);
        target = next;
    }
    Ok(runs)
}

/// Type 1: the runs of the header.
pub(super) fn full(header: &Header, warnings: &mut Vec<String>) -> Result<Vec<Run>, Refused> {
    let (claimed, ranges) = header.runs().ok_or("the header has no valid list of memory runs")?;
    let listed = ranges.iter().map(|(_, count)| *count).fold(0, u64::saturating_add);
    if claimed != listed {
        warnings.push(format!("the header claims {claimed} pages, its runs hold: {listed}"));
    }
    back_to_back(ranges.into_iter(), header.size())
}

/// Types 5, 6 and 7: a header with the offset of the first page and a bitmap, both of 64-bit fields.
pub(super) fn bitmap(
    base: &dyn AddressSpace,
    header: &Header,
    limits: &Limits,
    warnings: &mut Vec<String>,
) -> Result<Vec<Run>, Refused> {
    let bytes = base.read_vec(header.size(), 0x38, 0x38)?;
    if !bytes.starts_with(b"FDMPDUMP") && !bytes.starts_with(b"SDMPDUMP") {
        return Err("no \"FDMP\" or \"SDMP\" signature behind the header".into());
    }
    let field = |at| u64_at(&bytes, at).ok_or("the bitmap header is cut off");
    let (first, present, pages) = (field(0x20)?, field(0x28)?, field(0x30)?);
    stored_pages(base, header.size().saturating_add(0x38), pages, (first, present), limits, warnings)
}

/// Type 2, before Windows 8: a header of 32-bit fields.
pub(super) fn summary(
    base: &dyn AddressSpace,
    header: &Header,
    limits: &Limits,
    warnings: &mut Vec<String>,
) -> Result<Vec<Run>, Refused> {
    let bytes = base.read_vec(header.size(), 0x28, 0x28)?;
    if !bytes.starts_with(b"SDMPDUMP") {
        return Err("no \"SDMP\" signature behind the header".into());
    }
    let field = |at| u32_at(&bytes, at).map(u64::from).ok_or("the summary header is cut off");
    let (first, pages, present) = (field(0xc)?, field(0x10)?, field(0x14)?);
    if field(0x18)? != pages {
        return Err(format!("the summary header gives two sizes of the bitmap: {pages}").into());
    }
    let at = header.size().saturating_add(if header.wide { 0x28 } else { 0x20 });
    stored_pages(base, at, pages, (first, present), limits, warnings)
}

/// The runs of a bitmap of `pages` bits at `at`; `first` is the offset of the first stored page.
fn stored_pages(
    base: &dyn AddressSpace,
    at: u64,
    pages: u64,
    (first, present): (u64, u64),
    limits: &Limits,
    warnings: &mut Vec<String>,
) -> Result<Vec<Run>, Refused> {
    let size = pages.div_ceil(8);
    if first < at.saturating_add(size) {
        return Err(format!("the first page lies inside the bitmap: {first:#x}").into());
    }
    if size > base.end() {
        return Err(format!("the bitmap is cut off, its pages: {pages}").into());
    }
    let bitmap = Bitmap::new(base.read_vec(at, size, limits.max_table)?).truncated(pages);
    let stored = ones(bitmap.bytes());
    if stored != present {
        warnings.push(format!("the header claims {present} stored pages, the bitmap has: {stored}"));
    }
    let ranges = bitmap.ranges(0).take(limits.max_runs.saturating_add(1));
    let runs = back_to_back(ranges.map(|(start, end)| (start, end.saturating_sub(start))), first)?;
    if runs.len() > limits.max_runs {
        return Err(format!("more ranges than the limit: {}", limits.max_runs).into());
    }
    Ok(runs)
}

/// Types 8, 9 and 10: a list of page ranges.
pub(super) fn ranges(base: &dyn AddressSpace, header: &Header, limits: &Limits) -> Result<Vec<Run>, Refused> {
    /// Size of the header with what precedes the list, in bytes.
    const HEADER: u64 = 0x30;
    let bytes = base.read_vec(header.size(), HEADER, 0x30)?;
    if bytes.get(4..12) != Some(b"RDMPDUMP") {
        return Err("no \"RDMP\" signature behind the header".into());
    }
    let field = |at| u64_at(&bytes, at).ok_or("the range header is cut off");
    let (size, first, total) = (field(0x10)?, field(0x18)?, field(0x28)?);
    let at = header.size().saturating_add(HEADER);
    // Size and offset count from different places and must name the same end of the list.
    let end = header.size().saturating_add(0x20).saturating_add(size);
    if size < 0x20 || first != end || !size.is_multiple_of(16) {
        return Err(format!("the range header contradicts itself, first page: {first:#x}").into());
    }
    let room = limits.max_table.min(limits.max_runs.saturating_mul(16));
    let list = first.saturating_sub(at).min(base.end());
    let list = base.read_vec(at, list, room)?;
    let complete = header.dump_type() == Some(10);
    let mut left = if complete { total } else { u64::MAX };
    let ranges = list.chunks_exact(16).map_while(|entry| {
        let (page, count) = (u64_at(entry, 0)?, u64_at(entry, 8)?);
        // Page 0 ends the list: the debugger pads it with zeros.
        if page == 0 || left == 0 {
            return None;
        }
        let count = count.min(left);
        left = left.saturating_sub(count);
        Some((page, count))
    });
    back_to_back(ranges.take(to_usize(to_u64(limits.max_runs))), first)
}
