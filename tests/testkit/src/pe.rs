//! PE images as they stand in memory: headers, section table, export directory, debug record.
//!
//! Source: Microsoft's "PE Format" documentation. The headers are complete enough for `llvm-readobj` and for loaders of the
//! analysed kind; code is left zero.

use crate::system::Pdb;

/// One section.
#[derive(Debug, Clone)]
pub struct Section {
    /// Name, at most 8 bytes.
    pub name: &'static str,
    /// First byte, relative to the image.
    pub rva: u32,
    /// Bytes in memory.
    pub size: u32,
    /// Characteristics.
    pub flags: u32,
}

/// Code, executable, readable.
pub const CODE: u32 = 0x6000_0020;
/// Initialised data, readable, writable.
pub const DATA: u32 = 0xC000_0040;
/// Initialised data, readable.
pub const READ_ONLY: u32 = 0x4000_0040;

/// An image to make.
#[derive(Debug, Clone)]
pub struct Image {
    /// Name in the export directory.
    pub name: String,
    /// Preferred address.
    pub base: u64,
    /// PE32+ rather than PE32.
    pub is_64: bool,
    /// Time stamp, seconds since 1970.
    pub timestamp: u32,
    /// Entry point, relative.
    pub entry: u32,
    /// Native (1, drivers), GUI (2) or console (3).
    pub subsystem: u16,
    /// A DLL or driver rather than a program.
    pub dll: bool,
    /// Sections without the one that holds exports and debug record, which is appended.
    pub sections: Vec<Section>,
    /// First bytes of the first section; the rest of it is in no page.
    pub code: Vec<u8>,
    /// Exported names with their relative addresses; sorted when written.
    pub exports: Vec<(String, u32)>,
    /// Debug file.
    pub pdb: Option<Pdb>,
}

/// Bytes of an image with their relative addresses, and the size of the whole.
pub struct Made {
    /// Relative address and bytes.
    pub parts: Vec<(u32, Vec<u8>)>,
    /// Bytes of the image in memory.
    pub size: u32,
}

struct Writer(Vec<u8>);

impl Writer {
    fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn word(&mut self, is_64: bool, value: u64) -> &mut Self {
        self.0.extend(&value.to_le_bytes()[..if is_64 { 8 } else { 4 }]);
        self
    }
    fn text(&mut self, text: &str, width: usize) -> &mut Self {
        let end = self.0.len() + width;
        self.0.extend(text.bytes().take(width));
        self.0.resize(end, 0);
        self
    }
}

