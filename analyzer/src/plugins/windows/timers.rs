//! `timers`: kernel timers that run a procedure when they end.
//!
//! Timers that threads wait for have none and are left out. Not seen: timers that are not started. Truth: the description of the
//! machine that the maker of test images lays out, which Volatility reads alike.

use crate::os::symbols::symbols;
use crate::os::windows::KernelFact;
use crate::os::windows::timer::timers;
use crate::plugin::prelude::*;

/// The command.
pub struct Timers;

row! {
    pub struct Row {
        /// Index of the list that the timer is in.
        list as "Tbl": u64,
        /// The timer.
        timer as "_KTIMER": Address,
        /// When it ends, in interrupt time (100 ns since the system started).
        due: Read<Address>,
        /// When it ends, by the wall clock.
        due_time: Read<Time>,
        /// Milliseconds after which it starts again; 0 for never.
        period: Read<u64>,
        /// Whether it has ended.
        signalled as "sig": Read<bool>,
        /// Address of the procedure.
        routine: Read<Address>,
        /// Symbol there; absent for memory of no module.
        symbol: Option<String>,
    }
}

impl Plugin for Timers {
    const NAME: &'static str = "timers";
    const SUMMARY: &'static str = "List kernel timers and the procedures they run";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let symbols = symbols(session)?;
        for timer in timers(&session.notes, kernel.target())? {
            let routine = timer.routine();
            if matches!(routine, Err(Absent::NotApplicable(_))) {
                continue;
            }
            out.push(Row {
                list: timer.list,
                timer: Address(timer.addr()),
                due: timer.due().map(Address),
                due_time: timer.due_time(&kernel),
                period: timer.period(),
                signalled: timer.is_signalled(),
                symbol: routine.as_ref().ok().and_then(|routine| symbols.describe(*routine)),
                routine: routine.map(Address),
            })?;
        }
        symbols.report(&session.notes);
        Ok(())
    }
}
