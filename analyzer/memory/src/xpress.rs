//! Xpress, the compression of hibernation files, crash dumps and compressed memory of Windows: plain LZ77 and
//! LZ77 with Huffman codes.
//!
//! Source: \[MS-XCA\] sections 2.3 to 2.5, whose examples are the tests. Both decoders fill their output and stop
//! there; input that ends before that, or points before the start of the output, is damaged.

use crate::bytes::{array_at, u16_at, u32_at};

/// Output bytes that one Huffman table serves.
const CHUNK: usize = 65_536;
/// Longest code, in bits, and number of symbols: 256 literals, 16 lengths for each of 16 kinds of offsets.
const MAX_BITS: usize = 15;
const SYMBOLS: usize = 512;

/// Output under construction.
struct Output<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Output<'_> {
    fn is_full(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn literal(&mut self, byte: u8) -> Option<()> {
        *self.bytes.get_mut(self.at)? = byte;
        self.at = self.at.checked_add(1)?;
        Some(())
    }

    /// Repeats `len` bytes from `offset` bytes before, which may overlap; what is beyond the end is left out.
    fn repeat(&mut self, offset: usize, len: usize) -> Option<()> {
        let from = self.at.checked_sub(offset).filter(|_| offset > 0)?;
        let len = len.min(self.bytes.len().checked_sub(self.at)?);
        if offset >= len {
            self.bytes.copy_within(from..from.checked_add(len)?, self.at);
        } else {
            for step in 0..len {
                let byte = *self.bytes.get(from.checked_add(step)?)?;
                *self.bytes.get_mut(self.at.checked_add(step)?)? = byte;
            }
        }
        self.at = self.at.checked_add(len)?;
        Some(())
    }
}

/// Input with a position.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Option<usize> {
        let byte = *self.bytes.get(self.at)?;
        self.at = self.at.checked_add(1)?;
        Some(usize::from(byte))
    }

    fn word(&mut self) -> Option<u16> {
        let word = u16_at(self.bytes, self.at)?;
        self.at = self.at.checked_add(2)?;
        Some(word)
    }

    fn double(&mut self) -> Option<u32> {
        let double = u32_at(self.bytes, self.at)?;
        self.at = self.at.checked_add(4)?;
        Some(double)
    }

    /// A length from its third form on: a byte, or behind 255 two bytes, or behind 0 four. `less` is what the
    /// shorter forms already cover.
    fn length(&mut self, less: usize) -> Option<usize> {
        let short = self.byte()?;
        if short < 255 {
            return short.checked_add(less);
        }
        let long = match self.word()? {
            0 => usize::try_from(self.double()?).ok()?,
            long => usize::from(long),
        };
        (long >= less).then_some(long)
    }
}

/// Decompresses plain LZ77 until `out` is full.
pub(crate) fn plain(stored: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut input = Input { bytes: stored, at: 0 };
    let mut out = Output { bytes: out, at: 0 };
    let (mut flags, mut left) = (0u32, 0u32);
    // Two lengths share a byte: the second one is kept here.
    let mut half: Option<usize> = None;
    while !out.is_full() {
        if left == 0 {
            flags = input.double()?;
            left = 32;
        }
        left = left.checked_sub(1)?;
        if flags >> left & 1 == 0 {
            let byte = *stored.get(input.at)?;
            input.at = input.at.checked_add(1)?;
            out.literal(byte)?;
            continue;
        }
        let word = usize::from(input.word()?);
        let (offset, mut len) = ((word >> 3).checked_add(1)?, word & 7);
        if len == 7 {
            let nibble = match half.take() {
                Some(nibble) => nibble,
                None => {
                    let byte = input.byte()?;
                    half = Some(byte >> 4);
                    byte & 15
                }
            };
            len = if nibble == 15 { input.length(15 + 7)? } else { nibble.checked_add(7)? };
        }
        out.repeat(offset, len.checked_add(3)?)?;
    }
    Some(out.at)
}

/// Canonical codes: by length the first code, and where its symbols begin among those sorted by length.
struct Codes {
    counts: [u16; MAX_BITS + 1],
    sorted: [u16; SYMBOLS],
}

impl Codes {
    /// Reads the table: one length of 4 bits per symbol, the lower half first.
    fn read(table: &[u8; SYMBOLS / 2]) -> Option<Self> {
        let lengths = || table.iter().flat_map(|byte| [byte & 15, byte >> 4]);
        let mut counts = [0u16; MAX_BITS + 1];
        for length in lengths() {
            let count = counts.get_mut(usize::from(length))?;
            *count = count.checked_add(1)?;
        }
        *counts.first_mut()? = 0;
        let mut sorted = [0u16; SYMBOLS];
        let mut slots = sorted.iter_mut();
        for wanted in 1..=15u8 {
            for (symbol, length) in (0u16..).zip(lengths()) {
                if length == wanted {
                    *slots.next()? = symbol;
                }
            }
        }
        // More codes than their lengths allow: no such tree.
        let mut room = 1u32;
        for count in counts.iter().skip(1) {
            room = room.checked_mul(2)?.checked_sub(u32::from(*count))?;
        }
        Some(Self { counts, sorted })
    }

