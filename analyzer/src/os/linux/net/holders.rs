//! Which processes have a socket open.

use std::collections::BTreeMap;

use object::Ptr;
use object::walk::End;

use super::super::file::files_of;
use super::super::{Kernel, processes, task};
use super::socket::{Holder, sock_of};
use crate::error::Error;
use crate::session::Session;

/// The sockets that processes have open, by address of the `struct sock`: files whose operations are
/// `socket_file_ops` (net/socket.c) keep a `struct socket` as their private data.
pub fn held(session: &Session, kernel: &Kernel) -> Result<BTreeMap<u64, Vec<Holder>>, Error> {
    let target = kernel.target();
    let mut held: BTreeMap<u64, Vec<Holder>> = BTreeMap::new();
    let operations = match target.symbol("socket_file_ops") {
        Ok(operations) => Ptr(operations),
        Err(missing) => {
            session.notes.partial(format!("sockets cannot be matched with processes: {missing}"));
            return Ok(held);
        }
    };
    for task in processes(session, kernel)? {
        let (descriptors, end) = files_of(&task);
        if end != End::Complete {
            session.notes.walk(&format!("open files of {}", task::describe(&task)), &end);
        }
        for descriptor in descriptors {
            if descriptor.file.f_op() != Ok(operations) {
                continue;
            }
            match descriptor.file.private_data().and_then(|Ptr(socket)| sock_of(target, socket)) {
                Ok(sock) => held.entry(sock).or_default().push(Holder {
                    pid: task.pid(),
                    comm: task.name(),
                    fd: descriptor.fd,
                }),
                Err(why) => session.notes.partial(format!(
                    "descriptor {} of {} is a socket that cannot be followed: {why}",
                    descriptor.fd,
                    task::describe(&task)
                )),
            }
        }
    }
    Ok(held)
}
