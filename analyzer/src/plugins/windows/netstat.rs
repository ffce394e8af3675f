//! `netstat`: TCP connections, listening TCP sockets and UDP sockets in the network driver's tables (Vista and later).
//!
//! Needs the symbols of `tcpip.sys`, which a repository or a symbol store has. Not seen: connections that are still being made or
//! wait for their end, which have tables of their own, and what was taken off; `netscan` finds that. Truth: the description of the
//! machine that the maker of test images lays out, with the real symbols of two builds of the driver.

use crate::os::windows::KernelFact;
use crate::os::windows::net::{self, Driver, DriverArgs, scan, tables};
use crate::plugin::prelude::*;

/// The command.
pub struct Netstat;

row! {
    pub struct Row {
        /// Address of the endpoint.
        offset: Address,
        /// `TCPv4`, `TCPv6`, `UDPv4` or `UDPv6`.
        protocol: Read<&'static str>,
        /// Local address and port.
        local_addr: Read<String>,
        /// Remote address and port; `*:*` for UDP.
        remote_addr: Read<String>,
        /// State of a TCP connection.
        state: Read<&'static str>,
        /// Id of the process that made it.
        pid: Read<u64>,
        /// Name of that process.
        owner: Read<String>,
        /// When it was made.
        created: Read<Time>,
    }
}

impl Plugin for Netstat {
    const NAME: &'static str = "netstat";
    const SUMMARY: &'static str = "List connections and sockets of the network driver";
    const ACTIVE: Active = Active::Windows;
    type Args = DriverArgs;
    type Row = Row;

    fn collect(&self, session: &Session, args: &DriverArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        net::require_modern(&kernel)?;
        let driver = Driver::find(session, args)?;
        let mut shapes = scan::shapes(&kernel);
        for endpoint in tables::endpoints(&session.notes, kernel.target(), &driver, &mut shapes) {
            let owner = endpoint.owner();
            for line in endpoint.seen() {
                out.push(Row {
                    offset: Address(endpoint.addr),
                    protocol: line.protocol,
                    local_addr: line.local,
                    remote_addr: line.remote,
                    state: line.state,
                    pid: owner.clone().and_then(|owner| owner.pid()),
                    owner: owner.clone().and_then(|owner| owner.name()),
                    created: endpoint.created(),
                })?;
            }
        }
        Ok(())
    }
}
