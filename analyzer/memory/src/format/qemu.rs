//! Migration streams of QEMU (`migrate "exec:cat > FILE"`, libvirt's `save` behind its own header), x86 machines.
//!
//! ```text
//! 0         "QEVM", version 3; all numbers big endian
//! sections  1 start, 2 part, 3 end, 4 full: id u32; start and full: name (length u8), instance u32, version u32
//!           7 configuration: name of the machine (length u32), with subsections 5; 0x7e footer: id u32; 0 end
//! ram       u64: page address with flags in the low 12 bits, until 0x10: 0x04 list of blocks (name, size u64),
//!           0x08 a page, 0x02 a fill byte; a name (length u8) first unless 0x20 says the block is the same
//! ```
//! Pages come more than once while the machine runs: the last one counts. Sections of devices have no length;
//! they follow the memory and are not read. Memory above the hole below 4 GiB begins at 4 GiB; where the hole
//! begins depends on the machine. Refused, because the file lacks what they need: XBZRLE (differences to the
//! destination's pages), multifd and postcopy (pages in other channels); compressed pages are not supported.
//! Sources: `migration.rst`, `migration/ram.c`, `hw/i386/pc_piix.c` and `pc_q35.c` of QEMU; checked against
//! `pmemsave` of the same machine.

use crate::blocks::{Block, BlockSpace, BlockStore};
use crate::bytes::{array_at, to_u64, to_usize};
use crate::format::{Layer, Opened, Refused, expect_magic};
use crate::join::JoinSpace;
use crate::zeros::Zeros;
use crate::{AddressSpace, Fault};
use std::sync::Arc;

const PAGE: u64 = 4096;
const PAGE_BYTES: usize = 4096;
/// Most blocks of memory; a machine has about 10.
const MAX_BLOCKS: usize = 4096;
/// Section types.
const START: u8 = 1;
const PART: u8 = 2;
const END: u8 = 3;
const CONFIGURATION: u8 = 7;
const SUBSECTION: u8 = 5;
const FOOTER: u8 = 0x7e;
/// Flags of an address.
const ZERO: u64 = 0x02;
const SIZES: u64 = 0x04;
const RAW: u64 = 0x08;
const STOP: u64 = 0x10;
const CONTINUE: u64 = 0x20;
const XBZRLE: u64 = 0x40;
const HOOK: u64 = 0x80;
const COMPRESSED: u64 = 0x100;
const MULTIFD: u64 = 0x200;
/// An entry of the page table that says that the page was never sent.
const ABSENT: u64 = u64::MAX;

pub(super) fn probe(layer: &Layer<'_>) -> Result<(), &'static str> {
    expect_magic(layer, b"QEVM", "no \"QEVM\" signature at the start")
}

/// The stream, read from front to back.
struct Stream<'a> {
    base: &'a dyn AddressSpace,
    at: u64,
}

impl Stream<'_> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut bytes = [0; N];
        self.base.read_at(self.at, &mut bytes)?;
        self.skip(to_u64(N));
        Ok(bytes)
    }

    fn skip(&mut self, len: u64) {
        self.at = self.at.saturating_add(len);
    }

    fn u8(&mut self) -> Result<u8, Fault> {
        self.bytes().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.bytes().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.bytes().map(u64::from_be_bytes)
    }

    fn name(&mut self, len: u64) -> Result<Vec<u8>, Fault> {
        let name = self.base.read_vec(self.at, len, 4096)?;
        self.skip(len);
        Ok(name)
    }

    fn short_name(&mut self) -> Result<Vec<u8>, Fault> {
        let len = self.u8()?;
        self.name(u64::from(len))
    }
}

/// Where the pages of the machine's main memory are.
struct Ram<'a> {
    /// Name and size of every block.
    blocks: Vec<(Vec<u8>, u64)>,
    /// Index of the main memory among them.
    main: Option<usize>,
    /// Index of the block of the last page.
    current: Option<usize>,
    /// File offset of each page of main memory; zero pages lie behind the file.
    pages: Vec<u64>,
    max_pages: usize,
    stream: Stream<'a>,
}

