//! Page tables: one constant [`Paging`] per architecture and mode, one walker for all of them.
//!
//! ```text
//!            root ─► table ─► table ─► ... ─► page        one Level per arrow
//! address:  | sign | index | index | ... | offset |      Level::shift, Level::bits
//! entry:    present?  leaf here?  which bits are the next address?
//! ```
//! Source of the x86 tables: Intel SDM vol. 3, chapter 4 (4.3 32-bit, 4.4 PAE, 4.5 4-level and 5-level). Those of ARM64
//! are in `arm64.rs`.

mod arm64;
mod explain;
mod space;
mod walk;

#[cfg(test)]
mod tests;

pub use arm64::{
    ARM64, ARM64_4K_39, ARM64_4K_48, ARM64_4K_52, ARM64_16K_36, ARM64_16K_47, ARM64_16K_48, ARM64_16K_52,
    ARM64_64K_42, ARM64_64K_48, ARM64_64K_52,
};
pub use explain::{Next, Step};
pub use space::VirtualSpace;
pub use walk::{Absentees, Mappings};

/// A test on an entry: the bits of `mask` equal `value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Bits that are looked at.
    pub mask: u64,
    /// What they must be.
    pub value: u64,
}

impl Match {
    /// All bits of `mask` are set.
    const fn set(mask: u64) -> Self {
        Self { mask, value: mask }
    }

    /// Always true.
    const ALWAYS: Self = Self { mask: 0, value: 0 };

    const fn holds(self, entry: u64) -> bool {
        entry & self.mask == self.value
    }
}

/// Which bits of an entry are an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Address bits in their place.
    pub mask: u64,
    /// Address bits stored lower than their place (PSE-36 on x86, 52-bit addresses on ARM64)...
    pub high_mask: u64,
    /// ... and how far they are moved up.
    pub high_shift: u8,
}

impl Frame {
    const fn plain(mask: u64) -> Self {
        Self { mask, high_mask: 0, high_shift: 0 }
    }

    const fn address(self, entry: u64) -> u64 {
        (entry & self.mask) | ((entry & self.high_mask) << self.high_shift)
    }
}

/// One level of a page-table tree.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// Name of an entry: `"PML4E"`.
    pub name: &'static str,
    /// Number counted down to the page; the last level is 1.
    pub number: u8,
    /// Lowest address bit of the index into this table; also log2 of the bytes one entry covers.
    pub shift: u8,
    /// Width of the index in bits.
    pub bits: u8,
    /// Whether an entry maps anything.
    pub present: Match,
    /// Whether a present entry maps a page rather than a table; `None` when it never does.
    pub leaf: Option<Match>,
    /// Address of the page, for leaves.
    pub page: Frame,
    /// Address of the next table, for others.
    pub table: Frame,
    /// Names of entry bits, for people.
    pub flags: &'static [(u64, &'static str)],
}

impl Level {
    /// Number of entries in a table.
    const fn entries(&self) -> u64 {
        1 << self.bits
    }

    /// Bytes of address space one entry covers.
    const fn span(&self) -> u64 {
        1 << self.shift
    }

    /// Names of the bits that are set in an entry of this level.
    #[must_use]
    pub fn flag_names(&self, entry: u64) -> Vec<&'static str> {
        self.flags.iter().filter(|(bit, _)| entry & bit != 0).map(|(_, name)| *name).collect()
    }

    /// Index of `addr` in a table of this level.
    const fn index(&self, addr: u64) -> u64 {
        (addr >> self.shift) & self.entries().wrapping_sub(1)
    }

    /// What `entry` says. `kept` are entries that are not present for the processor, though memory still has their page.
    fn decode(&self, entry: u64, kept: Option<Match>) -> Decoded {
        if !self.present.holds(entry) && !kept.is_some_and(|kept| kept.holds(entry)) {
            return Decoded::NotPresent;
        }
        match self.leaf {
            Some(leaf) if leaf.holds(entry) => Decoded::Page(self.page.address(entry)),
            _ => Decoded::Table(self.table.address(entry)),
        }
    }
}

