//! `dmesg`: the kernel's log.
//!
//! Reads the printk ring buffer (v5.10), the records before it (v3.5), or the plain text of old. The kernel stamps
//! messages with the scheduler's clock since boot; `timestamp` adds the time of boot, as `dmesg -T` does, and so is
//! only as good as that clock (it does not run while the machine sleeps). Truth: the guest's own log.

use crate::os::linux::KernelFact;
use crate::os::linux::printk::{facility_name, level_name, records};
use crate::plugin::prelude::*;

/// The command.
pub struct Dmesg;

/// The high bit of a caller says that it is a CPU.
const CALLER_IS_CPU: u32 = 0x8000_0000;

row! {
    pub struct Row {
        /// When, by the wall clock; an estimate.
        timestamp: Read<Time>,
        /// Seconds since boot, as the kernel recorded it.
        since_boot: Read<String>,
        /// Who logged: `kern`, or a syslog facility of a process that wrote to /dev/kmsg.
        facility: Read<String>,
        /// Severity: `EMERG` to `DEBUG`.
        level: Read<&'static str>,
        /// Thread (`T1`) or CPU (`C0`) that logged.
        caller: Read<String>,
        /// Device the message is about: subsystem and name.
        device: Read<String>,
        /// The text; may have several lines.
        message: Read<String>,
    }
}

impl Plugin for Dmesg {
    const NAME: &'static str = "dmesg";
    const SUMMARY: &'static str = "Show the kernel's log";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let boot = kernel.boot_time();
        for record in records(&session.notes, kernel.target())? {
            let at = |nanoseconds: u64| {
                boot.clone().map(|Time(boot)| Time(boot.saturating_add(nanoseconds.into())))
            };
            out.push(Row {
                timestamp: record.timestamp.clone().and_then(at),
                since_boot: record.timestamp.map(seconds),
                facility: record.facility.map(facility_name),
                level: record
                    .level
                    .and_then(|level| level_name(level).ok_or(Absent::Malformed("no such level"))),
                caller: record.caller.map(caller),
                device: record.device,
                message: record.text,
            })?;
        }
        Ok(())
    }
}

/// Seconds with six decimals, cut off as the kernel does (`print_time()`, kernel/printk/printk.c).
fn seconds(nanoseconds: u64) -> String {
    format!("{}.{:06}", nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000 / 1000)
}

fn caller(id: u32) -> String {
    if id & CALLER_IS_CPU == 0 { format!("T{id}") } else { format!("C{}", id & !CALLER_IS_CPU) }
}
