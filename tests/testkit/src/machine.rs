//! A machine under construction: memory, address spaces, and records written by member name.

use std::collections::{BTreeMap, BTreeSet};

use crate::handles::Handle;
use crate::layouts::mask;
use crate::objects::Types;
use crate::paging::Tables;
use crate::physical::{PAGE, Physical};
use crate::pool::Pools;
use crate::processes::Placed;
use crate::system::System;
use crate::vads::{Backing, Section};

/// An address space of the machine. The system's is [`SpaceId::SYSTEM`]; kernel addresses mean the same in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpaceId(pub(crate) usize);

impl SpaceId {
    /// The address space of the System process.
    pub const SYSTEM: Self = Self(0);
}

/// Writable and accessed, owned by the kernel.
pub(crate) const KERNEL_PAGE: u64 = 0x63;
/// Writable and accessed, owned by the user.
pub(crate) const USER_PAGE: u64 = 0x67;

/// A machine under construction.
pub struct Machine {
    /// The system it runs.
    pub system: System,
    pub(crate) physical: Physical,
    pub(crate) tables: Tables,
    pub(crate) pools: Pools,
    pub(crate) types: Types,
    pub(crate) processes: Vec<Placed>,
    /// Heads of lists with their entries so far, written when the machine is finished.
    pub(crate) lists: BTreeMap<u64, Vec<u64>>,
    /// VAD nodes that stand in several trees.
    pub(crate) shared_nodes: BTreeSet<u64>,
    /// Sections of files.
    pub(crate) sections: BTreeMap<Backing, Section>,
    /// File objects behind mappings, by name.
    pub(crate) files: BTreeMap<String, u64>,
    /// System time, 100 ns since 1601.
    pub(crate) now: u64,
    pub(crate) next_id: u64,
    /// Top of the last kernel stack.
    pub(crate) next_stack: u64,
    /// Bytes of the kernel image.
    pub(crate) kernel_size: u64,
    /// Address of the `_KPRCB`.
    pub(crate) prcb: u64,
    /// Handles by the address of their process: given ones, and the number of more.
    pub(crate) handles: BTreeMap<u64, (Vec<Handle>, u64)>,
    /// Content of page files: number to index to page.
    pub(crate) page_files: BTreeMap<u64, BTreeMap<u64, Vec<u8>>>,
    /// Number of the pagefile that stands for the compressed store.
    pub(crate) store_file: Option<u64>,
    /// Entries of `PspCidTable`: index to body.
    pub(crate) cids: BTreeMap<u64, (u64, u64)>,
    /// Number to `_MM_SESSION_SPACE`.
    pub(crate) sessions: BTreeMap<u32, u64>,
}