/// What an entry says.
enum Decoded {
    NotPresent,
    /// Physical address of the page.
    Page(u64),
    /// Physical address of the next table.
    Table(u64),
}

/// What the bits of an address above its width are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HighBits {
    /// Zeros: 32-bit modes.
    Zeros,
    /// Copies of the highest bit: x86-64.
    Sign,
    /// All ones or all zeros, and each half has a root of its own: ARM64. Bit 55 alone tells the halves apart, as for the
    /// processor: the others of a pointer may be a tag or a signature (TBI, MTE, PAC).
    Halves,
}

/// A paging mode as constant data.
#[derive(Debug)]
pub struct Paging {
    /// Short name: `"x64"`.
    pub name: &'static str,
    /// Width of a virtual address in bits, in each half.
    pub bits: u8,
    /// What is above them.
    pub high_bits: HighBits,
    /// Size of an entry: 4 or 8 bytes, little endian.
    pub entry_bytes: u8,
    /// Bits of the root register (CR3) that are the physical address of the first table.
    pub root: u64,
    /// Entries that are not present for the processor but name the page that still holds the bytes; `None` where the
    /// operating system has no such entries, or is not known.
    pub kept: Option<Match>,
    /// The levels, from the root down to level 1.
    pub levels: &'static [Level],
}

impl Paging {
    /// The address with the bits above the address width as they must be.
    #[must_use]
    pub fn canonical(&self, addr: u64) -> u64 {
        let unused = 64u32.saturating_sub(u32::from(self.bits));
        let up = addr.wrapping_shl(unused);
        match self.high_bits {
            HighBits::Zeros => up.wrapping_shr(unused),
            HighBits::Sign => up.cast_signed().wrapping_shr(unused).cast_unsigned(),
            HighBits::Halves if addr & UPPER_HALF == 0 => up.wrapping_shr(unused),
            HighBits::Halves => up.wrapping_shr(unused) | self.first_upper(),
        }
    }

    /// The address that a pointer means: itself, or on ARM64 what is left without tag and signature.
    #[must_use]
    pub fn pointer(&self, pointer: u64) -> u64 {
        if self.high_bits == HighBits::Halves { self.canonical(pointer) } else { pointer }
    }

    /// First address of the upper half of a mode with halves.
    const fn first_upper(&self) -> u64 {
        u64::MAX.wrapping_shl(self.bits as u32)
    }
}

/// The bit of a pointer that selects the half.
const UPPER_HALF: u64 = 1 << 55;

const PRESENT: Match = Match::set(1);
/// The page-size bit of PDE and PDPTE.
const LARGE: Option<Match> = Some(Match::set(1 << 7));
/// Address bits 51 to 12 of an 8-byte entry.
const FRAME: Frame = Frame::plain(0x000f_ffff_ffff_f000);
/// Flags of entries that may map a large page, and of those that map the smallest one.
const UPPER_FLAGS: &[(u64, &str)] = &flags("large");
const LAST_FLAGS: &[(u64, &str)] = &flags("pat");

const fn flags(bit_7: &'static str) -> [(u64, &'static str); 10] {
    [
        (1 << 0, "present"),
        (1 << 1, "rw"),
        (1 << 2, "user"),
        (1 << 3, "write-through"),
        (1 << 4, "cache-off"),
        (1 << 5, "accessed"),
        (1 << 6, "dirty"),
        (1 << 7, bit_7),
        (1 << 8, "global"),
        (1 << 63, "nx"),
    ]
}

/// A level of 8-byte entries, 512 to a table.
const fn level8(name: &'static str, number: u8, shift: u8, leaf: Option<Match>) -> Level {
    // A large page is aligned to what one entry covers; the lower bits are flags (PAT is bit 12).
    let page = Frame::plain(FRAME.mask & !((1u64 << shift).wrapping_sub(1)));
    let flags = if number == 1 { LAST_FLAGS } else { UPPER_FLAGS };
    Level { name, number, shift, bits: 9, present: PRESENT, leaf, page, table: FRAME, flags }
}

