//! Builders of test input, written as structure: ELF files, DWARF units, BTF.

use gimli::{DwAt, DwForm, DwTag, constants};

/// Bytes in little-endian order.
pub(crate) fn le<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Mutates `bytes` deterministically: a few bytes changed, sometimes the end cut off or a run overwritten.
pub(crate) fn mutate(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 11).unwrap() % bound.max(1)
    };
    let mut out = bytes.to_vec();
    const NASTY: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0xfe, 0x40, 0x10];
    for _ in 0..1 + next(8) {
        let at = next(out.len());
        out[at] = if next(2) == 0 { NASTY[next(8)] } else { u8::try_from(next(256)).unwrap() };
    }
    match next(10) {
        0 => out.truncate(next(out.len())),
        1 => {
            let at = next(out.len());
            let end = (at + 8).min(out.len());
            out[at..end].fill(0xff);
        }
        _ => {}
    }
    out
}

/// A section of an ELF file to be.
struct Section {
    name: &'static str,
    kind: u32,
    address: u64,
    bytes: Vec<u8>,
    link: u32,
    info: u32,
    entry: u64,
}

/// Builds a 64-bit little-endian ELF file.
pub(crate) struct ElfBuilder {
    file_type: u16,
    machine: u16,
    sections: Vec<Section>,
}

impl ElfBuilder {
    /// `ET_REL`: an object to be linked or loaded.
    pub(crate) fn module() -> Self {
        Self { file_type: 1, machine: 62, sections: Vec::new() }
    }

    /// `ET_EXEC`: a linked kernel.
    pub(crate) fn kernel() -> Self {
        Self { file_type: 2, ..Self::module() }
    }

    pub(crate) fn machine(mut self, machine: u16) -> Self {
        self.machine = machine;
        self
    }

    /// Adds a section at an address (0 = not loaded); returns the builder.
    pub(crate) fn section(mut self, name: &'static str, address: u64, bytes: Vec<u8>) -> Self {
        let kind = if name == ".notes" { 7 } else { 1 };
        self.sections.push(Section { name, kind, address, bytes, link: 0, info: 0, entry: 0 });
        self
    }

    /// Adds relocations of the section added last: (offset, addend), 32-bit absolute against symbol 1.
    pub(crate) fn relocations(mut self, name: &'static str, relocations: &[(usize, u64)]) -> Self {
        let target = u32::try_from(self.sections.len()).unwrap();
        let mut bytes = Vec::new();
        for (offset, addend) in relocations {
            const R_X86_64_32: u64 = 10;
            for word in [*offset as u64, 1 << 32 | R_X86_64_32, *addend] {
                bytes.extend(word.to_le_bytes());
            }
        }
        self.sections.push(Section {
            name,
            kind: 4,
            address: 0,
            bytes,
            link: u32::MAX,
            info: target,
            entry: 24,
        });
        self
    }

    /// Adds the sections of DWARF units.
    pub(crate) fn dwarf(self, units: &[Unit]) -> Self {
        let (info, abbrev, strings) = Unit::sections(units);
        self.section(".debug_info", 0, info).section(".debug_abbrev", 0, abbrev).section(
            ".debug_str",
            0,
            strings,
        )
    }

    /// Adds a DWARF unit as an object to be linked holds it: offsets of names are zero and stand in relocations.
    pub(crate) fn relocated_dwarf(self, unit: &Unit) -> Self {
        let references = unit.text_references();
        let mut info = unit.finish(0, 0);
        for (place, _) in &references {
            info[*place..*place + 4].fill(0);
        }
        let strings = [&[0], unit.strings.as_slice()].concat();
        self.section(".debug_info", 0, info)
            .relocations(".rela.debug_info", &references)
            .section(".debug_abbrev", 0, [unit.abbrev.as_slice(), &[0]].concat())
            .section(".debug_str", 0, strings)
    }

