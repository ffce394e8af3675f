//! `sockets`: sockets in the network driver's table (Windows XP and 2003).
//!
//! Needs the symbols of `tcpip.sys`. Sockets that were taken off the table are found by `sockscan`. Truth: the description of the machine that
//! the maker of test images lays out.

use crate::os::windows::KernelFact;
use crate::os::windows::net::{self, Driver, DriverArgs, classic};
use crate::plugin::prelude::*;

/// The command.
pub struct Sockets;

row! {
    pub struct Row {
        /// Address of the socket.
        offset_v: Option<Address>,
        /// Id of the process that made it.
        pid: Read<u64>,
        /// Local port.
        port: Read<u16>,
        /// Number of the protocol, as in IP headers.
        proto: Read<u16>,
        /// Name of the protocol.
        protocol: Read<&'static str>,
        /// Local address; 0.0.0.0 is any.
        address: Read<String>,
        /// When it was made.
        create_time: Read<Time>,
    }
}

impl Plugin for Sockets {
    const NAME: &'static str = "sockets";
    const SUMMARY: &'static str = "List sockets of Windows XP and 2003";
    const ACTIVE: Active = Active::Windows;
    type Args = DriverArgs;
    type Row = Row;

    fn collect(&self, session: &Session, args: &DriverArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        net::require_classic(&kernel)?;
        let driver = Driver::find(session, args)?;
        for entry in classic::sockets(&session.notes, &kernel, &driver)? {
            out.push(Row {
                offset_v: Some(Address(entry.addr)),
                pid: entry.pid(),
                port: entry.port(),
                proto: entry.protocol(),
                protocol: entry.protocol().and_then(classic::protocol_name),
                address: entry.address(),
                create_time: entry.created(),
            })?;
        }
        Ok(())
    }
}
