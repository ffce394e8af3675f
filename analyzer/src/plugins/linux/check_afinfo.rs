//! `check_afinfo`: functions that list sockets and neighbours in `/proc/net`.
//!
//! Looks at the tables of sequence operations of the protocols by symbol, and up to v4.17 at the `*_seq_afinfo` tables that held
//! or named them (Linux commit c35063722777 took them out). All are the kernel's own and lead into
//! its code. An entry of `/proc/net` that was given another table is found by `check_proc_fops`.
//!
//! Truth: no clean guest of 5.10, 6.1 and 6.12 has a finding; the guest 6.1-hostile has the function that our module replaced,
//! and Volatility 3 (2.28.2) finds the same one there.

use object::{Absent, Ptr, layout};

use crate::os::linux::KernelFact;
use crate::os::linux::code::Code;
use crate::os::linux::operations::{Judge, Operation, ShowAll};
use crate::plugin::prelude::*;

/// The command.
pub struct CheckAfinfo;

row! {
    pub struct Row {
        /// Symbol of the table.
        name as "table": String,
        /// Member of the table.
        member: String,
        /// Where the pointer leads.
        address: Read<Address>,
        /// The symbol there.
        symbol: Option<String>,
        /// The module that holds the code; `linux` is the kernel.
        module_name: Option<String>,
        /// Whether it does not lead into the kernel's code.
        hooked: Read<bool>,
    }
}

/// Tables of sequence operations that hold functions.
const SEQUENCES: [&str; 13] = [
    "tcp4_seq_ops",
    "tcp6_seq_ops",
    "udp_seq_ops",
    "udp6_seq_ops",
    "raw_seq_ops",
    "raw6_seq_ops",
    "ping_v4_seq_ops",
    "ping_v6_seq_ops",
    "unix_seq_ops",
    "packet_seq_ops",
    "netlink_seq_ops",
    "arp_seq_ops",
    "dev_seq_ops",
];

/// Tables that held or named sequence operations, with their types.
const FAMILIES: [(&str, &str); 6] = [
    ("tcp4_seq_afinfo", "tcp_seq_afinfo"),
    ("tcp6_seq_afinfo", "tcp_seq_afinfo"),
    ("udp4_seq_afinfo", "udp_seq_afinfo"),
    ("udp6_seq_afinfo", "udp_seq_afinfo"),
    ("udplite4_seq_afinfo", "udp_seq_afinfo"),
    ("udplite6_seq_afinfo", "udp_seq_afinfo"),
];

layout! {
    struct Tcp / TcpLayout = "tcp_seq_afinfo" {
        files: Ptr = "seq_fops",
    }

    struct Udp / UdpLayout = "udp_seq_afinfo" {
        files: Ptr = "seq_fops",
    }
}

impl Plugin for CheckAfinfo {
    const NAME: &'static str = "check_afinfo";
    const SUMMARY: &'static str = "Find replaced functions behind the files of /proc/net";
    const ACTIVE: Active = Active::Linux;
    type Args = ShowAll;
    type Row = Row;

    fn collect(&self, session: &Session, args: &ShowAll, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let target = kernel.target();
        let mut judge = Judge::new(target, Code::of(session)?, *args);
        // (name, type, address) of every table.
        let mut tables: Vec<(String, &'static str, u64)> = Vec::new();
        for name in SEQUENCES {
            tables.extend(target.symbol(name).map(|table| (name.to_owned(), "seq_operations", table)));
        }
        for (name, structure) in FAMILIES {
            let Ok(family) = target.symbol(name) else { continue };
            if let Ok(offset) = target.offset_of(structure, "seq_ops") {
                tables.push((format!("{name}.seq_ops"), "seq_operations", family.wrapping_add(offset)));
            }
            let files = if structure == Tcp::STRUCT {
                Tcp::at(target, family).files()
            } else {
                Udp::at(target, family).files()
            };
            match files {
                Ok(Ptr(files)) => tables.push((format!("{name}.seq_fops"), "file_operations", files)),
                Err(Absent::NoProfile(_)) => {}
                Err(why) => session.notes.partial(format!("{name} cannot be read: {why}")),
            }
        }
        if tables.is_empty() {
            // Says which symbol is missing.
            target.symbol("tcp4_seq_ops")?;
        }
        for (name, structure, table) in tables {
            for Operation { member, address, symbol, module, hooked } in
                judge.table(structure, table)?.iter().cloned()
            {
                out.push(Row {
                    name: name.clone(),
                    member,
                    address: address.map(Address),
                    symbol,
                    module_name: module,
                    hooked,
                })?;
            }
        }
        Ok(())
    }
}
