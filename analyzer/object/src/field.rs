//! Decoding one field of a struct.

use std::marker::PhantomData;

use memory::AddressSpace;
use profile::Type;

use crate::absent::{Absent, Read};
use crate::types::{Missing, Resolved, Types};

/// Longest byte string one field may hold.
const MAX_INLINE: usize = 64 << 10;

/// A pointer's value: an address in the same space; 0 is null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ptr(pub u64);

impl Ptr {
    /// The address, or `NotApplicable` for a null pointer.
    pub fn non_null(self, why: &'static str) -> Read<u64> {
        if self.0 == 0 { Err(Absent::NotApplicable(why)) } else { Ok(self.0) }
    }
}

/// The address of an embedded member itself; nothing is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr(pub u64);

/// An inline byte string up to its first NUL, at most as long as the field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text(pub Vec<u8>);

/// The raw bytes of a field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

/// Where in a struct a field stands and how many bytes and bits it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Bytes from the start of the struct.
    pub offset: u64,
    /// Bytes of the field, or of the integer that stores a bit-field.
    pub size: u64,
    /// `Some((start, end))` for a bit-field; end exclusive.
    pub bits: Option<(u32, u32)>,
}

/// A Rust type that a field can be decoded into.
pub trait Decode: Sized {
    /// Reads the value at `base + place.offset`.
    fn decode(memory: &dyn AddressSpace, base: u64, place: Place) -> Read<Self>;

    /// Bytes the field must have; `None` accepts any size.
    fn expected_size(types: &Types) -> Option<u64>;
}

/// A field of a layout: resolved place, or why the profile cannot say.
pub struct Field<T> {
    place: Result<Place, Missing>,
    marker: PhantomData<fn() -> T>,
}

impl<T: Decode> Field<T> {
    /// Looks the field up; `path` may hold alternatives separated by `|`.
    #[must_use]
    pub fn resolve(types: &Types, structure: &str, path: &str) -> Self {
        let place =
            types.resolve(structure, path).and_then(|found| place::<T>(types, structure, path, &found));
        Self { place, marker: PhantomData }
    }

    /// Reads the field of the struct at `base`.
    pub fn read(&self, memory: &dyn AddressSpace, base: u64) -> Read<T> {
        match &self.place {
            Ok(place) => T::decode(memory, base, *place),
            Err(missing) => Err(Absent::NoProfile(missing.clone())),
        }
    }

    /// Offset of the field in its struct.
    pub fn offset(&self) -> Result<u64, Missing> {
        self.place.clone().map(|place| place.offset)
    }
}

fn place<T: Decode>(types: &Types, structure: &str, path: &str, found: &Resolved) -> Result<Place, Missing> {
    let size = types.size_of(&found.ty);
    let bits = match &found.ty {
        Type::BitField { start, end, .. } => Some((*start, *end)),
        Type::Enumeration { target: Some(target), .. } => match target.as_ref() {
            Type::BitField { start, end, .. } => Some((*start, *end)),
            _ => None,
        },
        _ => None,
    };
    match (T::expected_size(types), size) {
        // A bit-field is narrower than the Rust type it is read into; its storage may have any size.
        (Some(expected), Some(found)) if found != expected && bits.is_none() => {
            Err(Missing::Size { structure: structure.into(), field: path.into(), expected, found })
        }
        (_, size) => Ok(Place { offset: found.offset, size: size.unwrap_or(0), bits }),
    }
}

/// The little-endian unsigned number that bytes are; those behind the eighth do not count.
#[must_use]
pub fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Little-endian unsigned integer of 1 to 8 bytes.
pub(crate) fn read_uint(memory: &dyn AddressSpace, addr: u64, size: u64) -> Read<u64> {
    let mut buf = [0u8; 8];
    let Some(slice) =
        usize::try_from(size).ok().and_then(|size| buf.get_mut(..size)).filter(|s| !s.is_empty())
    else {
        return Err(Absent::Malformed("integer of unsupported size"));
    };
    memory.read_at(addr, slice).map_err(|fault| Absent::Unreadable { addr, fault })?;
    Ok(u64::from_le_bytes(buf))
}

/// The unsigned value of a field, with bit-field bits extracted.
fn read_place(memory: &dyn AddressSpace, base: u64, place: Place) -> Read<u64> {
    let raw = read_uint(memory, base.wrapping_add(place.offset), place.size)?;
    Ok(place.bits.map_or(raw, |(start, end)| bits_of(raw, start, end)))
}

/// Bits `start..end` of an integer, end exclusive.
pub(crate) fn bits_of(raw: u64, start: u32, end: u32) -> u64 {
    let width = end.saturating_sub(start);
    let mask = if width >= 64 { u64::MAX } else { (1u64 << width).wrapping_sub(1) };
    raw.checked_shr(start).unwrap_or(0) & mask
}

macro_rules! decode_int {
    ($($ty:ty),*) => {$(
        impl Decode for $ty {
            #[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "the size was checked when the field was resolved")]
            #[allow(clippy::allow_attributes, clippy::unnecessary_cast, reason = "u64 needs no cast")]
            #[allow(unfulfilled_lint_expectations, reason = "not every width truncates")]
            fn decode(memory: &dyn AddressSpace, base: u64, place: Place) -> Read<Self> {
                read_place(memory, base, place).map(|value| value as $ty)
            }

            fn expected_size(_: &Types) -> Option<u64> {
                Some(size_of::<$ty>() as u64)
            }
        }
    )*};
}
decode_int!(u8, u16, u32, u64, i8, i16, i32, i64);

/// Any unsigned integer of 1 to 8 bytes, for fields whose width changed between builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uint(pub u64);

impl Decode for Uint {
    fn decode(memory: &dyn AddressSpace, base: u64, place: Place) -> Read<Self> {
        read_place(memory, base, place).map(Self)
    }

    fn expected_size(_: &Types) -> Option<u64> {
        None
    }
}

impl Decode for bool {
    fn decode(memory: &dyn AddressSpace, base: u64, place: Place) -> Read<Self> {
        read_place(memory, base, place).map(|value| value != 0)
    }

    fn expected_size(_: &Types) -> Option<u64> {
        None
    }
}

impl Decode for Ptr {
    fn decode(memory: &dyn AddressSpace, base: u64, place: Place) -> Read<Self> {
        read_place(memory, base, place).map(Self)
    }

    fn expected_size(types: &Types) -> Option<u64> {
        Some(u64::from(types.model().pointer_size()))
    }
}

impl Decode for Addr {
    fn decode(_: &dyn AddressSpace, base: u64, place: Place) -> Read<Self> {
        Ok(Self(base.wrapping_add(place.offset)))
    }

    fn expected_size(_: &Types) -> Option<u64> {
        None
    }
}

impl Decode for Bytes {
    fn decode(memory: &dyn AddressSpace, base: u64, place: Place) -> Read<Self> {
        let addr = base.wrapping_add(place.offset);
        memory
            .read_vec(addr, place.size.min(MAX_INLINE as u64), MAX_INLINE)
            .map(Self)
            .map_err(|fault| Absent::Unreadable { addr, fault })
    }

    fn expected_size(_: &Types) -> Option<u64> {
        None
    }
}

impl Decode for Text {
    fn decode(memory: &dyn AddressSpace, base: u64, place: Place) -> Read<Self> {
        let Bytes(mut bytes) = Bytes::decode(memory, base, place)?;
        if let Some(end) = bytes.iter().position(|&b| b == 0) {
            bytes.truncate(end);
        }
        Ok(Self(bytes))
    }

    fn expected_size(_: &Types) -> Option<u64> {
        None
    }
}