    /// Adds a symbol table: (name, address, is global).
    pub(crate) fn symbols(mut self, symbols: &[(&str, u64, bool)]) -> Self {
        let mut strings = vec![0];
        let mut table = vec![0; 24];
        // Symbol 1 stands for the start of every section, as relocations use it.
        table.extend([0, 0, 0, 0, 3, 0, 1, 0]);
        table.extend([0; 16]);
        for (name, address, global) in symbols {
            table.extend(u32::try_from(strings.len()).unwrap().to_le_bytes());
            table.extend([u8::from(*global) << 4 | 1, 0, 1, 0]);
            table.extend(address.to_le_bytes());
            table.extend(8u64.to_le_bytes());
            strings.extend(name.as_bytes());
            strings.push(0);
        }
        let link = u32::try_from(self.sections.len()).unwrap() + 2;
        self.sections.push(Section {
            name: ".symtab",
            kind: 2,
            address: 0,
            bytes: table,
            link,
            info: 2,
            entry: 24,
        });
        self.sections.push(Section {
            name: ".strtab",
            kind: 3,
            address: 0,
            bytes: strings,
            link: 0,
            info: 0,
            entry: 0,
        });
        self
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let symtab =
            self.sections.iter().position(|s| s.kind == 2).map_or(0, |at| u32::try_from(at).unwrap() + 1);
        let mut names = vec![0];
        let mut out = vec![0; 64];
        let mut headers = vec![0; 64];
        let name_section =
            Section { name: ".shstrtab", kind: 3, address: 0, bytes: Vec::new(), link: 0, info: 0, entry: 0 };
        self.sections.push(name_section);
        let mut name_offsets = Vec::new();
        for section in &self.sections {
            name_offsets.push(u32::try_from(names.len()).unwrap());
            names.extend(section.name.as_bytes());
            names.push(0);
        }
        self.sections.last_mut().unwrap().bytes = names;
        for (section, name) in self.sections.iter().zip(name_offsets) {
            let offset = out.len() as u64;
            out.extend(&section.bytes);
            let flags: u64 = if section.address == 0 { 0 } else { 2 };
            headers.extend(le([name, section.kind]));
            for word in [flags, section.address, offset, section.bytes.len() as u64] {
                headers.extend(word.to_le_bytes());
            }
            headers.extend(le([if section.link == u32::MAX { symtab } else { section.link }, section.info]));
            headers.extend(1u64.to_le_bytes());
            headers.extend(section.entry.to_le_bytes());
        }
        let table = out.len() as u64;
        out.extend(headers);
        let count = u16::try_from(self.sections.len() + 1).unwrap();
        let mut header = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        header.extend([self.file_type, self.machine].into_iter().flat_map(u16::to_le_bytes));
        header.extend(1u32.to_le_bytes());
        header.extend([0, 0, table].into_iter().flat_map(u64::to_le_bytes));
        header.extend(0u32.to_le_bytes());
        header.extend([64, 0, 0, 64, count, count - 1].into_iter().flat_map(u16::to_le_bytes));
        out[..64].copy_from_slice(&header);
        out
    }
}

