//! Page bitmaps of dumps: bit `n`, counted from the lowest bit of byte 0, says that page `n` is stored.

use crate::bytes::to_u64;

/// A bitmap of pages.
pub(crate) struct Bitmap(Vec<u8>);

impl Bitmap {
    /// Takes the bytes; see [`Bitmap::truncated`] for a length in bits.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Clears every bit from `pages` on: bitmaps are padded to whole bytes or words.
    pub(crate) fn truncated(mut self, pages: u64) -> Self {
        if let Ok(bytes) = usize::try_from(pages.div_ceil(8)) {
            self.0.truncate(bytes);
        }
        let spare = pages.div_ceil(8).saturating_mul(8).saturating_sub(pages);
        if to_u64(self.0.len()) == pages.div_ceil(8)
            && let Some(last) = self.0.last_mut()
        {
            *last &= 0xffu8.checked_shr(u32::try_from(spare).unwrap_or(0)).unwrap_or(0);
        }
        self
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the page is stored.
    pub(crate) fn has(&self, page: u64) -> bool {
        let byte = usize::try_from(page / 8).ok().and_then(|byte| self.0.get(byte));
        byte.is_some_and(|byte| byte & (1u8 << (page % 8)) != 0)
    }

    /// The first page from `page` on whose stored state is `wanted`; looks at whole bytes at a time.
    pub(crate) fn next(&self, mut page: u64, wanted: bool) -> Option<u64> {
        let dull = if wanted { 0 } else { 0xff };
        loop {
            let byte = usize::try_from(page / 8).ok()?;
            if *self.0.get(byte)? == dull && page.is_multiple_of(8) {
                let run = self.0.get(byte..)?.iter().take_while(|byte| **byte == dull).count();
                page = page.checked_add(to_u64(run).checked_mul(8)?)?;
            } else if self.has(page) == wanted {
                return Some(page);
            } else {
                page = page.checked_add(1)?;
            }
        }
    }

    /// First page and exclusive end of each stored range, from the one that holds or follows `page`.
    pub(crate) fn ranges(&self, mut page: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        std::iter::from_fn(move || {
            let first = self.next(page, true)?;
            page = self.next(first, false).unwrap_or_else(|| to_u64(self.0.len()).saturating_mul(8));
            Some((first, page))
        })
    }
}

/// Number of set bits.
pub(crate) fn ones(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(byte.count_ones())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_at_every_bit_position_and_end_where_the_bitmap_does() {
        let bitmap = Bitmap::new(vec![0b1001_1110, 0xff, 0xff, 0, 0b1000_0001]);
        assert_eq!(bitmap.ranges(0).collect::<Vec<_>>(), [(1, 5), (7, 24), (32, 33), (39, 40)]);
        assert_eq!(bitmap.ranges(9).next(), Some((9, 24)));
        let bitmap = bitmap.truncated(37);
        assert_eq!(bitmap.ranges(24).collect::<Vec<_>>(), [(32, 33)]);
        assert_eq!(bitmap.truncated(3).ranges(0).collect::<Vec<_>>(), [(1, 3)]);
    }
}
