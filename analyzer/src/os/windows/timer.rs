//! Timers: `_KTIMER` in the lists of the processors, or before Windows 7 of the system.
//!
//! A timer whose deferred procedure is known tells who waits: rootkits use timers to come back. The pointer to that procedure
//! is hidden in 64-bit kernels from Windows 7 on, by the same scheme as the block for debuggers. Source: `_KTIMER`,
//! `_KTIMER_TABLE` and `_KDPC` in the symbols of each kernel; Windows Internals, "Timer processing".

use object::walk::{self, MAX_NODES};
use object::{Absent, Addr, Ptr, Read, Target, Uint, layout};

use super::debugger_data::decode;
use super::{Kernel, info, processor};
use crate::notes::Notes;
use crate::table::Time;

/// Lists of timers of XP on 32 bits, and of later kernels before Windows 7.
const LISTS: u64 = 256;
const ENTRIES: u64 = 512;
/// `DISPATCHER_HEADER.Type` of timers: `TimerNotificationObject` and `TimerSynchronizationObject`.
const TYPES: [u64; 2] = [8, 9];

layout! {
    struct RawTimer / RawTimerLayout = "_KTIMER" {
        kind: Uint = "Header.Type",
        signal: i32 = "Header.SignalState",
        due: Uint = "DueTime",
        links: Addr = "TimerListEntry",
        procedure: Ptr = "Dpc",
        period: Uint = "Period",
    }

    struct Procedure / ProcedureLayout = "_KDPC" {
        routine: Ptr = "DeferredRoutine",
    }
}

/// A timer that was started.
#[derive(Clone, Copy)]
pub struct Timer<'k> {
    view: RawTimer<'k>,
    /// Index of the list it is in.
    pub list: u64,
}

impl<'k> Timer<'k> {
    /// Its address.
    #[must_use]
    pub fn addr(&self) -> u64 {
        self.view.addr()
    }

    /// When it ends, in interrupt time: 100 ns since the system started.
    pub fn due(&self) -> Read<u64> {
        self.view.due().map(|Uint(due)| due)
    }

    /// When it ends, by the wall clock.
    pub fn due_time(&self, kernel: &Kernel) -> Read<Time> {
        let due = i128::from(self.due()?).saturating_mul(100);
        let (Time(now), up) = (info::now(kernel)?, info::up_time(kernel)?);
        Ok(Time(now.saturating_sub(i128::from(up)).saturating_add(due)))
    }

    /// Milliseconds after which it starts again; 0 for never.
    pub fn period(&self) -> Read<u64> {
        self.view.period().map(|Uint(period)| period)
    }

    /// Whether it has ended.
    pub fn is_signalled(&self) -> Read<bool> {
        self.view.signal().map(|state| state != 0)
    }

    /// Its deferred procedure; not applicable where a thread waits for it instead.
    fn procedure(&self) -> Read<Procedure<'k>> {
        let target = self.view.target();
        let Ptr(stored) = self.view.procedure()?;
        let plain = match secrets(target) {
            Ok((never, always)) => decode(stored, never, always, self.addr()),
            Err(Absent::NoProfile(_)) => stored,
            Err(why) => return Err(why),
        };
        Ok(Procedure::at(target, Ptr(plain).non_null("no deferred procedure")?))
    }

    /// What runs when it ends.
    pub fn routine(&self) -> Read<u64> {
        self.procedure()?.routine()?.non_null("no routine")
    }

    /// Whether the memory is a timer's.
    fn is_plausible(&self) -> bool {
        self.view.kind().is_ok_and(|Uint(kind)| TYPES.contains(&(kind & 0x7f)))
    }
}

/// `KiWaitNever` and `KiWaitAlways`, by which 64-bit kernels hide; the profile lacks them where they do not.
fn secrets(target: &Target) -> Read<(u64, u64)> {
    let word = |name: &'static str| target.read_u64(target.symbol(name)?);
    if target.types().model().pointer_size() == 4 {
        return Err(Absent::NoProfile(object::Missing::Symbol("KiWaitNever".into())));
    }
    Ok((word("KiWaitNever")?, word("KiWaitAlways")?))
}

/// The timers in all lists. What is missing is noted.
pub fn timers<'k>(notes: &Notes, target: &'k Target) -> Read<Vec<Timer<'k>>> {
    let links = target.offset_of(RawTimer::STRUCT, "TimerListEntry")?;
    let mut found = Vec::new();
    for (list, head) in heads(target)? {
        let left = MAX_NODES.saturating_sub(found.len());
        let walked = walk::list_capped(target, head, left);
        notes.walk(&format!("{list} of timers"), &walked.end);
        for addr in walked.containers(links) {
            let timer = Timer { view: RawTimer::at(target, addr), list };
            if !timer.is_plausible() {
                notes.partial(format!("what list {list} of timers has at {addr:#x} is no timer"));
            }
            found.push(timer);
        }
    }
    Ok(found)
}

/// Index and head of every list of timers.
fn heads(target: &Target) -> Read<Vec<(u64, u64)>> {
    let width = u64::from(target.types().model().pointer_size());
    if let Ok(table) = target.types().resolve("_KPRCB", "TimerTable.TimerEntries") {
        let entry = target.types().struct_size("_KTIMER_TABLE_ENTRY")?;
        let head = target.offset_of("_KTIMER_TABLE_ENTRY", "Entry")?;
        let size = target.types().size_of(&table.ty).unwrap_or(0);
        let count = size.checked_div(entry).unwrap_or(0);
        let mut heads = Vec::new();
        for block in processor::blocks(target)? {
            let first = block.wrapping_add(table.offset);
            heads.extend(
                (0..count).map(|index| (index, first.wrapping_add(index * entry).wrapping_add(head))),
            );
        }
        return Ok(heads);
    }
    let table = target.symbol("KiTimerTableListHead")?;
    // Windows 2003 gave each list the time at which its first timer ends.
    let (count, size, head) = match target.types().struct_size("_KTIMER_TABLE_ENTRY") {
        Ok(size) => (ENTRIES, size, target.offset_of("_KTIMER_TABLE_ENTRY", "Entry")?),
        Err(_) => (LISTS, 2 * width, 0),
    };
    Ok((0..count).map(|index| (index, table.wrapping_add(index * size).wrapping_add(head))).collect())
}
