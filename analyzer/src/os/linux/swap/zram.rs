//! zram: swap areas in compressed memory (drivers/block/zram/zram_drv.c).
//!
//! `struct zram` has a table with an entry for each page: a repeated word, a page of a backing device, or a handle of zsmalloc with
//! the length of the compressed page; a length of a whole page is one that did not compress. Flags stand above the length.

use memory::AddressSpace;
use object::{Absent, Addr, Ptr, Read, Target, Text, Uint, layout};

use super::PAGE;
use super::area::BUILT_IN;
use super::compressed::{algorithm, decompress};
use super::zsmalloc::Zsmalloc;
use crate::table::text_of;

/// `ZRAM_FLAG_SHIFT`, for kernels whose types have no `enum zram_pageflags`: before v6.1.
const OLD_FLAG_SHIFT: u32 = 24;
/// Longest name of a compressor.
const MAX_NAME: usize = 128;

layout! {
    struct Device / DeviceLayout = "zram" {
        table: Ptr = "table",
        pool: Ptr = "mem_pool",
        compressor: Text = "compressor",
        compression: Ptr = "comp",
        /// Names by priority, from Linux commit 001d92735701 (v6.2).
        algorithms: Addr = "comp_algs",
    }

    struct Compression / CompressionLayout = "zcomp" {
        name: Ptr = "name",
    }

    struct Entry / EntryLayout = "zram_table_entry" {
        handle: Uint = "handle | element",
        flags: Uint = "flags",
    }
}

/// Numbers of the bits above the length.
#[derive(Debug, Clone, Copy)]
struct Flags {
    shift: u32,
    same: u32,
    written_back: u32,
    /// The lower of two bits with the number of the compressor.
    priority: Option<u32>,
}

impl Flags {
    /// `enum zram_pageflags` begins with `ZRAM_FLAG_SHIFT`; which flags there are changed several times.
    fn of(target: &Target) -> Self {
        let names = target.types().profile().enum_def("zram_pageflags").ok().flatten();
        let bit = |name: &str| u32::try_from(*names?.values.get(name)?).ok().filter(|bit| *bit < 64);
        let first = names.and_then(|names| names.values.values().min().copied());
        Self {
            shift: first
                .and_then(|bit| u32::try_from(bit).ok())
                .filter(|bit| *bit < 32)
                .unwrap_or(OLD_FLAG_SHIFT),
            same: bit("ZRAM_SAME").unwrap_or(OLD_FLAG_SHIFT + 1),
            written_back: bit("ZRAM_WB").unwrap_or(OLD_FLAG_SHIFT + 2),
            priority: bit("ZRAM_COMP_PRIORITY_BIT1"),
        }
    }
}

/// A zram device.
pub(super) struct Zram {
    target: Target,
    at: u64,
    flags: Flags,
    /// Bytes of an entry of the table.
    stride: u64,
    allocator: Zsmalloc,
}

impl Zram {
    /// The device of so many pages at an address; `target` has the types of the driver.
    pub(super) fn new(target: Target, at: u64, pages: u64, allocator: Zsmalloc) -> Read<Self> {
        let size = target.types().struct_size(Entry::STRUCT)?;
        let table = Device::at(&target, at).table()?.non_null("is in zram, which has no table")?;
        // Built-in types know the smallest entry; CONFIG_ZRAM_MEMORY_TRACKING adds a word. Behind the table is a page without memory.
        let guard = table.wrapping_add(pages.wrapping_mul(size)).next_multiple_of(PAGE as u64);
        let is_tracked =
            target.types().profile().metadata_str(BUILT_IN).is_some() && target.read_u32(guard).is_ok();
        let stride = if is_tracked { size.wrapping_add(8) } else { size };
        Ok(Self { flags: Flags::of(&target), target, at, stride, allocator })
    }

    /// The name of its compressor.
    pub(super) fn algorithm(&self) -> Read<String> {
        self.algorithm_of(0)
    }

    fn algorithm_of(&self, priority: u64) -> Read<String> {
        let device = Device::at(&self.target, self.at);
        let width = u64::from(self.target.types().model().pointer_size());
        match device.algorithms() {
            Ok(Addr(names)) => {
                let name = self.target.read_ptr(names.wrapping_add(priority.wrapping_mul(width)))?;
                self.target.read_cstr(name, MAX_NAME).map(|name| text_of(&name))
            }
            Err(_) => match device.compressor() {
                Ok(Text(name)) => Ok(text_of(&name)),
                Err(_) => {
                    let Ptr(name) = Compression::at(&self.target, device.compression()?.0).name()?;
                    self.target.read_cstr(name, MAX_NAME).map(|name| text_of(&name))
                }
            },
        }
    }

    /// The content of a page.
    pub(super) fn page(&self, physical: &dyn AddressSpace, number: u64) -> Read<Vec<u8>> {
        let device = Device::at(&self.target, self.at);
        let entry = Entry::at(&self.target, device.table()?.0.wrapping_add(number.wrapping_mul(self.stride)));
        let (Uint(handle), Uint(flags)) = (entry.handle()?, entry.flags()?);
        let has = |bit: u32| flags >> bit & 1 == 1;
        if has(self.flags.written_back) {
            return Err(Absent::NotApplicable("was written by zram to its backing device"));
        }
        if handle == 0 || has(self.flags.same) {
            let width = usize::from(self.target.types().model().pointer_size());
            return Ok(handle.to_le_bytes().iter().take(width).copied().cycle().take(PAGE).collect());
        }
        let len = usize::try_from(flags & (1u64 << self.flags.shift).wrapping_sub(1)).unwrap_or(usize::MAX);
        if len == 0 || len > PAGE {
            return Err(Absent::Malformed("has a length in zram that no page has"));
        }
        let stored = self.allocator.object(physical, device.pool()?.0, handle, len)?;
        if len == PAGE {
            return Ok(stored);
        }
        let priority = self.flags.priority.map_or(0, |bit| flags >> bit & 3);
        decompress(algorithm(&self.algorithm_of(priority)?)?, &stored)
    }
}
