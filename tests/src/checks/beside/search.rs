//! Searches: grep, sigscan, yarascan, `simple_yarascan`. Every place of the raw dump that has the bytes, and no other; and the
//! place where the kernel says a process keeps its environment.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Seek as _};

use anyhow::{Context as _, Result};

use super::super::{Records, hex};
use super::Subject;
use crate::rekal::Row;
use crate::table::Record;

/// In the environment of one process of every guest, and in what its shell kept.
const TEXT: &str = "GT_ENV_B=beta with spaces";

pub(super) fn grep(subject: &Subject<'_>) -> Records {
    compare(subject, &["grep", TEXT], "offset")
}

pub(super) fn sigscan(subject: &Subject<'_>) -> Records {
    let mut digits = String::new();
    for byte in TEXT.bytes() {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    compare(subject, &["sigscan", &digits], "offset")
}

pub(super) fn yarascan(subject: &Subject<'_>) -> Records {
    compare(subject, &["yarascan", "--string", TEXT, "--hits", "100000"], "Offset")
}

pub(super) fn simple_yarascan(subject: &Subject<'_>) -> Records {
    let rows = subject.rows(&["simple_yarascan", "--string", TEXT, "--hits", "100000"])?;
    // It asks for no kernel, which alone tells where memory begins.
    Ok((wanted(subject, 0)?, physical(&rows, "Offset")))
}

fn compare(subject: &Subject<'_>, command: &[&str], column: &str) -> Records {
    let (mut wanted, mut found) =
        (wanted(subject, subject.guest.ram_start()?)?, physical(&subject.rows(command)?, column));
    for pid in subject.resting()? {
        let (start, bytes) = subject.strings(pid)?.environment;
        let Some(at) = bytes.windows(TEXT.len()).position(|window| window == TEXT.as_bytes()) else {
            continue;
        };
        let place = hex(start + at as u64);
        let record = || Record::new(format!("pid {pid} at {place}"));
        wanted.push(record());
        let rows = subject.rows(&[command, &["--pid", &pid.to_string()]].concat())?;
        found.extend(rows.iter().any(|row| row.text(column) == place).then(record));
    }
    Ok((wanted, found))
}

fn physical(rows: &[Row], column: &str) -> Vec<Record> {
    rows.iter().map(|row| Record::new(format!("physical {}", row.text(column)))).collect()
}

fn wanted(subject: &Subject<'_>, ram_start: u64) -> Result<Vec<Record>> {
    let places = Dump::open(subject)?.places(TEXT.as_bytes())?;
    Ok(places.into_iter().map(|place| Record::new(format!("physical {}", hex(ram_start + place)))).collect())
}

/// The raw dump, read through from its start.
pub(super) struct Dump(File);

impl Dump {
    pub(super) fn open(subject: &Subject<'_>) -> Result<Self> {
        Ok(Self(File::open(subject.guest.raw())?))
    }

    /// Places of bytes.
    fn places(&self, bytes: &[u8]) -> Result<Vec<u64>> {
        let first = bytes.first().copied().context("nothing to look for")?;
        let mut places = Vec::new();
        self.blocks(bytes.len() - 1, |at, block| {
            let mut from = 0;
            while let Some(next) =
                block.get(from..).and_then(|rest| rest.iter().position(|byte| *byte == first))
            {
                from += next + 1;
                if block.get(from - 1..).is_some_and(|rest| rest.starts_with(bytes)) {
                    places.push(at + from as u64 - 1);
                }
            }
        })?;
        Ok(places)
    }

    /// Places of pages with this content.
    pub(super) fn pages(&self, page: &[u8]) -> Result<Vec<u64>> {
        let mut places = Vec::new();
        self.blocks(0, |at, block| {
            let pages = (at..).step_by(4096).zip(block.chunks(4096));
            places.extend(pages.filter(|(_, is)| *is == page).map(|(place, _)| place));
        })?;
        Ok(places)
    }

    /// The file in blocks that overlap by some bytes.
    fn blocks(&self, overlap: usize, mut look: impl FnMut(u64, &[u8])) -> Result<()> {
        const BLOCK: usize = 16 << 20;
        let mut file = &self.0;
        file.rewind()?;
        let (mut kept, mut at) = (Vec::new(), 0);
        loop {
            let before = kept.len();
            file.by_ref().take(BLOCK as u64).read_to_end(&mut kept)?;
            if kept.len() == before {
                return Ok(());
            }
            look(at, &kept);
            let done = kept.len().saturating_sub(overlap);
            kept.drain(..done);
            at += done as u64;
        }
    }
}
