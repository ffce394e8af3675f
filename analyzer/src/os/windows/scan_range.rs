//! Which parts of memory the scanners show: the options that the original's scanners share.
//!
//! One pass goes over all of physical memory, whoever asks (`scan`). An option here leaves out what was found elsewhere; several add up.
//! Without any nothing is left out, so that freed memory is seen too, which no virtual address leads to any more.

use object::{Ptr, Read};

use super::module::modules;
use super::paged::PagedSpace;
use super::pool_descriptor::SessionSpace;
use super::process::{Process, ProcessFilter, processes};
use super::{Kernel, regions};
use crate::error::Error;
use crate::session::Session;

/// Parts of memory to show what was found in.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ScanArgs {
    /// All of physical memory, mapped or not; the default
    #[arg(long = "scan_physical", alias = "scan_whole_physical_space")]
    pub physical: bool,
    /// What the kernel maps
    #[arg(long = "scan_kernel")]
    pub kernel: bool,
    /// The kernel's paged pool
    #[arg(long = "scan_kernel_paged_pool")]
    pub paged_pool: bool,
    /// The kernel's nonpaged pool
    #[arg(long = "scan_kernel_nonpaged_pool")]
    pub nonpaged_pool: bool,
    /// The kernel and its drivers
    #[arg(long = "scan_kernel_code")]
    pub code: bool,
    /// The paged pools of sessions
    #[arg(long = "scan_kernel_session_pools")]
    pub session_pools: bool,
    /// What processes map for themselves; implied by a choice of processes
    #[arg(long = "scan_process_memory")]
    pub processes: bool,
    /// Only this many bytes from the start of each part
    #[arg(long, value_name = "BYTES", value_parser = crate::parse::address)]
    pub limit: Option<u64>,
    /// Whose memory
    #[command(flatten)]
    pub filter: ProcessFilter,
}

/// Ranges of physical memory.
pub struct ScanRange {
    /// First address and the one behind the last, ascending, without overlaps; `None` for all there is.
    ranges: Option<Vec<(u64, u64)>>,
}

impl ScanRange {
    /// Whether it has a physical address.
    #[must_use]
    pub fn has(&self, physical: u64) -> bool {
        let Some(ranges) = &self.ranges else { return true };
        let next = ranges.partition_point(|(start, _)| *start <= physical);
        next.checked_sub(1).and_then(|index| ranges.get(index)).is_some_and(|(_, end)| physical < *end)
    }

    fn of(mut ranges: Vec<(u64, u64)>) -> Self {
        ranges.sort_unstable();
        ranges.dedup_by(|next, known| {
            let joins = next.0 <= known.1;
            known.1 = if joins { known.1.max(next.1) } else { known.1 };
            joins
        });
        Self { ranges: Some(ranges) }
    }
}

impl ScanArgs {
    /// The ranges of physical memory that were asked for. What cannot be told is noted.
    pub fn range(&self, session: &Session, kernel: &Kernel) -> Result<ScanRange, Error> {
        let limit = self.limit.unwrap_or(u64::MAX);
        let of_processes = self.processes || !self.filter.is_all();
        let parts = self.kernel || self.paged_pool || self.nonpaged_pool || self.code || self.session_pools;
        if self.physical || !(parts || of_processes) {
            return Ok(match self.limit {
                None => ScanRange { ranges: None },
                Some(limit) => ScanRange::of(vec![(0, limit)]),
            });
        }
        let mut found = Vec::new();
        let mut add = |space: &PagedSpace, start: u64, end: u64| {
            for run in space.resident(start, end.min(start.saturating_add(limit))) {
                found.push((run.target, run.target.saturating_add(run.len)));
            }
        };
        if self.kernel {
            add(kernel.space(), kernel.user_end(), u64::MAX);
        }
        for (wanted, name) in [(self.paged_pool, "PagedPool"), (self.nonpaged_pool, "NonPagedPool")] {
            if wanted {
                match regions::pool(kernel.target(), name) {
                    (Ok(start), Ok(end)) => add(kernel.space(), start, end),
                    (start, end) => {
                        let why = start.err().or(end.err()).map_or_else(String::new, |why| why.to_string());
                        session.notes.partial(format!("where the {name} is cannot be told: {why}"));
                    }
                }
            }
        }
        if self.code {
            for module in modules(&session.notes, kernel.target())? {
                if let (Ok(base), Ok(size)) = (module.base(), module.size()) {
                    add(kernel.space(), base, base.saturating_add(size.into()));
                }
            }
        }
        if self.session_pools {
            for process in processes(session, kernel)? {
                if let (Ok((start, end)), Ok(space)) = (session_pool(kernel, &process), process.space(kernel))
                {
                    add(&space, start, end);
                }
            }
        }
        if of_processes {
            for process in self.filter.processes(session, kernel)? {
                match process.space(kernel) {
                    Ok(space) => add(&space, 0, kernel.user_end()),
                    Err(why) if why.is_loss() => {
                        session.notes.partial(format!("memory of {} is missing: {why}", process.describe()));
                    }
                    Err(_) => {}
                }
            }
        }
        Ok(ScanRange::of(found))
    }
}

/// Where the paged pool of a process's session is.
fn session_pool(kernel: &Kernel, process: &Process<'_>) -> Read<(u64, u64)> {
    let at = process.session()?.non_null("no session")?;
    // Session space may be mapped in the processes of the session only.
    let user = process.user_target(kernel)?;
    let pool = SessionSpace::at(&user, at);
    let (Ptr(start), Ptr(end)) = (pool.start()?, pool.end()?);
    Ok((start, end))
}

#[cfg(test)]
mod tests {
    use super::ScanRange;

    #[test]
    fn ranges_are_merged() {
        let range =
            ScanRange::of(vec![(0x3000, 0x4000), (0x1000, 0x2000), (0x1800, 0x2800), (0x2000, 0x2100)]);
        assert_eq!(range.ranges, Some(vec![(0x1000, 0x2800), (0x3000, 0x4000)]));
        for (address, inside) in
            [(0xfff, false), (0x1000, true), (0x27ff, true), (0x2800, false), (0x3fff, true)]
        {
            assert_eq!(range.has(address), inside, "{address:#x}");
        }
    }
}
