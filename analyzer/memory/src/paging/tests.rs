//! The walker against tables built here by the letter of the Intel SDM. That it agrees with a real MMU is
//! checked on real guests: `examples/check_paging.rs` compares with QEMU's `info mem`.

use crate::paging::{ARM64, ARM64_4K_48, Next, PAE, Paging, VirtualSpace, X64, X64_LA57, X86};
use crate::{AddressSpace, Fault, FileSpace, Run};
use proptest::prelude::*;
use std::sync::Arc;

/// A physical memory of `pages` pages with entries set: (physical address of the table, index, entry).
fn memory(paging: &Paging, pages: usize, entries: &[(u64, u64, u64)]) -> Arc<dyn AddressSpace> {
    let mut bytes = vec![0; pages * 4096];
    for (number, page) in bytes.chunks_mut(4096).enumerate().skip(8) {
        page.fill(u8::try_from(number % 256).unwrap());
    }
    let width = usize::from(paging.entry_bytes);
    for (table, index, entry) in entries {
        let at = usize::try_from(*table).unwrap() + usize::try_from(*index).unwrap() * width;
        bytes[at..at + width].copy_from_slice(&entry.to_le_bytes()[..width]);
    }
    Arc::new(FileSpace::from_vec(bytes))
}

/// Flags of a table entry and of a large page: present, writable; page size.
const T: u64 = 0x3;
const L: u64 = 0x83;

fn x64() -> VirtualSpace {
    let nx = 1 << 63;
    let entries = [
        (0x1000, 0x110, 0x2000 | T),         // PML4E of 0xffff8800_00000000
        (0x1000, 0, 0x2000 | T | nx),        // and of 0
        (0x2000, 0, 0x3000 | T),             // PDPTE
        (0x2000, 1, (5 << 30) | 0x1000 | L), // 1 GiB page; bit 12 is PAT, not an address bit
        (0x3000, 0, 0x4000 | T),             // PDE
        (0x3000, 1, 0x60_0000 | L),          // 2 MiB pages, contiguous
        (0x3000, 2, 0x80_0000 | L),
        (0x4000, 0, 0x8000 | T | nx), // PTEs
        (0x4000, 1, 0x9000 | T),
        (0x4000, 3, 0xdead_0000),     // not present, meaning kept by the system
        (0x4000, 4, 0x9000_0000 | T), // maps what the image does not store
    ];
    VirtualSpace::new(memory(&X64, 16, &entries), &X64, 0x1000 | 0x18)
}

const HIGH: u64 = 0xffff_8800_0000_0000;

#[test]
fn x64_translates_pages_of_every_size_in_both_halves() {
    let space = x64();
    for half in [0, HIGH] {
        assert_eq!(space.translate(half | 0x123), Ok(0x8123));
        assert_eq!(space.translate(half | 0x20_1234), Ok(0x60_1234));
        assert_eq!(space.translate(half | 0x5f_ffff), Ok(0x9f_ffff));
        assert_eq!(space.translate(half | 0x4abc_def0), Ok((5 << 30) | 0x0abc_def0));
    }
    assert_eq!(space.read_u16(HIGH | 0xfff), Ok(0x0908));
    assert_eq!(space.borrow(HIGH | 0xff0, 16).map(<[u8]>::len), Some(16));
    assert_eq!(space.borrow(HIGH | 0xff0, 17), None);
    assert_eq!(space.name(), "x64 DTB 0x1000");
}

#[test]
fn a_missing_entry_says_level_and_keeps_its_bits() {
    let space = x64();
    let absent = |addr: u64, level, entry| Err(Fault::NotPresent { addr, level, entry });
    // Twice: from the tables, then from the cache.
    for _ in 0..2 {
        assert_eq!(space.translate(HIGH | 0x3abc), absent(HIGH | 0x3abc, 1, 0xdead_0000));
        assert_eq!(space.translate(HIGH | 0x60_0000), absent(HIGH | 0x60_0000, 2, 0));
        assert_eq!(space.translate(HIGH | 0x8000_0000), absent(HIGH | 0x8000_0000, 3, 0));
        assert_eq!(space.translate(0xffff_ffff_8000_0000), absent(0xffff_ffff_8000_0000, 4, 0));
    }
    assert_eq!(space.read_u8(HIGH | 0x4000), Err(Fault::Truncated { offset: 0x9000_0000 }));
}

