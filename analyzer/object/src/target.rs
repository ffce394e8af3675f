//! A kernel or process to look at: types, an address space and where the symbols went.

use std::sync::Arc;

use memory::AddressSpace;

use crate::absent::{Absent, Read};
use crate::types::{Missing, Types};

/// Types joined with an address space. Cheap to clone.
#[derive(Clone)]
pub struct Target {
    types: Arc<Types>,
    space: Arc<dyn AddressSpace>,
    /// Added to link-time addresses of the kernel image, modulo 2^64.
    slide: u64,
    /// Lowest link-time address that moves with the image; symbols below (per-CPU offsets, absolute) stay.
    image_start: u64,
}

impl Target {
    /// Joins types with a space. Symbols at or above `image_start` (link-time) are shifted by `slide`.
    #[must_use]
    pub fn new(types: Arc<Types>, space: Arc<dyn AddressSpace>, slide: u64, image_start: u64) -> Self {
        Self { types, space, slide, image_start }
    }

    /// The same types over another address space (a process).
    #[must_use]
    pub fn with_space(&self, space: Arc<dyn AddressSpace>) -> Self {
        Self { space, ..self.clone() }
    }

    /// The types.
    #[must_use]
    pub fn types(&self) -> &Types {
        &self.types
    }

    /// The address space all addresses of this target mean.
    #[must_use]
    pub fn space(&self) -> &dyn AddressSpace {
        self.space.as_ref()
    }

    /// The address space, shared.
    #[must_use]
    pub fn shared_space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    /// Difference between run-time and link-time addresses of the kernel image, modulo 2^64.
    #[must_use]
    pub fn slide(&self) -> u64 {
        self.slide
    }

    /// Run-time address of a symbol.
    pub fn symbol(&self, name: &str) -> Result<u64, Missing> {
        let value = self.types.profile().symbol(name).ok_or_else(|| Missing::Symbol(name.into()))?;
        Ok(self.to_run_time(value))
    }

    /// Run-time address of a link-time value.
    #[must_use]
    pub fn to_run_time(&self, value: u64) -> u64 {
        if value >= self.image_start { value.wrapping_add(self.slide) } else { value }
    }

    /// Names and distance of the symbols nearest at or below a run-time address; empty above the image or without symbols.
    #[must_use]
    pub fn nearest_symbols(&self, addr: u64) -> Option<(Vec<String>, u64)> {
        let value = addr.wrapping_sub(self.slide);
        let hits = self.types.profile().symbols_at_or_below(value);
        let distance = value.wrapping_sub(hits.first()?.value);
        Some((hits.iter().map(|s| s.name.to_owned()).collect(), distance))
    }

    /// Reads a native pointer.
    pub fn read_ptr(&self, addr: u64) -> Read<u64> {
        let value = match self.types.model().pointer_size() {
            4 => self.space.read_u32(addr).map(u64::from),
            _ => self.space.read_u64(addr),
        };
        value.map_err(|fault| Absent::Unreadable { addr, fault })
    }

    /// Reads a little-endian `u32`.
    pub fn read_u32(&self, addr: u64) -> Read<u32> {
        self.space.read_u32(addr).map_err(|fault| Absent::Unreadable { addr, fault })
    }

    /// Reads a little-endian `u64`.
    pub fn read_u64(&self, addr: u64) -> Read<u64> {
        self.space.read_u64(addr).map_err(|fault| Absent::Unreadable { addr, fault })
    }

    /// Reads a NUL-terminated string of at most `max` bytes.
    pub fn read_cstr(&self, addr: u64, max: usize) -> Read<Vec<u8>> {
        self.space.read_cstr(addr, max).map_err(|fault| Absent::Unreadable { addr, fault })
    }

    /// Reads exactly `len` bytes, refusing more than `cap`.
    pub fn read_bytes(&self, addr: u64, len: u64, cap: usize) -> Read<Vec<u8>> {
        if len > cap as u64 {
            return Err(Absent::Malformed("length beyond its limit"));
        }
        self.space.read_vec(addr, len, cap).map_err(|fault| Absent::Unreadable { addr, fault })
    }

    /// Offset of a field, by dotted path with `|` alternatives.
    pub fn offset_of(&self, structure: &str, path: &str) -> Result<u64, Missing> {
        self.types.resolve(structure, path).map(|found| found.offset)
    }
}
