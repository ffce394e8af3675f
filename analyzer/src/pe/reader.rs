//! Reading a module by relative address, and seeing a file as the loader lays it out.

use std::sync::Arc;

use memory::{AddressSpace, Overlap, Run, RunSpace};
use object::{Absent, Read};

use super::{Headers, Pe};
use crate::table::text_of;

/// Longest name of a function or module, in bytes; decorated C++ names are long.
const MAX_NAME: usize = 4096;

/// Offsets of sections are rounded down to this, whatever the header says. \[Windows loader\]
const SECTOR: u32 = 512;

/// A file's headers and sections at the addresses the loader gives them; what is between them and what a section has
/// no data for reads as zeros.
pub(super) fn as_loaded(file: &Arc<dyn AddressSpace>, offset: u64, headers: &Headers) -> RunSpace {
    let run = |start: u32, len: u32, from: u32| Run {
        start: start.into(),
        len: len.into(),
        target: offset.saturating_add(from.into()),
    };
    let mut runs = vec![run(0, headers.size_of_headers, 0)];
    for section in &headers.sections.items {
        // Below a page, alignments in file and memory are the same and offsets are taken as they are.
        let aligned = headers.section_alignment >= 4096;
        let from = if aligned { section.raw_offset & !(SECTOR - 1) } else { section.raw_offset };
        if from != 0 {
            runs.push(run(section.rva, section.initialized(headers.section_alignment), from));
        }
    }
    let size = headers.size_of_image.max(headers.size_of_headers);
    RunSpace::new("PE", Arc::clone(file), runs, Overlap::FirstWins).with_zeros_to(size.into())
}

impl Pe {
    /// The address of `len` bytes at a relative address, if they are the module's.
    fn locate(&self, rva: u64, len: u64) -> Read<u64> {
        let inside = rva.checked_add(len).is_some_and(|end| end <= self.end);
        let addr = self.base.checked_add(rva).filter(|_| inside);
        addr.ok_or(Absent::Malformed("address lies outside of the module"))
    }

    /// Fills `buf` from a relative address.
    pub(super) fn read(&self, rva: u64, buf: &mut [u8]) -> Read<()> {
        let addr = self.locate(rva, buf.len() as u64)?;
        self.space.read_at(addr, buf).map_err(|fault| Absent::Unreadable { addr, fault })
    }

    pub(super) fn u16(&self, rva: u64) -> Read<u16> {
        let mut bytes = [0; 2];
        self.read(rva, &mut bytes)?;
        Ok(u16::from_le_bytes(bytes))
    }

    pub(super) fn u32(&self, rva: u64) -> Read<u32> {
        let mut bytes = [0; 4];
        self.read(rva, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// A pointer-sized number.
    pub(super) fn word(&self, rva: u64) -> Read<u64> {
        if !self.headers.is_64 {
            return self.u32(rva).map(u64::from);
        }
        let mut bytes = [0; 8];
        self.read(rva, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// `len` bytes, at most `cap`.
    pub(super) fn bytes(&self, rva: u64, len: u64, cap: usize) -> Read<Vec<u8>> {
        let addr = self.locate(rva, len)?;
        self.space.read_vec(addr, len, cap).map_err(|fault| Absent::Unreadable { addr, fault })
    }

    /// A text of bytes that ends with a NUL.
    pub(super) fn text(&self, rva: u64) -> Read<String> {
        let addr = self.locate(rva, 1)?;
        let max = usize::try_from(self.end.saturating_sub(rva)).unwrap_or(MAX_NAME).min(MAX_NAME);
        let bytes = self.space.read_cstr(addr, max).map_err(|fault| Absent::Unreadable { addr, fault })?;
        if bytes.len() == max {
            return Err(Absent::Malformed("name does not end"));
        }
        Ok(text_of(&bytes))
    }
}
