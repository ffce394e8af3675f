//! What is left of a kernel in an image whose page tables or texts are damaged, enough to say which kernel it was and where.
//!
//! No page is needed: the page table of every process names the kernel's, every pointer in the kernel's data says by how much
//! the kernel was moved, and every module file says for which release it was built. Truth: guests of 6.1 and 6.12 with up to a
//! fifth of their pages zeroed.

use std::collections::{BTreeSet, HashMap};

use memchr::memmem;
use memory::{AddressSpace, CHUNK, scan};
use object::little_endian;
use profile::Profile;

use super::arch::{Arch, text};
use super::place::link_to_physical;

/// Bytes of a page of x86-64, and of a table in it.
const PAGE: usize = 4096;
/// Flags of the kernel's entries in a first table: `_KERNPG_TABLE` and `_PAGE_TABLE` (arch/x86/include/asm/pgtable_types.h).
const TABLE_FLAGS: [u64; 2] = [0x063, 0x067];
/// Most first tables that are kept, one for each process.
const MAX_TABLES: usize = 4096;
/// Most places for a kernel that tables name.
const MAX_PLACES: usize = 8;
/// Fewest pointers that must agree about a slide, and about a place; and by how much they must outnumber those for any other slide.
const MIN_POINTERS: usize = 64;
const MAJORITY: usize = 4;
/// They must be one of so many distinct pointers at least.
const SHARE: usize = 4;
/// Largest kernel image that is searched for pointers, in bytes.
const MAX_IMAGE: u64 = 256 << 20;
/// Most releases found by their modules.
const MAX_RELEASES: usize = 16;
/// Longest release: a field of `struct new_utsname`.
const MAX_RELEASE: usize = 64;
/// Where the release is in `struct new_utsname` (include/uapi/linux/utsname.h): behind two fields of 65 bytes.
const UTS_RELEASE: usize = 130;

/// The first page table of a process, or the kernel's own (x86-64).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TopTable {
    /// Its physical address.
    pub(super) at: u64,
    /// Physical address of the table for the last entry, that of the kernel's image.
    pub(super) next: u64,
    /// Number of entries of the upper half in use.
    used: usize,
}

/// All pages that look like first tables.
pub(super) fn top_tables(space: &dyn AddressSpace) -> Vec<TopTable> {
    let end = space.end();
    let (mut found, _) = scan(space, CHUNK, 0, |piece| {
        // Pieces of odd images may begin inside a page.
        let skipped = usize::try_from(piece.addr.wrapping_neg() % PAGE as u64).unwrap_or(0);
        let own = piece.bytes.get(..piece.own).and_then(|own| own.get(skipped..)).unwrap_or_default();
        let pages = own.as_chunks::<PAGE>().0.iter().enumerate();
        let tables = pages.filter_map(|(n, page)| {
            let entries = page.as_chunks::<8>().0;
            let last = u64::from_le_bytes(*entries.last()?);
            let next = last & !0xfff;
            if !TABLE_FLAGS.contains(&(last & 0xfff)) || next >= end {
                return None;
            }
            let used = entries.iter().skip(256).filter(|entry| **entry != [0; 8]).count();
            let at = piece.addr.wrapping_add((skipped + n * PAGE) as u64);
            Some(TopTable { at, next, used })
        });
        tables.collect()
    });
    found.truncate(MAX_TABLES);
    found
}

/// Physical addresses of the tables that the last entry of a first table may lead to: with four levels, with five.
fn kernel_tables(profile: &Profile, physical_shift: u64) -> [Option<u64>; 2] {
    ["level3_kernel_pgt", "level4_kernel_pgt"].map(|name| {
        let link = link_to_physical(profile, profile.symbol(name)?)?;
        Some(link.wrapping_add(physical_shift))
    })
}

/// Physical shifts of the kernel that tables name, the one most of them name first.
pub(super) fn shifts(profile: &Profile, tables: &[TopTable]) -> Vec<u64> {
    let alignment = Arch::of(profile).alignment();
    let mut votes: HashMap<u64, usize> = HashMap::new();
    for table in tables {
        for link in kernel_tables(profile, 0).into_iter().flatten() {
            let shift = table.next.wrapping_sub(link);
            if shift.is_multiple_of(alignment) {
                *votes.entry(shift).or_default() += 1;
            }
        }
    }
    let mut votes: Vec<(u64, usize)> = votes.into_iter().collect();
    votes.sort_unstable_by_key(|&(shift, count)| (std::cmp::Reverse(count), shift));
    votes.into_iter().take(MAX_PLACES).map(|(shift, _)| shift).collect()
}

/// The first tables that have the kernel's half, and whether there are five levels; the fullest first, the kernel's own before.
pub(super) fn roots(
    profile: &Profile,
    physical_shift: u64,
    tables: &[TopTable],
    own: Option<u64>,
) -> Vec<(u64, bool)> {
    let [four, five] = kernel_tables(profile, physical_shift);
    let mut found: Vec<(&TopTable, bool)> = tables
        .iter()
        .filter(|table| [four, five].contains(&Some(table.next)))
        .map(|table| (table, Some(table.next) == five))
        .collect();
    found.sort_by_key(|(table, _)| (Some(table.at) != own, std::cmp::Reverse(table.used)));
    found.into_iter().map(|(table, five)| (table.at, five)).collect()
}

