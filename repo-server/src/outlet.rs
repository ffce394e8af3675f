//! The way out of a connection: a body that is a file's content leaves without being copied into the kernel first.
//!
//! That copy is half of what serving a profile costs. So a body kept in memory remembers the file it was read from, from
//! which `sendfile(2)` takes it. The HTTP library knows nothing of this: it hands over pieces of memory, and a piece that
//! lies inside the body that is being sent is sent from the file. Over TLS none does, and everything goes the usual way.

use std::fs::File;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustix::fs::sendfile;
use rustix::net::{SendFlags, send};
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::blob::Blob;
use crate::blobs::Stamp;

/// Shortest body in bytes for which one more system call is worth it.
const SHORTEST: usize = 32 << 10;

/// Most anonymous files, and at most a quarter of the files this process may open: the rest is for connections.
const MOST: u64 = 4096;

static TURNS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let open = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let turns = usize::try_from(MOST.min(open / 4)).unwrap_or_default();
    Arc::new(Semaphore::new(turns))
});

/// A body that is also a file.
#[derive(Debug)]
pub(crate) struct Shadow {
    bytes: Bytes,
    file: File,
    stamp: Stamp,
    _turn: OwnedSemaphorePermit,
}

impl Shadow {
    /// A body and the file it was read from in this state. `None` where it is short, or where too many such files are
    /// open already.
    pub(crate) fn new(bytes: &Bytes, stamp: Stamp, open: impl FnOnce() -> Option<File>) -> Option<Self> {
        if bytes.len() < SHORTEST {
            return None;
        }
        let turn = Arc::clone(&TURNS).try_acquire_owned().ok()?;
        Some(Self { bytes: bytes.clone(), file: open()?, stamp, _turn: turn }).filter(Self::is_unchanged)
    }

    /// Whether the file still is what was read. One that is replaced stays; one that is written in place does not, and
    /// must not be sent under the tag of what it was.
    fn is_unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|now| Stamp::of(&now) == self.stamp)
    }

    /// Where in the body a piece of memory lies; `None` where it is no part of it.
    fn offset_of(&self, piece: &[u8]) -> Option<u64> {
        let offset = piece.as_ptr().addr().checked_sub(self.bytes.as_ptr().addr())?;
        let end = offset.checked_add(piece.len())?;
        if end <= self.bytes.len() { u64::try_from(offset).ok() } else { None }
    }

    fn has(&self, piece: &[u8]) -> bool {
        !piece.is_empty() && self.offset_of(piece).is_some()
    }
}

/// The body a connection sends now. Weak: an idle connection keeps nothing in memory.
pub(crate) type Sending = Arc<Mutex<Weak<Blob>>>;

/// A connection that sends bodies from files where it can.
pub(crate) struct Outlet {
    stream: TcpStream,
    sending: Sending,
}

impl Outlet {
    pub(crate) fn new(stream: TcpStream, sending: Sending) -> Self {
        Self { stream, sending }
    }

    /// Sends what the socket takes of the pieces, at least one byte; none only where the file ends early.
    fn send(
        &self,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
        body: &Shadow,
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut sent = 0;
            let last = pieces.len().saturating_sub(1);
            for (number, piece) in pieces.iter().enumerate().filter(|(_, piece)| !piece.is_empty()) {
                let write = || match body.offset_of(piece) {
                    Some(mut offset) => sendfile(&self.stream, &body.file, Some(&mut offset), piece.len()),
                    // The head waits for the start of the body, so that they travel together.
                    None if number < last => send(&self.stream, piece, SendFlags::MORE),
                    None => send(&self.stream, piece, SendFlags::empty()),
                };
                match self.stream.try_io(Interest::WRITABLE, || write().map_err(io::Error::from)) {
                    // Somebody cut the file short.
                    Ok(0) if sent == 0 => return Poll::Ready(Ok(0)),
                    Ok(part) => {
                        sent += part;
                        if part < piece.len() {
                            break;
                        }
                    }
                    Err(error) if sent == 0 && error.kind() != io::ErrorKind::WouldBlock => {
                        return Poll::Ready(Err(error));
                    }
                    // What was sent counts; the error comes again with the next piece.
                    Err(_) => break,
                }
            }
            if sent > 0 {
                return Poll::Ready(Ok(sent));
            }
            ready!(self.stream.poll_write_ready(context))?;
        }
    }
}

impl AsyncRead for Outlet {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Outlet {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, piece: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(piece)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outlet = self.get_mut();
        let blob = outlet.sending.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        match blob.as_ref().and_then(|blob| blob.shadow.as_ref()) {
            Some(body) if pieces.iter().any(|piece| body.has(piece)) && body.is_unchanged() => {
                outlet.send(context, pieces, body)
            }
            _ => Pin::new(&mut outlet.stream).poll_write_vectored(context, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn only_pieces_of_the_body_are_sent_from_its_file() {
        let bytes = Bytes::from(vec![7; SHORTEST]);
        let mut file = tempfile::tempfile().expect("scratch");
        file.write_all(&bytes).expect("written");
        let stamp = Stamp::of(&file.metadata().expect("a state"));
        let open = || file.try_clone().ok();
        assert!(Shadow::new(&bytes.slice(1..), stamp, open).is_none(), "too short");
        let shadow = Shadow::new(&bytes, stamp, open).expect("a file");
        assert_eq!(shadow.offset_of(&bytes), Some(0));
        assert_eq!(shadow.offset_of(&bytes[5..9]), Some(5));
        assert_eq!(shadow.offset_of(&vec![7; SHORTEST]), None, "equal bytes elsewhere are no part of it");
        assert!(shadow.is_unchanged());
        (&file).write_all(b"more").expect("written");
        assert!(!shadow.is_unchanged() && Shadow::new(&bytes, stamp, open).is_none(), "written in place");
    }
}
