//! Times as Windows keeps them: 100 ns since 1601-01-01 UTC (`FILETIME`, `KSYSTEM_TIME`).

use object::{Absent, Read};

use crate::table::Time;

/// Intervals of 100 ns between 1601-01-01 and 1970-01-01 (Windows SDK, `FILETIME`).
const UNIX_EPOCH: i128 = 116_444_736_000_000_000;

/// A `FILETIME`; 0 stands for no time.
pub fn file_time(intervals: u64) -> Read<Time> {
    match intervals {
        0 => Err(Absent::NotApplicable("not set")),
        intervals => Ok(Time((i128::from(intervals) - UNIX_EPOCH) * 100)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_times_begin_in_1601() {
        // 2012-02-22 19:58:20 UTC, as the original printed it for the System process of its sample.
        let intervals = (1_329_940_700 + 11_644_473_600) * 10_000_000 + 1;
        assert_eq!(file_time(intervals), Ok(Time(1_329_940_700_000_000_100)));
        assert_eq!(file_time(116_444_736_000_000_000), Ok(Time(0)));
        assert!(file_time(0).is_err());
    }
}
