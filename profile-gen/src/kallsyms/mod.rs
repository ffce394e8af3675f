//! kallsyms, the symbol table every kernel carries in its read-only data, read from the memory of a running one.
//!
//! The table is written by `scripts/kallsyms.c` of the kernel's sources: names are compressed with 256 tokens, one for
//! each byte value, and every 256th name has a marker. Nothing points to the parts, so they are found by their shape:
//!
//! ```text
//! before v6.6   addresses | (offsets, relative_base)   num_syms  names  markers  [seqs]  tokens  token_index
//! since  v6.6   num_syms  names  markers  tokens  token_index  offsets  relative_base  seqs
//! ```
//! Values are absolute addresses (before v4.6 and where `CONFIG_KALLSYMS_BASE_RELATIVE` is off) or offsets from
//! `relative_base`; markers have the size of a `long` before v4.20 and 4 bytes since. Which of these a kernel has is told
//! by what decodes, never by its version. Parts of a dump may be missing: a block of 256 names that cannot be read is
//! counted, not guessed.

mod names;
mod values;

use std::ops::Range;

use crate::symbols::{Symbol, SymbolList};

/// Tokens of the digits, which every kernel keeps: a byte value that occurs in names stands for itself. To be searched
/// for in memory.
pub const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0";
/// Bytes in front of [`DIGITS`] that [`decode`] may need: a kernel of 2 million names.
pub const BEFORE: usize = 16 << 20;
/// Bytes from [`DIGITS`] on that [`decode`] may need.
pub const BEHIND: usize = 16 << 20;

/// Symbols between two markers.
const BLOCK: usize = 256;
/// Fewest and most symbols of a kernel.
const COUNTS: Range<usize> = 1_000..1 << 21;

/// Memory around a token table, with what of it is missing.
#[derive(Debug, Clone, Copy)]
pub struct Memory<'m> {
    /// The bytes; the first one is at an address that is a multiple of 8.
    pub bytes: &'m [u8],
    /// Parts of the bytes that could not be read, ascending.
    pub missing: &'m [Range<usize>],
}

impl<'m> Memory<'m> {
    /// The bytes of a range that was read in full.
    pub(crate) fn get(&self, range: Range<usize>) -> Option<&'m [u8]> {
        let at = self.missing.partition_point(|gap| gap.end <= range.start);
        if self.missing.get(at).is_some_and(|gap| gap.start < range.end) {
            return None;
        }
        self.bytes.get(range)
    }

    fn word(&self, at: usize, width: usize) -> Option<u64> {
        self.get(at..at.checked_add(width)?).map(little_endian)
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// One symbol of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelSymbol {
    /// Run-time address; per-CPU symbols may be offsets.
    pub address: u64,
    /// Letter of `nm`: upper case is global.
    pub kind: u8,
    /// Name.
    pub name: String,
}

/// A decoded table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kallsyms {
    /// Symbols in order of address, as far as they could be read.
    pub symbols: Vec<KernelSymbol>,
    /// Symbols the table has but whose name or value could not be read.
    pub lost: usize,
    /// How values are stored, for people: `"offsets from 0xffffffff81000000"`.
    pub values: String,
    /// Bytes of a pointer: 4 or 8.
    pub width: usize,
}

impl Kallsyms {
    /// The symbols as a list such as `/proc/kallsyms` gives. Weak undefined ones are left out.
    #[must_use]
    pub fn list(&self) -> SymbolList<'_> {
        let symbols = self.symbols.iter().filter(|symbol| !matches!(symbol.kind, b'U' | b'w'));
        let symbols = symbols.map(|symbol| Symbol {
            name: &symbol.name,
            address: symbol.address,
            global: symbol.kind.is_ascii_uppercase(),
        });
        SymbolList { symbols: symbols.collect(), ..SymbolList::default() }
    }

    /// Address of a symbol.
    #[must_use]
    pub fn address_of(&self, name: &str) -> Option<u64> {
        self.symbols.iter().find(|symbol| symbol.name == name).map(|symbol| symbol.address)
    }
}

/// Why there is no table around a token table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KallsymsError {
    /// The digits do not belong to a token table with its index.
    #[error("no token table")]
    Tokens,
    /// No stream of names in front of it.
    #[error("token table without a readable stream of names")]
    Names,
    /// No array of ascending values belongs to the names.
    #[error("names without readable values")]
    Values,
}

/// Decodes the table whose token table has [`DIGITS`] at `hit`.
///
/// # Errors
/// [`KallsymsError`]: the digits are something else, or a part that cannot be done without is missing.
pub fn decode(memory: Memory<'_>, hit: usize) -> Result<Kallsyms, KallsymsError> {
    let tokens = names::Tokens::at(memory, hit).ok_or(KallsymsError::Tokens)?;
    let mut failure = KallsymsError::Names;
    for width in [8, 4] {
        let Some(stream) = names::Stream::before(memory, &tokens, width) else { continue };
        let Some(values) = values::find(memory, &tokens, &stream, width) else {
            failure = KallsymsError::Values;
            continue;
        };
        let names = stream.names(memory, &tokens);
        let count = names.len();
        let symbols: Vec<KernelSymbol> = names
            .into_iter()
            .zip(&values.addresses)
            .filter_map(|(name, address)| {
                let (kind, name) = name?;
                Some(KernelSymbol { address: (*address)?, kind, name })
            })
            .collect();
        return Ok(Kallsyms { lost: count - symbols.len(), symbols, values: values.description, width });
    }
    Err(failure)
}

#[cfg(test)]
mod tests;
