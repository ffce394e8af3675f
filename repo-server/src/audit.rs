//! The audit log: what was written by whom, one JSON object per line, appended and never changed.
//!
//! A change is noted before it is made, and its outcome after; each line is on the disk before the next step. So whatever
//! was published is in the log, and a line without an outcome is a change that a crash may have cut off.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::log::now;

/// An audit log that is open for appending.
pub(crate) struct Audit(Mutex<File>);

/// One line.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Line<'a> {
    /// Seconds since 1970-01-01 UTC; set when the line is written.
    pub(crate) time: f64,
    /// `put`, `delete`, `pdb`, `linux`.
    pub(crate) action: &'a str,
    /// Name of the document.
    pub(crate) name: &'a str,
    /// Whose token it was.
    pub(crate) token: &'a str,
    /// Where the request came from.
    pub(crate) peer: IpAddr,
    /// SHA-256 of the bytes sent, in hex; absent for a deletion.
    pub(crate) sha256: Option<&'a str>,
    /// `begun`, then `stored`, `unchanged`, `deleted` or why not.
    pub(crate) outcome: &'a str,
}

impl<'a> Line<'a> {
    pub(crate) fn new(action: &'a str, name: &'a str, token: &'a str, peer: IpAddr) -> Self {
        Self { time: 0.0, action, name, token, peer, sha256: None, outcome: "begun" }
    }
}

impl Audit {
    /// Opens or creates the log. What a crash left of a line is ended, so that the next line stands by itself.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
            }
        }
        file.sync_all()?;
        Ok(Self(Mutex::new(file)))
    }

    /// Appends a line; when it returns, the line is on the disk.
    pub(crate) fn append(&self, line: Line<'_>) -> io::Result<()> {
        let mut text = serde_json::to_vec(&Line { time: now(), ..line })?;
        text.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&text)?;
        file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn lines_are_appended_also_after_a_torn_one() {
        let directory = tempfile::tempdir().expect("scratch");
        let path = directory.path().join("audit.jsonl");
        let line = || Line::new("put", "Linux/a", "lab", Ipv4Addr::LOCALHOST.into());
        Audit::open(&path).expect("a log").append(line()).expect("a line");
        let mut file = OpenOptions::new().append(true).open(&path).expect("the log");
        file.write_all(b"{\"time\": 1").expect("half a line");
        Audit::open(&path).expect("a log").append(Line { outcome: "stored", ..line() }).expect("a line");
        let text = std::fs::read_to_string(&path).expect("text");
        let whole: Vec<serde_json::Value> =
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!((text.lines().count(), whole.len()), (3, 2));
        assert_eq!(whole[1]["outcome"], "stored");
    }
}
