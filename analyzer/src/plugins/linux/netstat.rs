//! `netstat`: sockets of all families, with and without a process.
//!
//! Joins the open files of processes with the kernel's tables of sockets (TCP, UDP, raw, ICMP, Unix, netlink, packet),
//! over all network namespaces; a socket found both ways is one socket. It has a row for each descriptor that holds
//! it, or one without process where none does: sockets in TIME_WAIT, orphaned, half-open, in flight between
//! processes, or of the kernel. Columns that a family has not are absent. `hashed` tells whether a table has it: a
//! socket that is not bound is in none, nor are those of other families (vsock, alg, ...) and of protocols in modules
//! (SCTP, DCCP), which are found through processes only.
//! Truth: `/proc/PID/net/*` and `/proc/PID/fd` of real guests.

use crate::os::linux::KernelFact;
use crate::os::linux::net::holders::held;
use crate::os::linux::net::socket::{Found, Holder, sockets};
use crate::plugin::prelude::*;

/// The command.
pub struct Netstat;

row! {
    pub struct Row {
        /// Protocol, by the name of its file in /proc/net (`tcp`, `udp6`, `unix`, ...), or the address family.
        proto as "Proto": Read<String>,
        /// Local address.
        local as "SAddr": Read<String>,
        /// Local port; of raw sockets the IP protocol, of netlink sockets the port id.
        local_port as "SPort": Read<u32>,
        /// Remote address.
        remote as "DAddr": Read<String>,
        /// Remote port.
        remote_port as "DPort": Read<u32>,
        /// State of the connection; of Unix sockets as in /proc/net/unix, or `LISTEN`.
        state as "State": Read<&'static str>,
        /// Id of the process that has it open; absent where none has.
        pid as "Pid": Read<i32>,
        /// Name of the process.
        comm as "Comm": Read<String>,
        /// File descriptor in the process.
        fd: Read<u32>,
        /// User id of its creator.
        uid: Read<u32>,
        /// Inode number; absent where the kernel keeps no file for it.
        inode as "Inode": Read<u64>,
        /// Socket type: `STREAM`, `DGRAM`, `RAW`, ...
        kind as "Type": Read<String>,
        /// Number within the family: IP protocol, netlink protocol, Ethernet protocol of a packet socket.
        protocol: Read<u64>,
        /// References to it.
        refcount as "RefCount": Read<u64>,
        /// Path of a Unix socket; `@` stands for NUL, so abstract names start with it.
        path as "Path": Read<String>,
        /// Index of the device it is bound to.
        ifindex: Read<i32>,
        /// Inode number of its network namespace.
        net_ns: Read<u32>,
        /// Whether it is in the kernel's tables, and so in /proc/net; a connected or listening socket that is not was hidden.
        hashed: bool,
        /// Address of the kernel's structure.
        sock: Address,
    }
}

impl Plugin for Netstat {
    const NAME: &'static str = "netstat";
    const SUMMARY: &'static str = "List sockets";
    const ACTIVE: Active = Active::Linux;
    type Args = NoArgs;
    type Row = Row;

    fn collect(&self, session: &Session, _: &NoArgs, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let held = held(session, &kernel)?;
        for found in sockets(&session.notes, kernel.target(), held)? {
            if found.holders.is_empty() {
                out.push(row(&found, None))?;
            }
            for holder in &found.holders {
                out.push(row(&found, Some(holder)))?;
            }
        }
        Ok(())
    }
}

fn row(found: &Found, holder: Option<&Holder>) -> Row {
    let nobody = || Absent::NotApplicable("no process has it open");
    let entry = found.entry.clone();
    Row {
        proto: entry.proto,
        local: entry.local.map(|ip| ip.to_string()),
        local_port: entry.local_port,
        remote: entry.remote.map(|ip| ip.to_string()),
        remote_port: entry.remote_port,
        state: entry.state,
        pid: holder.map_or_else(|| Err(nobody()), |holder| holder.pid.clone()),
        comm: holder.map_or_else(|| Err(nobody()), |holder| holder.comm.clone()),
        fd: holder.map(|holder| holder.fd).ok_or_else(nobody),
        uid: entry.uid,
        inode: entry.inode,
        kind: entry.kind,
        protocol: entry.protocol,
        refcount: entry.refcount,
        path: entry.path,
        ifindex: entry.device,
        net_ns: entry.net_ns,
        hashed: found.tabled,
        sock: Address(entry.addr),
    }
}
