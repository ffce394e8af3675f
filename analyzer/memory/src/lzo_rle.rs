//! LZO-RLE, what zram and zswap call `lzo-rle`: LZO1X with runs of zeros. Also reads plain LZO1X, which has no version in front.
//!
//! Source: Documentation/staging/lzo.rst of the kernel, which describes every instruction.

use crate::bytes::to_usize;

/// The distance that ends the stream; it cannot occur otherwise.
const END: usize = 16_384;
/// The instruction and the operand that are a run of zeros in version 1: the largest distance.
const ZEROS: (u8, u16) = (0x18, 0xfffc);

/// Compressed bytes and where the next instruction is.
struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at = self.at.checked_add(1)?;
        Some(byte)
    }

    fn peek_u16(&self) -> Option<u16> {
        self.bytes.get(self.at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn word(&mut self) -> Option<u16> {
        let word = self.peek_u16()?;
        self.at = self.at.checked_add(2)?;
        Some(word)
    }

    /// A length of `bits` bits in an instruction, that zero bytes prolong.
    fn length(&mut self, instruction: u8, bits: u32) -> Option<usize> {
        let most = (1usize << bits).wrapping_sub(1);
        let short = usize::from(instruction) & most;
        if short > 0 {
            return Some(short);
        }
        let mut length = most;
        loop {
            match self.byte()? {
                0 => length = length.checked_add(255)?,
                last => return length.checked_add(usize::from(last)),
            }
        }
    }
}

/// What was decompressed so far.
struct Output<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Output<'_> {
    fn literals(&mut self, input: &mut Input<'_>, len: usize) -> Option<()> {
        let end = input.at.checked_add(len)?;
        let from = input.bytes.get(input.at..end)?;
        self.bytes.get_mut(self.at..self.at.checked_add(len)?)?.copy_from_slice(from);
        input.at = end;
        self.at = self.at.checked_add(len)?;
        Some(())
    }

    fn zeros(&mut self, len: usize) -> Option<()> {
        let end = self.at.checked_add(len)?;
        self.bytes.get_mut(self.at..end)?.fill(0);
        self.at = end;
        Some(())
    }

    /// Copies what was written `distance` bytes ago; the source may overlap the target, which repeats it.
    fn again(&mut self, distance: usize, len: usize) -> Option<()> {
        let from = self.at.checked_sub(distance)?;
        let end = self.at.checked_add(len)?;
        let span = self.bytes.get_mut(from..end)?;
        if len <= distance {
            span.copy_within(..len, distance);
        } else {
            for at in distance..span.len() {
                let byte = *span.get(at.wrapping_sub(distance))?;
                *span.get_mut(at)? = byte;
            }
        }
        self.at = end;
        Some(())
    }
}

/// Decompresses `stored` into `out`; the number of bytes that were written, `None` for damaged input.
pub(crate) fn decompress(stored: &[u8], out: &mut [u8]) -> Option<usize> {
    let mut input = Input { bytes: stored, at: 0 };
    let mut output = Output { bytes: out, at: 0 };
    let mut runs = false;
    if let [17, version, _, _, _, ..] = stored {
        runs = *version > 0;
        input.at = 2;
    }
    // Literals that the last instruction copied: 0 to 3, or 4 for more.
    let mut state = 0;
    if let Some(first @ 18..) = stored.get(input.at).copied() {
        input.at = input.at.checked_add(1)?;
        let len = usize::from(first).wrapping_sub(17);
        output.literals(&mut input, len)?;
        state = len.min(4);
    }
    loop {
        let instruction = input.byte()?;
        let low = usize::from(instruction >> 2);
        let after;
        match instruction {
            0..=15 if state == 0 => {
                let len = input.length(instruction, 4)?.checked_add(3)?;
                output.literals(&mut input, len)?;
                state = 4;
                continue;
            }
            0..=15 => {
                let (len, base) = if state == 4 { (3, 2049) } else { (2, 1) };
                let high = usize::from(input.byte()?);
                output.again((high << 2).wrapping_add(low & 3).wrapping_add(base), len)?;
                after = instruction;
            }
            16..=31 => {
                let operand = input.peek_u16()?;
                if runs && (instruction & 0xf8, operand & 0xfffc) == ZEROS {
                    input.at = input.at.checked_add(2)?;
                    let high = usize::from(input.byte()?);
                    output.zeros((high << 3 | usize::from(instruction & 7)).wrapping_add(4))?;
                    after = operand.to_le_bytes()[0];
                } else {
                    let len = input.length(instruction, 3)?.checked_add(2)?;
                    let operand = input.word()?;
                    let distance = END
                        .wrapping_add(usize::from(instruction & 8) << 11)
                        .wrapping_add(usize::from(operand >> 2));
                    if distance == END {
                        return (input.at == stored.len()).then_some(output.at);
                    }
                    output.again(distance, len)?;
                    after = operand.to_le_bytes()[0];
                }
            }
            32..=63 => {
                let len = input.length(instruction, 5)?.checked_add(2)?;
                let operand = input.word()?;
                output.again(usize::from(operand >> 2).wrapping_add(1), len)?;
                after = operand.to_le_bytes()[0];
            }
            64.. => {
                let len = if instruction < 128 {
                    3usize.wrapping_add(usize::from(instruction >> 5 & 1))
                } else {
                    5usize.wrapping_add(usize::from(instruction >> 5 & 3))
                };
                let high = usize::from(input.byte()?);
                output.again((high << 3).wrapping_add(low & 7).wrapping_add(1), len)?;
                after = instruction;
            }
        }
        state = to_usize(u64::from(after & 3));
        output.literals(&mut input, state)?;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the lzo library says of a plain stream; the runs of zeros are proved on pages of real zram devices, by the guests.
    #[test]
    fn plain_streams_are_those_of_the_library() {
        let stored =
            [34, 104, 101, 108, 108, 111, 44, 32, 108, 122, 111, 32, 119, 111, 114, 108, 100, 33, 17, 0, 0];
        let mut out = [0; 17];
        assert_eq!(decompress(&stored, &mut out), Some(17));
        assert_eq!(&out, b"hello, lzo world!");
    }

    /// By the kernel's document: version 1, a literal, 0x7ff * 8 ... zeros, a literal, the end.
    #[test]
    fn version_one_has_runs_of_zeros() {
        // 1 literal "A" (18); zeros: H=1, L=5, D all ones, S=1 -> 0x1d 0xfd 0xff, X=2: 2 << 3 | 5 + 4 = 25; literal "B"; end.
        let stored = [17, 1, 18, b'A', 0x1d, 0xfd, 0xff, 2, b'B', 17, 0, 0];
        let mut out = [9; 27];
        assert_eq!(decompress(&stored, &mut out), Some(27));
        assert_eq!((out[0], out[26]), (b'A', b'B'));
        assert!(out[1..26].iter().all(|byte| *byte == 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]
        #[test]
        fn streams_without_a_version_are_read_as_the_library_reads_them(
            stored in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            prop_assume!(stored.first() != Some(&17));
            let (mut ours, mut theirs) = ([0; 600], [0; 600]);
            let (read, wanted) = (decompress(&stored, &mut ours), lzo::decompress_into(&stored, &mut theirs).ok());
            if let (Some(read), Some(wanted)) = (read, wanted) {
                prop_assert_eq!((read, ours), (wanted, theirs));
            }
        }

        #[test]
        fn damaged_streams_end(stored in proptest::collection::vec(any::<u8>(), 0..400), version in 0u8..3) {
            let stored = [&[17, version], stored.as_slice()].concat();
            let _ = decompress(&stored, &mut [0; 4096]);
        }
    }
}
