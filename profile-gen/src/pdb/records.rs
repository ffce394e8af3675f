//! CodeView type records of the TPI stream, read one at a time.
//!
//! Own reading instead of `pdb2`'s: a record with an unknown leaf must not hide its neighbours, a member list must
//! not be lost with one unknown entry, and no count in the file may size an allocation (`LF_ARGLIST`). Layouts of the
//! records: Microsoft's `cvinfo.h` (microsoft-pdb) and LLVM's `CodeViewTypes.def`. All numbers are little-endian.

/// First index of the TPI stream that is no primitive.
const FIRST_RECORD: u32 = 0x1000;
/// Most continuations of one list of members; MSVC starts a new record every 64 KB.
const MAX_CONTINUATIONS: usize = 4096;

/// Names of records below this leaf have a length byte in front, later ones end with NUL (`LF_ST_MAX`).
const LF_ST_MAX: u16 = 0x1500;
/// Property bits of records: only a declaration; a decorated name follows the name.
const FORWARD: u32 = 0x80;
const HAS_UNIQUE_NAME: u32 = 0x200;

/// Bytes read from the front; `None` at the end.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A numeric leaf: small values stand for themselves, larger ones follow a leaf that says how many bytes.
    fn numeric(&mut self) -> Option<i128> {
        Some(match self.u16()? {
            small @ 0..0x8000 => i128::from(small),
            0x8000 => i128::from(i8::from_le_bytes(self.array()?)),
            0x8001 => i128::from(i16::from_le_bytes(self.array()?)),
            0x8002 => i128::from(self.u16()?),
            0x8003 => i128::from(i32::from_le_bytes(self.array()?)),
            0x8004 => i128::from(self.u32()?),
            0x8009 => i128::from(i64::from_le_bytes(self.array()?)),
            0x800a => i128::from(u64::from_le_bytes(self.array()?)),
            0x8017 | 0x8018 => i128::from_le_bytes(self.array()?),
            _ => return None,
        })
    }

    /// A size or offset: a numeric leaf that is not negative.
    fn unsigned(&mut self) -> Option<u64> {
        self.numeric().and_then(|value| u64::try_from(value).ok())
    }

    fn name(&mut self, leaf: u16) -> Option<&'a [u8]> {
        let (name, rest) = if leaf < LF_ST_MAX {
            let [len] = self.array()?;
            self.0.split_at_checked(usize::from(len))?
        } else {
            let end = self.0.iter().position(|&byte| byte == 0)?;
            (self.0.get(..end)?, self.0.get(end + 1..)?)
        };
        self.0 = rest;
        Some(name)
    }

    /// Skips the bytes `0xf0..=0xff` that align the entries of a list; the low half says how many to skip.
    fn padding(&mut self) {
        while let Some(&byte) = self.0.first().filter(|&&byte| byte >= 0xf0) {
            self.0 = self.0.get(usize::from(byte & 0xf).max(1)..).unwrap_or_default();
        }
    }
}

/// A struct, class, interface or union.
#[derive(Debug, Clone, Copy)]
pub(super) struct Udt<'a> {
    /// Index of the list of members; 0 where there is none.
    pub(super) fields: u32,
    /// Bytes.
    pub(super) size: u64,
    pub(super) name: &'a [u8],
    /// The decorated name, which tells apart types that share a name.
    pub(super) unique_name: Option<&'a [u8]>,
    /// Whether it is only a declaration.
    pub(super) forward: bool,
}

/// An enumeration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Enumeration<'a> {
    pub(super) fields: u32,
    /// Index of the integer that stores it.
    pub(super) underlying: u32,
    pub(super) name: &'a [u8],
    pub(super) unique_name: Option<&'a [u8]>,
    pub(super) forward: bool,
}