const PML5E: Level = level8("PML5E", 5, 48, None);
const PML4E: Level = level8("PML4E", 4, 39, None);
const PDPTE: Level = level8("PDPTE", 3, 30, LARGE);
const PDE: Level = level8("PDE", 2, 21, LARGE);
const PTE: Level = level8("PTE", 1, 12, Some(Match::ALWAYS));

/// 64-bit mode, 4 levels, 48-bit addresses; pages of 4 KiB, 2 MiB, 1 GiB.
pub static X64: Paging = Paging {
    name: "x64",
    bits: 48,
    high_bits: HighBits::Sign,
    entry_bytes: 8,
    root: FRAME.mask,
    kept: None,
    levels: &[PML4E, PDPTE, PDE, PTE],
};

/// 64-bit mode, 5 levels (LA57), 57-bit addresses; pages of 4 KiB, 2 MiB, 1 GiB.
pub static X64_LA57: Paging = Paging {
    name: "x64 LA57",
    bits: 57,
    levels: &[PML5E, PML4E, PDPTE, PDE, PTE],
    high_bits: HighBits::Sign,
    entry_bytes: 8,
    root: FRAME.mask,
    kept: None,
};

/// 32-bit mode with physical address extension; pages of 4 KiB and 2 MiB. The root is aligned to 32 bytes
/// only.
pub static PAE: Paging = Paging {
    name: "x86 PAE",
    bits: 32,
    high_bits: HighBits::Zeros,
    entry_bytes: 8,
    root: 0xffff_ffe0,
    kept: None,
    levels: &[Level { bits: 2, leaf: None, ..PDPTE }, PDE, PTE],
};

/// 32-bit mode, two levels; pages of 4 KiB and 4 MiB. PSE-36: bits 20 to 13 of a 4 MiB entry are address bits
/// 39 to 32. CR4.PSE is taken as set, as it is in every system that sets the bit.
pub static X86: Paging = Paging {
    name: "x86",
    bits: 32,
    high_bits: HighBits::Zeros,
    entry_bytes: 4,
    root: 0xffff_f000,
    kept: None,
    levels: &[
        Level {
            name: "PDE",
            number: 2,
            shift: 22,
            bits: 10,
            present: PRESENT,
            leaf: LARGE,
            page: Frame { mask: 0xffc0_0000, high_mask: 0x001f_e000, high_shift: 19 },
            table: Frame::plain(0xffff_f000),
            flags: UPPER_FLAGS,
        },
        Level {
            name: "PTE",
            number: 1,
            shift: 12,
            bits: 10,
            present: PRESENT,
            leaf: Some(Match::ALWAYS),
            page: Frame::plain(0xffff_f000),
            table: Frame::plain(0),
            flags: LAST_FLAGS,
        },
    ],
};

/// Windows: bit 11 of an entry that is not valid says that the page is in transition, on its way out but still there;
/// with bit 10 the entry is a prototype instead (`_MMPTE_TRANSITION` of any kernel's symbols).
const TRANSITION: Option<Match> = Some(Match { mask: 0xc01, value: 0x800 });

/// [`X64`] as Windows uses it.
pub static WINDOWS_X64: Paging = Paging { kept: TRANSITION, ..X64 };
/// [`X64_LA57`] as Windows uses it.
pub static WINDOWS_X64_LA57: Paging = Paging { kept: TRANSITION, ..X64_LA57 };
/// [`PAE`] as Windows uses it.
pub static WINDOWS_PAE: Paging = Paging { kept: TRANSITION, ..PAE };
/// [`X86`] as Windows uses it.
pub static WINDOWS_X86: Paging = Paging { kept: TRANSITION, ..X86 };
