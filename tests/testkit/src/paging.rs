//! Page tables of x86 processors, written entry by entry.
//!
//! Source: Intel SDM vol. 3, chapter 4 (32-bit, PAE, 4-level and 5-level paging). Kernel halves are shared between address
//! spaces when the machine is finished; every top table maps itself, as Windows does.

use std::collections::BTreeMap;

use crate::physical::{PAGE, Physical, Use};

/// A kind of page tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paging {
    /// Two levels of 4-byte entries.
    X86,
    /// Three levels of 8-byte entries, the top one with four.
    Pae,
    /// Four levels.
    X64,
    /// Five levels.
    La57,
}

const PRESENT: u64 = 1;
/// Present, writable, user, accessed, dirty.
const TABLE: u64 = 0x67;
const LARGE: u64 = 0x80;

impl Paging {
    /// Lowest bit of the virtual address that each level translates, top first.
    fn shifts(self) -> &'static [u32] {
        match self {
            Self::X86 => &[22, 12],
            Self::Pae => &[30, 21, 12],
            Self::X64 => &[39, 30, 21, 12],
            Self::La57 => &[48, 39, 30, 21, 12],
        }
    }

    /// Bytes of an entry.
    pub fn entry_size(self) -> u64 {
        if self == Self::X86 { 4 } else { 8 }
    }

    /// Bytes of a large page.
    pub fn large_page(self) -> u64 {
        1 << self.shifts()[self.shifts().len() - 2]
    }

    fn index(self, level: usize, va: u64) -> u64 {
        let bits = match (self, level) {
            (Self::X86, _) => 10,
            (Self::Pae, 0) => 2,
            _ => 9,
        };
        va >> self.shifts()[level] & ((1 << bits) - 1)
    }

    /// Whether an address belongs to the kernel.
    pub fn is_kernel(self, va: u64) -> bool {
        match self {
            Self::X86 | Self::Pae => va >= 0x8000_0000,
            Self::X64 | Self::La57 => va >> 63 == 1,
        }
    }

    /// First address of the self-map: the virtual array of all page table entries.
    pub fn pte_base(self, self_index: u64) -> u64 {
        match self {
            Self::X86 | Self::Pae => 0xC000_0000,
            Self::X64 => 0xFFFF << 48 | self_index << 39,
            Self::La57 => u64::MAX << 57 | self_index << 48,
        }
    }

    /// Virtual address, inside the self-map, of the entry that maps `va`.
    pub fn pte_address(self, self_index: u64, va: u64) -> u64 {
        let bits = match self {
            Self::X86 | Self::Pae => 32,
            Self::X64 => 48,
            Self::La57 => 57,
        };
        self.pte_base(self_index) + ((va & ((1 << bits) - 1)) >> 12) * self.entry_size()
    }

    /// Virtual address, inside the self-map, of the entry that makes it: the one whose address is its own.
    pub fn self_entry(self, self_index: u64) -> u64 {
        let mut at = self.pte_base(self_index);
        for _ in self.shifts() {
            at = self.pte_address(self_index, at);
        }
        at
    }
}

/// One address space.
#[derive(Debug)]
pub(crate) struct Space {
    /// Physical address of the top table: the value of CR3.
    pub(crate) root: u64,
    /// Page number to frame.
    pages: BTreeMap<u64, u64>,
    /// Large mappings: start, bytes, physical start.
    large: Vec<(u64, u64, u64)>,
}

/// All address spaces of a machine; number 0 is the system's.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) paging: Paging,
    pub(crate) self_index: u64,
    pub(crate) spaces: Vec<Space>,
    /// Next free slot for a PAE top table, 32 bytes each.
    next_pdpt: u64,
}

impl Tables {
    pub(crate) fn new(paging: Paging, self_index: u64) -> Self {
        Self { paging, self_index, spaces: Vec::new(), next_pdpt: 0 }
    }

    /// Makes an address space whose top table stands at `root`, or anywhere.
    pub(crate) fn add_space(&mut self, physical: &mut Physical, root: Option<u64>) -> usize {
        let id = self.spaces.len();
        let root_given = root;
        let root = match (root, self.paging) {
            (Some(root), _) => root,
            (None, Paging::Pae) => {
                if self.next_pdpt.is_multiple_of(PAGE) {
                    self.next_pdpt = physical.allocate() * PAGE + 0x20;
                }
                self.next_pdpt += 0x20;
                self.next_pdpt - 0x20
            }
            (None, _) => physical.allocate() * PAGE,
        };
        physical.write(root / PAGE * PAGE, &[]);
        physical.uses.insert(root / PAGE, Use::Root { space: id });
        if let (Some(root), Paging::Pae) = (root_given, self.paging) {
            // The first process's directories follow its top table.
            for quarter in 0..4u64 {
                let frame = root / PAGE + 1 + quarter;
                let va = self.paging.pte_address(0, self.paging.pte_address(0, quarter << 30));
                self.put(physical, root + quarter * 8, (frame * PAGE) | PRESENT);
                physical.write(frame * PAGE, &[0; 8]);
                physical
                    .uses
                    .insert(frame, Use::Mapped { pte: root + quarter * 8, va: va / PAGE * PAGE, space: id });
            }
        }
        self.spaces.push(Space { root, pages: BTreeMap::new(), large: Vec::new() });
        id
    }

