//! From places in the compiler's sections to places in the image.
//!
//! `pdb2` ignores the OMAP tables of a file without original section headers (as the tools of Syzygy write them), so
//! its address map would give the addresses before reordering. Layout of the DBI header and of the debug header behind
//! its substreams: LLVM, "The PDB DBI Stream".

use ::pdb::{Error, StreamIndex};

use super::{Container, word};

/// Stream of the debug information.
const DBI: u16 = 3;
/// Bytes of the DBI header.
const HEADER: usize = 64;
/// Offsets in the DBI header of the sizes of the substreams in front of the debug header.
const SUBSTREAMS: [usize; 6] = [24, 28, 32, 36, 40, 52];
/// Slots of the debug header: OMAP tables from final to compiled addresses and back, sections, sections as compiled.
const OMAP_TO_SOURCE: usize = 3;
const OMAP_FROM_SOURCE: usize = 4;
const SECTIONS: usize = 5;
const ORIGINAL_SECTIONS: usize = 10;
/// Bytes of a section header of PE files, and where its virtual address stands.
const SECTION_HEADER: usize = 40;
const VIRTUAL_ADDRESS: usize = 12;

/// Final addresses from here on are none: no image has 2 GiB. The tools of Syzygy write them where code goes on as before in
/// the other table.
const NOWHERE: u32 = 0x8000_0000;

/// Where a symbol is in the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Bytes from the image base.
    At(u32),
    /// Its code was removed after linking.
    Removed,
    /// It is in no section: an absolute value.
    NoSection,
}

/// Sections as compiled, and what was moved later.
pub(super) struct AddressMap {
    /// Virtual addresses of the sections, relative to the image base.
    sections: Vec<u32>,
    /// Pairs of addresses from which compiled and final addresses run in parallel, by compiled address. A final address
    /// of 0 means removed, one from [`NOWHERE`] on that the other table knows. `None` where nothing was moved.
    omap: Option<Vec<(u32, u32)>>,
    /// The other table, in the same form: its valid pairs by compiled address, the final one that follows last.
    back: Vec<(u32, u32)>,
}

impl AddressMap {
    /// Reads the map. Without section headers in the file, those are inferred from the section map.
    pub(super) fn read(pdb: &mut Container<'_>) -> Result<Self, Error> {
        let streams = debug_streams(pdb)?;
        let mut slot = |slot: usize| -> Result<Option<Vec<u8>>, Error> {
            let index = StreamIndex(streams.get(slot).copied().unwrap_or(u16::MAX));
            Ok(pdb.raw_stream(index)?.map(|stream| stream.as_slice().to_vec()))
        };
        let sections = match slot(ORIGINAL_SECTIONS)? {
            Some(sections) => Some(sections),
            None => slot(SECTIONS)?,
        };
        let pairs = |table: &[u8]| -> Vec<(u32, u32)> {
            table.chunks_exact(8).map(|pair| (word(pair, 0), word(pair, 4))).collect()
        };
        let omap = slot(OMAP_FROM_SOURCE)?.map(|table| {
            let mut pairs = pairs(&table);
            pairs.sort_by_key(|&(source, _)| source);
            pairs
        });
        let mut back: Vec<(u32, u32)> = pairs(&slot(OMAP_TO_SOURCE)?.unwrap_or_default())
            .into_iter()
            .map(|(target, source)| (source, target))
            .filter(|(source, target)| (1..NOWHERE).contains(source) && (1..NOWHERE).contains(target))
            .collect();
        back.sort_unstable();
        let sections = match sections {
            Some(headers) => {
                headers.chunks_exact(SECTION_HEADER).map(|header| word(header, VIRTUAL_ADDRESS)).collect()
            }
            None => {
                pdb.sections()?.unwrap_or_default().iter().map(|section| section.virtual_address).collect()
            }
        };
        Ok(Self { sections, omap, back })
    }

    /// The place of `offset` bytes into a section, counted from 1.
    pub(super) fn place(&self, section: u16, offset: u32) -> Place {
        let start = usize::from(section).checked_sub(1).and_then(|section| self.sections.get(section));
        let Some(compiled) = start.and_then(|start| start.checked_add(offset)) else {
            return Place::NoSection;
        };
        let Some(omap) = &self.omap else { return Place::At(compiled) };
        let (source, target) = match covering(omap, compiled) {
            Some((_, NOWHERE..)) => match covering(&self.back, compiled) {
                Some(pair) => pair,
                None => return Place::Removed,
            },
            Some((_, 0)) | None => return Place::Removed,
            Some(pair) => pair,
        };
        Place::At(target.wrapping_add(compiled - source))
    }
}

/// The last pair that begins at or below an address.
fn covering(pairs: &[(u32, u32)], compiled: u32) -> Option<(u32, u32)> {
    let after = pairs.partition_point(|&(source, _)| source <= compiled);
    pairs.get(after.checked_sub(1)?).copied()
}

/// Stream numbers of the debug header; empty where the file has none.
fn debug_streams(pdb: &mut Container<'_>) -> Result<Vec<u16>, Error> {
    let Some(dbi) = pdb.raw_stream(StreamIndex(DBI))? else { return Ok(Vec::new()) };
    let bytes = dbi.as_slice();
    let before: usize = SUBSTREAMS.iter().map(|&at| word(bytes, at) as usize).sum();
    let len = word(bytes, 48) as usize;
    let header = bytes.get(HEADER..).and_then(|rest| rest.get(before..)).unwrap_or_default();
    let header = header.get(..len).unwrap_or(header);
    Ok(header.as_chunks().0.iter().map(|number| u16::from_le_bytes(*number)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moved_removed_and_absolute_symbols_are_told_apart() {
        let mut map = AddressMap { sections: vec![0x1000, 0x3000], omap: None, back: Vec::new() };
        assert_eq!(map.place(2, 8), Place::At(0x3008));
        assert_eq!(map.place(3, 8), Place::NoSection);
        assert_eq!(map.place(0, 8), Place::NoSection);
        assert_eq!(map.place(2, u32::MAX), Place::NoSection);
        map.omap = Some(vec![(0x1000, 0x5000), (0x1010, 0), (0x1020, 0x4000)]);
        assert_eq!(map.place(1, 0xf), Place::At(0x500f));
        assert_eq!(map.place(1, 0x10), Place::Removed);
        assert_eq!(map.place(1, 0x28), Place::At(0x4008));
        map.omap = Some(vec![(0x1000, NOWHERE)]);
        assert_eq!(map.place(1, 0), Place::Removed);
        map.back = vec![(0x1000, 0x6000), (0x1010, 0x7000), (0x1010, 0x7008)];
        assert_eq!(map.place(1, 0x18), Place::At(0x7010));
        assert_eq!(map.place(1, 8), Place::At(0x6008));
        map.omap = Some(Vec::new());
        assert_eq!(map.place(1, 0), Place::Removed);
    }
}
