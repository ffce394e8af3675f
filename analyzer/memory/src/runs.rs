//! [`RunSpace`]: a space whose bytes lie in another one, extent by extent. Most image formats are this.

use crate::bytes::{to_u64, to_usize};
use crate::{AddressSpace, Fault, Run};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who wins where two runs cover the same addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// The run given first; for tables of segments.
    FirstWins,
    /// The run given last; for logs of writes.
    LastWins,
}

/// Sorts runs, resolves overlaps and merges what is contiguous in both spaces. Runs of length 0 are dropped
/// and runs that wrap around either space are cut there.
#[must_use]
pub fn normalize(mut runs: Vec<Run>, overlap: Overlap) -> Vec<Run> {
    for run in &mut runs {
        run.len = run.len.min(u64::MAX.wrapping_sub(run.start)).min(u64::MAX.wrapping_sub(run.target));
    }
    runs.retain(|run| run.len > 0);
    let apart = |runs: &[Run]| runs.is_sorted_by(|a, b| a.end() <= b.start);
    if !apart(&runs) {
        // Mostly they are only out of order; sorting is much cheaper than laying them over each other.
        let mut sorted = runs.clone();
        sorted.sort_unstable_by_key(|run| run.start);
        runs = match (apart(&sorted), overlap) {
            (true, _) => sorted,
            (false, Overlap::LastWins) => paint(runs),
            (false, Overlap::FirstWins) => {
                runs.reverse();
                paint(runs)
            }
        };
    }
    runs.dedup_by(|next, last| {
        let joined = last.joins(next);
        if joined {
            last.len = last.len.saturating_add(next.len);
        }
        joined
    });
    runs
}

/// Lays runs over each other, later ones on top.
fn paint(runs: Vec<Run>) -> Vec<Run> {
    let mut painted: BTreeMap<u64, Run> = BTreeMap::new();
    for run in runs {
        // The run that begins before this one may reach into it, even beyond it.
        if let Some(before) = painted.range(..run.start).next_back().map(|(_, before)| *before)
            && before.end() > run.start
        {
            if let Some(left) = before.clipped(0, run.start) {
                painted.insert(left.start, left);
            }
            if let Some(right) = before.clipped(run.end(), u64::MAX) {
                painted.insert(right.start, right);
            }
        }
        while let Some(under) = painted.range(run.start..run.end()).next().map(|(_, under)| *under) {
            painted.remove(&under.start);
            if let Some(right) = under.clipped(run.end(), u64::MAX) {
                painted.insert(right.start, right);
            }
        }
        painted.insert(run.start, run);
    }
    painted.into_values().collect()
}

/// A space made of extents of its base, sorted and without overlap.
pub struct RunSpace {
    name: &'static str,
    base: Arc<dyn AddressSpace>,
    runs: Vec<Run>,
    /// What no run covers reads as zeros, up to here.
    zeros_to: u64,
}

impl RunSpace {
    /// Builds the space; see [`normalize`] for what happens to disorderly runs.
    #[must_use]
    pub fn new(name: &'static str, base: Arc<dyn AddressSpace>, runs: Vec<Run>, overlap: Overlap) -> Self {
        Self { name, base, runs: normalize(runs, overlap), zeros_to: 0 }
    }

    /// Makes holes before the end read as zeros, as in a sparse file.
    #[must_use]
    pub fn with_zero_holes(self) -> Self {
        let end = self.end();
        self.with_zeros_to(end)
    }

    /// Makes holes before `end` read as zeros, also those behind the last run.
    #[must_use]
    pub fn with_zeros_to(self, end: u64) -> Self {
        Self { zeros_to: end, ..self }
    }

    /// Number of bytes from `addr` to the next run that read as zeros.
    fn hole(&self, addr: u64) -> u64 {
        let after = self.runs.partition_point(|run| run.start <= addr);
        let next = self.runs.get(after).map_or(u64::MAX, |run| run.start);
        self.zeros_to.min(next).saturating_sub(addr)
    }

    /// Number of bytes the runs promise beyond `end` of the base.
    pub(crate) fn stored_beyond(&self, end: u64) -> u64 {
        let missing = |run: &Run| run.target.saturating_add(run.len).saturating_sub(end.max(run.target));
        self.runs.iter().map(missing).fold(0, u64::saturating_add)
    }

    /// The run that holds `addr` and the distance from its start.
    fn find(&self, addr: u64) -> Result<(&Run, u64), Fault> {
        let after = self.runs.partition_point(|run| run.start <= addr);
        let run = after.checked_sub(1).and_then(|index| self.runs.get(index));
        match run.map(|run| (run, addr.wrapping_sub(run.start))) {
            Some((run, skip)) if skip < run.len => Ok((run, skip)),
            _ => Err(Fault::NotInImage { phys: addr }),
        }
    }
}

