//! One request on a connection of its own, and the whole answer or nothing.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longest wait for bytes.
const SILENCE: Duration = Duration::from_secs(60);

/// An answer that arrived whole.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Makes a request; `None` where the answer did not come, or not whole.
#[must_use]
pub fn ask(server: SocketAddr, method: &str, target: &str, token: &str, body: &[u8]) -> Option<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(SILENCE)).ok()?;
    stream.set_write_timeout(Some(SILENCE)).ok()?;
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    // A refusal may come before everything is sent.
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    if sent.is_err() && bytes.is_empty() || read.is_err() && bytes.is_empty() {
        return None;
    }
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(bytes.get(..end)?.to_vec()).ok()?.to_ascii_lowercase();
    let status = head.get(9..12)?.parse().ok()?;
    let body = bytes.split_off(end);
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    (length == Some(body.len())).then_some(Answer { status, body })
}
