//! `banner`: release, compiler and build of the kernel.
//!
//! Reads `linux_banner`. Truth: `/proc/version` of real guests.

use crate::os::linux::KernelFact;
use crate::os::linux::utsname::banner;
use crate::plugin::prelude::*;

/// The command.
pub struct Banner;

row! {
    pub struct Row {
        /// The banner, as in /proc/version.
        banner: Read<String>,
    }
}

impl Plugin for Banner {
    const NAME: &'static str = "banner";
    const SUMMARY: &'static str = "Show the kernel's banner";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        out.push(Row { banner: banner(kernel.target()) })
    }
}
