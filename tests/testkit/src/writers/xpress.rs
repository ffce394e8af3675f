//! Plain LZ77 compression of the XPRESS family ([MS-XCA] 2.3).

use std::collections::HashMap;

/// Compresses at most 64 KiB.
pub(crate) fn compress(input: &[u8]) -> Vec<u8> {
    let mut out = Output { bytes: vec![0; 4], flags: 0, count: 0, flags_at: 0, half: None };
    let mut recent: HashMap<[u8; 3], usize> = HashMap::new();
    let mut at = 0;
    while at < input.len() {
        let found = input.get(at..at + 3).and_then(|key| recent.get(key)).copied();
        let length = found.filter(|from| at - from <= 8192).map_or(0, |from| common(input, from, at));
        let step = if length >= 3 {
            out.matched(at - found.expect("a match has a place"), length);
            length
        } else {
            out.literal(input[at]);
            1
        };
        for position in at..at + step {
            if let Some(key) = input.get(position..position + 3) {
                recent.insert([key[0], key[1], key[2]], position);
            }
        }
        at += step;
    }
    out.end()
}

fn common(input: &[u8], from: usize, at: usize) -> usize {
    input[at..].iter().zip(&input[from..]).take_while(|(a, b)| a == b).count()
}

struct Output {
    bytes: Vec<u8>,
    /// Flags of the group so far, the first in the highest used bit.
    flags: u32,
    count: u32,
    flags_at: usize,
    /// Where a byte stands whose upper half is free.
    half: Option<usize>,
}

impl Output {
    fn flag(&mut self, set: bool) {
        self.flags = self.flags << 1 | u32::from(set);
        self.count += 1;
        if self.count == 32 {
            self.put_flags(self.flags);
            self.flags_at = self.bytes.len();
            self.bytes.extend([0; 4]);
            (self.flags, self.count) = (0, 0);
        }
    }

    fn put_flags(&mut self, flags: u32) {
        self.bytes[self.flags_at..self.flags_at + 4].copy_from_slice(&flags.to_le_bytes());
    }

    fn literal(&mut self, byte: u8) {
        self.bytes.push(byte);
        self.flag(false);
    }

    fn matched(&mut self, distance: usize, length: usize) {
        let word = u16::try_from(distance - 1).expect("13 bits") << 3;
        let rest = length - 3;
        self.bytes.extend((word | u16::try_from(rest.min(7)).expect("3 bits")).to_le_bytes());
        if rest >= 7 {
            self.long_length(rest - 7);
        }
        self.flag(true);
    }

    fn long_length(&mut self, rest: usize) {
        let nibble = u8::try_from(rest.min(15)).expect("4 bits");
        match self.half.take() {
            Some(at) => self.bytes[at] |= nibble << 4,
            None => {
                self.half = Some(self.bytes.len());
                self.bytes.push(nibble);
            }
        }
        if rest < 15 {
            return;
        }
        match u8::try_from(rest - 15) {
            Ok(byte) if byte < 255 => self.bytes.push(byte),
            _ => {
                self.bytes.push(255);
                // The whole length without 3.
                self.bytes.extend(u16::try_from(rest + 7).expect("blocks have 64 KiB").to_le_bytes());
            }
        }
    }

    fn end(mut self) -> Vec<u8> {
        let free = 32 - self.count;
        let flags = if free == 32 { u32::MAX } else { self.flags << free | ((1 << free) - 1) };
        self.put_flags(flags);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification_come_out() {
        // [MS-XCA] 3.1, plain LZ77: the alphabet, and "abc" 100 times.
        let alphabet = compress(b"abcdefghijklmnopqrstuvwxyz");
        let mut expected = vec![0x3F, 0, 0, 0];
        expected.extend(b"abcdefghijklmnopqrstuvwxyz");
        assert_eq!(alphabet, expected);
        let repeated = compress("abc".repeat(100).as_bytes());
        assert_eq!(repeated, [0xFF, 0xFF, 0xFF, 0x1F, 0x61, 0x62, 0x63, 0x17, 0x00, 0x0F, 0xFF, 0x26, 0x01]);
    }
}
