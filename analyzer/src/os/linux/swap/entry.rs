//! Page table entries of pages that are not mapped: the swap area and the page in it, or memory that may not be touched.
//!
//! Sources: arch/x86/include/asm/pgtable_64.h, pgtable-3level.h and pgtable-2level.h, arch/arm64/include/asm/pgtable.h,
//! include/linux/swapops.h.

use memory::Paging;
use memory::paging::Match;
use object::{Target, Text, layout};

/// Bits of an address in an 8-byte entry.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Bits of the number of an area.
const AREA_BITS: u32 = 5;

layout! {
    struct Names / NamesLayout = "uts_namespace" {
        release: Text = "name.release",
    }
}

/// A page of a swap area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Slot {
    /// Number of the area, below 32.
    pub area: u64,
    /// Page in it.
    pub page: u64,
}

/// What an entry that is not present says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The page is in memory, at this physical address, but the process may not touch it (`PROT_NONE`).
    NoAccess(u64),
    /// The page is in a swap area, or in a pseudo area: the numbers behind the last real one mean pages that migrate, are poisoned or
    /// belong to devices.
    Swapped(Slot),
}

/// How a kernel writes such entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Coding {
    /// Lowest bit of the number of the area.
    area: u32,
    area_bits: u32,
    /// Lowest bit of the page, and how many it has.
    page: u32,
    page_bits: u32,
    /// Whether the page is stored inverted, so that speculation finds no memory (L1TF).
    inverted: bool,
    /// Entries of memory without access.
    no_access: Match,
    frame: u64,
}

/// x86 with 8-byte entries: the area on top, the page inverted below, above `_PAGE_PROTNONE` (bit 8). Since v4.18 (Linux commit
/// 6b28baca9b1f), and in all older kernels that have the mitigation.
const INVERTED: Coding = Coding {
    area: 59,
    area_bits: AREA_BITS,
    page: 9,
    page_bits: 50,
    inverted: true,
    no_access: Match { mask: 0x101, value: 0x100 },
    frame: FRAME,
};
/// x86-64 without the mitigation, from v4.6 on (Linux commit ace7fab7a6cd).
const PLAIN: Coding = Coding { area: 9, page: 14, inverted: false, ..INVERTED };
/// x86-64 before.
const OLD: Coding = Coding { area: 1, page: 9, page_bits: 55, inverted: false, ..INVERTED };
/// PAE without the mitigation: all in the upper half.
const OLD_PAE: Coding = Coding { area: 32, page: 37, page_bits: 27, inverted: false, ..INVERTED };
/// x86 with 4-byte entries.
const NARROW: Coding =
    Coding { area: 1, page: 9, page_bits: 23, inverted: false, frame: 0xffff_f000, ..INVERTED };
/// ARM64 up to v5.18; no access is bit 58 with the valid bit clear.
const ARM_OLD: Coding = Coding {
    area: 2,
    area_bits: 6,
    page: 8,
    page_bits: 50,
    inverted: false,
    no_access: Match { mask: 1 << 58 | 1, value: 1 << 58 },
    frame: 0x0000_ffff_ffff_f000,
};
/// ARM64 from v5.19 (Linux commit 570ef363509b): bit 2 marks exclusive pages.
const ARM: Coding = Coding { area: 3, area_bits: AREA_BITS, ..ARM_OLD };
/// ARM64 from v6.10 (Linux commits 3425cec42c3c and 5b32510af77b): bit 3 is for userfaultfd; no access is bit 11.
const ARM_NEW: Coding =
    Coding { area: 6, page: 12, no_access: Match { mask: 1 << 11 | 1, value: 1 << 11 }, ..ARM };

impl Coding {
    /// That of a kernel. The mitigation left a symbol on x86; on ARM64 the release alone tells.
    #[must_use]
    pub(super) fn of(target: &Target, paging: &Paging) -> Self {
        let has = |name| target.symbol(name).is_ok();
        let mitigated = has("l1tf_mitigation") || has("l1tf_vmx_mitigation") || has("cpu_show_l1tf");
        match (paging.name, paging.entry_bytes, mitigated) {
            (name, ..) if name.starts_with("ARM64") => match release(target) {
                Some(release) if release < (5, 19) => ARM_OLD,
                Some(release) if release < (6, 10) => ARM,
                _ => ARM_NEW,
            },
            (_, 4, _) => NARROW,
            (_, _, true) => INVERTED,
            ("x86 PAE", ..) => OLD_PAE,
            _ if release(target).is_some_and(|release| release < (4, 6)) => OLD,
            _ => PLAIN,
        }
    }

    /// What an entry says that is neither present nor zero.
    #[must_use]
    pub(super) fn decode(self, entry: u64) -> Meaning {
        let sign = if self.inverted { !entry } else { entry };
        if entry & self.no_access.mask == self.no_access.value {
            return Meaning::NoAccess(sign & self.frame);
        }
        let bits = |value: u64, first: u32, count: u32| (value >> first) & (u64::MAX >> (64 - count));
        Meaning::Swapped(Slot {
            area: bits(entry, self.area, self.area_bits),
            page: bits(sign, self.page, self.page_bits),
        })
    }
}

/// The first two numbers of `uname -r`.
fn release(target: &Target) -> Option<(u32, u32)> {
    let Text(text) = Names::at(target, target.symbol("init_uts_ns").ok()?).release().ok()?;
    let text = String::from_utf8(text).ok()?;
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `__swp_entry(2, 0x35)` makes in each coding, written out from the macros.
    #[test]
    fn entries_of_every_coding() {
        let slot = Meaning::Swapped(Slot { area: 2, page: 0x35 });
        for (coding, entry) in [
            (INVERTED, 2 << 59 | (!0x35u64 << 14 >> 5)),
            (PLAIN, 2 << 9 | 0x35 << 14),
            (OLD, 2 << 1 | 0x35 << 9),
            (OLD_PAE, (2 | 0x35 << 5) << 32),
            (NARROW, 2 << 1 | 0x35 << 9),
            (ARM_OLD, 2 << 2 | 0x35 << 8),
            (ARM, 1 << 2 | 2 << 3 | 0x35 << 8),
            (ARM_NEW, 1 << 2 | 1 << 3 | 2 << 6 | 0x35 << 12),
        ] {
            assert_eq!(coding.decode(entry), slot, "{coding:?}");
        }
        assert_eq!(INVERTED.decode((!0x9000 & FRAME) | 1 << 8), Meaning::NoAccess(0x9000));
        assert_eq!(ARM.decode(0x9000 | 1 << 58), Meaning::NoAccess(0x9000));
    }
}
