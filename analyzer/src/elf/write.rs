//! Parts of ELF files as bytes: headers, notes, symbols. Where they go is the caller's business.

/// `ET_REL`, `ET_CORE`: kinds of files.
pub const ET_REL: u16 = 1;
/// See [`ET_REL`].
pub const ET_CORE: u16 = 4;
/// `EM_386`, `EM_X86_64`: machines.
pub const EM_386: u16 = 3;
/// See [`EM_386`].
pub const EM_X86_64: u16 = 62;
/// See [`EM_386`].
pub const EM_AARCH64: u16 = 183;
/// `SHT_PROGBITS`, `SHT_SYMTAB`, `SHT_STRTAB`, `SHT_NOTE`: kinds of sections.
pub const SHT_PROGBITS: u32 = 1;
/// See [`SHT_PROGBITS`].
pub const SHT_SYMTAB: u32 = 2;
/// See [`SHT_PROGBITS`].
pub const SHT_STRTAB: u32 = 3;
/// See [`SHT_PROGBITS`].
pub const SHT_NOTE: u32 = 7;
/// `PN_XNUM`: the number of program headers is in the first section header.
const PN_XNUM: u64 = 0xffff;

/// The class and machine of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// Whether it is of the 64-bit class.
    pub wide: bool,
    /// `EM_*`.
    pub number: u16,
}

/// What the file header tells besides the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileHeader {
    /// `ET_*`.
    pub kind: u16,
    /// Place and number of program headers; both 0 where there are none.
    pub segments: (u64, u64),
    /// Place and number of section headers; both 0 where there are none.
    pub sections: (u64, u16),
    /// Index of the section with the names of sections.
    pub names: u16,
}

/// A program header.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProgramHeader {
    /// `PT_*`.
    pub kind: u32,
    /// `PF_*`: 1 execute, 2 write, 4 read.
    pub flags: u32,
    /// Place in the file.
    pub offset: u64,
    /// Virtual address.
    pub vaddr: u64,
    /// Bytes in the file.
    pub filesz: u64,
    /// Bytes in memory.
    pub memsz: u64,
    /// Alignment.
    pub align: u64,
}

/// A section header.
#[derive(Debug, Clone, Copy, Default)]
pub struct SectionHeader {
    /// Place of the name in the section with the names.
    pub name: u32,
    /// `SHT_*`.
    pub kind: u32,
    /// `SHF_*`: 1 write, 2 in memory, 4 execute.
    pub flags: u64,
    /// Virtual address.
    pub addr: u64,
    /// Place in the file.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// `sh_link`.
    pub link: u32,
    /// `sh_info`.
    pub info: u32,
    /// Alignment.
    pub align: u64,
    /// Bytes of an entry.
    pub entry: u64,
}

/// A symbol.
#[derive(Debug, Clone, Copy, Default)]
pub struct Symbol {
    /// Place of the name in the string table.
    pub name: u32,
    /// Binding and type.
    pub info: u8,
    /// Index of its section.
    pub section: u16,
    /// Value.
    pub value: u64,
}

/// Bytes under construction.
struct Bytes(bool, Vec<u8>);

impl Bytes {
    fn half(mut self, value: u16) -> Self {
        self.1.extend(value.to_le_bytes());
        self
    }

    fn word(mut self, value: u32) -> Self {
        self.1.extend(value.to_le_bytes());
        self
    }

    /// A word of the class.
    fn native(mut self, value: u64) -> Self {
        let width = if self.0 { 8 } else { 4 };
        self.1.extend(value.to_le_bytes().iter().take(width));
        self
    }
}

impl Machine {
    /// Bytes of a file header.
    #[must_use]
    pub fn file_header_size(self) -> u16 {
        if self.wide { 64 } else { 52 }
    }

    /// Bytes of a program header.
    #[must_use]
    pub fn program_header_size(self) -> u16 {
        if self.wide { 56 } else { 32 }
    }

