//! [`Zeros`]: what containers say is zero without storing it.

use crate::{AddressSpace, Fault, Run};

/// Zeros up to 2^52, more than any memory.
pub(crate) struct Zeros;

impl Zeros {
    /// Exclusive end, in bytes.
    pub(crate) const END: u64 = 1 << 52;
}

impl AddressSpace for Zeros {
    fn name(&self) -> String {
        "zeros".to_owned()
    }

    fn read_at(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        self.translate(addr)?;
        buf.fill(0);
        Ok(())
    }

    fn translate(&self, addr: u64) -> Result<u64, Fault> {
        if addr < Self::END { Ok(addr) } else { Err(Fault::Truncated { offset: addr }) }
    }

    fn runs(&self, start: u64, end: u64) -> Box<dyn Iterator<Item = Run> + '_> {
        Box::new(Run { start: 0, len: Self::END, target: 0 }.clipped(start, end).into_iter())
    }

    fn end(&self) -> u64 {
        Self::END
    }

    fn bits(&self) -> u8 {
        64
    }

    fn base(&self) -> Option<&dyn AddressSpace> {
        None
    }
}
