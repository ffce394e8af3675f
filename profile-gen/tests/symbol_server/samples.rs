//! Files to serve: the smallest PDB and executable that have an identity, and cabinets of every kind.

use std::io::Write as _;

/// GUID of [`pdb`] as hex digits.
pub(crate) const GUID: &str = "0123456789ABCDEF0011223344556677";

/// A PDB of 512-byte pages with nothing but an information stream; `padding` pages
/// make it longer. The age inside is 5.
pub(crate) fn pdb(padding: usize) -> Vec<u8> {
    // Below 4096 bytes the library takes no file for a PDB.
    let padding = padding + 2;
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let page = |bytes: Vec<u8>| {
        let mut page = bytes;
        page.resize(512, 0);
        page
    };
    let mut start = b"Microsoft C/C++ MSF 7.00\r\n\x1aDS\0\0\0".to_vec();
    // Page size, free page map, pages, bytes of the directory, unknown, page of the directory's map.
    let pages = u32::try_from(6 + padding).expect("few pages");
    start.extend(words(&[512, 1, pages, 16, 0, 3]));
    // Two streams, the first empty; the second has 28 bytes in page 5.
    let directory = words(&[2, 0, 28, 5]);
    let mut information = words(&[20_000_404, 0x5f5e_1000, 5]);
    information.extend([0x67, 0x45, 0x23, 0x01, 0xab, 0x89, 0xef, 0xcd]);
    information.extend([0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77]);
    let mut file: Vec<u8> = [start, Vec::new(), Vec::new(), words(&[4]), directory, information]
        .into_iter()
        .flat_map(page)
        .collect();
    // Not compressible, so that half a cabinet is half a file.
    let mut state = 1_u32;
    for _ in 0..padding * 512 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        file.push(state.to_be_bytes()[0]);
    }
    file
}

/// The headers of a PE32+ executable without sections.
pub(crate) fn executable(time_stamp: u32, image_size: u32) -> Vec<u8> {
    let mut file = vec![0; 0x40];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x40;
    file.extend(b"PE\0\0");
    let mut coff = vec![0x64, 0x86, 0, 0];
    coff.extend(time_stamp.to_le_bytes());
    coff.extend([0; 8]);
    coff.extend([240, 0, 0x22, 0]);
    file.extend(coff);
    let mut optional = vec![0; 240];
    optional[..2].copy_from_slice(&[0x0b, 0x02]);
    optional[56..60].copy_from_slice(&image_size.to_le_bytes());
    optional[108] = 16;
    file.extend(optional);
    file
}

/// An MSZIP cabinet of these members.
pub(crate) fn mszip(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = cab::CabinetBuilder::new();
    let folder = builder.add_folder(cab::CompressionType::MsZip);
    for (name, _) in members {
        folder.add_file(*name);
    }
    let mut out = std::io::Cursor::new(Vec::new());
    let mut writer = builder.build(&mut out).expect("a cabinet");
    let mut next = 0;
    while let Some(mut file) = writer.next_file().expect("a member") {
        file.write_all(members[next].1).expect("writing to memory");
        next += 1;
    }
    writer.finish().expect("a cabinet");
    out.into_inner()
}

/// An LZX cabinet of one member of at most 32 KiB: one verbatim block of literals, every one of which has 8 bits.
///
/// Truth: Microsoft's description of the LZX format; `cabextract` expands it (see `cabinets.rs`).
pub(crate) fn lzx(name: &str, contents: &[u8]) -> Vec<u8> {
    assert!(contents.len() <= 32 << 10, "one frame");
    let mut bits = Bits::default();
    bits.push(0, 1); // no translation of calls
    bits.push(1, 3); // a verbatim block
    bits.push(u32::try_from(contents.len()).expect("small"), 24);
    // Lengths of the codes: 256 literals of 8 bits, no matches (30 slots of a 32 KiB window), no long matches.
    for (count, delta) in [(256, 9), (30 * 8, 0), (249, 0)] {
        // The code of those lengths has two words of one bit: 0 for no change and 1 for 8 bits.
        for symbol in 0..20 {
            bits.push(u32::from(symbol == 0 || symbol == 9), 4);
        }
        for _ in 0..count {
            bits.push(u32::from(delta != 0), 1);
        }
    }
    for byte in contents {
        bits.push((*byte).into(), 8);
    }
    let data = bits.finish();

    let (size, packed) = (u32::try_from(contents.len()).expect("small"), data.len());
    let entry = 16 + name.len() + 1;
    let first_data = 36 + 8 + entry;
    let total = first_data + 8 + packed;
    let half = |number: usize| u16::try_from(number).expect("small").to_le_bytes();
    let word = |number: usize| u32::try_from(number).expect("small").to_le_bytes();
    let mut out = b"MSCF\0\0\0\0".to_vec();
    out.extend(word(total));
    out.extend([0; 4]);
    out.extend(word(36 + 8));
    out.extend([0, 0, 0, 0, 3, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    out.extend(word(first_data));
    out.extend([1, 0, 3, 15]); // one block; LZX, 2^15 bytes of window
    out.extend(size.to_le_bytes());
    out.extend([0; 12]);
    out.extend(name.as_bytes());
    out.push(0);
    out.extend([0; 4]); // no checksum
    out.extend(half(packed));
    out.extend(half(contents.len()));
    out.extend(data);
    out
}

/// Bits from the highest of 16-bit little-endian words down.
#[derive(Default)]
struct Bits {
    words: Vec<u16>,
    used: u32,
}

impl Bits {
    fn push(&mut self, value: u32, count: u32) {
        for bit in (0..count).rev() {
            if self.used.is_multiple_of(16) {
                self.words.push(0);
            }
            let last = self.words.last_mut().expect("just added");
            *last |= u16::from((value >> bit) & 1 == 1) << (15 - self.used % 16);
            self.used += 1;
        }
    }

    fn finish(self) -> Vec<u8> {
        self.words.into_iter().flat_map(u16::to_le_bytes).collect()
    }
}
