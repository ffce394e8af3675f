//! Bytes of memory as text: hexadecimal and printable, with what cannot be read shown as `??`, never as zeros.

use memory::{AddressSpace, Fault};

/// Bytes that could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missing {
    /// How many.
    pub count: u64,
    /// Address and reason of the first.
    pub first: Option<(u64, Fault)>,
}

/// At most `len` bytes from `start`, `None` for each that cannot be read; `cap` bounds `len`.
pub fn read(
    space: &dyn AddressSpace,
    start: u64,
    len: u64,
    cap: usize,
    missing: &mut Missing,
) -> Vec<Option<u8>> {
    let len = len.min(cap as u64);
    if let Ok(bytes) = space.read_vec(start, len, cap) {
        return bytes.into_iter().map(Some).collect();
    }
    // Ranges of physical memory may begin and end anywhere.
    let byte = |at: u64| match start.checked_add(at).ok_or(Fault::OutOfRange { addr: start }) {
        Ok(address) => space.read_u8(address).map_err(|fault| (address, fault)),
        Err(fault) => Err((start, fault)),
    };
    let byte = |at| match byte(at) {
        Ok(byte) => Some(byte),
        Err(failure) => {
            missing.count = missing.count.saturating_add(1);
            missing.first.get_or_insert(failure);
            None
        }
    };
    (0..len).map(byte).collect()
}

/// `7f 45 ??  .E?`: each byte in hexadecimal, then the printable ones of ASCII, in a column that `width` bytes leave free.
#[must_use]
pub fn row(bytes: &[Option<u8>], width: usize) -> String {
    let hex: Vec<String> =
        bytes.iter().map(|byte| byte.map_or_else(|| "??".to_owned(), |byte| format!("{byte:02x}"))).collect();
    let text: String = bytes
        .iter()
        .map(|byte| match byte {
            Some(byte @ 0x20..=0x7e) => char::from(*byte),
            Some(_) => '.',
            None => '?',
        })
        .collect();
    format!("{:1$}  {text}", hex.join(" "), width.saturating_mul(3).saturating_sub(1))
}

/// `len` bytes from `start` as one cell.
#[must_use]
pub fn cell(space: &dyn AddressSpace, start: u64, len: u16) -> String {
    row(&read(space, start, len.into(), len.into(), &mut Missing::default()), len.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use memory::{FileSpace, Overlap, Run, RunSpace};

    use super::*;

    #[test]
    fn unreadable_bytes_are_never_zeros() {
        let base = Arc::new(FileSpace::from_vec(b"\x7fELF\x00~".to_vec()));
        let runs = vec![Run { start: 0x10, len: 4, target: 0 }, Run { start: 0x16, len: 2, target: 4 }];
        let space = RunSpace::new("test", base, runs, Overlap::FirstWins);
        let mut lost = Missing::default();
        let bytes = read(&space, 0x10, 8, 16, &mut lost);
        assert_eq!(row(&bytes, 8), "7f 45 4c 46 ?? ?? 00 7e  .ELF??.~");
        assert_eq!((lost.count, lost.first), (2, Some((0x14, Fault::NotInImage { phys: 0x14 }))));
        assert_eq!(cell(&space, 0x12, 3), "4c 46 ??  LF?");
    }

    #[test]
    fn a_short_last_row_keeps_the_column_of_text() {
        assert_eq!(row(&[Some(b'a')], 4), "61           a");
        assert_eq!(row(&[Some(b'a'); 4], 4), "61 61 61 61  aaaa");
    }

    #[test]
    fn the_end_of_the_address_space_is_no_panic() {
        let space = FileSpace::from_vec(vec![1]);
        let mut lost = Missing::default();
        assert_eq!(read(&space, u64::MAX - 1, 4, 4, &mut lost), [None; 4]);
        assert_eq!(lost.count, 4);
    }
}