/// The virtual slide of a kernel by the pointers in its image at a physical place; and how many agree.
///
/// A pointer to a symbol is at the symbol's address plus the slide, so with the right one thousands of words of the image are
/// addresses of symbols, with any other next to none. The place is right where thousands of words are their own addresses, as in
/// the heads of empty lists.
pub(super) fn slide(
    profile: &Profile,
    physical: &dyn AddressSpace,
    physical_shift: u64,
) -> Option<(u64, usize)> {
    let arch = Arch::of(profile);
    let granule = arch.alignment();
    let text = text(profile)?;
    let end = profile.symbol("_end")?;
    let first = profile.symbol("_etext").filter(|at| (text..end).contains(at)).unwrap_or(text) & !7;
    let size = end.checked_sub(first)?.min(MAX_IMAGE);
    let mut symbols: HashMap<u64, Vec<u64>> = HashMap::new();
    for symbol in profile.symbols().filter(|symbol| (text..end).contains(&symbol.value)) {
        symbols.entry(symbol.value % granule).or_default().push(symbol.value);
    }
    for places in symbols.values_mut() {
        places.sort_unstable();
        places.dedup();
    }
    let width = if arch == Arch::I386 { 4 } else { 8 };
    let modes = arch.modes(profile);
    let lowest = modes.iter().map(|(_, start, _)| *start).min()?;
    let highest = modes.iter().map(|(.., end)| *end).max()?;
    let start = link_to_physical(profile, first)?.wrapping_add(physical_shift);
    let mut page = vec![0; PAGE];
    // Each with its own physical address.
    let mut words: Vec<(u64, u64)> = Vec::new();
    for offset in (0..size).step_by(PAGE) {
        let at = start.wrapping_add(offset);
        if physical.read_at(at, &mut page).is_ok() {
            let values = page.chunks_exact(width).zip((at..).step_by(width));
            let values = values.map(|(word, at)| (little_endian(word), at));
            words.extend(values.filter(|(word, _)| (lowest..highest).contains(word)));
        }
    }
    // A value that stands there often must not count more than others.
    let pointers: BTreeSet<u64> = words.iter().map(|(word, _)| *word).collect();
    let distinct = pointers.len();
    let mut votes: HashMap<u64, usize> = HashMap::new();
    for pointer in pointers {
        for symbol in symbols.get(&(pointer % granule)).into_iter().flatten() {
            *votes.entry(pointer.wrapping_sub(*symbol)).or_default() += 1;
        }
    }
    let (&slide, &count) = votes.iter().max_by_key(|&(slide, count)| (count, std::cmp::Reverse(slide)))?;
    let second = votes.iter().filter(|(other, _)| **other != slide).map(|(_, count)| *count).max();
    let clear = count >= MIN_POINTERS && count >= MAJORITY.saturating_mul(second.unwrap_or(0));
    // Of the right build about half of the pointers are symbols, of a near one those before the first difference.
    let clear = clear && count >= distinct / SHARE;
    let own = arch.link_base(profile)?.wrapping_add(slide).wrapping_sub(physical_shift);
    let own = words.iter().filter(|(word, at)| at.wrapping_add(own) == *word).count();
    (clear && own >= MIN_POINTERS).then_some((slide, count))
}

/// Releases of kernels that the image names: `vermagic=` of module files, and `struct new_utsname`.
pub(super) fn releases(space: &dyn AddressSpace) -> BTreeSet<String> {
    let magic = memmem::Finder::new(b"vermagic=");
    let mut system = b"Linux".to_vec();
    system.resize(65, 0);
    let names = memmem::Finder::new(&system);
    let (found, _) = scan(space, CHUNK, UTS_RELEASE + MAX_RELEASE + 1, |piece| {
        let own = |at: &usize| *at < piece.own;
        let magics = magic.find_iter(piece.bytes).take_while(own).map(|at| at + 9);
        let names = names.find_iter(piece.bytes).take_while(own).map(|at| at + UTS_RELEASE);
        magics
            .chain(names)
            .filter_map(|at| release(piece.bytes.get(at..)?))
            .collect::<BTreeSet<String>>()
            .into_iter()
            .collect()
    });
    let all: BTreeSet<String> = found.into_iter().collect();
    all.into_iter().take(MAX_RELEASES).collect()
}

/// The release that bytes begin with: it begins with a digit and has a dot, and ends with a space or NUL.
fn release(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.get(..=MAX_RELEASE).unwrap_or(bytes);
    let end = bytes.iter().position(|byte| matches!(byte, b' ' | 0))?;
    let text = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_' | '~');
    let fits =
        text.starts_with(|c: char| c.is_ascii_digit()) && text.contains('.') && text.chars().all(plain);
    fits.then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
