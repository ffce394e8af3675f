//! Data models: sizes of the native types by name (spec of the vtype language; C ABI of each platform).

use crate::document::Metadata;

/// Widths of `long` and of pointers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataModel {
    /// 64-bit Unix: `long` and pointers have 8 bytes.
    Lp64,
    /// 64-bit Windows: `long` has 4 bytes, pointers 8.
    Llp64,
    /// 32-bit: `long` and pointers have 4 bytes.
    Ilp32,
}

/// A native type: little-endian, `size` bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Native {
    /// Bytes.
    pub size: u8,
    /// What the bytes hold.
    pub kind: NativeKind,
}

/// What a native type holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NativeKind {
    /// A signed integer.
    Signed,
    /// An unsigned integer.
    Unsigned,
    /// A truth value.
    Bool,
    /// A character of text.
    Char,
    /// IEEE 754.
    Float,
}

impl DataModel {
    /// The model of a profile by its `$METADATA`: 32-bit architectures are ILP32, 64-bit Unix LP64, everything else
    /// (PE files) LLP64.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        let text = |key: &str| metadata.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
        let class = text("ProfileClass");
        match text("arch") {
            "I386" | "ARM" | "MIPS" => Self::Ilp32,
            _ if class.starts_with("Linux") || class.starts_with("Darwin") => Self::Lp64,
            _ => Self::Llp64,
        }
    }

    /// Bytes of a pointer.
    #[must_use]
    pub fn pointer_size(self) -> u8 {
        match self {
            Self::Lp64 | Self::Llp64 => 8,
            Self::Ilp32 => 4,
        }
    }

    fn long_size(self) -> u8 {
        match self {
            Self::Lp64 => 8,
            Self::Llp64 | Self::Ilp32 => 4,
        }
    }

    /// A native type by its C name in any word order (`long unsigned int`); `None` where the name is no native type.
    #[must_use]
    pub fn native(self, name: &str) -> Option<Native> {
        use NativeKind::{Bool, Char, Float, Signed, Unsigned};
        let native = |size, kind| Some(Native { size, kind });
        match name {
            "char" => return native(1, Char),
            "bool" | "_Bool" => return native(1, Bool),
            "address" => return native(self.pointer_size(), Unsigned),
            // f32, f64, wchar and HRESULT are names of Windows symbol tables.
            "float" | "f32" => return native(4, Float),
            "double" | "f64" => return native(8, Float),
            "long double" => return native(16, Float),
            "__int128" => return native(16, Signed),
            "__int128 unsigned" | "unsigned __int128" => return native(16, Unsigned),
            "int8_t" => return native(1, Signed),
            "int16_t" => return native(2, Signed),
            "int32_t" => return native(4, Signed),
            "int64_t" => return native(8, Signed),
            "byte" | "uint8_t" => return native(1, Unsigned),
            "uint16_t" | "wchar" => return native(2, Unsigned),
            "uint32_t" | "HRESULT" => return native(4, Unsigned),
            "uint64_t" => return native(8, Unsigned),
            _ => {}
        }
        let (mut longs, mut short, mut char, mut kind, mut any) = (0, false, false, Signed, false);
        for word in name.split(' ') {
            any = true;
            match word {
                "unsigned" => kind = Unsigned,
                "long" => longs += 1,
                "short" => short = true,
                "char" => char = true,
                "signed" | "int" => {}
                _ => return None,
            }
        }
        let size = match (char, short, longs) {
            (true, false, 0) => 1,
            (false, true, 0) => 2,
            (false, false, 0) => 4,
            (false, false, 1) => self.long_size(),
            (false, false, 2) => 8,
            _ => return None,
        };
        if any { native(size, kind) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_follows_the_model_and_word_order_does_not_matter() {
        for (model, size) in [(DataModel::Lp64, 8), (DataModel::Llp64, 4), (DataModel::Ilp32, 4)] {
            for name in ["unsigned long", "long unsigned int", "unsigned long int"] {
                assert_eq!(model.native(name), Some(Native { size, kind: NativeKind::Unsigned }), "{name}");
            }
        }
        assert_eq!(DataModel::Lp64.native("long long unsigned int").map(|n| n.size), Some(8));
        assert_eq!(DataModel::Lp64.native("short unsigned int").map(|n| n.size), Some(2));
        assert_eq!(DataModel::Lp64.native("signed char").map(|n| n.size), Some(1));
        assert_eq!(DataModel::Lp64.native("list_head"), None);
        assert_eq!(DataModel::Lp64.native(""), None);
    }
}
