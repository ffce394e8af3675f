//! `times`: the time when the image was made, as the system knew it.
//!
//! From the page that the kernel shares with programs. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::{KernelFact, info};
use crate::plugin::prelude::*;
use crate::table::{Cell as _, Value};

/// The command.
pub struct Times;

row! {
    pub struct Row {
        /// What the time is.
        what as "Times": &'static str,
        /// The time.
        value: Value,
    }
}

impl Plugin for Times {
    const NAME: &'static str = "times";
    const SUMMARY: &'static str = "Show the time of the system";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let up = info::up_time(&kernel);
        let boot = info::now(&kernel).and_then(|Time(now)| Ok(Time(now - i128::from(up.clone()?))));
        for (what, value) in [
            ("Now (UTC)", info::now(&kernel).into_value()),
            ("Up since (UTC)", boot.into_value()),
            ("Seconds up", up.map(|nanoseconds| nanoseconds / 1_000_000_000).into_value()),
            ("Minutes that UTC is ahead", info::time_zone_bias(&kernel).into_value()),
        ] {
            out.push(Row { what, value })?;
        }
        Ok(())
    }
}