/// An attribute's value with its form.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    /// `DW_FORM_strp`.
    Text(&'a str),
    /// `DW_FORM_udata`.
    Number(u64),
    /// `DW_FORM_sdata`.
    Signed(i64),
    /// `DW_FORM_data1`.
    Byte(u8),
    /// `DW_FORM_ref4` to an entry of this unit.
    Ref(u32),
    /// `DW_FORM_flag_present`.
    Flag,
    /// `DW_FORM_exprloc`.
    Expression(&'a [u8]),
}

/// One DWARF compile unit; entries are added in order and refer to each other by the offset [`Unit::entry`] returns.
pub(crate) struct Unit {
    version: u16,
    body: Vec<u8>,
    abbrev: Vec<u8>,
    codes: u64,
    strings: Vec<u8>,
    /// Places in `body` that hold offsets in `strings`.
    texts: Vec<usize>,
}

impl Unit {
    /// A unit of a C program.
    pub(crate) fn new(version: u16) -> Self {
        Self::of(version, constants::DW_LANG_C99)
    }

    pub(crate) fn of(version: u16, language: gimli::DwLang) -> Self {
        let mut unit = Self {
            version,
            body: Vec::new(),
            abbrev: Vec::new(),
            codes: 0,
            strings: Vec::new(),
            texts: Vec::new(),
        };
        unit.entry(
            constants::DW_TAG_compile_unit,
            true,
            &[(constants::DW_AT_language, Value::Number(u64::from(language.0)))],
        );
        unit
    }

    /// `.debug_info`, `.debug_abbrev` and `.debug_str` of these units.
    pub(crate) fn sections(units: &[Self]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let (mut info, mut abbrev, mut strings) = (Vec::new(), Vec::new(), vec![0]);
        for unit in units {
            let start = strings.len();
            strings.extend(&unit.strings);
            info.extend(unit.finish(abbrev.len(), start));
            abbrev.extend(&unit.abbrev);
            abbrev.push(0);
        }
        (info, abbrev, strings)
    }

    fn header_len(&self) -> usize {
        if self.version >= 5 { 12 } else { 11 }
    }

    /// Offset the next entry will have.
    pub(crate) fn next(&self) -> u32 {
        u32::try_from(self.header_len() + self.body.len()).unwrap()
    }

    /// Adds an entry; with `children`, those follow until [`Unit::end`].
    pub(crate) fn entry(&mut self, tag: DwTag, children: bool, attributes: &[(DwAt, Value<'_>)]) -> u32 {
        let offset = self.next();
        self.codes += 1;
        leb(&mut self.abbrev, self.codes);
        leb(&mut self.abbrev, u64::from(tag.0));
        self.abbrev.push(u8::from(children));
        leb(&mut self.body, self.codes);
        for (name, value) in attributes {
            leb(&mut self.abbrev, u64::from(name.0));
            let form: DwForm = self.value(*value);
            leb(&mut self.abbrev, u64::from(form.0));
        }
        self.abbrev.extend([0, 0]);
        offset
    }

    fn value(&mut self, value: Value<'_>) -> DwForm {
        match value {
            Value::Text(text) => {
                self.texts.push(self.body.len());
                self.body.extend(u32::try_from(self.strings.len()).unwrap().to_le_bytes());
                self.strings.extend(text.as_bytes());
                self.strings.push(0);
                constants::DW_FORM_strp
            }
            Value::Number(number) => {
                leb(&mut self.body, number);
                constants::DW_FORM_udata
            }
            Value::Signed(number) => {
                // Padded to ten bytes, which is valid and needs no cleverness.
                for shift in 0..9 {
                    self.body.push(u8::try_from(number >> (7 * shift) & 0x7f).unwrap() | 0x80);
                }
                self.body.push(if number < 0 { 0x7f } else { 0 });
                constants::DW_FORM_sdata
            }
            Value::Byte(byte) => {
                self.body.push(byte);
                constants::DW_FORM_data1
            }
            Value::Ref(offset) => {
                self.body.extend(offset.to_le_bytes());
                constants::DW_FORM_ref4
            }
            Value::Flag => constants::DW_FORM_flag_present,
            Value::Expression(bytes) => {
                leb(&mut self.body, bytes.len() as u64);
                self.body.extend(bytes);
                constants::DW_FORM_exprloc
            }
        }
    }

    /// Ends the children of the innermost open entry.
    pub(crate) fn end(&mut self) {
        self.body.push(0);
    }

    /// A base type.
    pub(crate) fn base(&mut self, name: &str, size: u64) -> u32 {
        let attributes =
            [(constants::DW_AT_name, Value::Text(name)), (constants::DW_AT_byte_size, Value::Number(size))];
        self.entry(constants::DW_TAG_base_type, false, &attributes)
    }

    /// A pointer, `const`, typedef without name, ...
    pub(crate) fn modifier(&mut self, tag: DwTag, target: u32) -> u32 {
        self.entry(tag, false, &[(constants::DW_AT_type, Value::Ref(target))])
    }

    pub(crate) fn typedef(&mut self, name: &str, target: u32) -> u32 {
        let attributes =
            [(constants::DW_AT_name, Value::Text(name)), (constants::DW_AT_type, Value::Ref(target))];
        self.entry(constants::DW_TAG_typedef, false, &attributes)
    }

    /// A struct with members (name, offset, type); an empty name is anonymous.
    pub(crate) fn record(&mut self, name: &str, size: u64, members: &[(&str, u64, u32)]) -> u32 {
        self.composite(constants::DW_TAG_structure_type, name, size, members)
    }

    pub(crate) fn composite(
        &mut self,
        tag: DwTag,
        name: &str,
        size: u64,
        members: &[(&str, u64, u32)],
    ) -> u32 {
        let mut attributes = vec![(constants::DW_AT_byte_size, Value::Number(size))];
        if !name.is_empty() {
            attributes.push((constants::DW_AT_name, Value::Text(name)));
        }
        let offset = self.entry(tag, true, &attributes);
        for (name, at, ty) in members {
            let mut attributes = vec![
                (constants::DW_AT_data_member_location, Value::Number(*at)),
                (constants::DW_AT_type, Value::Ref(*ty)),
            ];
            if !name.is_empty() {
                attributes.push((constants::DW_AT_name, Value::Text(name)));
            }
            self.entry(constants::DW_TAG_member, false, &attributes);
        }
        self.end();
        offset
    }

    /// Offsets in the unit of all references to `.debug_str`, with the offsets they hold.
    pub(crate) fn text_references(&self) -> Vec<(usize, u64)> {
        let at = |place: &usize| u32::from_le_bytes(self.body[*place..*place + 4].try_into().unwrap());
        self.texts.iter().map(|place| (self.header_len() + place, u64::from(at(place)) + 1)).collect()
    }

    fn finish(&self, abbrev: usize, strings: usize) -> Vec<u8> {
        let mut body = self.body.clone();
        body.push(0);
        for place in &self.texts {
            let old = u32::from_le_bytes(body[*place..*place + 4].try_into().unwrap());
            let new = old + u32::try_from(strings).unwrap();
            body[*place..*place + 4].copy_from_slice(&new.to_le_bytes());
        }
        let mut unit = le([u32::try_from(self.header_len() + body.len() - 4).unwrap()]);
        unit.extend(self.version.to_le_bytes());
        let abbrev = u32::try_from(abbrev).unwrap().to_le_bytes();
        if self.version >= 5 {
            unit.extend([1, 8]);
            unit.extend(abbrev);
        } else {
            unit.extend(abbrev);
            unit.push(8);
        }
        unit.extend(body);
        unit
    }
}

fn leb(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let byte = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        out.push(if value == 0 { byte } else { byte | 0x80 });
        if value == 0 {
            return;
        }
    }
}

/// Builds BTF; types get ids from 1 in the order they are added.
#[derive(Default)]
pub(crate) struct BtfBuilder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl BtfBuilder {
    pub(crate) fn new() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    pub(crate) fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let offset = u32::try_from(self.strings.len()).unwrap();
        self.strings.extend(name.as_bytes());
        self.strings.push(0);
        offset
    }

    /// Adds a type record: kind, flag, vlen, size or type, and what follows the common part.
    pub(crate) fn add(
        &mut self,
        name: &str,
        kind: u32,
        flag: bool,
        vlen: u32,
        size: u32,
        rest: &[u32],
    ) -> u32 {
        let name = self.name(name);
        self.types.extend(le([name, u32::from(flag) << 31 | kind << 24 | vlen, size]));
        self.types.extend(rest.iter().flat_map(|word| word.to_le_bytes()));
        self.count += 1;
        self.count
    }

    pub(crate) fn int(&mut self, name: &str, size: u32) -> u32 {
        self.add(name, 1, false, 0, size, &[size * 8])
    }

    pub(crate) fn pointer(&mut self, target: u32) -> u32 {
        self.add("", 2, false, 0, target, &[])
    }

    pub(crate) fn typedef(&mut self, name: &str, target: u32) -> u32 {
        self.add(name, 8, false, 0, target, &[])
    }

    /// A struct (kind 4) or union (kind 5) with members (name, bit offset, bit-field width or 0, type).
    pub(crate) fn composite(
        &mut self,
        kind: u32,
        name: &str,
        size: u32,
        members: &[(&str, u32, u32, u32)],
    ) -> u32 {
        let flag = members.iter().any(|(_, _, width, _)| *width > 0);
        let mut rest = Vec::new();
        for (name, offset, width, ty) in members {
            rest.extend([self.name(name), *ty, width << 24 | offset]);
        }
        self.add(name, kind, flag, u32::try_from(members.len()).unwrap(), size, &rest)
    }

    /// An enum (kind 6) of 4 bytes.
    pub(crate) fn enumeration(&mut self, name: &str, signed: bool, values: &[(&str, i32)]) -> u32 {
        let rest: Vec<u32> =
            values.iter().flat_map(|(name, value)| [self.name(name), value.cast_unsigned()]).collect();
        self.add(name, 6, signed, u32::try_from(values.len()).unwrap(), 4, &rest)
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let (types, strings) = (self.types.len(), self.strings.len());
        let mut out = vec![0x9f, 0xeb, 1, 0];
        let word = |len: usize| u32::try_from(len).unwrap();
        out.extend(le([24, 0, word(types), word(types), word(strings)]));
        out.extend(self.types);
        out.extend(self.strings);
        out
    }
}
