//! Windows 8 to 11: restore sets of the boot loader and of the kernel, each a chain of compression sets.
//!
//! ```text
//! set   u32: bits 0-7 number of descriptors, 8-27 compressed size, 30-31 Huffman (else plain) Xpress
//!       descriptors, u64 (x86: u32): bits 0-3 number of pages less one, then the first page
//!       compressed pages; the next set
//! ```
//! Where the chains begin and how many pages they hold stands in the header, whose size tells its layout.

use super::{BLOCK_PAGES, PAGE, Pages, hints, processor};
use crate::Hints;
use crate::bytes::{u32_at, u64_at};
use crate::codec::Codec;
use crate::format::Refused;

/// Size of the header, whether it is a 64-bit one, and offsets: pages for the loader, first page of its chain,
/// of the kernel's chain, pages of that.
type Layout = (u32, bool, usize, usize, usize, usize);

const LAYOUTS: &[Layout] = &[
    (0x360, true, 0x58, 0x60, 0x68, 0x1c8), // 8, 8.1
    (0x3b0, true, 0x58, 0x68, 0x70, 0x218), // 10 10240, 10586
    (0x3c8, true, 0x58, 0x68, 0x70, 0x220), // 14393
    (0x3d8, true, 0x58, 0x68, 0x70, 0x230), // 15063 to 17134
    (0x3e0, true, 0x58, 0x68, 0x70, 0x230), // 17763 to 19041
    (0x448, true, 0x58, 0x68, 0x70, 0x230), // 20348 to 22621
    (0x4d8, true, 0x58, 0x68, 0x70, 0x238), // 26100
    (0x2c8, false, 0x48, 0x50, 0x54, 0x1b0),
    (0x310, false, 0x48, 0x50, 0x54, 0x1f8),
    (0x328, false, 0x48, 0x50, 0x54, 0x200),
    (0x338, false, 0x48, 0x50, 0x54, 0x210),
    (0x340, false, 0x48, 0x50, 0x54, 0x210),
];

/// What the header tells.
pub(super) struct Header {
    wide: bool,
    /// Page of the file where a chain begins, and number of memory pages in it; unknown for new layouts.
    chains: [(u64, Option<u64>); 2],
    known: bool,
}

impl Header {
    /// `None` when the header is none of Windows 8 or later.
    pub(super) fn read(head: &[u8]) -> Option<Self> {
        let size = u32_at(head, 0xc)?;
        let wide = u32_at(head, 0x18)? == 0x1000;
        if !(0x2c8..=0x1000).contains(&size) || !(wide || u32_at(head, 0x14)? == 0x1000) {
            return None;
        }
        let known = LAYOUTS.iter().find(|layout| layout.0 == size && layout.1 == wide);
        // Only the counts moved since Windows 10; without one a chain ends where it makes no sense any more.
        let newest = if wide { (0, true, 0x58, 0x68, 0x70, 0) } else { (0, false, 0x48, 0x50, 0x54, 0) };
        let (_, _, loader, boot, kernel, processed) = *known.unwrap_or(&newest);
        let page = |at| if wide { u64_at(head, at) } else { u32_at(head, at).map(u64::from) };
        let count = |at| known.and_then(|_| u64_at(head, at));
        let chains = [(page(boot)?, count(loader)), (page(kernel)?, count(processed))];
        Some(Self { wide, chains, known: known.is_some() })
    }
}

pub(super) fn read(
    header: &Header,
    head: &[u8],
    pages: &mut Pages<'_>,
    warnings: &mut Vec<String>,
) -> Result<Hints, Refused> {
    if !header.known {
        warnings.push("the header is of an unknown build: read like that of the newest known one".to_owned());
    }
    for (name, (first, count)) in ["boot", "kernel"].into_iter().zip(header.chains) {
        let Some(at) = first.checked_mul(PAGE).filter(|at| *at > 0) else { continue };
        let found = chain(pages, at, count.unwrap_or(u64::MAX), header.wide)?;
        if let Some(count) = count.filter(|count| found < *count) {
            warnings
                .push(format!("pages of the {name} chain that are missing: {}", count.saturating_sub(found)));
        }
    }
    let time = u64_at(head, if header.wide { 0x20 } else { 0x18 });
    Ok(hints(processor(pages.base, 1, header.wide), time, header.wide))
}

/// Adds the sets of a chain until it has `count` pages, and gives the number of pages found.
fn chain(pages: &mut Pages<'_>, mut at: u64, count: u64, wide: bool) -> Result<u64, Refused> {
    let mut found = 0u64;
    while found < count {
        let Some(next) = set(pages, at, wide, &mut found)? else { break };
        at = next;
    }
    Ok(found)
}

/// Adds the set at `at` and gives the offset of the next; `None` when there is no set.
fn set(pages: &mut Pages<'_>, at: u64, wide: bool, found: &mut u64) -> Result<Option<u64>, Refused> {
    let Ok(word) = pages.base.read_u32(at) else { return Ok(None) };
    let (descriptors, stored) = (u64::from(word & 0xff), u64::from(word >> 8 & 0xf_ffff));
    let codec = if word >> 30 == 0 { Codec::Xpress } else { Codec::XpressHuffman };
    let size = if wide { 8u64 } else { 4 };
    let Some(data) = at.checked_add(4).and_then(|at| at.checked_add(descriptors.checked_mul(size)?)) else {
        return Ok(None);
    };
    let list = at.saturating_add(4);
    let Ok(list) = pages.base.read_vec(list, descriptors.saturating_mul(size), 8 * 256) else {
        return Ok(None);
    };
    let entry = |entry: &[u8]| if wide { u64_at(entry, 0) } else { u32_at(entry, 0).map(u64::from) };
    let list: Vec<u64> = list.chunks_exact(if wide { 8 } else { 4 }).filter_map(entry).collect();
    let total: u64 = list.iter().map(|entry| (entry & 15).saturating_add(1)).sum();
    let end = data.saturating_add(stored);
    // Compression never makes pages longer, and a set has at most 16.
    if stored == 0 || total == 0 || total > BLOCK_PAGES || stored > total * PAGE || end > pages.base.end() {
        return Ok(None);
    }
    let mut target = pages.end();
    for entry in list {
        let count = (entry & 15).saturating_add(1);
        pages.map(entry >> 4, count, target)?;
        target = target.saturating_add(count.saturating_mul(PAGE));
    }
    pages.block(data, stored, total, codec);
    *found = found.saturating_add(total);
    Ok(Some(end))
}
