//! [`BlockSpace`]: a space whose bytes are stored in compressed blocks, decoded when first read.

use crate::bytes::{to_u64, to_usize};
use crate::cache::BlockCache;
use crate::codec::{Codec, decompress};
use crate::format::Yields;
use crate::{AddressSpace, Fault, Run, Stored};
use std::sync::Arc;

/// One block: what it covers and where it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// First address.
    pub(crate) start: u64,
    /// Number of bytes it decodes to.
    pub(crate) len: usize,
    /// Where it is stored in the base; also its identity: blocks stored once and used often are decoded
    /// once.
    pub(crate) offset: u64,
    /// Number of bytes stored there.
    pub(crate) stored: usize,
    /// How it is stored; `None` is as it is, so that reads go straight to the base.
    pub(crate) codec: Option<Codec>,
}

impl Block {
    /// Exclusive end of what it covers.
    pub(crate) fn end(&self) -> u64 {
        self.start.saturating_add(to_u64(self.len))
    }
}

/// Where blocks are. Tables that stay in the file are read from the base space that is passed in.
pub(crate) trait BlockStore: Send + Sync {
    /// Name of the space.
    fn name(&self) -> String;
    /// The block that holds `addr`.
    fn find(&self, base: &dyn AddressSpace, addr: u64) -> Result<Block, Fault>;
    /// First address and length of stored ranges, ascending, from the one that ends beyond `start`. The space
    /// clips and merges them.
    fn ranges(&self, start: u64) -> Box<dyn Iterator<Item = (u64, u64)> + '_>;
    /// Exclusive end.
    fn end(&self) -> u64;
    /// Size of the largest block, decoded, in bytes.
    fn largest_block(&self) -> usize;
}

/// Blocks that are all known, ascending and without overlap.
pub(crate) struct BlockList {
    name: &'static str,
    yields: Yields,
    blocks: Vec<Block>,
    largest: usize,
}

impl BlockList {
    /// `yields` tells what a hole means: the end of a file, or memory that is not in the image.
    pub(crate) fn new(name: &'static str, yields: Yields, blocks: Vec<Block>) -> Self {
        let largest = blocks.iter().map(|block| block.len).max().unwrap_or(0);
        Self { name, yields, blocks, largest }
    }
}

impl BlockStore for BlockList {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn find(&self, _base: &dyn AddressSpace, addr: u64) -> Result<Block, Fault> {
        let after = self.blocks.partition_point(|block| block.start <= addr);
        let block = after.checked_sub(1).and_then(|index| self.blocks.get(index)).copied();
        block.filter(|block| addr.wrapping_sub(block.start) < to_u64(block.len)).ok_or(match self.yields {
            Yields::File => Fault::Truncated { offset: addr },
            Yields::Memory => Fault::NotInImage { phys: addr },
        })
    }

    fn ranges(&self, start: u64) -> Box<dyn Iterator<Item = (u64, u64)> + '_> {
        let first = self.blocks.partition_point(|block| block.end() <= start);
        Box::new(self.blocks.iter().skip(first).map(|block| (block.start, to_u64(block.len))))
    }

    fn end(&self) -> u64 {
        self.blocks.last().map_or(0, Block::end)
    }

    fn largest_block(&self) -> usize {
        self.largest
    }
}

/// A space over a [`BlockStore`].
pub(crate) struct BlockSpace<S> {
    base: Arc<dyn AddressSpace>,
    store: S,
    cache: BlockCache,
}

impl<S: BlockStore> BlockSpace<S> {
    /// `capacity` is the number of decoded bytes to keep.
    pub(crate) fn new(base: Arc<dyn AddressSpace>, store: S, capacity: usize) -> Self {
        let cache = BlockCache::new(capacity, store.largest_block());
        Self { base, store, cache }
    }

