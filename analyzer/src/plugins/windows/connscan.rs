//! `connscan`: scan physical memory for TCP connections (Windows XP and 2003).
//!
//! Finds connections that have ended too, whose owner may be gone; compare with `connections`. Truth: the description of the machine that
//! the maker of test images lays out.

use crate::os::windows::net::{self, classic};
use crate::os::windows::scan_range::ScanArgs;
use crate::os::windows::{KernelFact, pool};
use crate::plugin::prelude::*;

/// The command.
pub struct Connscan;

row! {
    pub struct Row {
        /// Physical address of the connection.
        offset_p: Address,
        /// Its virtual address; absent where the kernel maps that memory nowhere.
        offset_v: Option<Address>,
        /// Local address and port.
        local: Read<String>,
        /// Remote address and port.
        remote: Read<String>,
        /// Id of the process that made it.
        pid: Read<u64>,
    }
}

impl Plugin for Connscan {
    const NAME: &'static str = "connscan";
    const SUMMARY: &'static str = "Scan physical memory for TCP connections of XP and 2003";
    const ACTIVE: Active = Active::Windows;
    type Args = ScanArgs;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ScanArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        net::require_classic(&kernel)?;
        let physical = pool::physical(&kernel);
        let wanted = args.range(session, &kernel)?;
        for found in classic::scan_connections(session, &kernel, &physical)?
            .into_iter()
            .filter(|found| wanted.has(found.entry.addr))
        {
            out.push(Row {
                offset_p: Address(found.entry.addr),
                offset_v: found.virtual_address.map(Address),
                local: found.entry.local(),
                remote: found.entry.remote(),
                pid: found.entry.pid(),
            })?;
        }
        Ok(())
    }
}