#[test]
fn addresses_that_are_not_canonical_are_out_of_range() {
    for addr in [0x8800_0000_0123, 0xffff_0800_0000_0123, 1 << 47, 0xffff_7fff_ffff_ffff] {
        assert_eq!(x64().translate(addr), Err(Fault::OutOfRange { addr }));
        assert_eq!(x64().explain(addr).pop().unwrap().next, Next::Fault(Fault::OutOfRange { addr }));
    }
    let space = VirtualSpace::new(memory(&PAE, 8, &[]), &PAE, 0x1000);
    assert_eq!(space.translate(1 << 32), Err(Fault::OutOfRange { addr: 1 << 32 }));
}

#[test]
fn a_read_may_end_at_the_top_of_the_address_space_but_not_wrap() {
    let entries = [(0x1000, 511, 0x2000 | T), (0x2000, 511, 0x3000 | T), (0x3000, 511, 0x60_0000 | L)];
    let tables = memory(&X64, 0x800, &entries);
    let space = VirtualSpace::new(tables, &X64, 0x1000);
    assert_eq!(space.read_u8(u64::MAX), Ok(0xff));
    assert_eq!(space.read_u16(u64::MAX), Err(Fault::OutOfRange { addr: u64::MAX }));
    let runs: Vec<Run> = space.runs(0, u64::MAX).collect();
    assert_eq!(runs, [Run { start: 0xffff_ffff_ffe0_0000, len: 0x20_0000, target: 0x60_0000 }]);
    assert_eq!(space.read_at(0x1234, &mut []), Ok(()));
}

#[test]
fn runs_are_canonical_merged_and_clipped() {
    let run = |start, len, target| Run { start, len, target };
    let low = [
        run(0, 0x2000, 0x8000),
        run(0x4000, 0x1000, 0x9000_0000),
        run(0x20_0000, 0x40_0000, 0x60_0000),
        run(0x4000_0000, 0x4000_0000, 5 << 30),
    ];
    let high = low.map(|run| Run { start: run.start | HIGH, ..run });
    let all: Vec<Run> = x64().runs(0, u64::MAX).collect();
    assert_eq!(all, [low, high].concat());
    let clipped: Vec<Run> = x64().runs(HIGH | 0x1800, HIGH | 0x20_1000).collect();
    let expected = [
        run(HIGH | 0x1800, 0x800, 0x9800),
        run(HIGH | 0x4000, 0x1000, 0x9000_0000),
        run(HIGH | 0x20_0000, 0x1000, 0x60_0000),
    ];
    assert_eq!(clipped, expected);
}

#[test]
fn explain_shows_each_entry_and_its_flags() {
    let steps = x64().explain(0x1234);
    let names: Vec<&str> = steps.iter().map(|step| step.name).collect();
    assert_eq!(names, ["PML4E", "PDPTE", "PDE", "PTE"]);
    assert_eq!(steps[0].entry_addr, 0x1000);
    assert_eq!(steps[0].flags, ["present", "rw", "nx"]);
    assert_eq!(steps[2].next, Next::Table(0x4000));
    assert_eq!(steps[3].entry_addr, 0x4008);
    assert_eq!(steps[3].next, Next::Page { phys: 0x9234, size: 4096 });
    let large = x64().explain(0x20_0005).pop().unwrap();
    assert_eq!(large.flags, ["present", "rw", "large"]);
    assert_eq!((large.name, large.next), ("PDE", Next::Page { phys: 0x60_0005, size: 2 << 20 }));
    let broken = VirtualSpace::new(memory(&X64, 4, &[(0x1000, 0, 0x7_0000 | T)]), &X64, 0x1000).explain(0);
    assert_eq!(broken[1].entry, None);
    assert_eq!(broken[1].next, Next::Fault(Fault::Truncated { offset: 0x7_0000 }));
}

#[test]
fn la57_has_a_fifth_level() {
    let entries = [
        (0x1000, 0x1ff, 0x2000 | T),
        (0x2000, 0x110, 0x3000 | T),
        (0x3000, 0, 0x4000 | T),
        (0x4000, 0, 0x5000 | T),
        (0x5000, 0, 0x8000 | T),
    ];
    let space = VirtualSpace::new(memory(&X64_LA57, 16, &entries), &X64_LA57, 0x1000);
    assert_eq!(space.translate(HIGH | 0xabc), Ok(0x8abc));
    assert_eq!(space.translate(1 << 56), Err(Fault::OutOfRange { addr: 1 << 56 }));
    let absent = 0xff11_0000_0000_0000;
    assert_eq!(space.translate(absent), Err(Fault::NotPresent { addr: absent, level: 5, entry: 0 }));
    assert_eq!(space.runs(0, u64::MAX).collect::<Vec<_>>(), [Run { start: HIGH, len: 4096, target: 0x8000 }]);
}

