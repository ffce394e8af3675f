//! Where RAM begins, for raw dumps that begin there.
//!
//! A dump of the RAM of an ARM64 machine has no address: QEMU's `virt` begins at 1 GiB, boards begin at 0, 2 GiB or
//! elsewhere. The kernel's page tables tell: their entries are real addresses, the dump has their tables at offsets, and only
//! the right distance makes the tables map the kernel's image to where the dump has it.

use std::sync::Arc;

use memory::AddressSpace;
use profile::Profile;

use super::arch::{Arch, shifted};
use super::place::{Hypothesis, locate};
use super::vmcoreinfo::VmcoreInfo;

/// Distances are tried in these steps: banks of RAM begin at multiples of 1 GiB nearly always, of 16 MiB on small boards.
const STEPS: [u64; 2] = [1 << 30, 16 << 20];
/// Most distances that are tried per step; a dump of 16 GiB needs 1024 of the smaller ones.
const MAX_TRIES: usize = 4096;
/// Entries of the root that are looked at.
const ROOT_ENTRIES: usize = 512;

/// Where the RAM of a dump begins whose kernel image is at `offset`; `known` is where the image is by VMCOREINFO `info`. Where the
/// kernel's page tables are lost that must do.
pub(super) fn find(
    profile: &Profile,
    space: &Arc<dyn AddressSpace>,
    offset: u64,
    info: Option<&VmcoreInfo>,
    known: Option<u64>,
) -> Option<u64> {
    let fits = |start: &u64| {
        let hypothesis = Hypothesis::at(offset.wrapping_add(*start), *start, String::new());
        locate(profile, space, &hypothesis, info).is_ok()
    };
    let told = known.and_then(|known| known.checked_sub(offset)).filter(|start| *start != 0);
    told.filter(fits)
        .or_else(|| by_tables(profile, space, offset, fits))
        .or_else(|| told.filter(|start| start.is_multiple_of(STEPS[1])))
}

/// The distance that makes sense of what the root of the page tables leads to.
fn by_tables(
    profile: &Profile,
    space: &Arc<dyn AddressSpace>,
    offset: u64,
    fits: impl Fn(&u64) -> bool,
) -> Option<u64> {
    let root = profile.symbol("swapper_pg_dir")?.wrapping_sub(Arch::Arm64.link_base(profile)?);
    let entries =
        space.read_vec(root.wrapping_add(offset), 8 * ROOT_ENTRIES as u64, 8 * ROOT_ENTRIES).ok()?;
    // Next tables; all of them are in RAM.
    let tables = entries.as_chunks::<8>().0.iter().map(|entry| u64::from_le_bytes(*entry));
    let tables: Vec<u64> =
        tables.filter(|entry| entry & 3 == 3).map(|entry| entry & 0x0000_ffff_ffff_f000).collect();
    let (first, last) = (*tables.iter().min()?, *tables.iter().max()?);
    let lowest = last.saturating_sub(space.end().saturating_sub(1));
    STEPS.into_iter().find_map(|step| {
        let starts = (lowest.div_ceil(step)..=first / step).take(MAX_TRIES).map(|start| start * step);
        starts.filter(|start| *start != 0).find(|start| {
            // Cheap first: a wrong distance finds tables without sense.
            let behind = shifted(space, *start);
            tables.iter().all(|table| has_tables(&*behind, *table)) && fits(start)
        })
    })
}

/// Whether a page looks like a page table: something in it, and every entry either valid or empty.
fn has_tables(space: &dyn AddressSpace, table: u64) -> bool {
    let Ok(page) = space.read_vec(table, 4096, 4096) else { return false };
    let mut entries = page.as_chunks::<8>().0.iter().map(|entry| u64::from_le_bytes(*entry));
    let (valid, others) = entries.by_ref().fold((0, 0), |(valid, others), entry| match entry {
        0 => (valid, others),
        entry if entry & 1 == 1 => (valid + 1, others),
        _ => (valid, others + 1),
    });
    valid > others
}