impl Ram<'_> {
    /// Reads one section of memory. `Ok(true)` at its end, `Ok(false)` when the file ends in it.
    fn section(&mut self) -> Result<bool, Refused> {
        loop {
            match self.record() {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(Stop::CutOff) if self.main.is_some() => return Ok(false),
                Err(Stop::CutOff) => {
                    return Err("the file is cut off before the list of memory blocks".into());
                }
                Err(Stop::Refused(refused)) => return Err(refused),
            }
        }
    }

    /// Reads one record; `true` for the one that ends the section.
    fn record(&mut self) -> Result<bool, Stop> {
        let word = self.stream.u64()?;
        let (addr, flags) = (word & !(PAGE - 1), word & (PAGE - 1));
        let refused = |reason: &str| Err(Stop::Refused(reason.into()));
        match flags & !CONTINUE {
            STOP => return Ok(true),
            HOOK => {}
            SIZES => self.sizes(addr)?,
            ZERO => {
                self.select(flags)?;
                let fill = self.stream.u8()?;
                // Only QEMU before 1.3 sent other bytes.
                if fill != 0 {
                    return refused("pages filled with a byte other than zero");
                }
                let at = self.stream.base.end().saturating_add(addr);
                self.put(addr, at);
            }
            RAW => {
                self.select(flags)?;
                let at = self.stream.at;
                if at.saturating_add(PAGE) > self.stream.base.end() {
                    return Err(Stop::CutOff);
                }
                self.put(addr, at);
                self.stream.skip(PAGE);
            }
            XBZRLE => {
                return refused(
                    "holds differences to earlier pages (XBZRLE); save it without that capability",
                );
            }
            COMPRESSED => return refused("holds compressed pages; save it without that capability"),
            MULTIFD => {
                return refused("its pages went through other channels (multifd); save it without that");
            }
            other => {
                let reason = format!("unknown kind of memory record {other:#x} at: {:#x}", self.stream.at);
                return Err(Stop::Refused(reason.into()));
            }
        }
        Ok(false)
    }

    /// The list of blocks; the largest one that is no video memory is the machine's.
    fn sizes(&mut self, total: u64) -> Result<(), Stop> {
        let mut left = total;
        while left > 0 && self.blocks.len() < MAX_BLOCKS {
            let name = self.stream.short_name()?;
            let size = self.stream.u64()?;
            if size == 0 || size > left {
                return Err(Stop::Refused("the list of memory blocks contradicts itself".into()));
            }
            left = left.saturating_sub(size);
            self.blocks.push((name, size));
        }
        let is_video = |name: &[u8]| name.windows(4).any(|part| part == b"vram");
        let known = self.blocks.iter().position(|(name, _)| name == b"pc.ram");
        let largest = || {
            let memory = self.blocks.iter().enumerate().filter(|(_, (name, _))| !is_video(name));
            memory.max_by_key(|(_, (_, size))| *size).map(|(index, _)| index)
        };
        self.main = known.or_else(largest);
        let size = self.main.and_then(|main| self.blocks.get(main)).map_or(0, |(_, size)| *size);
        let pages = to_usize(size / PAGE);
        if pages > self.max_pages {
            return Err(Stop::Refused(format!("more pages than the limit: {pages}").into()));
        }
        self.pages = vec![ABSENT; pages];
        Ok(())
    }

    /// Reads the name of the block, unless it is the same as before.
    fn select(&mut self, flags: u64) -> Result<(), Stop> {
        if flags & CONTINUE == 0 {
            let name = self.stream.short_name()?;
            self.current = self.blocks.iter().position(|(known, _)| *known == name);
        }
        Ok(())
    }

    fn put(&mut self, addr: u64, at: u64) {
        if self.current.is_some()
            && self.current == self.main
            && let Some(page) = self.pages.get_mut(to_usize(addr / PAGE))
        {
            *page = at;
        }
    }
}

/// Why reading ends early.
enum Stop {
    CutOff,
    Refused(Refused),
}

impl From<Fault> for Stop {
    fn from(_: Fault) -> Self {
        Self::CutOff
    }
}

pub(super) fn open(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let Layer { base, head, limits, .. } = *layer;
    match array_at(head, 4).map(u32::from_be_bytes) {
        Some(3) => {}
        version => return Err(format!("unknown stream version: {}", version.unwrap_or(0)).into()),
    }
    let mut ram = Ram {
        blocks: Vec::new(),
        main: None,
        current: None,
        pages: Vec::new(),
        max_pages: limits.max_table / 8,
        stream: Stream { base: &**base, at: 8 },
    };
    let mut machine = Vec::new();
    let mut warnings = Vec::new();
    let finished = sections(&mut ram, &mut machine)?;
    if ram.pages.iter().all(|page| *page == ABSENT) {
        return Err("no memory is in the stream".into());
    }
    if !finished {
        warnings
            .push("the stream ends before its memory was complete: pages may be missing or old".to_owned());
    }
    let hole = hole(&machine, to_u64(ram.pages.len()).saturating_mul(PAGE));
    let pages = Pages { pages: ram.pages, hole: hole / PAGE };
    let base: Arc<dyn AddressSpace> = Arc::new(JoinSpace::new("stream", [Arc::clone(base), Arc::new(Zeros)]));
    Ok(Opened::new(Arc::new(BlockSpace::new(base, pages, limits.cache))).warnings(warnings))
}