    /// The symbol at the top of `bits` and the length of its code.
    fn symbol(&self, bits: u32) -> Option<(usize, u32)> {
        let (mut code, mut first, mut index) = (0u32, 0u32, 0u32);
        for (length, count) in (1u32..).zip(self.counts.iter().skip(1)) {
            code = code << 1 | bits.checked_shr(32u32.checked_sub(length)?)? & 1;
            let count = u32::from(*count);
            if let Some(place) = code.checked_sub(first)
                && place < count
            {
                let at = usize::try_from(index.checked_add(place)?).ok()?;
                return Some((usize::from(*self.sorted.get(at)?), length));
            }
            index = index.checked_add(count)?;
            first = first.checked_add(count)? << 1;
        }
        None
    }
}

/// Bits in 16-bit words, the highest first; bytes of long lengths stand between the words.
struct Bits<'a> {
    input: Input<'a>,
    window: u32,
    /// Bits of the window beyond the 16 that are always there.
    spare: u32,
}

impl<'a> Bits<'a> {
    fn new(input: Input<'a>) -> Option<Self> {
        let mut bits = Self { input, window: 0, spare: 16 };
        bits.window = u32::from(bits.input.word()?) << 16 | u32::from(bits.input.word()?);
        Some(bits)
    }

    fn consume(&mut self, count: u32) -> Option<()> {
        self.window = self.window.checked_shl(count)?;
        match self.spare.checked_sub(count) {
            Some(spare) => self.spare = spare,
            None => {
                // At the very end of the input no word follows any more.
                let short = count.checked_sub(self.spare)?;
                let word = u32::from(self.input.word().unwrap_or(0));
                self.window |= word.checked_shl(short)?;
                self.spare = 16u32.checked_sub(short)?;
            }
        }
        Some(())
    }
}

/// Decompresses LZ77 with Huffman codes until `out` is full.
pub(crate) fn huffman(stored: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut out = Output { bytes: out, at: 0 };
    let mut at = 0usize;
    while !out.is_full() {
        let table = array_at(stored, at)?;
        let codes = Codes::read(&table)?;
        let mut bits = Bits::new(Input { bytes: stored, at: at.checked_add(table.len())? })?;
        let end = out.at.checked_add(CHUNK)?.min(out.bytes.len());
        while out.at < end {
            let (symbol, length) = codes.symbol(bits.window)?;
            bits.consume(length)?;
            let Some(kind) = symbol.checked_sub(256) else {
                out.literal(u8::try_from(symbol).ok()?)?;
                continue;
            };
            let (mut len, width) = (kind & 15, u32::try_from(kind >> 4).ok()?);
            if len == 15 {
                len = bits.input.length(15)?;
            }
            let offset = match width {
                0 => 1,
                _ => (1u32 << width) | bits.window.checked_shr(32u32.checked_sub(width)?)?,
            };
            bits.consume(width)?;
            out.repeat(usize::try_from(offset).ok()?, len.checked_add(3)?)?;
        }
        at = bits.input.at;
    }
    Some(out.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

    /// The example of \[MS-XCA\] 3.2 as its table and its codes.
    fn huffman_example(lengths: &[(usize, u8)], codes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 256];
        for (symbol, length) in lengths {
            bytes[symbol / 2] |= length << (4 * (symbol % 2));
        }
        bytes.extend(codes);
        bytes
    }

    #[test]
    fn the_examples_of_the_specification_decode() {
        let mut out = [0; 26];
        let stored = [b"\x3f\0\0\0".as_slice(), ALPHABET].concat();
        assert_eq!((plain(&stored, &mut out), &out[..]), (Some(26), ALPHABET));
        let mut out = [0; 300];
        let stored = b"\xff\xff\xff\x1fabc\x17\x00\x0f\xff\x26\x01";
        assert_eq!((plain(stored, &mut out), out.to_vec()), (Some(300), b"abc".repeat(100)));
        // a to z and the end mark: 22 codes of 5 bits, 5 of 4.
        let lengths: Vec<(usize, u8)> = (97..123usize)
            .map(|symbol| (symbol, if symbol < 119 { 5 } else { 4 }))
            .chain([(256, 4)])
            .collect();
        let codes = b"\xd8\x52\x3e\xd7\x94\x11\x5b\xe9\x19\x5f\xf9\xd6\x7c\xdf\x8d\x04\0\0\0\0";
        let mut out = [0; 26];
        assert_eq!((huffman(&huffman_example(&lengths, codes), &mut out), &out[..]), (Some(26), ALPHABET));
        // "abc" a hundred times: a, b, c and the match in 2 bits each... the match has offset 3, length 297.
        let lengths = [(97, 3), (98, 3), (99, 2), (256, 2), (256 + 0x1f, 2)];
        let codes = b"\xa8\xdc\x00\x00\xff\x26\x01";
        let mut out = [0; 300];
        assert_eq!(huffman(&huffman_example(&lengths, codes), &mut out), Some(300));
        assert_eq!(out.to_vec(), b"abc".repeat(100));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn any_input_ends(stored in proptest::collection::vec(any::<u8>(), 0..600), len in 0usize..5_000) {
            let mut out = vec![0; len];
            let _ = (plain(&stored, &mut out), huffman(&stored, &mut out));
            // A plausible table in front gets further.
            let mut table = vec![0x99; 256];
            table.extend(&stored);
            let _ = huffman(&table, &mut out);
        }
    }
}
