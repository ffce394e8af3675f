//! LiME and AVML version 1: physical ranges back to back, each behind a 32-byte little-endian header.
//!
//! ```text
//! 0  magic    u32  "EMiL" in file order (0x4C694D45)
//! 4  version  u32  1
//! 8  start    u64  first physical address
//! 16 end      u64  last physical address, inclusive
//! 24 reserved u64  0
//! 32 data          end - start + 1 bytes, then the next header
//! ```
//! Source: the LiME documentation and real images. A writer that dies leaves the last range short: that is a
//! warning, the bytes that are there are used.

use crate::bytes::{u32_at, u64_at};
use crate::format::{Layer, Opened, Refused, expect_magic};
use crate::{Overlap, Run, RunSpace};
use std::sync::Arc;

pub(super) const MAGIC: &[u8] = b"EMiL";
/// Size of a range header, in bytes.
pub(super) const HEADER: u64 = 32;

/// One range header, of LiME or AVML.
pub(super) struct RangeHeader {
    pub(super) start: u64,
    /// Number of bytes, at least 1.
    pub(super) len: u64,
}

impl RangeHeader {
    /// Parses a header whose magic and version are as given, or says why it is none.
    pub(super) fn parse(bytes: &[u8], magic: &[u8], version: u32) -> Result<Self, String> {
        if !bytes.starts_with(magic) {
            return Err("no range header".to_owned());
        }
        match u32_at(bytes, 4) {
            Some(found) if found == version => {}
            found => return Err(format!("unknown version: {}", found.unwrap_or(0))),
        }
        let (Some(start), Some(last)) = (u64_at(bytes, 8), u64_at(bytes, 16)) else {
            return Err("range header is cut off".to_owned());
        };
        let len = last.checked_sub(start).and_then(|len| len.checked_add(1));
        let len = len.ok_or_else(|| format!("range ends before it starts: {start:#x}-{last:#x}"))?;
        Ok(Self { start, len })
    }
}

pub(super) fn probe(layer: &Layer<'_>) -> Result<(), &'static str> {
    expect_magic(layer, MAGIC, "no \"EMiL\" signature at the start")
}

pub(super) fn open(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let Layer { base, limits, .. } = *layer;
    let file_end = base.end();
    let mut warnings = Vec::new();
    let mut runs: Vec<Run> = Vec::new();
    let mut at = 0u64;
    while at < file_end {
        let mut bytes = [0; 32];
        let header = if file_end.saturating_sub(at) < HEADER {
            Err("range header is cut off".to_owned())
        } else {
            base.read_at(at, &mut bytes)?;
            RangeHeader::parse(&bytes, MAGIC, 1)
        };
        let range = match header {
            Ok(range) => range,
            Err(reason) if runs.is_empty() => return Err(reason.into()),
            Err(reason) => {
                warnings.push(format!("ranges end early, {reason} at file offset: {at:#x}"));
                break;
            }
        };
        if runs.len() >= limits.max_runs {
            return Err(format!("more ranges than the limit: {}", limits.max_runs).into());
        }
        let data = at.saturating_add(HEADER);
        runs.push(Run { start: range.start, len: range.len, target: data });
        at = data.saturating_add(range.len);
        if at > file_end {
            let missing = at.saturating_sub(file_end);
            warnings.push(format!(
                "the file is cut off, {missing} bytes are missing of the range at physical address: {:#x}",
                range.start
            ));
        }
    }
    let space = RunSpace::new("LiME", Arc::clone(base), runs, Overlap::FirstWins);
    Ok(Opened::new(Arc::new(space)).warnings(warnings))
}
