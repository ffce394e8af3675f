//! `pkt_queues`: packets that wait in sockets to be read or sent.
//!
//! Walks `sk_receive_queue` and `sk_write_queue` of the sockets that processes have open (include/net/sock.h). Of a packet whose end is in
//! pages beside its buffer only the buffer is shown; TCP keeps sent data apart once it was sent, and that is not looked for.
//!
//! Truth: the guest 6.1-hostile has the datagram that its script sent to a socket nobody reads.

use std::io::Write as _;
use std::path::Path;

use crate::os::linux::KernelFact;
use crate::os::linux::net::holders::held;
use crate::os::linux::net::packet::packets;
use crate::plugin::prelude::*;

/// The command.
pub struct PktQueues;

/// What to do with packets.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the bytes of each packet to a file in the output folder
    #[arg(long)]
    dump: bool,
}

row! {
    pub struct Row {
        /// Process that has the socket open.
        pid: Read<i32>,
        /// Its name.
        comm: Read<String>,
        /// File descriptor.
        fd: u32,
        /// Address of the `struct sock`.
        sock: Address,
        /// `receive` or `write`.
        queue: &'static str,
        /// Address of the `sk_buff`.
        packet as "sk_buff": Address,
        /// Bytes of the packet.
        length: Read<ByteSize>,
        /// Those of its bytes that are in its buffer.
        bytes as "packet_bytes": Read<Vec<u8>>,
        /// File they were written to.
        dump_name: Read<String>,
    }
}

impl Plugin for PktQueues {
    const NAME: &'static str = "pkt_queues";
    const SUMMARY: &'static str = "List packets that wait in sockets";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for (sock, holders) in held(session, &kernel)? {
            // One is enough: descriptors that were passed on share the socket.
            let Some(holder) = holders.first() else { continue };
            for (queue, packet) in packets(&session.notes, kernel.target(), sock) {
                let bytes = packet.bytes();
                let dump_name = match &bytes {
                    Ok(bytes) if args.dump => {
                        let name = format!("packet.{:x}.{queue}.{:x}", sock, packet.addr());
                        let mut file = session.create_file(Path::new(&name))?;
                        file.write_all(bytes).map_err(Error::output)?;
                        let path = file.path().display().to_string();
                        file.commit()?;
                        Ok(path)
                    }
                    Ok(_) => Err(Absent::NotApplicable("not asked for")),
                    Err(why) => Err(why.clone()),
                };
                out.push(Row {
                    pid: holder.pid.clone(),
                    comm: holder.comm.clone(),
                    fd: holder.fd,
                    sock: Address(sock),
                    queue,
                    packet: Address(packet.addr()),
                    length: packet.length().map(|length| ByteSize(length.into())),
                    bytes,
                    dump_name,
                })?;
            }
        }
        Ok(())
    }
}
