//! Packets that wait in the queues of sockets (include/linux/skbuff.h).

use object::{Absent, Addr, Ptr, Read, Target, layout, walk};

use crate::notes::Notes;

/// Most packets of one queue, and most bytes of one packet that are read: the largest IP packet.
const MAX_PACKETS: usize = 1 << 16;
const MAX_BYTES: usize = 64 << 10;

layout! {
    struct Queues / QueuesLayout = "sock" {
        received: Addr = "sk_receive_queue",
        to_send: Addr = "sk_write_queue",
    }

    /// `sk_buff`: a packet.
    pub struct Packet / PacketLayout = "sk_buff" {
        /// Bytes of it.
        length: u32 = "len",
        /// Bytes of those that are in pages beside the buffer.
        paged: u32 = "data_len",
        /// First byte.
        data: Ptr = "data",
    }
}

/// The packets of a socket with the queue they wait in: `receive` or `write`.
pub fn packets<'t>(notes: &Notes, target: &'t Target, sock: u64) -> Vec<(&'static str, Packet<'t>)> {
    let queues = Queues::at(target, sock);
    let mut found = Vec::new();
    for (name, head) in [("receive", queues.received()), ("write", queues.to_send())] {
        match head {
            // The head and the packets begin with the same two links.
            Ok(Addr(head)) => {
                let walked = walk::list_capped(target, head, MAX_PACKETS);
                notes.walk(&format!("{name} queue of the socket at {sock:#x}"), &walked.end);
                found.extend(walked.nodes.iter().map(|packet| (name, Packet::at(target, *packet))));
            }
            Err(why) => notes.partial(format!("{name} queue of the socket at {sock:#x}: {why}")),
        }
    }
    found
}

impl Packet<'_> {
    /// The bytes in the buffer itself.
    pub fn bytes(&self) -> Read<Vec<u8>> {
        let length = self
            .length()?
            .checked_sub(self.paged()?)
            .ok_or(Absent::Malformed("packet is shorter than its pages"))?;
        let Ptr(data) = self.data()?;
        self.target().read_bytes(data, length.into(), MAX_BYTES)
    }
}