/// One type record. Numbers are type indexes unless said otherwise.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leaf<'a> {
    /// `const`, `volatile`, or another name of a type.
    Alias(u32),
    Pointer {
        target: u32,
        /// Bits 0-4 kind, 5-7 mode, 13-18 size in bytes (`lfPointerAttr`).
        attributes: u32,
    },
    Array {
        element: u32,
        bytes: u64,
    },
    Udt(Udt<'a>),
    Enum(Enumeration<'a>),
    /// A function; `arguments` is the index of an argument list.
    Procedure {
        arguments: u32,
    },
    BitField {
        target: u32,
        /// Bits.
        length: u8,
        /// First bit.
        position: u8,
    },
    /// Parts of other records, or nothing that carries layout: lists, tables of virtual functions, source lines.
    NoLayout,
    /// A leaf this reader does not know.
    Unknown(u16),
    /// A record that is too short for its leaf.
    Damaged,
}

/// An entry of a list of members.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry<'a> {
    Member {
        ty: u32,
        /// Bytes from the start of the record.
        offset: u64,
        name: &'a [u8],
    },
    /// A base class at a fixed offset in bytes.
    Base {
        ty: u32,
        offset: u64,
    },
    Enumerator {
        value: i128,
        name: &'a [u8],
    },
    /// Methods, static members, nested types, virtual bases: nothing at a fixed offset.
    NoLayout,
    /// An entry this reader does not know; what follows it in the same record cannot be read.
    Unknown(u16),
    /// The list ends in the middle of an entry, or names a continuation that does not exist.
    Damaged,
}

/// All records of a TPI stream by type index.
pub(super) struct Records<'a> {
    /// Leaf and contents of each record, and its offset in the stream after the length.
    records: Vec<(&'a [u8], usize)>,
    /// Whether the stream ends in the middle of a record.
    pub(super) truncated: bool,
}

impl<'a> Records<'a> {
    /// Splits the stream; `None` where its header is none. An empty stream has no types.
    pub(super) fn new(stream: &'a [u8]) -> Option<Self> {
        let mut records = Self { records: Vec::new(), truncated: false };
        if stream.is_empty() {
            return Some(records);
        }
        let mut cursor = Cursor(stream);
        let _version = cursor.u32()?;
        let header_size = cursor.u32()? as usize;
        let (first, end) = (cursor.u32()?, cursor.u32()?);
        if first != FIRST_RECORD || end < first {
            return None;
        }
        let count = (end - first) as usize;
        let mut rest = Cursor(stream.get(header_size..)?);
        while records.records.len() < count {
            let Some(length) = rest.u16() else { break };
            let offset = stream.len() - rest.0.len();
            let Some((record, tail)) = rest.0.split_at_checked(usize::from(length)) else { break };
            rest.0 = tail;
            records.records.push((record, offset));
        }
        records.truncated = records.records.len() < count;
        Some(records)
    }

    /// Index and record of every type, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Leaf<'a>)> {
        (FIRST_RECORD..).zip(&self.records).map(|(index, (record, _))| (index, leaf(record)))
    }

    /// The record of an index; [`Leaf::Damaged`] where there is none.
    pub(super) fn get(&self, index: u32) -> Leaf<'a> {
        self.raw(index).map_or(Leaf::Damaged, |(record, _)| leaf(record))
    }

    /// Where a record stands in the stream, in bytes, after its length.
    pub(super) fn offset(&self, index: u32) -> usize {
        self.raw(index).map_or(0, |(_, offset)| offset)
    }

    fn raw(&self, index: u32) -> Option<(&'a [u8], usize)> {
        self.records.get(index.checked_sub(FIRST_RECORD)? as usize).copied()
    }

    /// Types of the arguments of a function. The list is as long as the record, whatever its count says.
    pub(super) fn arguments(&self, index: u32) -> impl Iterator<Item = u32> + use<'a> {
        let mut cursor = Cursor(self.raw(index).map_or(&[], |(record, _)| record));
        let is_list = cursor.u16() == Some(0x1201);
        let count = if is_list { cursor.u32().unwrap_or(0) } else { 0 };
        (0..count).map_while(move |_| cursor.u32())
    }

    /// The entries of a list of members and of its continuations.
    pub(super) fn entries(&self, index: u32) -> Entries<'_, 'a> {
        let mut entries = Entries { records: self, cursor: Cursor(&[]), continuations: MAX_CONTINUATIONS };
        if index != 0 && !entries.open(index) {
            entries.continuations = 0;
        }
        entries
    }
}

/// Entries of a list of members.
pub(super) struct Entries<'r, 'a> {
    records: &'r Records<'a>,
    cursor: Cursor<'a>,
    continuations: usize,
}

impl Entries<'_, '_> {
    /// Goes on with the list of this index.
    fn open(&mut self, index: u32) -> bool {
        let Some((record, _)) = self.records.raw(index) else { return false };
        self.cursor = Cursor(record);
        self.cursor.u16() == Some(0x1203)
    }
}

