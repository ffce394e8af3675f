//! What the guest reported: a mirror of its `/proc`, read from a folder or from one JSON file.
//!
//! Paths are relative, without a leading slash: `proc/1/stat`, `rtnl/4026531840/addr`. Symbolic links are targets as
//! text; they are never followed.

mod kernel;
mod mounts;
mod net;
mod process;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};

pub use kernel::{LogRecord, Module, Processor, Resource};
pub use mounts::{Listed, Mount};
pub use net::{Address, Link, Neighbour, Socket};
pub use process::{Area, Descriptor, Process};

/// A file or a link of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    File(Vec<u8>),
    Link(String),
}

/// The processor architecture of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// x86-64.
    Amd64,
    /// x86 with 32 bits.
    I386,
    /// ARM with 64 bits.
    Arm64,
}

/// The whole report.
#[derive(Debug, Clone)]
pub struct Truth {
    entries: BTreeMap<String, Entry>,
    /// Time since boot by which the guest was paused for its dump at the latest. `None`: it was paused at once.
    paused_by: Option<Duration>,
}

impl Truth {
    /// The architecture, by the flavour in the name of Debian's kernel.
    pub fn machine(&self) -> Result<Machine> {
        let banner = self.text("proc/version")?;
        let release = banner.split(' ').nth(2).unwrap_or_default();
        Ok(match release {
            _ if release.ends_with("arm64") => Machine::Arm64,
            _ if release.contains("-686") => Machine::I386,
            _ => Machine::Amd64,
        })
    }

    /// Reads the `truth` folder of an image.
    pub fn from_folder(root: &Path) -> Result<Self> {
        let mut entries = BTreeMap::new();
        let mut pending = vec![(root.to_path_buf(), String::new())];
        while let Some((folder, prefix)) = pending.pop() {
            let list =
                std::fs::read_dir(&folder).with_context(|| format!("cannot read: {}", folder.display()))?;
            for item in list {
                let item = item?;
                let Ok(name) = item.file_name().into_string() else { continue };
                let name = format!("{prefix}{name}");
                let kind = item.file_type()?;
                if kind.is_symlink() {
                    let target = std::fs::read_link(item.path())?;
                    entries.insert(name, Entry::Link(target.to_string_lossy().into_owned()));
                } else if kind.is_dir() {
                    pending.push((item.path(), name + "/"));
                } else {
                    entries.insert(name, Entry::File(std::fs::read(item.path())?));
                }
            }
        }
        Self::checked(entries)
    }

