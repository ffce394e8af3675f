//! Windows crash dumps, 32 and 64 bit.
//!
//! ```text
//! 0              header of 0x1000 (32 bit) or 0x2000 bytes (64 bit): "PAGEDUMP" or "PAGEDU64", fields, runs, type
//! type 1         pages of the runs, back to back
//! type 2         summary header with a bitmap of stored pages, then those pages (before Windows 8)
//! type 5, 6, 7   bitmap header "FDMP" or "SDMP", bitmap, then the stored pages (from Windows 8 on; live dumps)
//! type 8, 9, 10  "RDMP" header, list of page ranges, then their pages (written by debuggers)
//! type 4         triage: no physical pages, blocks of kernel virtual memory and copies of a few structures
//! ```
//! The header is filled with the word `PAGE` before it is written: a field that holds it was never set. Its
//! buffer for runs has room for 43 (64 bit) or 86 (32 bit); a larger count is no count.
//! Sources: the `DUMP_HEADER` declarations of Microsoft's metadata and of rizin's `dmp_specs.h`; kdmp-parser
//! for types 6 and 8 to 10, which is also what the tests compare with. Type 2 follows the published
//! `SUMMARY_DUMP` declarations; no dump of that type was at hand.

mod header;
mod pages;
mod triage;

use crate::format::{Layer, Opened, Refused};
use crate::{Overlap, RunSpace};
use header::Header;
use std::sync::Arc;

pub(super) fn probe(layer: &Layer<'_>) -> Result<(), &'static str> {
    if layer.head.starts_with(b"PAGEDUMP") || layer.head.starts_with(b"PAGEDU64") {
        Ok(())
    } else {
        Err("no \"PAGEDUMP\" or \"PAGEDU64\" signature at the start")
    }
}

pub(super) fn open(layer: &Layer<'_>) -> Result<Opened, Refused> {
    let Layer { base, limits, .. } = *layer;
    let header = Header::read(&**base)?;
    let mut warnings = Vec::new();
    let (name, runs) = match header.dump_type() {
        // Dumps of Windows 2000 and of some converters leave the type unset.
        None | Some(1) => ("crash dump (full)", pages::full(&header, &mut warnings)?),
        Some(2) => ("crash dump (kernel)", pages::summary(&**base, &header, limits, &mut warnings)?),
        Some(4) => return triage::open(layer, &header),
        Some(5) => ("crash dump (bitmap)", pages::bitmap(&**base, &header, limits, &mut warnings)?),
        Some(6) => ("crash dump (kernel bitmap)", pages::bitmap(&**base, &header, limits, &mut warnings)?),
        Some(7) => ("crash dump (automatic)", pages::bitmap(&**base, &header, limits, &mut warnings)?),
        Some(8..=10) => ("crash dump (ranges)", pages::ranges(&**base, &header, limits)?),
        Some(3) => return Err("a dump of type 3 holds a header and no memory".into()),
        Some(other) => return Err(format!("unknown dump type: {other}").into()),
    };
    if runs.is_empty() {
        return Err("the dump stores no page".into());
    }
    let space = RunSpace::new(name, Arc::clone(base), runs, Overlap::FirstWins);
    let promised = space.stored_beyond(base.end());
    if promised > 0 {
        warnings.push(format!("the file is cut off, bytes missing: {promised}"));
    }
    Ok(Opened::new(Arc::new(space)).hints(header.hints()).warnings(warnings))
}