impl<'a> Iterator for Entries<'_, 'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            self.cursor.padding();
            if self.cursor.0.is_empty() {
                return None;
            }
            match entry(&mut self.cursor) {
                Some(Step::Entry(entry)) => {
                    if let Entry::Unknown(_) = entry {
                        self.cursor.0 = &[];
                    }
                    return Some(entry);
                }
                Some(Step::Continue(index)) if self.continuations > 0 => {
                    self.continuations -= 1;
                    if !self.open(index) {
                        self.cursor.0 = &[];
                        return Some(Entry::Damaged);
                    }
                }
                _ => {
                    self.cursor.0 = &[];
                    return Some(Entry::Damaged);
                }
            }
        }
    }
}

enum Step<'a> {
    Entry(Entry<'a>),
    /// The list goes on in the record of this index.
    Continue(u32),
}

/// Reads one entry; `None` where it is cut off.
fn entry<'a>(cursor: &mut Cursor<'a>) -> Option<Step<'a>> {
    let leaf = cursor.u16()?;
    Some(Step::Entry(match leaf {
        // LF_MEMBER: attributes, type, offset, name.
        0x150d | 0x1405 => {
            cursor.u16()?;
            let ty = cursor.u32()?;
            Entry::Member { ty, offset: cursor.unsigned()?, name: cursor.name(leaf)? }
        }
        // LF_ENUMERATE: attributes, value, name.
        0x1502 | 0x0403 => {
            cursor.u16()?;
            Entry::Enumerator { value: cursor.numeric()?, name: cursor.name(leaf)? }
        }
        // LF_BCLASS, LF_BINTERFACE: attributes, type, offset.
        0x1400 | 0x151a => {
            cursor.u16()?;
            let ty = cursor.u32()?;
            Entry::Base { ty, offset: cursor.unsigned()? }
        }
        // LF_VBCLASS, LF_IVBCLASS: attributes, type, type of the pointer, its offset, index into the table.
        0x1401 | 0x1402 => {
            cursor.array::<10>()?;
            cursor.numeric()?;
            cursor.numeric()?;
            Entry::NoLayout
        }
        // LF_INDEX.
        0x1404 => {
            cursor.u16()?;
            return cursor.u32().map(Step::Continue);
        }
        // LF_VFUNCTAB, LF_FRIENDCLS: padding, type.
        0x1409 | 0x140a => {
            cursor.array::<6>()?;
            Entry::NoLayout
        }
        // LF_VFUNCOFF: padding, type, offset of the table.
        0x140c => {
            cursor.array::<10>()?;
            Entry::NoLayout
        }
        // LF_STMEMBER, LF_METHOD, LF_NESTTYPE, LF_NESTTYPEEX, LF_MEMBERMODIFY, LF_FRIENDFCN: 2 bytes, type, name.
        0x150e | 0x1406 | 0x150f | 0x1407 | 0x1510 | 0x1408 | 0x1512 | 0x140d | 0x1513 | 0x140e | 0x150c
        | 0x1403 => {
            cursor.array::<6>()?;
            cursor.name(leaf)?;
            Entry::NoLayout
        }
        // LF_ONEMETHOD: attributes, type, place in the table where the method introduces one, name.
        0x1511 | 0x140b => {
            let attributes = cursor.u16()?;
            cursor.u32()?;
            if matches!((attributes >> 2) & 7, 4 | 6) {
                cursor.u32()?;
            }
            cursor.name(leaf)?;
            Entry::NoLayout
        }
        other => Entry::Unknown(other),
    }))
}

fn leaf(record: &[u8]) -> Leaf<'_> {
    parse_leaf(Cursor(record)).unwrap_or(Leaf::Damaged)
}

