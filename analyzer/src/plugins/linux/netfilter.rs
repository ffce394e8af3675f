//! `netfilter`: functions that see every packet.
//!
//! Reads the hooks of every network namespace and protocol and those of devices (`netns_nf`, `net_device`), as arrays since
//! v4.14; older lists are not read. A function belongs to the kernel or to a module that is listed.
//!
//! Truth: no clean guest of 5.10, 6.1 and 6.12 has a finding; the guest 6.1-hostile has the function that our module registered.

use crate::os::linux::KernelFact;
use crate::os::linux::code::Code;
use crate::os::linux::net::netfilter::hooks;
use crate::plugin::prelude::*;

/// The command.
pub struct Netfilter;

row! {
    pub struct Row {
        /// Inode number of the network namespace.
        net_ns: Read<u32>,
        /// Protocol: `ipv4`, `ipv6`, `arp`, `bridge`, `netdev`.
        protocol as "family": &'static str,
        /// Name of the hook: `prerouting`, `input`, ...
        hook: String,
        /// Device, of hooks of devices.
        interface: Read<String>,
        /// Functions of lower priority are called first.
        priority: Read<i32>,
        /// The function.
        address: Read<Address>,
        /// The symbol there.
        symbol: Option<String>,
        /// The module that holds the code; `linux` is the kernel.
        module_name: Option<String>,
        /// Whether neither the kernel nor a listed module holds the code.
        hooked: Read<bool>,
    }
}

impl Plugin for Netfilter {
    const NAME: &'static str = "netfilter";
    const SUMMARY: &'static str = "List functions that see every packet";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let code = Code::of(session)?;
        for hook in hooks(&session.notes, kernel.target())? {
            let (symbol, module_name) = code.names_of(&hook.function);
            out.push(Row {
                net_ns: hook.net_ns,
                protocol: hook.protocol,
                hook: hook.point,
                interface: hook.device.unwrap_or(Err(Absent::NotApplicable("not a hook of a device"))),
                priority: hook.priority,
                hooked: hook.function.clone().map(|function| code.is_nobodys(function)),
                address: hook.function.map(Address),
                symbol,
                module_name,
            })?;
        }
        Ok(())
    }
}
