//! Wall clock: when the kernel booted.

use object::{Absent, Missing, Read, Target, Uint, layout};

use crate::table::Time;

layout! {
    /// `timekeeper` (include/linux/timekeeper_internal.h); all offsets are nanoseconds.
    struct Timekeeper / TimekeeperLayout = "timekeeper" {
        /// Monotonic to real time.
        offs_real: Uint = "offs_real",
        /// Monotonic to boot time: nanoseconds spent suspended.
        offs_boot: Uint = "offs_boot",
        /// Seconds of real time at the last tick.
        xtime_sec: u64 = "xtime_sec",
        /// Multiplier of the clock source; never 0 once the clock runs.
        mult: u32 = "tkr_mono.mult | tkr.mult | mult",
    }
}

/// Wall clock time at which boot-based time was 0.
///
/// `getboottime64()` of kernel/time/timekeeping.c: `offs_real - offs_boot` (from v3.17).
pub(super) fn boot_time(target: &Target) -> Read<Time> {
    let core = target.symbol("tk_core").map_err(Absent::from)?;
    let keeper = timekeeper(target, core)?;
    let (Uint(real), Uint(boot)) = (keeper.offs_real()?, keeper.offs_boot()?);
    Ok(Time(i128::from(real.wrapping_sub(boot).cast_signed())))
}

/// `tk_core` is `{ seqcount_t seq; struct timekeeper timekeeper; }`, a named `struct tk_data` only from v6.13. Where the
/// profile does not know it, the timekeeper follows a sequence count whose size depends on debug options.
fn timekeeper(target: &Target, core: u64) -> Read<Timekeeper<'_>> {
    if let Ok(offset) = target.offset_of("tk_data", "timekeeper") {
        return Ok(Timekeeper::at(target, core.wrapping_add(offset)));
    }
    // 2001 to 2105 in seconds.
    const PLAUSIBLE: std::ops::Range<u64> = 1_000_000_000..4_260_000_000;
    let plausible = |keeper: &Timekeeper<'_>| {
        keeper.mult().is_ok_and(|mult| mult != 0)
            && keeper.xtime_sec().is_ok_and(|sec| PLAUSIBLE.contains(&sec))
    };
    let found = [8u64, 4, 16, 12, 24, 32, 64, 72, 0]
        .into_iter()
        .map(|offset| Timekeeper::at(target, core.wrapping_add(offset)))
        .find(plausible);
    // Without a plausible clock the first read says whether memory or profile is to blame.
    let first = Timekeeper::at(target, core.wrapping_add(8));
    match found {
        Some(keeper) => Ok(keeper),
        None => {
            first.xtime_sec()?;
            if target.types().has_field("timekeeper", "xtime_sec") {
                Err(Absent::Malformed("no plausible clock in tk_core"))
            } else {
                Err(Missing::Struct("timekeeper".into()).into())
            }
        }
    }
}