    /// Bytes of a section header.
    #[must_use]
    pub fn section_header_size(self) -> u16 {
        if self.wide { 64 } else { 40 }
    }

    /// Bytes of a symbol.
    #[must_use]
    pub fn symbol_size(self) -> u16 {
        if self.wide { 24 } else { 16 }
    }

    /// The file header. More than 65,534 segments need a first section header that [`Machine::segment_count`] makes.
    #[must_use]
    pub fn file_header(self, header: &FileHeader) -> Vec<u8> {
        let class = if self.wide { 2 } else { 1 };
        let ident = vec![0x7f, b'E', b'L', b'F', class, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let count = u16::try_from(header.segments.1.min(PN_XNUM)).unwrap_or(u16::MAX);
        Bytes(self.wide, ident)
            .half(header.kind)
            .half(self.number)
            .word(1)
            .native(0)
            .native(header.segments.0)
            .native(header.sections.0)
            .word(0)
            .half(self.file_header_size())
            .half(self.program_header_size())
            .half(count)
            .half(self.section_header_size())
            .half(header.sections.1)
            .half(header.names)
            .1
    }

    /// The first section header of a file with so many segments; `None` where the file header holds their number.
    #[must_use]
    pub fn segment_count(count: u64) -> Option<SectionHeader> {
        let info = u32::try_from(count).unwrap_or(u32::MAX);
        (count >= PN_XNUM).then(|| SectionHeader { info, ..SectionHeader::default() })
    }

    /// A program header.
    #[must_use]
    pub fn program_header(self, header: &ProgramHeader) -> Vec<u8> {
        let start = Bytes(self.wide, Vec::new()).word(header.kind);
        let start = if self.wide { start.word(header.flags) } else { start };
        let places = start.native(header.offset).native(header.vaddr).native(0);
        let sizes = places.native(header.filesz).native(header.memsz);
        if self.wide { sizes } else { sizes.word(header.flags) }.native(header.align).1
    }

    /// A section header.
    #[must_use]
    pub fn section_header(self, header: &SectionHeader) -> Vec<u8> {
        Bytes(self.wide, Vec::new())
            .word(header.name)
            .word(header.kind)
            .native(header.flags)
            .native(header.addr)
            .native(header.offset)
            .native(header.size)
            .word(header.link)
            .word(header.info)
            .native(header.align)
            .native(header.entry)
            .1
    }

    /// A symbol.
    #[must_use]
    pub fn symbol(self, symbol: &Symbol) -> Vec<u8> {
        let start = Bytes(self.wide, Vec::new()).word(symbol.name);
        let kind = u16::from(symbol.info);
        match self.wide {
            true => start.half(kind).half(symbol.section).native(symbol.value).native(0).1,
            false => start.native(symbol.value).native(0).half(kind).half(symbol.section).1,
        }
    }
}

/// A note named `CORE`, padded to whole words.
#[must_use]
pub fn core_note(kind: u32, content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let mut note = Bytes(false, Vec::new()).word(5).word(len).word(kind).1;
    note.extend(b"CORE\0\0\0\0");
    note.extend(content);
    note.resize(note.len().next_multiple_of(4), 0);
    note
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_format() {
        for (wide, number) in [(true, EM_X86_64), (false, EM_386)] {
            let machine = Machine { wide, number };
            let lens = [
                (machine.file_header(&FileHeader::default()).len(), machine.file_header_size()),
                (machine.program_header(&ProgramHeader::default()).len(), machine.program_header_size()),
                (machine.section_header(&SectionHeader::default()).len(), machine.section_header_size()),
                (machine.symbol(&Symbol::default()).len(), machine.symbol_size()),
            ];
            for (len, size) in lens {
                assert_eq!(len, usize::from(size), "{wide}");
            }
        }
        assert_eq!(core_note(1, &[9; 5]).len(), 12 + 8 + 8);
    }
}
