//! `sockscan`: scan physical memory for sockets (Windows XP and 2003).
//!
//! Finds closed sockets too; compare with `sockets`. Truth: the description of the machine that
//! the maker of test images lays out.

use crate::os::windows::net::{self, classic};
use crate::os::windows::scan_range::ScanArgs;
use crate::os::windows::{KernelFact, pool};
use crate::plugin::prelude::*;

/// The command.
pub struct Sockscan;

row! {
    pub struct Row {
        /// Physical address of the socket.
        offset_p: Address,
        /// Its virtual address; absent where the kernel maps that memory nowhere.
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

impl Plugin for Sockscan {
    const NAME: &'static str = "sockscan";
    const SUMMARY: &'static str = "Scan physical memory for sockets of XP and 2003";
    const ACTIVE: Active = Active::Windows;
    type Args = ScanArgs;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ScanArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        net::require_classic(&kernel)?;
        let physical = pool::physical(&kernel);
        let wanted = args.range(session, &kernel)?;
        for found in classic::scan_sockets(session, &kernel, &physical)?
            .into_iter()
            .filter(|found| wanted.has(found.entry.addr))
        {
            out.push(Row {
                offset_p: Address(found.entry.addr),
                offset_v: found.virtual_address.map(Address),
                pid: found.entry.pid(),
                port: found.entry.port(),
                proto: found.entry.protocol(),
                protocol: found.entry.protocol().and_then(classic::protocol_name),
                address: found.entry.address(),
                create_time: found.entry.created(),
            })?;
        }
        Ok(())
    }
}
