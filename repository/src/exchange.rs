//! One question to a repository: what a server answered, and what arrived of a body before the transfer broke off.
//!
//! The beginning of a body is kept in a file: its validators as a line of JSON, then the bytes. The next request asks for
//! the rest, and gets the whole where the body changed in between (RFC 9110, 13.1.5).

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use transport::{Client, Head, HttpError, Receiver, Request, Url, Validators, atomic};

use crate::directory::read_file;

/// What is asked of a server.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) url: &'a Url,
    /// Validators of a body that is known: the answer may be that it is current.
    pub(crate) earlier: Option<&'a Validators>,
    /// File for the beginning of a body whose transfer breaks off.
    pub(crate) part: Option<&'a Path>,
    /// Largest body in bytes.
    pub(crate) max: usize,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) enum Reply {
    Body {
        bytes: Vec<u8>,
        validators: Validators,
        /// It came from a repo-server, which describes what it can do.
        described: bool,
    },
    /// The body the validators belong to is still current.
    NotModified { described: bool },
    /// Any other status.
    Status {
        status: u16,
        /// How long to wait before asking again.
        retry_after: Option<Duration>,
        /// The body, where it is short JSON.
        json: Option<Value>,
    },
}

/// Asks once.
pub(crate) fn exchange(client: &Client, ask: Ask<'_>) -> Result<Reply, HttpError> {
    let mut body = ask.part.map(|path| Body::open(path, ask.max)).unwrap_or_default();
    let (have, validators) = (body.bytes.len() as u64, body.validators.clone());
    let resume = (have > 0).then_some((have, &validators));
    let request = Request { earlier: ask.earlier, resume, ..Request::new(ask.url, ask.max as u64) };
    let head = match client.get(&request, &mut body) {
        Ok(head) => head,
        Err(error) => {
            if let Some(path) = ask.part {
                body.keep(path);
            }
            return Err(error);
        }
    };
    // Whatever was kept is whole now, or of no use any more.
    if let Some(path) = ask.part.filter(|_| have > 0) {
        let _ = fs::remove_file(path);
    }
    // A repo-server says what kind of inventory it gave.
    let described = head.header("rekal-inventory").is_some();
    Ok(match head.status {
        200 | 206 => Reply::Body { bytes: body.bytes, validators: head.validators, described },
        304 if ask.earlier.is_some() => Reply::NotModified { described },
        status => Reply::Status {
            status,
            retry_after: head.retry_after,
            json: head.explanation.as_deref().and_then(|json| serde_json::from_slice(json).ok()),
        },
    })
}

/// A body as far as it arrived.
#[derive(Debug, Default)]
struct Body {
    bytes: Vec<u8>,
    validators: Validators,
}

impl Body {
    /// What was kept; nothing where there is nothing usable.
    fn open(path: &Path, max: usize) -> Self {
        let read = || {
            let mut bytes = read_file(path, max).ok()?;
            let line = bytes.iter().position(|&byte| byte == b'\n')?;
            let rest = bytes.split_off(line + 1);
            let validators: Validators = serde_json::from_slice(&bytes).ok()?;
            validators.strong().is_some().then_some(Self { bytes: rest, validators })
        };
        read().unwrap_or_default()
    }

    /// Keeps the beginning of a body that can be recognised; without that nobody can tell what it belongs to.
    fn keep(&self, path: &Path) {
        if self.bytes.is_empty() || self.validators.strong().is_none() {
            return;
        }
        let Ok(mut file) = serde_json::to_vec(&self.validators) else { return };
        file.push(b'\n');
        file.extend_from_slice(&self.bytes);
        // Only a saving: without it the next attempt begins at the beginning.
        let _ = atomic::write(path, &file);
    }
}

impl Receiver for Body {
    fn begin(&mut self, head: &Head) -> io::Result<()> {
        if head.start == 0 {
            self.bytes.clear();
        } else if head.start != self.bytes.len() as u64 {
            return Err(io::Error::other("the server sent another part than was asked for"));
        }
        self.validators = head.validators.clone();
        Ok(())
    }

    fn chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}
