//! `kdbgscan`: the data block that the kernel keeps for debuggers.
//!
//! The identified kernel's, in plain or hidden as from Windows 8 on; with `--full_scan` whatever looks like one. Truth: the description of the
//! machine that the maker of test images lays out.

use crate::os::windows::KernelFact;
use crate::os::windows::debugger_data::{DebuggerData, in_physical, scan_memory};
use crate::os::windows::pool;
use crate::plugin::prelude::*;
use crate::table::{Cell as _, Value};

/// The command.
pub struct Kdbgscan;

/// Options.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Search all of physical memory for such blocks too
    #[arg(long)]
    pub full_scan: bool,
}

row! {
    pub struct Row {
        /// What the block says, or where it is.
        key as "Key": &'static str,
        /// The value.
        value as "Value": Value,
    }
}

impl Plugin for Kdbgscan {
    const NAME: &'static str = "kdbgscan";
    const SUMMARY: &'static str = "Show the data block that the kernel keeps for debuggers";
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let own = DebuggerData::of_kernel(&kernel);
        match &own {
            Ok(data) => {
                out.push(Row { key: "Offset (V)", value: Address(data.addr).into_value() })?;
                for (key, value) in data.facts(kernel.target()) {
                    out.push(Row { key, value })?;
                }
            }
            Err(why) => session.notes.info(format!("the kernel's own block is not known: {why}")),
        }
        if !args.full_scan && own.is_ok() {
            return Ok(());
        }
        let physical = pool::physical(&kernel);
        for addr in scan_memory(&kernel) {
            out.push(Row { key: "Offset (P)", value: Address(addr).into_value() })?;
            for (key, value) in in_physical(&physical, addr).facts(kernel.target()) {
                out.push(Row { key, value })?;
            }
        }
        Ok(())
    }
}