impl Machine {
    pub(crate) fn at(&mut self, name: &str, address: u64) -> Record<'_> {
        self.record(SpaceId::SYSTEM, name, address)
    }

    /// Physical memory.
    pub fn physical(&self) -> &Physical {
        &self.physical
    }

    /// Bytes of the kernel's image.
    pub fn kernel_size(&self) -> u64 {
        self.kernel_size
    }

    /// A struct at an address, for writing its members.
    pub fn record(&mut self, space: SpaceId, name: &str, address: u64) -> Record<'_> {
        Record { machine: self, space, name: name.to_owned(), address }
    }

    /// Address of a kernel symbol; `None` where the profile lacks it.
    pub fn symbol_if(&self, name: &str) -> Option<u64> {
        self.system.layouts.profile().symbol(name).map(|offset| self.system.kernel_base + offset)
    }

    /// Address of a kernel symbol. Panics where the profile lacks it.
    pub fn symbol(&self, name: &str) -> u64 {
        self.symbol_if(name).unwrap_or_else(|| panic!("the profile has no symbol {name}"))
    }

    /// Bytes of a pointer.
    pub fn pointer_size(&self) -> u64 {
        self.system.layouts.pointer_size()
    }

    /// Makes sure that pages are mapped to frames, zero where new.
    pub fn ensure(&mut self, space: SpaceId, address: u64, len: u64) {
        let kernel = self.tables.paging.is_kernel(address);
        let (space, flags) = if kernel { (0, KERNEL_PAGE) } else { (space.0, USER_PAGE) };
        for page in (address / PAGE..=(address + len.max(1) - 1) / PAGE).map(|page| page * PAGE) {
            if self.tables.translate(space, page).is_none() {
                let frame = self.physical.allocate();
                self.tables.map(&mut self.physical, space, page, frame, flags);
            }
        }
    }

    /// Writes bytes at a mapped virtual address. Panics where nothing is mapped: that is a mistake of the description.
    pub fn write(&mut self, space: SpaceId, address: u64, bytes: &[u8]) {
        let mut done = 0;
        while done < bytes.len() {
            let here = address + done as u64;
            let to = self
                .tables
                .translate(space.0, here)
                .unwrap_or_else(|| panic!("nothing is mapped at {here:#x}"));
            let take = (bytes.len() - done).min(usize::try_from(PAGE - here % PAGE).expect("within a page"));
            self.physical.write(to, &bytes[done..done + take]);
            done += take;
        }
    }

    /// Reads bytes at a mapped virtual address.
    pub fn read(&self, space: SpaceId, address: u64, len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < len {
            let here = address + out.len() as u64;
            let from = self
                .tables
                .translate(space.0, here)
                .unwrap_or_else(|| panic!("nothing is mapped at {here:#x}"));
            let take = (len - out.len()).min(usize::try_from(PAGE - here % PAGE).expect("within a page"));
            out.extend(self.physical.read(from, take));
        }
        out
    }

    /// Writes a pointer of the target's width.
    pub fn write_pointer(&mut self, space: SpaceId, address: u64, value: u64) {
        let size = usize::try_from(self.pointer_size()).expect("4 or 8");
        self.write(space, address, &value.to_le_bytes()[..size]);
    }

    /// Reads a pointer of the target's width.
    pub fn read_pointer(&self, space: SpaceId, address: u64) -> u64 {
        let size = usize::try_from(self.pointer_size()).expect("4 or 8");
        self.read(space, address, size).iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
    }

    /// Writes a pointer into a kernel variable, where the kernel has it.
    pub(crate) fn set_variable(&mut self, symbol: &str, value: u64) {
        if let Some(address) = self.symbol_if(symbol) {
            self.write_pointer(SpaceId::SYSTEM, address, value);
        }
    }

    /// Writes a 32-bit kernel variable, where the kernel has it.
    pub(crate) fn set_variable32(&mut self, symbol: &str, value: u32) {
        if let Some(address) = self.symbol_if(symbol) {
            self.write(SpaceId::SYSTEM, address, &value.to_le_bytes());
        }
    }

    /// Appends a `_LIST_ENTRY` to the list with this head. The links are written when the machine is finished.
    pub fn append(&mut self, head: u64, entry: u64) {
        self.lists.entry(head).or_default().push(entry);
    }

    /// Makes a list with no entry.
    pub(crate) fn empty_list(&mut self, head: u64) {
        self.lists.entry(head).or_default();
    }

    /// Writes the links of a circular list through these places.
    pub(crate) fn link(&mut self, space: SpaceId, places: &[u64]) {
        let pointer = self.pointer_size();
        for (index, &place) in places.iter().enumerate() {
            let next = places[(index + 1) % places.len()];
            let previous = places[(index + places.len() - 1) % places.len()];
            self.write_pointer(space, place, next);
            self.write_pointer(space, place + pointer, previous);
        }
    }

    /// Text in UTF-16 at a place where room was made for it.
    pub(crate) fn write_utf16(&mut self, space: SpaceId, address: u64, text: &str) {
        self.write(space, address, &utf16(text));
    }

    /// Fills a `_UNICODE_STRING` in the kernel, its text in the paged pool.
    pub fn unicode_string(&mut self, address: u64, text: &str) {
        let bytes = utf16(text);
        let buffer = if bytes.is_empty() {
            0
        } else {
            let buffer = self.allocate(crate::pool::Kind::Paged, *b"ObNm", bytes.len() as u64 + 2);
            self.write(SpaceId::SYSTEM, buffer, &bytes);
            buffer
        };
        self.unicode_string_at(SpaceId::SYSTEM, address, bytes.len() as u64, buffer);
    }

    /// Fills a `_UNICODE_STRING` whose text stands at `buffer`.
    pub(crate) fn unicode_string_at(&mut self, space: SpaceId, address: u64, bytes: u64, buffer: u64) {
        let room = if buffer == 0 { bytes } else { bytes + 2 };
        self.record(space, "_UNICODE_STRING", address)
            .set("Length", bytes)
            .set("MaximumLength", room)
            .set("Buffer", buffer);
    }

    /// A number that no process, thread or handle had before; a multiple of 4.
    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.next_id += 4;
        self.next_id
    }
}

/// UTF-16, little-endian.
pub(crate) fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A struct in memory whose members are written by name. Paths as in [`crate::Layouts`].
pub struct Record<'m> {
    machine: &'m mut Machine,
    space: SpaceId,
    name: String,
    /// Where the struct stands.
    pub address: u64,
}

impl Record<'_> {
    /// Writes a member. Panics where the profile lacks it.
    pub fn set(&mut self, path: &str, value: u64) -> &mut Self {
        let place = self.machine.system.layouts.place(&self.name, path);
        self.put(&place, value);
        self
    }

    /// Writes a member, where the profile has it.
    pub fn set_if(&mut self, path: &str, value: u64) -> &mut Self {
        if let Some(place) = self.machine.system.layouts.find(&self.name, path) {
            self.put(&place, value);
        }
        self
    }

    /// Whether the profile has a member.
    pub fn has(&self, path: &str) -> bool {
        self.machine.system.layouts.has(&self.name, path)
    }

    /// Writes raw bytes at a member.
    pub fn bytes(&mut self, path: &str, bytes: &[u8]) -> &mut Self {
        let address = self.member(path);
        self.machine.write(self.space, address, bytes);
        self
    }

    /// Address of a member.
    pub fn member(&self, path: &str) -> u64 {
        self.address + self.machine.system.layouts.offset(&self.name, path)
    }

    fn put(&mut self, place: &crate::layouts::Place, value: u64) {
        let size = usize::try_from(place.size.clamp(1, 8)).expect("at most 8");
        let address = self.address + place.offset;
        let word = match place.bits {
            None => value,
            Some((start, end)) => {
                let old = self.machine.read(self.space, address, size);
                let old = old.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
                let bits = mask(end - start) << start;
                old & !bits | value << start & bits
            }
        };
        self.machine.write(self.space, address, &word.to_le_bytes()[..size]);
    }
}