    /// Decodes a whole block.
    fn decode(&self, codec: Codec, block: &Block, out: &mut [u8]) -> Result<(), Fault> {
        let mut copy = Vec::new();
        let stored = match self.base.borrow(block.offset, block.stored) {
            Some(stored) => stored,
            None => {
                copy.resize(block.stored, 0);
                self.base.read_at(block.offset, &mut copy).map_err(|fault| match fault {
                    // A hole in a flattened file is missing data for its reader.
                    Fault::NotInImage { phys } => Fault::Truncated { offset: phys },
                    other => other,
                })?;
                &copy
            }
        };
        decompress(codec, stored, out).ok_or(Fault::Corrupt { offset: block.offset })
    }

    /// Reads from inside one block. What a long read (`scanning`) decodes does not displace what small reads
    /// need.
    fn read_block(&self, block: &Block, skip: usize, out: &mut [u8], scanning: bool) -> Result<(), Fault> {
        let Some(codec) = block.codec else {
            return self.base.read_at(block.offset.wrapping_add(to_u64(skip)), out);
        };
        let copy = |decoded: &[u8], out: &mut [u8]| {
            let from = decoded.get(skip..skip.saturating_add(out.len()));
            out.copy_from_slice(from.ok_or(Fault::Corrupt { offset: block.offset })?);
            Ok(())
        };
        if let Some(decoded) = self.cache.get(block.offset) {
            return copy(&decoded, out);
        }
        if scanning && skip == 0 && out.len() == block.len {
            return self.decode(codec, block, out);
        }
        let mut decoded = vec![0; block.len];
        self.decode(codec, block, &mut decoded)?;
        copy(&decoded, out)?;
        self.cache.put(block.offset, decoded.into());
        Ok(())
    }
}

impl<S: BlockStore> AddressSpace for BlockSpace<S> {
    fn name(&self) -> String {
        self.store.name()
    }

    fn read_at(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let mut at = addr;
        let mut scanning = false;
        let mut rest = buf;
        while !rest.is_empty() {
            let block = self.store.find(&*self.base, at)?;
            let skip = to_usize(at.wrapping_sub(block.start));
            let size = block.len.saturating_sub(skip).min(rest.len());
            scanning |= rest.len() > block.len;
            let (now, later) = rest.split_at_mut(size);
            self.read_block(&block, skip, now, scanning)?;
            at = at.checked_add(to_u64(size)).ok_or(Fault::OutOfRange { addr })?;
            rest = later;
        }
        Ok(())
    }

    /// Compressed bytes have no address of their own in the file: the result is `addr` itself.
    fn translate(&self, addr: u64) -> Result<u64, Fault> {
        self.store.find(&*self.base, addr).map(|_| addr)
    }

    fn stored(&self, addr: u64) -> Result<Stored, Fault> {
        let block = self.store.find(&*self.base, addr)?;
        Ok(match block.codec {
            Some(_) => Stored::Compressed { block: block.offset, len: to_u64(block.stored) },
            None => Stored::Plain(block.offset.wrapping_add(addr.wrapping_sub(block.start))),
        })
    }

    fn runs(&self, start: u64, end: u64) -> Box<dyn Iterator<Item = Run> + '_> {
        let ranges = self.store.ranges(start).take_while(move |(first, _)| *first < end);
        let mut ranges = ranges
            .filter_map(move |(first, len)| Run { start: first, len, target: first }.clipped(start, end));
        let mut pending = ranges.next();
        Box::new(std::iter::from_fn(move || {
            let mut run = pending.take()?;
            for next in ranges.by_ref() {
                if run.joins(&next) {
                    run.len = run.len.saturating_add(next.len);
                } else {
                    pending = Some(next);
                    break;
                }
            }
            Some(run)
        }))
    }

    fn end(&self) -> u64 {
        self.store.end()
    }

    fn bits(&self) -> u8 {
        64
    }

    fn base(&self) -> Option<&dyn AddressSpace> {
        Some(&*self.base)
    }

    fn borrow(&self, addr: u64, len: usize) -> Option<&[u8]> {
        let block = self.store.find(&*self.base, addr).ok()?;
        let skip = to_usize(addr.wrapping_sub(block.start));
        if block.codec.is_some() || len > block.len.saturating_sub(skip) {
            return None;
        }
        self.base.borrow(block.offset.wrapping_add(to_u64(skip)), len)
    }
}
