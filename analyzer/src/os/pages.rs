//! The pages of an address space in order: those that its page tables map, and those that their entries say are kept elsewhere.

use memory::paging::{Absentees, Mappings};
use memory::{Run, VirtualSpace};

/// Marks targets of runs that are no physical addresses.
pub(crate) const PAGED_OUT: u64 = 1 << 63;

/// Where a page is whose entry is not present, by its address and that entry: a physical address, or a place marked by [`PAGED_OUT`];
/// `None` for pages that are nowhere.
type Elsewhere<'s> = Box<dyn Fn(u64, u64) -> Option<u64> + 's>;

/// Runs of pages, ascending; neighbours that are kept one behind the other are one run.
pub struct Pages<'s> {
    present: Mappings<'s>,
    absent: Absentees<'s>,
    elsewhere: Elsewhere<'s>,
    /// Bytes of a page.
    page: u64,
    /// A run of absent pages that may go on.
    growing: Option<Run>,
    /// The next run of either kind.
    heads: (Option<Run>, Option<Run>),
    bounds: (u64, u64),
}

impl<'s> Pages<'s> {
    /// Those inside `start..end`; of pages that are not present only those below `absent_end`.
    pub(crate) fn new(
        tables: &'s VirtualSpace,
        (start, end): (u64, u64),
        absent_end: u64,
        elsewhere: Elsewhere<'s>,
    ) -> Self {
        let absent_end = end.min(absent_end);
        Self {
            present: tables.mappings(start, end),
            absent: tables.absentees(start, absent_end),
            elsewhere,
            page: tables.paging().levels.last().map_or(4096, |level| 1 << level.shift),
            growing: None,
            heads: (None, None),
            bounds: (start, absent_end),
        }
    }

    /// The walk of the page tables: once the iterator has ended, it tells what could not be enumerated.
    #[must_use]
    pub fn mappings(&self) -> &Mappings<'s> {
        &self.present
    }

    /// The next run of pages that are not present.
    fn next_absent(&mut self) -> Option<Run> {
        for (start, entry) in self.absent.by_ref() {
            let Some(target) = (self.elsewhere)(start, entry) else { continue };
            let run = Run { start, len: self.page, target }.clipped(self.bounds.0, self.bounds.1);
            let Some(run) = run else { continue };
            match &mut self.growing {
                Some(last) if last.end() == run.start && last.target.wrapping_add(last.len) == run.target => {
                    last.len = last.len.saturating_add(run.len);
                }
                growing => {
                    if let Some(done) = growing.replace(run) {
                        return Some(done);
                    }
                }
            }
        }
        self.growing.take()
    }
}

impl Iterator for Pages<'_> {
    type Item = Run;

    fn next(&mut self) -> Option<Run> {
        if self.heads.0.is_none() {
            self.heads.0 = self.present.next();
        }
        if self.heads.1.is_none() {
            self.heads.1 = self.next_absent();
        }
        match self.heads {
            (Some(present), Some(absent)) if absent.start < present.start => self.heads.1.take(),
            (Some(_), _) => self.heads.0.take(),
            (None, _) => self.heads.1.take(),
        }
    }
}