impl AddressSpace for RunSpace {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn read_at(&self, addr: u64, buf: &mut [u8]) -> Result<(), Fault> {
        let mut at = addr;
        let mut rest = buf;
        while !rest.is_empty() {
            let found = self.find(at);
            let left = match found {
                Ok((run, skip)) => run.len.wrapping_sub(skip),
                Err(_) => self.hole(at),
            };
            let (now, later) = rest.split_at_mut(to_usize(left).min(rest.len()));
            match found {
                Ok((run, skip)) => self.base.read_at(run.target.wrapping_add(skip), now)?,
                Err(fault) if left == 0 => return Err(fault),
                Err(_) => now.fill(0),
            }
            at = at.checked_add(to_u64(now.len())).ok_or(Fault::OutOfRange { addr })?;
            rest = later;
        }
        Ok(())
    }

    fn translate(&self, addr: u64) -> Result<u64, Fault> {
        let (run, skip) = self.find(addr)?;
        Ok(run.target.wrapping_add(skip))
    }

    /// Runs the container promises beyond the end of the file are left out; reading there says
    /// [`Fault::Truncated`].
    fn runs(&self, start: u64, end: u64) -> Box<dyn Iterator<Item = Run> + '_> {
        let first = self.runs.partition_point(|run| run.end() <= start);
        let stored = self.base.end();
        let runs = self.runs.iter().skip(first).take_while(move |run| run.start < end);
        Box::new(runs.filter_map(move |run| {
            let len = run.len.min(stored.saturating_sub(run.target));
            Run { len, ..*run }.clipped(start, end)
        }))
    }

    fn end(&self) -> u64 {
        self.runs.last().map_or(0, Run::end).max(self.zeros_to)
    }

    fn bits(&self) -> u8 {
        64
    }

    fn base(&self) -> Option<&dyn AddressSpace> {
        Some(&*self.base)
    }

    fn borrow(&self, addr: u64, len: usize) -> Option<&[u8]> {
        let (run, skip) = self.find(addr).ok()?;
        if to_u64(len) > run.len.wrapping_sub(skip) {
            return None;
        }
        self.base.borrow(run.target.wrapping_add(skip), len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileSpace;
    use proptest::prelude::*;

    fn run(start: u64, len: u64, target: u64) -> Run {
        Run { start, len, target }
    }

    #[test]
    fn the_last_write_wins_in_a_log() {
        let runs = vec![run(0, 10, 100), run(4, 2, 200), run(8, 4, 300)];
        let expected = [run(0, 4, 100), run(4, 2, 200), run(6, 2, 106), run(8, 4, 300)];
        assert_eq!(normalize(runs, Overlap::LastWins), expected);
    }

    #[test]
    fn contiguous_runs_merge_only_when_both_sides_are() {
        let runs = vec![run(0, 4, 0), run(4, 4, 4), run(8, 4, 100)];
        assert_eq!(normalize(runs, Overlap::FirstWins), [run(0, 8, 0), run(8, 4, 100)]);
    }

    #[test]
    fn reads_cross_runs_and_stop_at_holes() {
        let base = Arc::new(FileSpace::from_vec((0..32).collect()));
        let space = RunSpace::new(
            "t",
            base,
            vec![run(100, 2, 4), run(102, 2, 8), run(200, 9, 30)],
            Overlap::FirstWins,
        );
        assert_eq!(space.read_u32(100), Ok(0x0908_0504));
        assert_eq!(space.read_u32(101), Err(Fault::NotInImage { phys: 104 }));
        assert_eq!(space.read_u32(200), Err(Fault::Truncated { offset: 32 }));
        assert_eq!(
            space.runs(101, 201).collect::<Vec<_>>(),
            [run(101, 1, 5), run(102, 2, 8), run(200, 1, 30)]
        );
        assert_eq!(space.end(), 209);
        let space = space.with_zero_holes();
        assert_eq!(space.read_u32(102), Ok(0x0908));
        assert_eq!(space.read_u32(207), Err(Fault::Truncated { offset: 37 }));
        assert_eq!(space.read_u32(209), Err(Fault::NotInImage { phys: 209 }));
        let space = space.with_zeros_to(214);
        assert_eq!((space.read_u32(210), space.end()), (Ok(0), 214));
        assert_eq!(space.read_u32(211), Err(Fault::NotInImage { phys: 214 }));
    }

    proptest! {
        /// Painting byte by byte is the definition; the interval version must agree.
        #[test]
        fn normalize_agrees_with_byte_by_byte_painting(
            runs in prop::collection::vec((0u64..60, 0u64..20, 0u64..1000), 0..12), first in any::<bool>()
        ) {
            let runs: Vec<Run> = runs.into_iter().map(|(start, len, target)| run(start, len, target)).collect();
            let mut bytes = [None; 80];
            let order: Vec<&Run> = if first { runs.iter().rev().collect() } else { runs.iter().collect() };
            for run in order {
                for i in 0..run.len {
                    bytes[usize::try_from(run.start + i).unwrap()] = Some(run.target + i);
                }
            }
            let overlap = if first { Overlap::FirstWins } else { Overlap::LastWins };
            let mut got = [None; 80];
            let mut last_end = 0;
            for run in normalize(runs, overlap) {
                prop_assert!(run.len > 0 && run.start >= last_end);
                last_end = run.end();
                for i in 0..run.len {
                    got[usize::try_from(run.start + i).unwrap()] = Some(run.target + i);
                }
            }
            prop_assert_eq!(bytes, got);
        }
    }
}