#[test]
fn arm64_has_a_root_for_each_half_and_ignores_tags_and_signatures() {
    let entries = [
        (0x1000, 0, 0x3000 | T),
        (0x3000, 0, 0x4000 | T),
        (0x4000, 0, 0x5000 | T),
        (0x5000, 1, 0x9000 | T),     // no access flag: the page is there all the same
        (0x2000, 0x100, 0x6000 | T), // 0xffff800000000000
        (0x6000, 0, 0x4000_0701),    // a 1 GiB block
        (0x6000, 1, 1),              // block at 0
        (0x2000, 0x101, 0x7000_0000 | 1), // no blocks at the first level
    ];
    let tables = memory(&ARM64_4K_48, 16, &entries);
    let process = VirtualSpace::of_process(Arc::clone(&tables), &ARM64_4K_48, 0x1000, 0x2000);
    assert_eq!(process.translate(0x1abc), Ok(0x9abc));
    assert_eq!(process.translate(0xb400_0000_0000_1abc), Ok(0x9abc));
    let kernel = VirtualSpace::new(tables, &ARM64_4K_48, 0x2000);
    for space in [&process, &kernel] {
        assert_eq!(space.translate(0xffff_8000_0000_0123), Ok(0x4000_0123));
        assert_eq!(space.translate(0x00af_8000_0000_0123), Ok(0x4000_0123)); // signed
        let absent = 0xffff_8080_0000_0000;
        let fault = Fault::NotPresent { addr: absent, level: 4, entry: 0x7000_0001 };
        assert_eq!(space.translate(absent), Err(fault));
        assert_eq!(space.explain(absent).pop().unwrap().next, Next::Fault(fault));
    }
    let low = Fault::NotPresent { addr: 0x1abc, level: 0, entry: 0 };
    assert_eq!(kernel.translate(0x1abc), Err(low));
    assert_eq!(kernel.explain(0x1abc).pop().unwrap().next, Next::Fault(low));
    let high = Run { start: 0xffff_8000_0000_0000, len: 1 << 30, target: 0x4000_0000 };
    let second = Run { start: 0xffff_8000_4000_0000, len: 1 << 30, target: 0 };
    assert_eq!(kernel.runs(0, u64::MAX).collect::<Vec<_>>(), [high, second]);
    let page = Run { start: 0x1000, len: 0x1000, target: 0x9000 };
    assert_eq!(process.runs(0, u64::MAX).collect::<Vec<_>>(), [page, high, second]);
    assert_eq!(process.runs(0, 1 << 48).collect::<Vec<_>>(), [page]);
    assert_eq!(process.runs(1 << 63, u64::MAX).collect::<Vec<_>>(), [high, second]);
}

#[test]
fn pae_has_four_root_entries_at_a_32_byte_boundary() {
    let entries = [
        (0x1020, 3, 0x2000 | 1), // PDPTE of 0xc0000000
        (0x2000, 0, 0x3000 | T),
        (0x2000, 1, (1 << 32) | 0x20_0000 | L), // above 4 GiB
        (0x3000, 2, 0x8000 | T),
    ];
    let space = VirtualSpace::new(memory(&PAE, 16, &entries), &PAE, 0x1020);
    assert_eq!(space.translate(0xc000_2abc), Ok(0x8abc));
    assert_eq!(space.translate(0xc020_0001), Ok(0x1_0020_0001));
    assert_eq!(space.translate(0), Err(Fault::NotPresent { addr: 0, level: 3, entry: 0 }));
    assert_eq!(space.runs(0, u64::MAX).count(), 2);
    assert_eq!(space.end(), 1 << 32);
}

#[test]
fn x86_has_4_mib_pages_with_36_bit_addresses() {
    let entries = [
        (0x1000, 0x300, 0x2000 | T),
        (0x1000, 0x301, 0x0040_0000 | (0x3 << 13) | L), // bits 14..13 are address bits 33..32
        (0x2000, 0x3ff, 0x8000 | T),
    ];
    let space = VirtualSpace::new(memory(&X86, 16, &entries), &X86, 0x1000);
    assert_eq!(space.translate(0xc03f_f123), Ok(0x8123));
    assert_eq!(space.translate(0xc040_0010), Ok(0x3_0040_0010));
    let absent = Err(Fault::NotPresent { addr: 0xc000_0000, level: 1, entry: 0 });
    assert_eq!(space.translate(0xc000_0000), absent);
    let runs: Vec<Run> = space.runs(0xc000_0000, 0xc040_0004).collect();
    let expected = [
        Run { start: 0xc03f_f000, len: 4096, target: 0x8000 },
        Run { start: 0xc040_0000, len: 4, target: 0x3_0040_0000 },
    ];
    assert_eq!(runs, expected);
}