/// Reads one record; `None` where it is too short.
fn parse_leaf(mut cursor: Cursor<'_>) -> Option<Leaf<'_>> {
    let leaf = cursor.u16()?;
    Some(match leaf {
        // LF_MODIFIER, LF_ALIAS, LF_ALIAS_ST.
        0x1001 | 0x150a | 0x1010 => Leaf::Alias(cursor.u32()?),
        0x1002 => Leaf::Pointer { target: cursor.u32()?, attributes: cursor.u32()? },
        // LF_ARRAY, LF_ARRAY_ST: element, type of the index, bytes.
        0x1503 | 0x1003 => {
            let element = cursor.u32()?;
            cursor.u32()?;
            Leaf::Array { element, bytes: cursor.unsigned()? }
        }
        // LF_STRIDED_ARRAY, with the distance of elements in bytes.
        0x1516 => {
            let element = cursor.u32()?;
            cursor.array::<8>()?;
            Leaf::Array { element, bytes: cursor.unsigned()? }
        }
        // LF_CLASS, LF_STRUCTURE, LF_INTERFACE: count, properties, members, derivation, table shape, size.
        0x1504 | 0x1505 | 0x1519 | 0x1004 | 0x1005 => {
            cursor.u16()?;
            let properties = cursor.u16()?.into();
            let fields = cursor.u32()?;
            cursor.array::<8>()?;
            Leaf::Udt(udt(cursor, leaf, properties, fields)?)
        }
        // LF_CLASS2, LF_STRUCTURE2, LF_INTERFACE2 of newer compilers.
        0x1608 | 0x1609 | 0x160b => {
            let (properties, fields) = (cursor.u32()?, cursor.u32()?);
            cursor.array::<10>()?;
            Leaf::Udt(udt(cursor, leaf, properties, fields)?)
        }
        // LF_UNION: count, properties, members, size.
        0x1506 | 0x1006 => {
            cursor.u16()?;
            let properties = cursor.u16()?.into();
            let fields = cursor.u32()?;
            Leaf::Udt(udt(cursor, leaf, properties, fields)?)
        }
        // LF_UNION2.
        0x160a => {
            let (properties, fields) = (cursor.u32()?, cursor.u32()?);
            cursor.u16()?;
            Leaf::Udt(udt(cursor, leaf, properties, fields)?)
        }
        // LF_ENUM: count, properties, integer, members.
        0x1507 | 0x1007 => {
            cursor.u16()?;
            let properties = u32::from(cursor.u16()?);
            let (underlying, fields) = (cursor.u32()?, cursor.u32()?);
            let name = cursor.name(leaf)?;
            let unique_name = unique_name(cursor, leaf, properties);
            Leaf::Enum(Enumeration {
                fields,
                underlying,
                name,
                unique_name,
                forward: properties & FORWARD != 0,
            })
        }
        // LF_PROCEDURE: result, convention, count, arguments.
        0x1008 => {
            cursor.array::<8>()?;
            Leaf::Procedure { arguments: cursor.u32()? }
        }
        // LF_MFUNCTION, with class and type of `this` after the result.
        0x1009 => {
            cursor.array::<16>()?;
            Leaf::Procedure { arguments: cursor.u32()? }
        }
        0x1205 => {
            let target = cursor.u32()?;
            let [length, position] = cursor.array::<2>()?;
            // No integer is wider, and readers of profiles refuse a field that is.
            (u16::from(length) + u16::from(position) <= 128).then_some(())?;
            Leaf::BitField { target, length, position }
        }
        // LF_VTSHAPE, LF_LABEL, LF_NULL, LF_ENDPRECOMP, LF_SKIP, LF_ARGLIST, LF_FIELDLIST, LF_DERIVED, LF_METHODLIST,
        // LF_VFTABLE, and the leaves of the ID stream.
        0x000a
        | 0x000e
        | 0x000f
        | 0x0014
        | 0x1200
        | 0x1201
        | 0x1203
        | 0x1204
        | 0x1206
        | 0x151d
        | 0x1601..=0x1607 => Leaf::NoLayout,
        other => Leaf::Unknown(other),
    })
}

fn udt<'a>(mut cursor: Cursor<'a>, leaf: u16, properties: u32, fields: u32) -> Option<Udt<'a>> {
    let size = cursor.unsigned()?;
    let name = cursor.name(leaf)?;
    let unique_name = unique_name(cursor, leaf, properties);
    Some(Udt { fields, size, name, unique_name, forward: properties & FORWARD != 0 })
}

fn unique_name<'a>(mut cursor: Cursor<'a>, leaf: u16, properties: u32) -> Option<&'a [u8]> {
    if properties & HAS_UNIQUE_NAME == 0 {
        return None;
    }
    cursor.name(leaf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_fields_beyond_every_integer_are_damaged() {
        // LF_BITFIELD of the type 0x74: length and position.
        let field = |length, position| [0x05, 0x12, 0x74, 0, 0, 0, length, position];
        assert!(matches!(leaf(&field(1, 127)), Leaf::BitField { length: 1, position: 127, .. }));
        assert!(matches!(leaf(&field(1, 128)), Leaf::Damaged));
        assert!(matches!(leaf(&field(255, 255)), Leaf::Damaged));
    }
}
