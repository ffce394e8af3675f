//! `netscan`: scan physical memory for TCP connections, listening TCP sockets and UDP sockets (Vista and later).
//!
//! Finds what the driver's tables do not lead to any more; compare with `netstat`. A socket of any IPv6 address has two rows: it
//! serves IPv4 too. Truth: the description of the machine that the maker of test images lays out, which Volatility reads
//! alike; no real image was at hand.

use crate::os::windows::net::{self, DriverArgs, scan};
use crate::os::windows::scan_range::ScanArgs;
use crate::os::windows::{KernelFact, pool};
use crate::plugin::prelude::*;

/// The command.
pub struct Netscan;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The network driver's symbols
    #[command(flatten)]
    pub driver: DriverArgs,
    /// Where to scan
    #[command(flatten)]
    pub scan: ScanArgs,
}

row! {
    pub struct Row {
        /// `F` where the memory was given back.
        free as "a": &'static str,
        /// Virtual address of the endpoint; absent where the kernel maps that memory nowhere.
        offset: Option<Address>,
        /// Its physical address.
        offset_p: Address,
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

impl Plugin for Netscan {
    const NAME: &'static str = "netscan";
    const SUMMARY: &'static str = "Scan physical memory for connections and sockets";
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        net::require_modern(&kernel)?;
        let physical = pool::physical(&kernel);
        let mut shapes = scan::shapes(&kernel);
        let wanted = args.scan.range(session, &kernel)?;
        for found in scan::scan(session, &kernel, &physical, &mut shapes)?
            .into_iter()
            .filter(|found| wanted.has(found.physical))
        {
            let owner = found.endpoint.owner();
            for line in found.endpoint.seen() {
                out.push(Row {
                    free: found.free,
                    offset: found.virtual_address.map(Address),
                    offset_p: Address(found.physical),
                    protocol: line.protocol,
                    local_addr: line.local,
                    remote_addr: line.remote,
                    state: line.state,
                    pid: owner.clone().and_then(|owner| owner.pid()),
                    owner: owner.clone().and_then(|owner| owner.name()),
                    created: found.endpoint.created(),
                })?;
            }
        }
        Ok(())
    }
}
