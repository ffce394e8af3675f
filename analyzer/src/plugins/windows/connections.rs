//! `connections`: TCP connections in the network driver's table (Windows XP and 2003).
//!
//! Needs the symbols of `tcpip.sys`. Connections that were taken off the table are found by `connscan`. Truth: the description of the machine that
//! the maker of test images lays out.

use crate::os::windows::KernelFact;
use crate::os::windows::net::{self, Driver, DriverArgs, classic};
use crate::plugin::prelude::*;

/// The command.
pub struct Connections;

row! {
    pub struct Row {
        /// Address of the connection.
        offset_v: Option<Address>,
        /// Local address and port.
        local: Read<String>,
        /// Remote address and port.
        remote: Read<String>,
        /// Id of the process that made it.
        pid: Read<u64>,
    }
}

impl Plugin for Connections {
    const NAME: &'static str = "connections";
    const SUMMARY: &'static str = "List TCP connections of Windows XP and 2003";
    const ACTIVE: Active = Active::Windows;
    type Args = DriverArgs;
    type Row = Row;

    fn collect(&self, session: &Session, args: &DriverArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        net::require_classic(&kernel)?;
        let driver = Driver::find(session, args)?;
        for entry in classic::connections(&session.notes, &kernel, &driver)? {
            out.push(Row {
                offset_v: Some(Address(entry.addr)),
                local: entry.local(),
                remote: entry.remote(),
                pid: entry.pid(),
            })?;
        }
        Ok(())
    }
}
