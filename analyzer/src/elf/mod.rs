//! ELF objects in memory: headers, program headers and dynamic entries where the loader put them, and the parts of ELF files
//! that commands write. Little endian, 32 and 64 bits. It knows no operating system.
//!
//! Source of the formats: System V ABI, chapters 4 and 5; `<elf.h>`, `<link.h>`. Truth: `readelf`, `gdb`, and the loaders of
//! guests.

pub mod file;
pub mod write;

use memory::AddressSpace;
use object::{Absent, Read, little_endian};

/// Most program headers that are read; linkers write about a dozen.
const MAX_SEGMENTS: u16 = 256;
/// Most entries of a dynamic section.
const MAX_DYNAMIC: u64 = 4096;
/// Most objects of one process.
const MAX_OBJECTS: usize = 1 << 14;
/// Longest path of an object.
const MAX_PATH: usize = 4096;

/// `PT_LOAD`, `PT_DYNAMIC`: kinds of segments.
pub const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
/// `DT_DEBUG`: where the loader keeps its list of objects.
const DT_DEBUG: u64 = 21;

/// Headers of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elf {
    /// Whether it is of the 64-bit class.
    pub wide: bool,
    /// `e_type`: 2 program at fixed addresses, 3 shared object or movable program.
    pub kind: u16,
    /// `e_machine`.
    pub machine: u16,
    /// Its segments.
    pub segments: Vec<Segment>,
}

/// A program header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// `PT_*`.
    pub kind: u32,
    /// Place in the file, in bytes.
    pub offset: u64,
    /// Address it was linked for.
    pub vaddr: u64,
    /// Bytes in the file.
    pub filesz: u64,
}

/// An object on the loader's list (`struct link_map`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Difference between the addresses it was linked for and those it has.
    pub bias: u64,
    /// Its dynamic section.
    pub dynamic: u64,
    /// Path by which it was loaded; empty for the program itself.
    pub path: Read<Vec<u8>>,
}

fn unreadable(addr: u64) -> impl Fn(memory::Fault) -> Absent {
    move |fault| Absent::Unreadable { addr, fault }
}

impl Elf {
    /// Reads the headers of the object that begins at `base`.
    pub fn read(space: &dyn AddressSpace, base: u64) -> Read<Self> {
        let mut head = [0; 64];
        space.read_at(base, &mut head).map_err(unreadable(base))?;
        let field =
            |at: usize, len: usize| little_endian(head.get(at..at.saturating_add(len)).unwrap_or_default());
        let wide = match head {
            [0x7f, b'E', b'L', b'F', 1, 1, ..] => false,
            [0x7f, b'E', b'L', b'F', 2, 1, ..] => true,
            _ => return Err(Absent::Malformed("no ELF header")),
        };
        let half = |at| u16::try_from(field(at, 2)).unwrap_or(0);
        let (table, size, count) = match wide {
            true => (field(32, 8), half(54), half(56)),
            false => (field(28, 4), half(42), half(44)),
        };
        let least = if wide { 56 } else { 32 };
        if count > MAX_SEGMENTS || size < least || size > 256 {
            return Err(Absent::Malformed("program headers of an unknown size"));
        }
        let first = base.wrapping_add(table);
        let len = u64::from(size).wrapping_mul(count.into());
        let bytes = space.read_vec(first, len, 1 << 16).map_err(unreadable(first))?;
        let segments = bytes.chunks_exact(size.into()).map(|entry| {
            let field = |at: usize, len: usize| {
                little_endian(entry.get(at..at.saturating_add(len)).unwrap_or_default())
            };
            let kind = u32::try_from(field(0, 4)).unwrap_or(0);
            match wide {
                true => Segment { kind, offset: field(8, 8), vaddr: field(16, 8), filesz: field(32, 8) },
                false => Segment { kind, offset: field(4, 4), vaddr: field(8, 4), filesz: field(16, 4) },
            }
        });
        Ok(Self { wide, kind: half(16), machine: half(18), segments: segments.collect() })
    }

    /// The difference between the addresses the object was linked for and those it has, when its headers are at `base`.
    #[must_use]
    pub fn bias(&self, base: u64) -> u64 {
        let first = self.segments.iter().find(|segment| segment.kind == PT_LOAD);
        base.wrapping_sub(first.map_or(0, |first| first.vaddr.wrapping_sub(first.offset)))
    }

    fn width(&self) -> u64 {
        if self.wide { 8 } else { 4 }
    }

    fn word(&self, space: &dyn AddressSpace, addr: u64) -> Read<u64> {
        match self.wide {
            true => space.read_u64(addr),
            false => space.read_u32(addr).map(u64::from),
        }
        .map_err(unreadable(addr))
    }

