//! The trees of the store manager: B+ trees from page keys to words.
//!
//! ```text
//! node of 4096 bytes:   count (2)   level (1)   is leaf (1)   [padding]   first child   entries, ascending
//! entry of a leaf:      key (4)   value (4)
//! entry of other nodes: key (4)   [padding]   child with this and later keys
//! ```

use memory::AddressSpace;
use object::little_endian;

use super::Why;

/// Bytes of a node.
const NODE: usize = 4096;
/// Most levels: with 255 children each, four hold every key there is.
const MAX_LEVELS: usize = 8;

/// The value of a key; `None` where the tree does not have it.
pub(super) fn find(kernel: &dyn AddressSpace, root: u64, width: u64, key: u32) -> Result<Option<u32>, Why> {
    let mut at = root;
    let mut bytes = [0; NODE];
    for _ in 0..MAX_LEVELS {
        if at == 0 {
            return Ok(None);
        }
        if !at.is_multiple_of(NODE as u64) {
            return Err("is in the compressed store, whose tree leads to what is no node");
        }
        kernel
            .read_at(at, &mut bytes)
            .map_err(|_| "is in the compressed store, of whose tree a node cannot be read")?;
        let node = Node { bytes: &bytes, width: usize::from(width == 8) * 4 + 4 };
        let keys =
            node.keys().ok_or("is in the compressed store, whose tree has a node with too many keys")?;
        // Entries before this one have keys that are not greater.
        let after = keys.after(key);
        let Some(index) = after.checked_sub(1) else {
            if node.is_leaf() {
                return Ok(None);
            }
            at = node.first_child();
            continue;
        };
        if node.is_leaf() {
            return Ok((keys.key(index) == key).then(|| keys.value(index)));
        }
        at = keys.child(index);
    }
    Err("is in the compressed store, whose tree does not end")
}

/// A node.
struct Node<'a> {
    bytes: &'a [u8; NODE],
    /// Bytes of a pointer.
    width: usize,
}

impl<'a> Node<'a> {
    fn is_leaf(&self) -> bool {
        self.bytes.get(3).is_some_and(|flag| *flag != 0)
    }

    fn first_child(&self) -> u64 {
        word(self.bytes, self.width, self.width)
    }

    /// Its entries; `None` where they cannot fit.
    fn keys(&self) -> Option<Keys<'a>> {
        let count = usize::try_from(word(self.bytes, 0, 2)).ok()?;
        let stride = if self.is_leaf() { 8 } else { self.width.checked_mul(2)? };
        let start = self.width.checked_mul(2)?;
        let entries = self.bytes.get(start..start.checked_add(count.checked_mul(stride)?)?)?;
        Some(Keys { entries, stride, width: self.width, count })
    }
}

/// The entries of a node.
struct Keys<'a> {
    entries: &'a [u8],
    stride: usize,
    width: usize,
    count: usize,
}

impl Keys<'_> {
    fn at(&self, index: usize, offset: usize, width: usize) -> u64 {
        word(self.entries, index.wrapping_mul(self.stride).wrapping_add(offset), width)
    }

    fn key(&self, index: usize) -> u32 {
        u32::try_from(self.at(index, 0, 4)).unwrap_or(u32::MAX)
    }

    fn value(&self, index: usize) -> u32 {
        u32::try_from(self.at(index, 4, 4)).unwrap_or(u32::MAX)
    }

    fn child(&self, index: usize) -> u64 {
        self.at(index, self.width, self.width)
    }

    /// Number of entries before the first with a greater key.
    fn after(&self, key: u32) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle) <= key {
                low = middle.wrapping_add(1);
            } else {
                high = middle;
            }
        }
        low
    }
}

/// A little-endian word of at most 8 bytes; 0 beyond the end.
fn word(bytes: &[u8], at: usize, width: usize) -> u64 {
    little_endian(at.checked_add(width).and_then(|end| bytes.get(at..end)).unwrap_or_default())
}