    /// Reads the JSON that `tools/guest-image/bin/truth_json.py` makes: path to text, or to `{"link": target}`.
    pub fn from_json(file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).with_context(|| format!("cannot read: {}", file.display()))?;
        let map: Map<String, Value> = serde_json::from_slice(&bytes)?;
        let mut entries = BTreeMap::new();
        for (path, value) in map {
            let entry = match &value {
                Value::String(text) => Entry::File(text.clone().into_bytes()),
                other => match other.get("link").and_then(Value::as_str) {
                    Some(target) => Entry::Link(target.to_owned()),
                    None => bail!("neither text nor a link: {path}"),
                },
            };
            entries.insert(path, entry);
        }
        Self::checked(entries)
    }

    /// A report without the first process is no report: nothing is ever compared with an empty truth.
    fn checked(entries: BTreeMap<String, Entry>) -> Result<Self> {
        let truth = Self { entries, paused_by: None };
        truth.text("proc/1/stat")?;
        Ok(truth)
    }

    /// The same report, of a guest that ran on until at most this time since its boot.
    #[must_use]
    pub fn paused_by(self, since_boot: Duration) -> Self {
        Self { paused_by: Some(since_boot), ..self }
    }

    /// Whether a kernel timer with so much time left when the guest began to report may have run out before the dump.
    pub fn may_have_run_out(&self, left: Duration) -> Result<bool> {
        let Some(paused_by) = self.paused_by else { return Ok(false) };
        let reported_at = u64::try_from(self.reported_at()?)?;
        Ok(Duration::from_nanos(reported_at) + left <= paused_by)
    }

    /// The bytes of a file.
    pub fn bytes(&self, path: &str) -> Result<&[u8]> {
        match self.entries.get(path) {
            Some(Entry::File(bytes)) => Ok(bytes),
            Some(Entry::Link(_)) => bail!("a link in the truth: {path}"),
            None => bail!("not in the truth: {path}"),
        }
    }

    /// The text of a file.
    pub fn text(&self, path: &str) -> Result<&str> {
        std::str::from_utf8(self.bytes(path)?).with_context(|| format!("not UTF-8: {path}"))
    }

    /// The target of a link; `None` where the guest could not read it (a kernel thread's `exe`).
    #[must_use]
    pub fn link(&self, path: &str) -> Option<&str> {
        match self.entries.get(path) {
            Some(Entry::Link(target)) => Some(target),
            _ => None,
        }
    }

    /// The names directly below a folder, in order.
    #[must_use]
    pub fn names(&self, folder: &str) -> Vec<&str> {
        let prefix = format!("{folder}/");
        let mut names: Vec<&str> = Vec::new();
        for path in self
            .entries
            .range(prefix.clone()..)
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&prefix))
        {
            let name = path.get(prefix.len()..).and_then(|rest| rest.split('/').next()).unwrap_or_default();
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The inode number in a namespace link: `net:[4026531840]`.
    #[must_use]
    pub fn namespace(&self, pid: u32, kind: &str) -> Option<u64> {
        let target = self.link(&format!("proc/{pid}/ns/{kind}"))?;
        target.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
    }
}

/// Splits off `n` fields separated by white space; the rest of the line keeps its inner spaces.
fn fields<const N: usize>(line: &str) -> Option<([&str; N], &str)> {
    let mut rest = line;
    let mut out = [""; N];
    for field in &mut out {
        rest = rest.trim_start_matches(' ');
        let end = rest.find([' ', '\t']).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(end);
        if head.is_empty() {
            return None;
        }
        *field = head;
        rest = tail;
    }
    Some((out, rest.trim_start_matches([' ', '\t'])))
}

/// Undoes the kernel's octal escapes (`seq_path`, `mangle_path`): `\040` is a space.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes().peekable();
    let mut window = text.as_bytes();
    while let Some(byte) = bytes.next() {
        let octal = match window {
            [b'\\', digits @ ..] => digits.get(..3).and_then(octal),
            _ => None,
        };
        let step = if let Some(value) = octal {
            out.push(value);
            bytes.by_ref().take(3).for_each(drop);
            4
        } else {
            out.push(byte);
            1
        };
        window = window.get(step..).unwrap_or_default();
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octal_escapes_become_bytes() {
        assert_eq!(unescape(r"/mnt/odd\040name"), "/mnt/odd name");
        assert_eq!(unescape(r"a\012b\"), "a\nb\\");
        assert_eq!(unescape(r"\134012"), r"\012");
        assert_eq!(unescape(r"\x41"), r"\x41");
    }

    #[test]
    fn fields_keep_the_spaces_of_the_rest() {
        assert_eq!(fields::<2>("a  b   c d "), Some((["a", "b"], "c d ")));
        assert_eq!(fields::<2>("a"), None);
    }

    #[test]
    fn names_are_those_of_one_level() {
        let entries = ["proc/1/stat", "proc/1/fd/3", "proc/10/stat", "proc/1/fd/4", "proc2/x"]
            .map(|path| (path.to_owned(), Entry::File(b"1 (x) S".to_vec())));
        let truth = Truth::checked(entries.into()).unwrap();
        assert_eq!(truth.names("proc"), ["1", "10"]);
        assert_eq!(truth.names("proc/1/fd"), ["3", "4"]);
        assert_eq!(truth.names("nowhere"), Vec::<&str>::new());
    }

    #[test]
    fn an_empty_report_is_refused() {
        assert!(Truth::checked(BTreeMap::new()).is_err());
    }
}
