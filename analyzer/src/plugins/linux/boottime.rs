//! `boottime`: when the system was booted.
//!
//! Wall clock time minus time since boot, both as the kernel's time keeper had them last (`tk_core`). It moves when the clock
//! is set. Truth: two clocks that guests of 5.10, 6.1 and 6.12 read together.

use crate::os::linux::KernelFact;
use crate::plugin::prelude::*;

/// The command.
pub struct Boottime;

row! {
    pub struct Row {
        /// When time since boot was 0.
        boot_time: Read<Time>,
    }
}

impl Plugin for Boottime {
    const NAME: &'static str = "boottime";
    const SUMMARY: &'static str = "Show when the system was booted";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        out.push(Row { boot_time: session.fact::<KernelFact>()?.boot_time() })
    }
}
