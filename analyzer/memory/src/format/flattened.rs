//! makedumpfile's flattened form of another dump: a log of writes, in the order in which they were made.
//!
//! ```text
//! 0     signature "makedumpfile" padded with NUL to 16 bytes, type i64 = 1, version i64 = 1, padding to 4096
//! 4096  records: offset i64, size i64, size bytes;  offset -1 ends the file        (all numbers big endian)
//! ```
//! QEMU writes kdump this way. The records become runs of the file they describe, without copying; a later
//! write covers an earlier one, what is never written is zeros. Source: `makedumpfile.h`,
//! `include/sysemu/dump.h` of QEMU.

use crate::bytes::array_at;
use crate::format::{Layer, Opened, Refused, expect_magic};
use crate::{Overlap, Run, RunSpace};
use std::sync::Arc;

/// Size of the file header, in bytes.
const HEADER: u64 = 4096;
/// Size of a record header, in bytes.
const RECORD: u64 = 16;
/// The offset that ends the file.
const END: i64 = -1;

pub(super) fn probe(layer: &Layer<'_>) -> Result<(), &'static str> {
    expect_magic(layer, b"makedumpfile\0\0\0\0", "no \"makedumpfile\" signature at the start")
}

pub(super) fn open(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let Layer { base, head, limits, .. } = *layer;
    let number = |at| array_at(head, at).map(i64::from_be_bytes);
    match (number(16), number(24)) {
        (Some(1), Some(1)) => {}
        (kind, version) => {
            let (kind, version) = (kind.unwrap_or(0), version.unwrap_or(0));
            return Err(format!("unknown flattened type {kind} or version: {version}").into());
        }
    }
    let file_end = base.end();
    let mut warnings = Vec::new();
    let mut runs = Vec::new();
    let mut at = HEADER;
    loop {
        let mut record = [0; 16];
        if base.read_at(at, &mut record).is_err() {
            warnings.push(format!("the file is cut off, no end record at: {at:#x}"));
            break;
        }
        let number = |from| array_at(&record, from).map_or(0, i64::from_be_bytes);
        let (offset, size) = (number(0), number(8));
        if offset == END {
            break;
        }
        let (Ok(offset), Ok(size)) = (u64::try_from(offset), u64::try_from(size)) else {
            return Err(format!("negative offset or size in the record at: {at:#x}").into());
        };
        if runs.len() >= limits.max_runs {
            return Err(format!("more records than the limit: {}", limits.max_runs).into());
        }
        let data = at.saturating_add(RECORD);
        let stored = size.min(file_end.saturating_sub(data));
        runs.push(Run { start: offset, len: stored, target: data });
        at = data.saturating_add(size);
        if stored < size {
            warnings.push(format!("the file is cut off in the record at: {data:#x}"));
            break;
        }
    }
    if runs.is_empty() {
        return Err("no records".into());
    }
    let space = RunSpace::new("flattened", Arc::clone(base), runs, Overlap::LastWins).with_zero_holes();
    Ok(Opened::new(Arc::new(space)).warnings(warnings))
}
