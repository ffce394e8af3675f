//! `imageinfo`: what an image is of: version, build, processors, times.
//!
//! From the kernel's variables and `KUSER_SHARED_DATA`. Truth: the descriptions of images of the maker of test images.

use crate::os::windows::KernelFact;
use crate::os::windows::info::facts;
use crate::plugin::prelude::*;
use crate::table::Value;

/// The command.
pub struct Imageinfo;

row! {
    pub struct Row {
        /// Name of the fact.
        key: &'static str,
        /// The fact.
        value: Value,
    }
}

impl Plugin for Imageinfo {
    const NAME: &'static str = "imageinfo";
    const SUMMARY: &'static str = "Show version, build and times of the system";
    const ACTIVE: Active = Active::Windows;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for (key, value) in facts(&kernel) {
            out.push(Row { key, value })?;
        }
        Ok(())
    }
}
