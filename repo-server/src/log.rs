//! The log: one JSON object per line on standard error, written by a thread of its own.

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

/// Most lines that wait to be written. A reader that does not keep up costs lines, never requests.
const QUEUE: usize = 16_384;

/// Longest text of one field in bytes.
const MAX_TEXT: usize = 1024;

/// Where lines go.
pub(crate) struct Log {
    lines: SyncSender<Vec<u8>>,
    lost: AtomicU64,
}

/// One request and its answer.
#[derive(Debug, Serialize)]
pub(crate) struct RequestLine<'a> {
    pub(crate) time: f64,
    pub(crate) event: &'static str,
    pub(crate) id: &'a str,
    pub(crate) peer: std::net::IpAddr,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    /// Length of the body, absent where it is not known before it is sent.
    pub(crate) bytes: Option<u64>,
    /// Until the head of the answer was ready.
    pub(crate) microseconds: u64,
    pub(crate) agent: Option<&'a str>,
}

impl Log {
    pub(crate) fn start() -> Self {
        let (lines, receiver) = sync_channel(QUEUE);
        // Without the thread the queue fills up and lines are counted as lost.
        let _ = std::thread::Builder::new().name("log".to_owned()).spawn(move || write(&receiver));
        Self { lines, lost: AtomicU64::new(0) }
    }

    /// Writes a line about a request.
    pub(crate) fn request(&self, line: &RequestLine<'_>) {
        if let Ok(line) = serde_json::to_vec(line) {
            self.send(line);
        }
    }

    /// Writes a line about what the server did: `fields` is a JSON object.
    pub(crate) fn event(&self, event: &str, fields: Value) {
        let mut line = serde_json::Map::new();
        line.insert("time".to_owned(), Value::from(now()));
        line.insert("event".to_owned(), Value::from(event));
        if let Value::Object(fields) = fields {
            line.extend(fields);
        }
        self.send(Value::Object(line).to_string().into_bytes());
    }

    fn send(&self, mut line: Vec<u8>) {
        line.push(b'\n');
        if self.lines.try_send(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Number of lines that could not be written.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Seconds since 1970-01-01 UTC.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// The start of a text that is not longer than a log line should be.
pub(crate) fn shortened(text: &str) -> &str {
    let end = text.floor_char_boundary(MAX_TEXT);
    text.get(..end).unwrap_or_default()
}

fn write(lines: &Receiver<Vec<u8>>) {
    let mut out = Vec::with_capacity(1 << 16);
    loop {
        match lines.recv_timeout(Duration::from_secs(60)) {
            Ok(line) => out.extend_from_slice(&line),
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while out.len() < 1 << 16
            && let Ok(line) = lines.try_recv()
        {
            out.extend_from_slice(&line);
        }
        // Where standard error is closed there is nobody to tell.
        let _ = std::io::stderr().write_all(&out);
        out.clear();
    }
}
