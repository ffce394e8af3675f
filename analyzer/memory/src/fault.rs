//! Why bytes could not be read.

use std::fmt;

/// Why one byte range could not be read. Small, `Copy`, no heap: it travels up into the cells of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// A page-table entry on the way to `addr` is not present.
    NotPresent {
        /// The virtual address asked for.
        addr: u64,
        /// Level of the entry, counted down to the page: 5 (PML5E), 4, 3, 2, 1 (PTE).
        level: u8,
        /// The raw entry; operating systems keep a meaning in it (swapped, `PROT_NONE`, transition).
        entry: u64,
    },
    /// The operating system keeps the page elsewhere, or makes it when it is first touched.
    Elsewhere {
        /// The virtual address asked for.
        addr: u64,
        /// Where, in a few words: `"in a pagefile"`, `"demand zero"`.
        why: &'static str,
        /// The raw page-table entry that says so.
        entry: u64,
    },
    /// The image does not store this physical address.
    NotInImage {
        /// The physical address.
        phys: u64,
    },
    /// The address is not canonical, is beyond the address width, or the range wraps around.
    OutOfRange {
        /// The address asked for.
        addr: u64,
    },
    /// The caller's cap is smaller than the length asked for; nothing was read.
    TooLong {
        /// Start of the range.
        addr: u64,
        /// Length asked for, in bytes.
        len: u64,
    },
    /// The file ends before the data its container promised.
    Truncated {
        /// File offset of the first missing byte that was asked for.
        offset: u64,
    },
    /// A stored block cannot be decompressed.
    Corrupt {
        /// File offset of the block.
        offset: u64,
    },
    /// The operating system refused the read.
    Io {
        /// File offset of the read.
        offset: u64,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotPresent { addr, level, entry } => {
                write!(f, "page not present at level {level} (entry {entry:#x}): {addr:#x}")
            }
            Self::Elsewhere { addr, why, entry } => write!(f, "page {why} (entry {entry:#x}): {addr:#x}"),
            Self::NotInImage { phys } => write!(f, "physical address not in the image: {phys:#x}"),
            Self::OutOfRange { addr } => write!(f, "address out of range: {addr:#x}"),
            Self::TooLong { addr, len } => write!(f, "{len} bytes are more than the limit: {addr:#x}"),
            Self::Truncated { offset } => write!(f, "image file ends before offset: {offset:#x}"),
            Self::Corrupt { offset } => write!(f, "stored block is corrupt at file offset: {offset:#x}"),
            Self::Io { offset } => write!(f, "image file cannot be read at offset: {offset:#x}"),
        }
    }
}

impl std::error::Error for Fault {}
