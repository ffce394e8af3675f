//! ARM64 (VMSAv8-64): one [`Paging`] per granule, address width and descriptor format.
//!
//! ```text
//! bit 63 ... 55 ... W-1                        0      W: bits of an address, 36 to 52
//!     |  copies of 55 | index | index | offset |      bit 55: 0 the root of TTBR0 (a process), 1 that of TTBR1 (the kernel)
//! entry: bit 0 valid; bit 1 table (above L3) or page (L3), else a block
//! ```
//! Source: Arm Architecture Reference Manual (DDI 0487), D8.2 (levels and index bits by granule) and D8.3 (descriptor
//! formats; D8.3.1.1 where bits 51 to 48 of an address are). What an entry maps does not depend on the access flag,
//! the contiguous hint or the permissions, so none of them is asked. That it agrees with a real MMU is
//! checked with QEMU: `tests/arm64_mmu.rs`.

use super::{Frame, HighBits, Level, Match, Paging};

/// An entry that maps something: valid.
const VALID: Match = Match::set(1);
/// An entry where only a table (above L3) or a page (L3) is allowed.
const BOTH: Match = Match::set(3);
/// A block: valid, not a table.
const BLOCK: Option<Match> = Some(Match { mask: 2, value: 0 });

/// Where the upper bits of an address are in an entry.
#[derive(Clone, Copy)]
enum Format {
    /// Bits 47 to the granule in their place; there are no more.
    Plain,
    /// 64 KiB granule: bits 51 to 48 are bits 15 to 12 of the entry, which are 0 where the processor has no such addresses.
    Lpa,
    /// 4 and 16 KiB granule with `TCR_ELx.DS`: bits 51 and 50 are bits 9 and 8 of the entry.
    Lpa2,
}

impl Format {
    /// The address of something of `1 << shift` bytes.
    const fn frame(self, shift: u8) -> Frame {
        let below = (1u64 << shift).wrapping_sub(1);
        match self {
            Self::Plain => Frame::plain(0x0000_ffff_ffff_ffff & !below),
            Self::Lpa => Frame { mask: 0x0000_ffff_ffff_ffff & !below, high_mask: 0xf000, high_shift: 36 },
            Self::Lpa2 => Frame { mask: 0x0003_ffff_ffff_ffff & !below, high_mask: 0x300, high_shift: 42 },
        }
    }
}

const fn flags(bit_1: &'static str) -> [(u64, &'static str); 10] {
    [
        (1 << 0, "valid"),
        (1 << 1, bit_1),
        (1 << 6, "user"),
        (1 << 7, "read-only"),
        (1 << 10, "accessed"),
        (1 << 11, "not-global"),
        (1 << 51, "dirty-managed"),
        (1 << 52, "contiguous"),
        (1 << 53, "pxn"),
        (1 << 54, "uxn"),
    ]
}
const UPPER_FLAGS: &[(u64, &str)] = &flags("table");
const LAST_FLAGS: &[(u64, &str)] = &flags("page");

/// The level `number` (1 is L3) of a mode with pages of `1 << granule` bytes, whose index has `bits` bits.
const fn level(format: Format, granule: u8, number: u8, bits: u8) -> Level {
    let shift = granule + (number - 1) * (granule - 3);
    let last = number == 1;
    // Blocks: 2 MiB, 32 MiB, 512 MiB and 1 GiB always; the level above only in formats with long addresses.
    let block = match (granule, number) {
        (12, 2 | 3) | (_, 2) => true,
        (12, 4) | (14 | 16, 3) => !matches!(format, Format::Plain),
        _ => false,
    };
    Level {
        name: match number {
            1 => "L3",
            2 => "L2",
            3 => "L1",
            4 => "L0",
            _ => "L-1",
        },
        number,
        shift,
        bits,
        present: if block { VALID } else { BOTH },
        leaf: if last {
            Some(Match::ALWAYS)
        } else if block {
            BLOCK
        } else {
            None
        },
        page: format.frame(shift),
        table: format.frame(granule),
        flags: if last { LAST_FLAGS } else { UPPER_FLAGS },
    }
}

/// A mode; TTBR bits above 47 are the ASID, bit 0 is CnP.
const fn mode(name: &'static str, bits: u8, levels: &'static [Level]) -> Paging {
    Paging {
        name,
        bits,
        high_bits: HighBits::Halves,
        entry_bytes: 8,
        root: 0x0000_ffff_ffff_ffc0,
        kept: None,
        levels,
    }
}

use Format::{Lpa, Lpa2, Plain};

