//! Hibernation files of Windows 7 x64: a header page, a page with the processor's state, and tables of frame ranges, each
//! followed by its frames in XPRESS blocks of 16.
//!
//! Source: `PO_MEMORY_IMAGE` of the kernel's symbols; Suiche, "Windows hibernation file for fun 'n' profit" (2008).

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use super::{Block, xpress};
use crate::image::Snapshot;

/// Ranges that fit into a table.
const ENTRIES: usize = 0xFF;
/// A frame's number and bytes.
type Frame<'a> = (u64, &'a [u8]);
/// Frames of a block.
const BLOCK: usize = 16;

impl Snapshot {
    /// Writes a hibernation file of the frames in use.
    pub fn write_hiberfil(&self, path: &Path) -> io::Result<()> {
        let layouts = &self.machine.system.layouts;
        assert!(layouts.has("PO_MEMORY_IMAGE", "FirstTablePage"), "this system hibernates in another format");
        let mut file = vec![0; 0x2000];
        let place = |name: &str| layouts.find("PO_MEMORY_IMAGE", name).map(|place| place.offset);
        let mut header = Block(vec![0; 0x1000]);
        header.bytes(0, b"hibr");
        let offset = |name: &str| usize::try_from(place(name).expect("a member")).expect("small");
        header.u32(offset("LengthSelf"), u32::try_from(layouts.size("PO_MEMORY_IMAGE")).expect("small"));
        header.u32(offset("PageSize"), 4096).u64(offset("SystemTime"), self.machine.now);
        header.u64(offset("FirstTablePage"), 2);
        let cr3 = layouts.offset("_KPROCESSOR_STATE", "SpecialRegisters.Cr3");
        let cr3 = 0x1000 + usize::try_from(cr3).expect("within the page");
        file[cr3..cr3 + 8].copy_from_slice(&self.dtb().to_le_bytes());
        let frames: Vec<Frame<'_>> = self.present();
        // Ranges of frames that follow each other, by position.
        let ranges: Vec<&[Frame<'_>]> = frames.chunk_by(|a, b| a.0 + 1 == b.0).collect();
        let tables: Vec<&[&[Frame<'_>]]> = ranges.chunks(ENTRIES).collect();
        for (index, table) in tables.iter().enumerate() {
            let at = file.len();
            file.resize(at + 0x1000, 0);
            for (slot, range) in table.iter().enumerate() {
                let (first, end) = (range[0].0, range[0].0 + range.len() as u64);
                let entry = at + 0x10 + 0x10 * slot;
                file[entry..entry + 8].copy_from_slice(&first.to_le_bytes());
                file[entry + 8..entry + 16].copy_from_slice(&end.to_le_bytes());
            }
            file[at + 8..at + 12].copy_from_slice(&u32::try_from(table.len()).expect("few").to_le_bytes());
            let pages: Vec<&[u8]> =
                table.iter().flat_map(|range| range.iter().map(|(_, bytes)| *bytes)).collect();
            for block in pages.chunks(BLOCK) {
                put_block(&mut file, &block.concat());
            }
            file.resize(file.len().next_multiple_of(0x1000), 0);
            if index + 1 < tables.len() {
                let next = (file.len() / 0x1000) as u64;
                file[at..at + 8].copy_from_slice(&next.to_le_bytes());
            }
        }
        let total = frames.len() as u64;
        if let Some(at) = place("TotalPages") {
            header.u64(usize::try_from(at).expect("small"), total);
        }
        file[..0x1000].copy_from_slice(&header.0);
        File::create(path)?.write_all(&file)
    }
}

/// A block: signature, pages and size in one word, data compressed where that is shorter.
fn put_block(file: &mut Vec<u8>, plain: &[u8]) {
    let packed = xpress::compress(plain);
    let data = if packed.len() < plain.len() { packed.as_slice() } else { plain };
    let pages = u32::try_from(plain.len() / 4096).expect("at most 16");
    let size = u32::try_from(data.len()).expect("at most 64 KiB");
    let mut header = Block(vec![0; 0x20]);
    header.bytes(0, b"\x81\x81xpress").u32(8, (pages - 1) | (size - 1) << 10);
    file.extend(header.0);
    file.extend(data);
    file.resize(file.len().next_multiple_of(8), 0);
}
