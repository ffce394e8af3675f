//! Sockets found by what they look like, in physical memory: also those that no process holds and no table has any more.
//!
//! Every `struct sock`, TIME_WAIT socket and connection request begins with a `sock_common` that points to its protocol, and the
//! first keeps another pointer to the protocol it was made by (`sk_prot_creator`, include/net/sock.h). There are few protocols, and the
//! kernel lists them (`proto_list`, net/core/sock.c): one of their addresses is a 64-bit signature of every place where a socket
//! can stand. Sockmap and kTLS replace the first pointer by a copy of the protocol that is on no list; the second stays. Address
//! family, state and the pointer to the network namespace must be plausible as well.
//!
//! A released socket has no references and stays until its slab object is used again or its page is given to something else. With
//! `init_on_free=1` none stay. A copy of a socket, as in a cached file with an image of memory, is none: what it is linked with leads to
//! the original. Protocols of modules that were unloaded are on no list any more.

use std::collections::BTreeSet;

use memory::{CHUNK, Piece};
use object::{Ptr, Read, Target, Uint, layout, little_endian, walk};

use super::inet::{NEW_SYN_RECV, TIME_WAIT};
use super::socket::{AF_INET, AF_INET6, Common};
use super::{Kernel, Net};
use crate::notes::Notes;

/// Most protocols that are read off the list; a kernel with all modules has about 60.
const MAX_PROTOCOLS: usize = 1 << 10;
/// `AF_MAX` of v6.12 (include/linux/socket.h), and one for years to come.
const MAX_FAMILY: u64 = 64;
/// Largest state: `TCP_BOUND_INACTIVE` (include/net/tcp_states.h); other families use the same numbers.
const MAX_STATE: u64 = 13;
/// Largest socket type, `SOCK_PACKET` (include/linux/net.h).
const MAX_TYPE: u64 = 10;
/// First inode number of a namespace, `PROC_DYNAMIC_FIRST` (fs/proc/generic.c).
const FIRST_NAMESPACE: u32 = 0xf000_0000;
/// Largest `struct sock` believed.
const MAX_SIZE: usize = 4 << 10;
/// Protocols of every kernel, for images whose list of them is torn.
const PROTOCOLS: [&str; 11] = [
    "tcp_prot",
    "tcpv6_prot",
    "udp_prot",
    "udpv6_prot",
    "raw_prot",
    "rawv6_prot",
    "unix_proto",
    "unix_dgram_proto",
    "unix_stream_proto",
    "netlink_proto",
    "packet_proto",
];

layout! {
    struct Full / FullLayout = "sock" {
        /// Protocol it was made by.
        creator: Ptr = "sk_prot_creator",
        /// `SOCK_*`; a bit-field before Linux commit bf9765145b85 (v5.6).
        kind: Uint = "sk_type",
        /// Whether it keeps its namespace alive; what the kernel makes for itself does not (Linux commit 26abe14379f8, v4.2).
        keeps_namespace: Uint = "sk_net_refcnt | __sk_common.skc_net_refcnt",
    }

    struct Head / HeadLayout = "sock_common" {
        protocol: Ptr = "skc_prot",
        references: Uint = "skc_refcnt.refs.counter | skc_refcnt.counter",
    }
}

/// A socket that was found.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// Address of its `struct sock`, `inet_timewait_sock` or `request_sock`.
    pub addr: u64,
    /// Whether nothing refers to it any more: it was released, and what it points to may be anything by now.
    pub freed: Read<bool>,
    /// Whether the kernel made it for itself; not applicable to sockets in TIME_WAIT and connection requests.
    pub of_kernel: Read<bool>,
}

/// Where the fields that are looked at stand, in bytes.
struct Offsets {
    size: usize,
    width: usize,
    protocol: usize,
    creator: usize,
    family: usize,
    state: usize,
}

impl Offsets {
    fn of(target: &Target) -> Read<Self> {
        // An offset beyond the address space is beyond every piece of memory as well.
        let bytes = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        let field = |structure, name| target.offset_of(structure, name).map(bytes);
        Ok(Self {
            size: bytes(target.types().struct_size(Full::STRUCT)?).min(MAX_SIZE),
            width: usize::from(target.types().model().pointer_size()),
            protocol: field(Head::STRUCT, "skc_prot")?,
            creator: field(Full::STRUCT, "sk_prot_creator")?,
            family: field(Head::STRUCT, "skc_family")?,
            state: field(Head::STRUCT, "skc_state")?,
        })
    }

    /// Places in a piece of memory that look like sockets of one of the protocols.
    fn places(&self, piece: &Piece<'_>, protocols: &Protocols) -> Vec<u64> {
        // Pieces begin at pages, but those of odd images may not.
        let first = piece.addr.next_multiple_of(self.width as u64).wrapping_sub(piece.addr);
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let has = |at: usize, offset: usize| {
            number(piece.bytes, at, offset, self.width).is_some_and(|value| protocols.have(value))
        };
        let within = |at: usize, offset: usize, width: usize, most: u64| {
            number(piece.bytes, at, offset, width).is_some_and(|value| (1..=most).contains(&value))
        };
        (first..piece.own)
            .step_by(self.width)
            .filter(|at| has(*at, self.protocol) || has(*at, self.creator))
            .filter(|at| within(*at, self.family, 2, MAX_FAMILY) && within(*at, self.state, 1, MAX_STATE))
            .map(|at| piece.addr.wrapping_add(at as u64))
            .collect()
    }
}