/// One page that is different for every name: a function that returns, then bytes in a row.
pub fn code(name: &str) -> Vec<u8> {
    let mut code = b"\x55\x89\xe5\x5d\xc3".to_vec();
    let seed = name.bytes().fold(1u32, |seed, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
    code.extend((0..4096 - 5u32).map(|at| (seed.wrapping_mul(at | 1) >> 24) as u8));
    code
}

impl Image {
    /// Lays out the image.
    pub fn make(&self) -> Made {
        let last = self.sections.iter().map(|section| section.rva + section.size).max().unwrap_or(0x1000);
        let data_rva = last.next_multiple_of(0x1000).max(0x1000);
        let (exports, export_size) = self.export_section(data_rva);
        let mut data = exports;
        data.resize(data.len().next_multiple_of(16), 0);
        let debug_rva = data_rva + u32::try_from(data.len()).expect("a small section");
        let debug_size = self.debug_record(debug_rva, &mut data);
        let data_size = u32::try_from(data.len()).expect("a small section").max(1);
        let size = (data_rva + data_size).next_multiple_of(0x1000);
        let mut sections = self.sections.clone();
        sections.push(Section { name: ".edata", rva: data_rva, size: data_size, flags: READ_ONLY });
        let directories = [(data_rva, export_size), (debug_rva, debug_size)];
        let header = self.header(&sections, size, directories);
        let mut parts = vec![(0, header), (data_rva, data)];
        if let (Some(section), false) = (self.sections.first(), self.code.is_empty()) {
            parts.push((section.rva, self.code.clone()));
        }
        Made { parts, size }
    }

    fn header(&self, sections: &[Section], size: u32, [export, debug]: [(u32, u32); 2]) -> Vec<u8> {
        let mut w = Writer(Vec::new());
        w.text("MZ", 0x3C).u32(0x80).text("", 0x40);
        w.text("PE\0\0", 4)
            .u16(if self.is_64 { 0x8664 } else { 0x14C })
            .u16(u16::try_from(sections.len()).expect("few sections"))
            .u32(self.timestamp)
            .u32(0)
            .u32(0)
            .u16(if self.is_64 { 240 } else { 224 })
            // Executable image, large addresses or 32-bit machine, DLL.
            .u16(if self.is_64 { 0x22 } else { 0x102 } | if self.dll { 0x2000 } else { 0 });
        let code = sections.first().map_or(0x1000, |section| section.rva);
        w.u16(if self.is_64 { 0x20B } else { 0x10B })
            .u16(9)
            .u32(0x1000)
            .u32(0x1000)
            .u32(0)
            .u32(self.entry)
            .u32(code);
        if !self.is_64 {
            w.u32(code);
        }
        w.word(self.is_64, self.base).u32(0x1000).u32(0x200);
        w.u16(6)
            .u16(1)
            .u16(6)
            .u16(1)
            .u16(6)
            .u16(1)
            .u32(0)
            .u32(size)
            .u32(0x400)
            .u32(0)
            .u16(self.subsystem)
            .u16(0x140);
        for reserve in [0x4_0000, 0x1000, 0x10_0000, 0x1000] {
            w.word(self.is_64, reserve);
        }
        w.u32(0).u32(16);
        for index in 0..16 {
            let (rva, len) = match index {
                0 if export.1 > 0 => export,
                6 if debug.1 > 0 => debug,
                _ => (0, 0),
            };
            w.u32(rva).u32(len);
        }
        for section in sections {
            w.text(section.name, 8)
                .u32(section.size)
                .u32(section.rva)
                .u32(section.size.next_multiple_of(0x200));
            w.u32(section.rva).u32(0).u32(0).u16(0).u16(0).u32(section.flags);
        }
        w.0
    }

    /// The export directory at `rva` with everything it points at, and its size; empty where nothing is exported.
    fn export_section(&self, rva: u32) -> (Vec<u8>, u32) {
        if self.exports.is_empty() {
            return (Vec::new(), 0);
        }
        let mut exports = self.exports.clone();
        exports.sort();
        let count = u32::try_from(exports.len()).expect("few exports");
        let (functions, names, ordinals) = (rva + 40, rva + 40 + 4 * count, rva + 40 + 8 * count);
        let texts = rva + 40 + 10 * count;
        let mut text = Writer(Vec::new());
        text.text(&self.name, self.name.len() + 1);
        let mut w = Writer(Vec::new());
        w.u32(0)
            .u32(self.timestamp)
            .u32(0)
            .u32(texts)
            .u32(1)
            .u32(count)
            .u32(count)
            .u32(functions)
            .u32(names)
            .u32(ordinals);
        for (_, target) in &exports {
            w.u32(*target);
        }
        for (name, _) in &exports {
            w.u32(texts + u32::try_from(text.0.len()).expect("a small section"));
            text.text(name, name.len() + 1);
        }
        for ordinal in 0..count {
            w.u16(u16::try_from(ordinal).expect("few exports"));
        }
        w.0.extend(text.0);
        let size = u32::try_from(w.0.len()).expect("a small section");
        (w.0, size)
    }

    /// Appends the debug directory and its CodeView record (`RSDS`). Returns the directory's size.
    fn debug_record(&self, rva: u32, out: &mut Vec<u8>) -> u32 {
        let Some(pdb) = &self.pdb else { return 0 };
        let record_size = 24 + u32::try_from(pdb.name.len()).expect("a short name") + 1;
        let mut w = Writer(Vec::new());
        w.u32(0).u32(self.timestamp).u32(0).u32(2).u32(record_size).u32(rva + 28).u32(rva + 28);
        w.text("RSDS", 4);
        let digits =
            |from: usize, to: usize| u32::from_str_radix(&pdb.guid_age[from..to], 16).expect("hexadecimal");
        w.u32(digits(0, 8));
        for from in [8, 12] {
            w.u16(u16::try_from(digits(from, from + 4)).expect("four digits"));
        }
        for from in (16..32).step_by(2) {
            w.0.push(u8::try_from(digits(from, from + 2)).expect("two digits"));
        }
        w.u32(digits(32, pdb.guid_age.len())).text(&pdb.name, pdb.name.len() + 1);
        out.extend(w.0);
        28
    }
}