/// 4 KiB granule, 39-bit addresses, 3 levels; blocks of 2 MiB and 1 GiB.
pub static ARM64_4K_39: Paging =
    mode("ARM64 4K 39-bit", 39, &[level(Plain, 12, 3, 9), level(Plain, 12, 2, 9), level(Plain, 12, 1, 9)]);
/// 4 KiB granule, 48-bit addresses, 4 levels: what distributions use.
pub static ARM64_4K_48: Paging = mode(
    "ARM64 4K 48-bit",
    48,
    &[level(Plain, 12, 4, 9), level(Plain, 12, 3, 9), level(Plain, 12, 2, 9), level(Plain, 12, 1, 9)],
);
/// 4 KiB granule with LPA2: 52-bit addresses, 5 levels, the first of 16 entries; blocks up to 512 GiB.
pub static ARM64_4K_52: Paging = mode(
    "ARM64 4K 52-bit LPA2",
    52,
    &[
        level(Lpa2, 12, 5, 4),
        level(Lpa2, 12, 4, 9),
        level(Lpa2, 12, 3, 9),
        level(Lpa2, 12, 2, 9),
        level(Lpa2, 12, 1, 9),
    ],
);
/// 16 KiB granule, 36-bit addresses, 2 levels.
pub static ARM64_16K_36: Paging =
    mode("ARM64 16K 36-bit", 36, &[level(Plain, 14, 2, 11), level(Plain, 14, 1, 11)]);
/// 16 KiB granule, 47-bit addresses, 3 levels; blocks of 32 MiB.
pub static ARM64_16K_47: Paging = mode(
    "ARM64 16K 47-bit",
    47,
    &[level(Plain, 14, 3, 11), level(Plain, 14, 2, 11), level(Plain, 14, 1, 11)],
);
/// 16 KiB granule, 48-bit addresses, 4 levels, the first of 2 entries.
pub static ARM64_16K_48: Paging = mode(
    "ARM64 16K 48-bit",
    48,
    &[level(Plain, 14, 4, 1), level(Plain, 14, 3, 11), level(Plain, 14, 2, 11), level(Plain, 14, 1, 11)],
);
/// 16 KiB granule with LPA2: 52-bit addresses, 4 levels, the first of 32 entries; blocks up to 64 GiB.
pub static ARM64_16K_52: Paging = mode(
    "ARM64 16K 52-bit LPA2",
    52,
    &[level(Lpa2, 14, 4, 5), level(Lpa2, 14, 3, 11), level(Lpa2, 14, 2, 11), level(Lpa2, 14, 1, 11)],
);
/// 64 KiB granule, 42-bit addresses, 2 levels; blocks of 512 MiB.
pub static ARM64_64K_42: Paging =
    mode("ARM64 64K 42-bit", 42, &[level(Lpa, 16, 2, 13), level(Lpa, 16, 1, 13)]);
/// 64 KiB granule, 48-bit addresses, 3 levels, the first of 64 entries.
pub static ARM64_64K_48: Paging =
    mode("ARM64 64K 48-bit", 48, &[level(Lpa, 16, 3, 6), level(Lpa, 16, 2, 13), level(Lpa, 16, 1, 13)]);
/// 64 KiB granule, 52-bit addresses, 3 levels, the first of 1024 entries; blocks up to 4 TiB.
pub static ARM64_64K_52: Paging =
    mode("ARM64 64K 52-bit", 52, &[level(Lpa, 16, 3, 10), level(Lpa, 16, 2, 13), level(Lpa, 16, 1, 13)]);

/// All of them, the usual ones first.
pub static ARM64: [&Paging; 10] = [
    &ARM64_4K_48,
    &ARM64_4K_39,
    &ARM64_4K_52,
    &ARM64_64K_48,
    &ARM64_64K_52,
    &ARM64_64K_42,
    &ARM64_16K_47,
    &ARM64_16K_48,
    &ARM64_16K_52,
    &ARM64_16K_36,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// DDI 0487, table D8-12 ff.: the index bits of all levels and the offset make up the address.
    #[test]
    fn levels_cover_the_address() {
        for paging in ARM64 {
            let mut top = paging.bits;
            for level in paging.levels {
                assert_eq!(level.shift + level.bits, top, "{} {}", paging.name, level.name);
                top = level.shift;
            }
            let granule = match paging.name.split(' ').nth(1) {
                Some("4K") => 12,
                Some("16K") => 14,
                _ => 16,
            };
            assert_eq!(top, granule, "{}", paging.name);
        }
    }
}