/// Reads sections up to the end of the memory; whether that was reached.
fn sections(ram: &mut Ram<'_>, machine: &mut Vec<u8>) -> Result<bool, Refused> {
    let mut id = None;
    // Every round reads at least one byte, so the file bounds the loop.
    loop {
        let Ok(kind) = ram.stream.u8() else { return Ok(false) };
        match kind {
            CONFIGURATION => {
                let len = ram.stream.u32()?;
                *machine = ram.stream.name(u64::from(len))?;
            }
            // What follows its name belongs to the configuration and has no length of its own: 4 or 8 bytes and
            // a list, of which only those are known that a stream of memory has.
            SUBSECTION => subsection(&mut ram.stream)?,
            START => {
                let section = ram.stream.u32()?;
                let name = ram.stream.short_name()?;
                ram.stream.skip(8);
                if name != b"ram" {
                    return Err(
                        "a section other than memory comes first: block or dirty bitmap migration".into()
                    );
                }
                id = Some(section);
                if !ram.section()? {
                    return Ok(false);
                }
            }
            PART | END => {
                if Some(ram.stream.u32()?) != id {
                    return Err(format!("an unknown section at: {:#x}", ram.stream.at).into());
                }
                if !ram.section()? {
                    return Ok(false);
                }
                if kind == END {
                    return Ok(true);
                }
            }
            FOOTER => ram.stream.skip(4),
            _ if id.is_none() => return Err("no memory is at the start of the stream".into()),
            _ => return Ok(false),
        }
    }
}

/// Passes over a subsection of the configuration.
fn subsection(stream: &mut Stream<'_>) -> Result<(), Refused> {
    let name = stream.short_name()?;
    stream.skip(4);
    match name.as_slice() {
        b"configuration/target-page-bits" => stream.skip(4),
        b"configuration/uuid" => stream.skip(16),
        b"configuration/capabilities" => {
            for _ in 0..stream.u32()?.min(256) {
                stream.short_name()?;
            }
        }
        _ => return Err("an unknown part of the configuration".into()),
    }
    Ok(())
}

/// Where memory of that size stops below 4 GiB, in bytes; what is beyond goes on at 4 GiB.
fn hole(machine: &[u8], size: u64) -> u64 {
    let q35 = machine.windows(3).any(|part| part == b"q35");
    let (least, below) = if q35 { (0xb000_0000, 0x8000_0000) } else { (0xe000_0000, 0xc000_0000) };
    if size < least { size } else { below }
}

/// Pages of main memory, by their number in the block.
struct Pages {
    pages: Vec<u64>,
    /// Number of pages below the hole.
    hole: u64,
}

impl Pages {
    /// First page above the hole.
    const HIGH: u64 = (4 << 30) / PAGE;

    /// Number in the block of a physical page.
    fn index(&self, page: u64) -> Option<u64> {
        if page < self.hole { Some(page) } else { page.checked_sub(Self::HIGH)?.checked_add(self.hole) }
    }

    fn stored(&self, page: u64) -> Option<u64> {
        let entry = self.pages.get(usize::try_from(self.index(page)?).ok()?)?;
        Some(*entry).filter(|entry| *entry != ABSENT)
    }
}

impl BlockStore for Pages {
    fn name(&self) -> String {
        "QEMU stream".to_owned()
    }

    fn find(&self, _base: &dyn AddressSpace, addr: u64) -> Result<Block, Fault> {
        let offset = self.stored(addr / PAGE).ok_or(Fault::NotInImage { phys: addr })?;
        let start = addr & !(PAGE - 1);
        Ok(Block { start, len: PAGE_BYTES, offset, stored: PAGE_BYTES, codec: None })
    }

    fn ranges(&self, start: u64) -> Box<dyn Iterator<Item = (u64, u64)> + '_> {
        let from = start / PAGE;
        let low = from..self.hole.min(to_u64(self.pages.len()));
        let pages = low.chain(from.max(Self::HIGH)..self.end() / PAGE);
        Box::new(pages.filter(|page| self.stored(*page).is_some()).map(|page| (page * PAGE, PAGE)))
    }

    fn end(&self) -> u64 {
        let last = self.pages.iter().rposition(|entry| *entry != ABSENT).map_or(0, |last| to_u64(last) + 1);
        let page = if last <= self.hole { last } else { last - self.hole + Self::HIGH };
        page.saturating_mul(PAGE)
    }

    fn largest_block(&self) -> usize {
        PAGE_BYTES
    }
}