fn number(bytes: &[u8], at: usize, offset: usize, width: usize) -> Option<u64> {
    let start = at.checked_add(offset)?;
    Some(little_endian(bytes.get(start..start.checked_add(width)?)?))
}

/// Addresses of protocols.
struct Protocols {
    all: BTreeSet<u64>,
    first: u64,
    last: u64,
}

impl Protocols {
    fn of(notes: &Notes, target: &Target) -> Self {
        let mut all: BTreeSet<u64> = PROTOCOLS.iter().filter_map(|name| target.symbol(name).ok()).collect();
        match (target.symbol("proto_list"), target.offset_of("proto", "node")) {
            (Ok(head), Ok(link)) => {
                let walked = walk::list_capped(target, head, MAX_PROTOCOLS);
                notes.walk("proto_list", &walked.end);
                all.extend(walked.containers(link));
            }
            (Err(missing), _) | (_, Err(missing)) => {
                notes.partial(format!("sockets of some protocols are not found: {missing}"));
            }
        }
        let (first, last) = (all.first().copied().unwrap_or(u64::MAX), all.last().copied().unwrap_or(0));
        Self { all, first, last }
    }

    fn have(&self, address: u64) -> bool {
        // First what is false nearly everywhere.
        (self.first..=self.last).contains(&address) && self.all.contains(&address)
    }
}

/// The sockets found, by address. What of the image could not be read is noted.
///
/// # Errors
/// What the profile lacks, or why the address of the direct map is not known.
pub fn scan(notes: &Notes, kernel: &Kernel) -> Read<Vec<Scanned>> {
    let target = kernel.target();
    let page_offset = kernel.page_offset()?;
    let offsets = Offsets::of(target)?;
    let protocols = Protocols::of(notes, target);
    let look = |piece: Piece<'_>| offsets.places(&piece, &protocols);
    let (found, gaps) = memory::scan(kernel.physical().as_ref(), CHUNK, offsets.size, look);
    if let Some((address, fault)) = gaps.first {
        let missing = gaps.missing;
        notes.partial(format!(
            "{missing} bytes could not be searched for sockets, first at {address:#x}: {fault}"
        ));
    }
    let sockets = found.into_iter().filter_map(|physical| {
        let addr = page_offset.wrapping_add(physical);
        // The same bytes must be there for the kernel too.
        let is_mapped = target.space().translate(addr) == Ok(physical);
        if is_mapped { socket(target, addr, &protocols) } else { None }
    });
    Ok(sockets.collect())
}

/// What stands at an address if it is a socket.
fn socket(target: &Target, addr: u64, protocols: &Protocols) -> Option<Scanned> {
    let (common, head, full) = (Common::at(target, addr), Head::at(target, addr), Full::at(target, addr));
    let is_internet = matches!(common.family(), Ok(AF_INET | AF_INET6));
    let is_small = is_internet && matches!(common.state(), Ok(TIME_WAIT | NEW_SYN_RECV));
    let is_full = || {
        full.creator().is_ok_and(|Ptr(creator)| protocols.have(creator))
            && full.kind().is_ok_and(|Uint(kind)| (1..=MAX_TYPE).contains(&kind))
    };
    let is_known = head.protocol().is_ok_and(|Ptr(protocol)| protocols.have(protocol));
    if !(is_small && is_known || !is_small && is_full()) {
        return None;
    }
    if if is_small { is_copied_node(target, addr) } else { is_copied_socket(target, addr) } {
        return None;
    }
    let freed = head.references().map(|Uint(count)| count == 0);
    // Kernels without CONFIG_NET_NS have one namespace and no pointer to it.
    if let Ok(Ptr(net)) = common.net() {
        let lives = || Net::at(target, net).inum().is_ok_and(|number| number >= FIRST_NAMESPACE);
        if net == 0 || freed == Ok(false) && !lives() {
            return None;
        }
    }
    let small = || object::Absent::NotApplicable("no full socket any more, or not yet");
    let of_kernel =
        if is_small { Err(small()) } else { full.keeps_namespace().map(|Uint(keeps)| keeps == 0) };
    Some(Scanned { addr, freed, of_kernel })
}

/// Whether the queues of packets of a full socket lead to another one: then this is a copy, as in the page cache of a file with an
/// image of memory. The head of a queue is what its first packet, or an empty queue itself, has in front of it.
fn is_copied_socket(target: &Target, addr: u64) -> bool {
    let Ok(prev) = target.offset_of("sk_buff_head", "prev") else { return false };
    let queues = ["sk_receive_queue", "sk_write_queue", "sk_error_queue"];
    let mut behind = queues.iter().filter_map(|queue| {
        let queue = addr.wrapping_add(target.offset_of(Full::STRUCT, queue).ok()?);
        let first = target.read_ptr(queue).ok()?;
        Some(target.read_ptr(first.wrapping_add(prev)).ok()? == queue)
    });
    // One torn queue proves nothing where another is whole.
    behind.next().is_some_and(|first| !first && !behind.any(|is_own| is_own))
}

/// Whether the table of connections that a socket in TIME_WAIT or a request says it is in has another one in its place.
fn is_copied_node(target: &Target, addr: u64) -> bool {
    let own = || {
        let node = addr.wrapping_add(target.offset_of(Head::STRUCT, "skc_node").ok()?);
        let place = target.read_ptr(node.wrapping_add(target.offset_of("hlist_node", "pprev").ok()?)).ok()?;
        Some(target.read_ptr(place).ok()? == node)
    };
    own() == Some(false)
}

#[cfg(test)]
mod tests;
