//! `vmcoreinfo`: what the kernel tells crash tools about itself.
//!
//! Reads the text behind `vmcoreinfo_data` (kernel/crash_core.c, `CONFIG_CRASH_CORE`). The identification looks for the same text
//! in memory before any symbol is known; see `load_as`.
//!
//! Truth: release, build-id and addresses of symbols, by `uname`, `/sys/kernel/notes` and `/proc/kallsyms` of guests of 5.10, 6.1 and 6.12.

use crate::os::linux::KernelFact;
use crate::plugin::prelude::*;
use crate::table::text_of;

/// The command.
pub struct Vmcoreinfo;

row! {
    pub struct Row {
        /// What the line is about: `OSRELEASE`, `SYMBOL(init_uts_ns)`, ...
        key: String,
        /// What it says.
        text as "key_value": String,
    }
}

/// Longest text: the kernel keeps it in one page.
const MAX_BYTES: usize = 4096;

impl Plugin for Vmcoreinfo {
    const NAME: &'static str = "vmcoreinfo";
    const SUMMARY: &'static str = "Show what the kernel tells crash tools about itself";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let target = kernel.target();
        let start = target.read_ptr(target.symbol("vmcoreinfo_data")?)?;
        let size = target.read_ptr(target.symbol("vmcoreinfo_size")?)?;
        let text = text_of(&target.read_bytes(start, size, MAX_BYTES)?);
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            out.push(Row { key: key.to_owned(), text: value.to_owned() })?;
        }
        Ok(())
    }
}
