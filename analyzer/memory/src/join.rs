//! [`JoinSpace`]: several files one behind the other, as if they were one.

use crate::bytes::{to_u64, to_usize};
use crate::{AddressSpace, Fault, Run};
use std::sync::Arc;

/// Parts of one file.
pub(crate) struct JoinSpace {
    name: &'static str,
    /// Where each part begins, ascending, and the part; empty ones are left out.
    parts: Vec<(u64, Arc<dyn AddressSpace>)>,
    end: u64,
}

impl JoinSpace {
    /// Joins parts in order.
    pub(crate) fn new(name: &'static str, parts: impl IntoIterator<Item = Arc<dyn AddressSpace>>) -> Self {
        let mut end = 0u64;
        let parts = parts.into_iter().filter(|part| part.end() > 0).map(|part| {
            let start = end;
            end = end.saturating_add(part.end());
            (start, part)
        });
        let parts = parts.collect();
        Self { name, parts, end }
    }

    /// The part that holds `addr`, the address there, and the number of bytes from there to its end.
    fn find(&self, addr: u64) -> Result<(&dyn AddressSpace, u64, u64), Fault> {
        let after = self.parts.partition_point(|(start, _)| *start <= addr);
        let part = after.checked_sub(1).and_then(|index| self.parts.get(index));
        let (start, part) = part.ok_or(Fault::Truncated { offset: addr })?;
        let at = addr.wrapping_sub(*start);
        let left = part.end().checked_sub(at).filter(|left| *left > 0);
        Ok((&**part, at, left.ok_or(Fault::Truncated { offset: addr })?))
    }
}

impl AddressSpace for JoinSpace {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn read_at(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let mut at = addr;
        let mut rest = buf;
        while !rest.is_empty() {
            let (part, inside, left) = self.find(at)?;
            let (now, later) = rest.split_at_mut(to_usize(left).min(rest.len()));
            part.read_at(inside, now)?;
            at = at.checked_add(to_u64(now.len())).ok_or(Fault::OutOfRange { addr })?;
            rest = later;
        }
        Ok(())
    }

    fn translate(&self, addr: u64) -> Result<u64, Fault> {
        self.find(addr).map(|_| addr)
    }

    fn runs(&self, start: u64, end: u64) -> Box<dyn Iterator<Item = Run> + '_> {
        Box::new(Run { start: 0, len: self.end, target: 0 }.clipped(start, end).into_iter())
    }

    fn end(&self) -> u64 {
        self.end
    }

    fn bits(&self) -> u8 {
        64
    }

    fn base(&self) -> Option<&dyn AddressSpace> {
        None
    }

    fn borrow(&self, addr: u64, len: usize) -> Option<&[u8]> {
        let (part, inside, left) = self.find(addr).ok()?;
        if to_u64(len) > left { None } else { part.borrow(inside, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileSpace;

    #[test]
    fn reads_cross_the_seams() {
        let parts = [&b"abc"[..], b"", b"d", b"efgh"];
        let part = |bytes: &[u8]| Arc::new(FileSpace::from_vec(bytes.to_vec())) as Arc<dyn AddressSpace>;
        let space = JoinSpace::new("set", parts.map(part));
        assert_eq!(space.read_vec(0, 8, 8).unwrap(), b"abcdefgh");
        assert_eq!(space.read_vec(2, 3, 8).unwrap(), b"cde");
        assert_eq!(space.borrow(4, 4).unwrap(), b"efgh");
        assert_eq!(space.borrow(2, 2), None);
        assert_eq!(space.read_u16(7), Err(Fault::Truncated { offset: 8 }));
    }
}
