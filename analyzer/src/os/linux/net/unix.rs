//! Unix domain sockets (net/unix/af_unix.c, include/net/af_unix.h).

use std::collections::BTreeSet;

use object::{Absent, Addr, Ptr, Read, Target, layout};

use super::Net;
use super::hash::{Table, Walker};
use super::socket::{self, Entry, Sock};
use crate::table::text_of;

/// Buckets of each table: `2 * UNIX_HASH_SIZE` of old, `UNIX_HASH_SIZE` now (include/net/af_unix.h): 512 both ways.
const BUCKETS: u64 = 512;

/// Longest address: `sizeof(struct sockaddr_un)` (include/uapi/linux/un.h).
const MAX_ADDRESS: i32 = 110;

/// Bytes of `sockaddr_un` before the path: `sun_family`.
const PATH_OFFSET: i32 = 2;

layout! {
    /// `unix_sock` (include/net/af_unix.h).
    struct UnixSock / UnixSockLayout = "unix_sock" {
        /// Null where not bound.
        address: Ptr = "addr",
    }

    /// `unix_address` (include/net/af_unix.h).
    struct UnixAddress / UnixAddressLayout = "unix_address" {
        /// Bytes of `name`, `sun_family` included.
        len: i32 = "len",
        name: Addr = "name",
    }
}

/// Adds all Unix sockets: of `unix_socket_table`, and from Linux commit cf2f225e2653 (v6.0) of each namespace's table.
pub(super) fn tabled(walker: &mut Walker<'_>, namespaces: &[Net<'_>], found: &mut BTreeSet<u64>) {
    let (target, notes) = (walker.target(), walker.notes());
    let link = match target.offset_of("sock", "__sk_common.skc_node") {
        Ok(link) => link,
        Err(missing) => return notes.partial(format!("unix sockets cannot be walked: {missing}")),
    };
    let mut walk = |name: &str, first: u64| {
        let nodes = walker.nodes(&Table::of_heads(target, name, first, BUCKETS));
        found.extend(nodes.into_iter().map(|node| node.wrapping_sub(link)));
    };
    if let Ok(first) = target.symbol("unix_socket_table") {
        return walk("unix_socket_table", first);
    }
    for net in namespaces {
        match net.unix_buckets() {
            Ok(Ptr(0)) => {}
            Ok(Ptr(first)) => walk("net.unx.table", first),
            Err(why) => notes.partial(format!("net.unx.table cannot be walked: {why}")),
        }
    }
}

/// A Unix socket.
pub(super) fn full(target: &Target, addr: u64) -> Entry {
    let state = socket::Common::at(target, addr).state();
    let has_socket = Sock::at(target, addr).socket().map(|Ptr(socket)| socket != 0);
    let state = match (state, has_socket) {
        (Ok(state), Ok(has_socket)) => Ok(state_name(state, has_socket)),
        (Err(why), _) | (_, Err(why)) => Err(why),
    };
    Entry { proto: Ok("unix".to_owned()), state, path: path(target, addr), ..socket::full(target, addr) }
}

/// The state in the words of `/proc/net/unix` (`unix_seq_show()`: `SS_*` of include/uapi/linux/net.h), except that a
/// listening socket, flagged there as `__SO_ACCEPTCON`, is `LISTEN`.
fn state_name(state: u8, has_socket: bool) -> &'static str {
    const ESTABLISHED: u8 = 1;
    const LISTEN: u8 = 10;
    match (has_socket, state) {
        (true, LISTEN) => "LISTEN",
        (true, ESTABLISHED) => "CONNECTED",
        (true, _) => "UNCONNECTED",
        (false, ESTABLISHED) => "CONNECTING",
        (false, _) => "DISCONNECTING",
    }
}

/// The path it is bound to, with `@` for each NUL, as `unix_seq_show()` prints it.
fn path(target: &Target, addr: u64) -> Read<String> {
    let address = UnixSock::at(target, addr).address()?.non_null("not bound to a path")?;
    let address = UnixAddress::at(target, address);
    let len = address.len()?;
    let path_len = len.checked_sub(PATH_OFFSET).filter(|len| (0..=MAX_ADDRESS).contains(len));
    let path_len = path_len.ok_or(Absent::Malformed("length of a Unix address"))?;
    let Addr(name) = address.name()?;
    let start = name.wrapping_add(PATH_OFFSET.unsigned_abs().into());
    let mut bytes =
        target.read_bytes(start, path_len.unsigned_abs().into(), MAX_ADDRESS.unsigned_abs() as usize)?;
    // A path in the file system carries its NUL; an abstract one starts with NUL and is as long as it is.
    if bytes.first().is_some_and(|&first| first != 0) {
        bytes.pop();
    }
    for byte in bytes.iter_mut().filter(|byte| **byte == 0) {
        *byte = b'@';
    }
    Ok(text_of(&bytes))
}