    /// Physical address of the entry for `va` at `level`, making the tables above.
    fn entry(&self, physical: &mut Physical, space: usize, va: u64, level: usize) -> u64 {
        let mut table = self.spaces[space].root;
        let size = self.paging.entry_size();
        for upper in 0..level {
            let at = table + self.paging.index(upper, va) * size;
            let mut entry = physical.word(at, usize::try_from(size).expect("4 or 8"));
            if entry & PRESENT == 0 {
                let frame = physical.allocate();
                // The reserved bits of a PAE top entry must be clear.
                let flags = if self.paging == Paging::Pae && upper == 0 { PRESENT } else { TABLE };
                entry = (frame * PAGE) | flags;
                self.put(physical, at, entry);
                let mut mapped = va;
                for _ in upper + 1..self.paging.shifts().len() {
                    mapped = self.paging.pte_address(self.self_index, mapped);
                }
                physical.uses.insert(frame, Use::Mapped { pte: at, va: mapped / PAGE * PAGE, space });
            }
            table = entry & 0x000F_FFFF_FFFF_F000;
        }
        table + self.paging.index(level, va) * size
    }

    fn put(&self, physical: &mut Physical, at: u64, entry: u64) {
        let size = usize::try_from(self.paging.entry_size()).expect("4 or 8");
        physical.write(at, &entry.to_le_bytes()[..size]);
    }

    /// Maps one page to a frame with a valid entry of these flags.
    pub(crate) fn map(&mut self, physical: &mut Physical, space: usize, va: u64, frame: u64, flags: u64) {
        let pte = self.set_entry(physical, space, va, (frame * PAGE) | flags | PRESENT);
        physical.uses.entry(frame).or_insert(Use::Mapped { pte, va: va / PAGE * PAGE, space });
        self.spaces[space].pages.insert(va / PAGE, frame);
    }

    /// Remembers that the maker reaches this page in a frame, whatever its entry says.
    pub(crate) fn remember(&mut self, space: usize, va: u64, frame: u64) {
        self.spaces[space].pages.insert(va / PAGE, frame);
    }

    /// Writes the page table entry of a page verbatim. Returns its physical address.
    pub(crate) fn set_entry(&self, physical: &mut Physical, space: usize, va: u64, entry: u64) -> u64 {
        let at = self.entry(physical, space, va, self.paging.shifts().len() - 1);
        self.put(physical, at, entry);
        at
    }

    /// Maps large pages.
    pub(crate) fn map_large(&mut self, physical: &mut Physical, va: u64, len: u64, to: u64) {
        let page = self.paging.large_page();
        for offset in (0..len).step_by(usize::try_from(page).expect("a small size")) {
            let at = self.entry(physical, 0, va + offset, self.paging.shifts().len() - 2);
            // Global, like all of the kernel.
            self.put(physical, at, (to + offset) | 0x1E3 | LARGE);
        }
        self.spaces[0].large.push((va, len, to));
    }

    /// Physical address behind a virtual one that the maker mapped; kernel addresses are the system's.
    pub(crate) fn translate(&self, space: usize, va: u64) -> Option<u64> {
        let space = &self.spaces[if self.paging.is_kernel(va) { 0 } else { space }];
        if let Some(frame) = space.pages.get(&(va / PAGE)) {
            return Some(frame * PAGE + va % PAGE);
        }
        space
            .large
            .iter()
            .find(|&&(start, len, _)| va >= start && va - start < len)
            .map(|&(start, _, to)| to + (va - start))
    }

    /// Frames behind large pages.
    pub(crate) fn large_frames(&self) -> impl Iterator<Item = u64> {
        self.spaces[0].large.iter().flat_map(|&(_, len, to)| to / PAGE..(to + len) / PAGE)
    }

    /// Shares the kernel half of the system's tables with every space and lets every top table map itself.
    pub(crate) fn finish(&mut self, physical: &mut Physical) {
        match self.paging {
            Paging::Pae => self.finish_pae(physical),
            _ => {
                let entries = PAGE / self.paging.entry_size();
                let size = usize::try_from(self.paging.entry_size()).expect("4 or 8");
                let kernel = if self.paging == Paging::X86 { 0x200..entries } else { 256..entries };
                let self_index = if self.paging == Paging::X86 { 0x300 } else { self.self_index };
                for space in 0..self.spaces.len() {
                    let root = self.spaces[space].root;
                    for index in kernel.clone() {
                        let shared = physical.word(self.spaces[0].root + index * size as u64, size);
                        let entry = if index == self_index { root | 0x63 } else { shared };
                        self.put(physical, root + index * size as u64, entry);
                    }
                }
            }
        }
    }

    /// Three of the four page directories are the same everywhere or private; the last one holds the self-map of all four.
    fn finish_pae(&mut self, physical: &mut Physical) {
        // Where the entries of all pages appear; those of the directories themselves follow at 0xC0600000.
        const SELF_MAP: u64 = 0xC000_0000;
        for space in 0..self.spaces.len() {
            for quarter in 0..4u64 {
                self.entry(physical, space, quarter << 30, 1);
            }
            let directory = |physical: &Physical, of: &Space, quarter: u64| {
                physical.word(of.root + quarter * 8, 8) & !0xFFF
            };
            let system = &self.spaces[0];
            let own = &self.spaces[space];
            for quarter in 2..4 {
                let shared = physical.read(directory(physical, system, quarter), 4096);
                physical.write(directory(physical, own, quarter), &shared);
            }
            // The page frame database knows the last directory, which maps itself, as the top; the small table above is data.
            physical.uses.remove(&(own.root / PAGE));
            for quarter in 0..4 {
                let entry = directory(physical, own, quarter) | 0x63;
                let at = directory(physical, own, 3) + ((SELF_MAP >> 21) % 512 + quarter) * 8;
                physical.write(at, &entry.to_le_bytes());
                let va = SELF_MAP + (SELF_MAP >> 9) + quarter * PAGE;
                let used =
                    if quarter == 3 { Use::Root { space } } else { Use::Mapped { pte: at, va, space } };
                physical.uses.insert(entry / PAGE, used);
            }
        }
    }
}