    /// The first value of a tag in the dynamic section; not applicable without such a section or tag.
    fn dynamic(&self, space: &dyn AddressSpace, bias: u64, wanted: u64) -> Read<u64> {
        let section = self.segments.iter().find(|segment| segment.kind == PT_DYNAMIC);
        let section = section.ok_or(Absent::NotApplicable("statically linked"))?.vaddr.wrapping_add(bias);
        for index in 0..MAX_DYNAMIC {
            let entry = section.wrapping_add(index.wrapping_mul(2 * self.width()));
            match self.word(space, entry)? {
                0 => break,
                tag if tag == wanted => return self.word(space, entry.wrapping_add(self.width())),
                _ => {}
            }
        }
        Err(Absent::NotApplicable("no such dynamic entry"))
    }

    /// The loader's list of objects, if this is the program that it was made for; and why it ended before its end.
    /// Not applicable to others.
    pub fn objects(&self, space: &dyn AddressSpace, bias: u64) -> Read<(Vec<Loaded>, Option<Absent>)> {
        let debug = self.dynamic(space, bias, DT_DEBUG)?;
        if debug == 0 {
            return Err(Absent::NotApplicable("not set up by a loader"));
        }
        let width = self.width();
        // r_debug: version (an int), then the first link_map.
        let mut next = self.word(space, debug.wrapping_add(width))?;
        let mut seen = std::collections::HashSet::new();
        let mut found = Vec::new();
        while next != 0 {
            if !seen.insert(next) || found.len() >= MAX_OBJECTS {
                return Ok((found, Some(Absent::Malformed("list of objects without end"))));
            }
            let field = |index: u64| self.word(space, next.wrapping_add(index.wrapping_mul(width)));
            let path = |addr| space.read_cstr(addr, MAX_PATH).map_err(unreadable(addr));
            let (bias, dynamic, following) = match (field(0), field(2), field(3)) {
                (Ok(bias), Ok(dynamic), Ok(following)) => (bias, dynamic, following),
                (Err(why), ..) | (_, Err(why), _) | (.., Err(why)) => return Ok((found, Some(why))),
            };
            found.push(Loaded { bias, dynamic, path: field(1).and_then(path) });
            next = following;
        }
        Ok((found, None))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use memory::{FileSpace, Overlap, Run, RunSpace};
    use proptest::prelude::*;

    use super::*;

    fn mapped(bytes: Vec<u8>, base: u64) -> RunSpace {
        let runs = vec![Run { start: base, len: bytes.len() as u64, target: 0 }];
        RunSpace::new("test", Arc::new(FileSpace::from_vec(bytes)), runs, Overlap::FirstWins)
    }

    /// A program made here: header, `PT_LOAD`, `PT_DYNAMIC` whose `DT_DEBUG` leads to a list of two objects.
    fn program() -> Vec<u8> {
        let mut bytes = vec![0; 0x1000];
        let mut put = |at: usize, value: u64, len: usize| {
            bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
        };
        put(0, 0x0001_0102_464c_457f, 8);
        for (at, value, len) in [(16, 3, 2), (18, 62, 2), (32, 64, 8), (54, 56, 2), (56, 2, 2)] {
            put(at, value, len);
        }
        for (at, value) in [(64, 1), (72, 0), (80, 0x5000), (96, 0x400)] {
            put(at, value, 8);
        }
        for (at, value) in [(120, 2), (136, 0x5100), (152, 0x40)] {
            put(at, value, 8);
        }
        for (at, value) in [(0x100, 21), (0x108, 0x1180)] {
            put(at, value, 8);
        }
        for (at, value) in [(0x180, 1), (0x188, 0x1200)] {
            put(at, value, 8);
        }
        for (at, value) in [(0x200, 0x9000), (0x208, 0x1300), (0x210, 0x1100), (0x218, 0x1240)] {
            put(at, value, 8);
        }
        for (at, value) in [(0x240, 0x7000), (0x248, 0x1301), (0x250, 0), (0x258, 0)] {
            put(at, value, 8);
        }
        bytes[0x301..0x306].copy_from_slice(b"/lib\0");
        bytes
    }

    #[test]
    fn the_loaders_list_is_found_through_the_program() {
        let space = mapped(program(), 0x1000);
        let elf = Elf::read(&space, 0x1000).unwrap();
        assert_eq!((elf.wide, elf.kind, elf.machine, elf.segments.len()), (true, 3, 62, 2));
        let bias = elf.bias(0x1000);
        assert_eq!(bias, 0x1000u64.wrapping_sub(0x5000));
        let (objects, end) = elf.objects(&space, bias).unwrap();
        let shown: Vec<_> =
            objects.iter().map(|object| (object.bias, object.path.clone().unwrap())).collect();
        assert_eq!(shown, [(0x9000, vec![]), (0x7000, b"/lib".to_vec())]);
        assert_eq!(end, None);
    }

    proptest! {
        #[test]
        fn damage_is_told_not_followed_for_ever(
            places in proptest::collection::vec((0usize..0x400, any::<u8>()), 1..8),
            len in 0usize..0x1000,
        ) {
            let mut bytes = program();
            for (at, byte) in places {
                bytes[at] = byte;
            }
            bytes.truncate(len.max(1));
            let space = mapped(bytes, 0x1000);
            if let Ok(elf) = Elf::read(&space, 0x1000) {
                let _ = elf.objects(&space, elf.bias(0x1000));
            }
        }
    }
}
