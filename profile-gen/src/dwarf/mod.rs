//! DWARF 2 to 5 of a Linux kernel or module: all type definitions of all units, and the types of global variables.
//!
//! Units are read in parallel and one at a time per thread; nothing of a unit is kept but its distinct definitions
//! and their hashes. Types declared inside functions are not read: nothing outside the function can point to them.
//! Not read either: split DWARF (`.dwo`), type units (`-fdebug-types-section`) and Rust units.

mod forms;
mod unit;

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use gimli::{
    Abbreviations, DebugAbbrev, DebugAbbrevOffset, DebugInfo, EndianSlice, LittleEndian, UnitHeader,
};
use rayon::prelude::*;

use crate::types::merge::{Merged, Merger, TooManyTypes, UnitDefs};

type Slice<'d> = EndianSlice<'d, LittleEndian>;

/// Why DWARF cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DwarfError {
    /// A unit header is damaged, so no later unit can be found.
    #[error("damaged DWARF: unit header after {found} units at offset {offset:#x} of .debug_info: {reason}")]
    Header {
        /// Units before it.
        found: usize,
        /// Where in `.debug_info` the last good unit starts.
        offset: usize,
        /// What is wrong.
        reason: String,
    },
    /// A unit cannot be decoded.
    #[error("damaged DWARF: unit at offset {offset:#x} of .debug_info: {reason}")]
    Unit {
        /// Where the unit starts.
        offset: usize,
        /// What is wrong.
        reason: String,
    },
    /// More distinct types than any kernel has.
    #[error("damaged or hostile DWARF: {0}")]
    TooManyTypes(String),
}

impl From<TooManyTypes> for DwarfError {
    fn from(error: TooManyTypes) -> Self {
        Self::TooManyTypes(error.to_string())
    }
}

/// The sections that describe types, uncompressed and relocated; empty where the file has none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sections<'d> {
    pub(crate) info: &'d [u8],
    pub(crate) abbrev: &'d [u8],
    pub(crate) str: &'d [u8],
    pub(crate) line_str: &'d [u8],
    pub(crate) str_offsets: &'d [u8],
    pub(crate) addr: &'d [u8],
}

/// All type definitions of a file.
pub(crate) struct Read {
    pub(crate) merged: Merged,
    /// References to types in other units (link-time optimisation, dwz), which are not followed.
    pub(crate) foreign: usize,
}

/// Reads all definitions. The result does not depend on the number of threads.
pub(crate) fn read(sections: &Sections<'_>) -> Result<Read, DwarfError> {
    let headers = headers(sections)?;
    let abbreviations = AbbreviationTables::new(sections.abbrev, &headers);
    let merger = Merger::new();
    let foreign = AtomicUsize::new(0);
    let units: Vec<UnitDefs> = headers
        .par_iter()
        .map(|header| {
            let offset = header.debug_info_offset().map_or(0, |offset| offset.0);
            let damaged = |error: gimli::Error| DwarfError::Unit { offset, reason: error.to_string() };
            let read = abbreviations
                .with(header, |table| unit::read(sections, header, table))
                .and_then(|unit| unit)
                .map_err(damaged)?;
            let Some(read) = read else { return Ok(UnitDefs::default()) };
            foreign.fetch_add(read.foreign, Ordering::Relaxed);
            Ok(merger.add(&read.table, None)?)
        })
        // The error of the first damaged unit, whichever thread fails first.
        .collect::<Vec<Result<_, DwarfError>>>()
        .into_iter()
        .collect::<Result<_, _>>()?;
    Ok(Read { merged: merger.finish(&units), foreign: foreign.into_inner() })
}

fn headers<'d>(sections: &Sections<'d>) -> Result<Vec<UnitHeader<Slice<'d>>>, DwarfError> {
    let info = DebugInfo::from(EndianSlice::new(sections.info, LittleEndian));
    let mut headers: Vec<UnitHeader<Slice<'d>>> = Vec::new();
    let mut iter = info.units();
    loop {
        match iter.next() {
            Ok(Some(header)) => headers.push(header),
            Ok(None) => return Ok(headers),
            Err(error) => {
                let last = headers.last().and_then(UnitHeader::debug_info_offset);
                return Err(DwarfError::Header {
                    found: headers.len(),
                    offset: last.map_or(0, |offset| offset.0),
                    reason: error.to_string(),
                });
            }
        }
    }
}

/// Abbreviation tables by offset in `.debug_abbrev`, each decoded once.
///
/// A table used by one unit is dropped after it; one used by many is kept. A table ends where the next one starts,
/// so overlapping tables of a hostile file cannot make the section be decoded again and again.
struct AbbreviationTables<'d> {
    section: &'d [u8],
    tables: HashMap<usize, AbbreviationTable>,
}

struct AbbreviationTable {
    end: usize,
    users: usize,
    shared: OnceLock<gimli::Result<Abbreviations>>,
}

impl<'d> AbbreviationTables<'d> {
    fn new(section: &'d [u8], headers: &[UnitHeader<Slice<'d>>]) -> Self {
        let mut offsets: Vec<usize> = headers.iter().map(|header| header.debug_abbrev_offset().0).collect();
        offsets.sort_unstable();
        let mut tables: HashMap<usize, AbbreviationTable> = HashMap::new();
        let mut end = section.len();
        for run in offsets.chunk_by(|a, b| a == b).rev() {
            let Some(&start) = run.first() else { continue };
            tables.insert(start, AbbreviationTable { end, users: run.len(), shared: OnceLock::new() });
            end = start;
        }
        Self { section, tables }
    }

    fn with<T>(
        &self,
        header: &UnitHeader<Slice<'d>>,
        use_table: impl FnOnce(&Abbreviations) -> T,
    ) -> gimli::Result<T> {
        let start = header.debug_abbrev_offset().0;
        let table = self.tables.get(&start).ok_or(gimli::Error::UnexpectedEof(gimli::ReaderOffsetId(0)))?;
        let parse = || {
            let bytes = self.section.get(start..table.end).unwrap_or_default();
            DebugAbbrev::new(bytes, LittleEndian).abbreviations(DebugAbbrevOffset(0))
        };
        if table.users == 1 {
            return Ok(use_table(&parse()?));
        }
        match table.shared.get_or_init(parse) {
            Ok(abbreviations) => Ok(use_table(abbreviations)),
            Err(error) => Err(*error),
        }
    }
}

#[cfg(test)]
mod tests;
