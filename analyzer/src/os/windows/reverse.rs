//! From physical memory back to the kernel's virtual addresses.

use memory::{AddressSpace as _, Run};

use super::roots::{KERNEL_HALF, KERNEL_HALF_32};
use super::{Kernel, KernelFact};
use crate::error::Error;
use crate::session::{Fact, Session};

/// Most runs kept; page by page, they cover 64 GiB.
const MAX_RUNS: usize = 16 << 20;
/// Runs that begin before an address and may still hold it: large pages over small ones.
const MAX_BACK: usize = 64;

/// What the kernel's page tables map, by physical address.
pub struct Reverse {
    /// Sorted by `target`.
    runs: Vec<Run>,
}

impl Reverse {
    /// The lowest virtual address of the kernel's half that is mapped to a physical address; `None` where none is.
    #[must_use]
    pub fn virtual_address(&self, physical: u64) -> Option<u64> {
        let end = self.runs.partition_point(|run| run.target <= physical);
        let near = self.runs.get(end.saturating_sub(MAX_BACK)..end)?;
        let holders = near.iter().filter(|run| physical.wrapping_sub(run.target) < run.len);
        holders.map(|run| run.start.wrapping_add(physical.wrapping_sub(run.target))).min()
    }

    fn new(kernel: &Kernel) -> Self {
        let start = if kernel.is_32bit() { KERNEL_HALF_32 } else { KERNEL_HALF };
        let mut runs: Vec<Run> = kernel.space().runs(start, u64::MAX).take(MAX_RUNS).collect();
        runs.sort_unstable_by_key(|run| run.target);
        Self { runs }
    }
}

/// The reverse map of the session's kernel.
pub struct ReverseFact;

impl Fact for ReverseFact {
    type Value = Reverse;
    const NAME: &'static str = "kernel addresses of physical memory";

    fn compute(session: &Session) -> Result<Reverse, Error> {
        Ok(Reverse::new(&*session.fact::<KernelFact>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_address_wins() {
        let run = |start, len, target| Run { start, len, target };
        let reverse = Reverse {
            runs: vec![run(0x9000, 0x20_0000, 0), run(0x5000, 0x1000, 0x1000), run(0x7000, 0x1000, 0x1000)],
        };
        assert_eq!(reverse.virtual_address(0x1010), Some(0x5010));
        assert_eq!(reverse.virtual_address(0x2010), Some(0x9000 + 0x2010));
        assert_eq!(reverse.virtual_address(0x20_0000), None);
    }
}
