//! Types that need no record: primitives and pointers to them, encoded in type indexes (`cvinfo.h` of microsoft-pdb).

use profile::Type;

/// A type that needs no record (`TYPE_ENUM_e` of `cvinfo.h`).
#[derive(Debug, Clone, Copy)]
pub(super) enum Primitive {
    Void,
    /// Name, bytes, whether signed.
    Integer(&'static str, u64, bool),
    Float(&'static str, u64),
    WideCharacter,
    /// No profile type: so many bytes.
    Bytes(u64),
}

/// The primitive of the low byte of a type index.
pub(super) fn primitive(kind: u32) -> Option<Primitive> {
    use Primitive::{Bytes, Float, Integer, Void, WideCharacter};
    Some(match kind {
        0x00 | 0x03 => Void,
        0x10 | 0x68 | 0x70 => Integer("char", 1, true),
        0x20 | 0x30 | 0x69 | 0x7c => Integer("unsigned char", 1, false),
        0x11 | 0x72 => Integer("short", 2, true),
        0x21 | 0x31 | 0x73 | 0x7a => Integer("unsigned short", 2, false),
        0x08 | 0x12 | 0x74 => Integer("long", 4, true),
        0x22 | 0x32 | 0x75 | 0x7b => Integer("unsigned long", 4, false),
        0x13 | 0x76 => Integer("long long", 8, true),
        0x23 | 0x33 | 0x77 => Integer("unsigned long long", 8, false),
        0x14 | 0x78 => Integer("__int128", 16, true),
        0x24 | 0x79 => Integer("unsigned __int128", 16, false),
        0x40 | 0x45 => Float("float", 4),
        0x41 => Float("double", 8),
        0x71 => WideCharacter,
        0x46 => Bytes(2),
        0x44 => Bytes(6),
        0x50 => Bytes(8),
        // The 80-bit float of x86 occupies 10 bytes here, 16 as a native type of profiles.
        0x42 => Bytes(10),
        0x43 | 0x51 => Bytes(16),
        0x52 => Bytes(20),
        0x53 => Bytes(32),
        _ => return None,
    })
}

impl Primitive {
    pub(super) fn size(self) -> u64 {
        match self {
            Self::Void => 0,
            Self::Integer(_, size, _) | Self::Float(_, size) | Self::Bytes(size) => size,
            Self::WideCharacter => 2,
        }
    }

    pub(super) fn ty(self) -> Type {
        match self {
            Self::Void => Type::Void,
            Self::Integer(name, ..) | Self::Float(name, _) => Type::named(name),
            Self::WideCharacter => Type::named("unsigned short"),
            Self::Bytes(size) => Type::array(size, Type::named("unsigned char")),
        }
    }
}

/// Bytes of the pointer to a primitive; 0 where the index means the primitive itself.
pub(super) fn simple_pointer_size(index: u32) -> u64 {
    match (index >> 8) & 0xf {
        0 => 0,
        1 => 2,
        6 => 8,
        7 => 16,
        _ => 4,
    }
}

/// Bytes of a pointer by its attributes: the size field, else by its kind.
pub(super) fn pointer_size(attributes: u32) -> u64 {
    match ((attributes >> 13) & 0x3f, attributes & 0x1f) {
        (0, 0x0c) => 8,
        (0, _) => 4,
        (size, _) => size.into(),
    }
}