#[test]
fn tables_that_refer_to_themselves_end_and_say_so() {
    // Every entry of the only table points back to it: 2^36 pages, all mapped to the same page.
    let entries: Vec<(u64, u64, u64)> = (0..512).map(|index| (0x1000, index, 0x1000 | T)).collect();
    let space = VirtualSpace::new(memory(&X64, 8, &entries), &X64, 0x1000);
    let mut mappings = space.mappings(0, u64::MAX);
    assert_eq!(mappings.by_ref().take(1000).count(), 1000);
    // One upper table with 512 entries into an unreadable region: reported, bounded.
    let entries: Vec<(u64, u64, u64)> = (0..512).map(|index| (0x1000, index, 0x7000_0000 | T)).collect();
    let space = VirtualSpace::new(memory(&X64, 8, &entries), &X64, 0x1000);
    let mut mappings = space.mappings(0, u64::MAX);
    assert_eq!(mappings.next(), None);
    assert_eq!(mappings.unreadable().len(), 16);
    assert_eq!(mappings.unreadable()[0], (0, Fault::Truncated { offset: 0x7000_0000 }));
    assert!(!mappings.truncated());
}

#[test]
fn threads_that_share_a_cache_see_the_same_translations() {
    // More regions than cache slots, so that threads evict each other's entries.
    let mut entries = vec![
        (0x1000, 0, 0x2000 | T),
        (0x2000, 0, 0x3000 | T),
        (0x2000, 1, 0x4000 | T),
        (0x2000, 2, 0x5000 | T),
    ];
    for index in 0..512 {
        for table in [0x3000, 0x4000] {
            entries.push((table, index, ((index * 7 + table) << 21) | L));
        }
    }
    let space = VirtualSpace::new(memory(&X64, 8, &entries), &X64, 0x1000);
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let space = &space;
            scope.spawn(move || {
                for step in 0..20_000u64 {
                    let addr = ((step * 13 + thread * 517) % 1536) << 21 | (step & 0xfff);
                    let expected = match space.explain(addr).pop().unwrap().next {
                        Next::Page { phys, .. } => Ok(phys),
                        Next::Fault(fault) => Err(fault),
                        Next::Table(_) => unreachable!(),
                    };
                    assert_eq!(space.translate(addr), expected);
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random small memories as page tables: enumeration, translation and explanation agree, and all of them end.
    #[test]
    fn enumeration_and_translation_agree_on_random_tables(
        mode in 0usize..14,
        entries in prop::collection::vec((0u64..8, 0u64..512, 0u64..12, 0u64..0x400), 0..40),
        probes in prop::collection::vec((0u64..512, 0u64..512, 0u64..4, 0u64..4), 4),
    ) {
        let all: Vec<&'static Paging> = [&X64, &X64_LA57, &PAE, &X86].into_iter().chain(ARM64).collect();
        let paging = all[mode];
        let granule = paging.levels.last().unwrap().shift;
        let entries: Vec<(u64, u64, u64)> = entries
            .into_iter()
            .map(|(table, index, target, flags)| (table << granule, index % 8, (target << granule) | flags))
            .collect();
        let pages = 8 << (granule - 12);
        let space = VirtualSpace::of_process(memory(paging, pages, &entries), paging, 0, 1 << granule);
        let runs: Vec<Run> = space.mappings(0, u64::MAX).take(2000).collect();
        for pair in runs.windows(2) {
            prop_assert!(pair[0].end() <= pair[1].start);
            prop_assert!(!pair[0].joins(&pair[1]));
        }
        for run in runs.iter().take(50) {
            for offset in [0, run.len / 2, run.len - 1] {
                prop_assert_eq!(space.translate(run.start + offset), Ok(run.target + offset));
            }
        }
        let last = runs.last().map_or(0, Run::end);
        for (a, b, c, d) in probes {
            let addr = paging.canonical((a / 8) << 55 | (a % 8) << 39 | (b % 8) << 30 | c << 21 | d << 12 | 0x42);
            let translated = space.translate(addr);
            let explained = space.explain(addr).pop().map(|step| step.next);
            match translated {
                Ok(phys) => {
                    let same = matches!(explained, Some(Next::Page { phys: found, .. }) if found == phys);
                    prop_assert!(same);
                }
                Err(fault) => prop_assert_eq!(explained, Some(Next::Fault(fault))),
            }
            if addr < last || runs.len() < 2000 {
                let mapped = runs.iter().any(|run| run.start <= addr && addr < run.end());
                prop_assert_eq!(mapped, translated.is_ok(), "{:#x}", addr);
            }
        }
    }
}
