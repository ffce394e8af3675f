//! BTF, the compact type format every modern kernel carries (`.BTF` of `vmlinux`, `/sys/kernel/btf/vmlinux`).
//!
//! Structure: a header, then type records and strings. Type ids count from 1; 0 is void. Source: the kernel's
//! `Documentation/bpf/btf.rst` and `include/uapi/linux/btf.h`. [`parse`] is a pure function of the bytes; it takes the
//! base BTF of a kernel. The split BTF of a module, whose ids and names continue those of the base, is for [`parse_split`].

use std::ffi::CStr;

use crate::types::{Enumeration, Enumerator, Id, Member, Node, Place, Record, RecordKind, Table};

/// First two bytes of BTF, little-endian.
pub const MAGIC: u16 = 0xeb9f;
const MAX_NAME: usize = 1024;

/// Why bytes are no BTF.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// Another magic number, or big-endian BTF.
    #[error("not BTF: magic is {0:#06x}, not {MAGIC:#06x}")]
    Magic(u16),
    /// The version or flags are not those of any published BTF.
    #[error("unknown BTF version {version} or flags {flags:#x}")]
    Version {
        /// Version field.
        version: u8,
        /// Flags field.
        flags: u8,
    },
    /// A section lies outside the bytes.
    #[error("damaged BTF: {0} lies outside the data")]
    Outside(&'static str),
    /// A type record is cut off or of unknown kind.
    #[error("damaged BTF: type {id}: {reason}")]
    Type {
        /// Type id, counting from 1.
        id: u32,
        /// What is wrong.
        reason: &'static str,
    },
    /// Type ids or names go beyond the data, as they do in a module's BTF, which continues that of its kernel.
    #[error(
        "this is the BTF of a module, which is incomplete without that of its kernel; convert the kernel's"
    )]
    Split,
    /// No struct at all.
    #[error("damaged BTF: it defines no struct")]
    Empty,
}

/// Parsed BTF: all types of one kernel.
#[derive(Debug)]
pub struct Btf<'d> {
    pub(crate) table: Table<'d>,
    /// By node: how many members, parameters and variables are of that type, possibly behind pointers; decides which
    /// of several definitions keeps the plain name.
    pub(crate) uses: Vec<u32>,
    /// The first type that is not of the base.
    pub(crate) first: Id,
}

impl Btf<'_> {
    /// Number of type records.
    #[must_use]
    pub fn type_count(&self) -> usize {
        self.table.nodes.len().saturating_sub(1)
    }

    /// Whether a struct or union of this name is defined.
    #[must_use]
    pub fn defines(&self, name: &str) -> bool {
        self.table.records.iter().any(|record| record.complete && record.name == name.as_bytes())
    }
}

mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const PTR: u32 = 2;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const FWD: u32 = 7;
    pub(super) const TYPEDEF: u32 = 8;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const FLOAT: u32 = 16;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

/// Length in bytes of the BTF that starts at `bytes`, from its header alone; `None` where there is no plausible header.
///
/// For finding BTF in memory: the magic occurs by chance, so [`parse`] has the last word.
#[must_use]
pub fn total_len(bytes: &[u8]) -> Option<usize> {
    let header = Header::parse(bytes).ok()?;
    (header.type_len > 0 && header.str_len > 0).then(|| header.end()).flatten()
}

/// Parses the BTF at the start of `bytes`; what follows it is ignored.
///
/// # Errors
/// [`BtfError`] with the first thing that is wrong.
pub fn parse(bytes: &[u8]) -> Result<Btf<'_>, BtfError> {
    let mut parser = Parser::new();
    parser.section(bytes)?;
    parser.finish(1)
}

/// Parses the BTF of a module, `split`, on top of that of its kernel, `base`: the types of both.
///
/// # Errors
/// [`BtfError`] with the first thing that is wrong with either.
pub fn parse_split<'d>(base: &'d [u8], split: &'d [u8]) -> Result<Btf<'d>, BtfError> {
    let mut parser = Parser::new();
    parser.section(base)?;
    let first = parser.id.saturating_add(1);
    parser.section(split)?;
    parser.finish(first)
}

struct Header {
    header_len: usize,
    type_off: usize,
    type_len: usize,
    str_off: usize,
    str_len: usize,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let mut words = Words { bytes, at: 0 };
        let first = words.next().ok_or(BtfError::Outside("the header"))?;
        let [low, high, version, flags] = first.to_le_bytes();
        let magic = u16::from_le_bytes([low, high]);
        if magic != MAGIC {
            return Err(BtfError::Magic(magic));
        }
        if version != 1 || flags != 0 {
            return Err(BtfError::Version { version, flags });
        }
        let mut field = || words.next().map(|word| word as usize).ok_or(BtfError::Outside("the header"));
        let header = Self {
            header_len: field()?,
            type_off: field()?,
            type_len: field()?,
            str_off: field()?,
            str_len: field()?,
        };
        if header.header_len < 24 {
            return Err(BtfError::Outside("the header"));
        }
        Ok(header)
    }

    fn end(&self) -> Option<usize> {
        let types = self.type_off.checked_add(self.type_len)?;
        let strings = self.str_off.checked_add(self.str_len)?;
        self.header_len.checked_add(types.max(strings))
    }
}

/// Little-endian 32-bit words, the unit of all of BTF.
struct Words<'d> {
    bytes: &'d [u8],
    at: usize,
}

impl Words<'_> {
    fn next(&mut self) -> Option<u32> {
        let word = self.bytes.get(self.at..)?.first_chunk::<4>()?;
        self.at += 4;
        Some(u32::from_le_bytes(*word))
    }
}

struct Parser<'d> {
    types: Words<'d>,
    /// Names of the base; empty while it is read itself.
    base_strings: &'d [u8],
    strings: &'d [u8],
    table: Table<'d>,
    /// Some enum is marked as signed, so the generator knows signs (pahole 1.24 and later).
    signs_known: bool,
    /// Whether each enum is marked as signed.
    enums: Vec<bool>,
    /// Members of structs without the bit-field flag, whose width may be that of a special integer type.
    legacy_bits: Vec<(usize, u64)>,
    /// Types of parameters, returned values and variables.
    used: Vec<Id>,
    id: u32,
}

impl<'d> Parser<'d> {
    fn new() -> Self {
        Self {
            types: Words { bytes: &[], at: 0 },
            base_strings: &[],
            strings: &[],
            table: Table::new(8),
            signs_known: false,
            enums: Vec::new(),
            legacy_bits: Vec::new(),
            used: Vec::new(),
            id: 0,
        }
    }

    /// Takes all types of one BTF, which continue those of the one before.
    fn section(&mut self, bytes: &'d [u8]) -> Result<(), BtfError> {
        let header = Header::parse(bytes)?;
        let section = |what, offset: usize, len: usize| {
            let start = header.header_len.checked_add(offset);
            start.and_then(|s| bytes.get(s..s.checked_add(len)?)).ok_or(BtfError::Outside(what))
        };
        self.types = Words { bytes: section("the type section", header.type_off, header.type_len)?, at: 0 };
        self.base_strings = self.strings;
        self.strings = section("the string section", header.str_off, header.str_len)?;
        while self.types.at < self.types.bytes.len() {
            self.id = self.id.saturating_add(1);
            self.record()?;
        }
        Ok(())
    }

    fn damaged(&self, reason: &'static str) -> BtfError {
        BtfError::Type { id: self.id, reason }
    }

    fn word(&mut self) -> Result<u32, BtfError> {
        self.types.next().ok_or(self.damaged("cut off"))
    }

    /// A name; empty for offset 0.
    fn name(&self, offset: u32) -> Result<&'d [u8], BtfError> {
        // Names of split BTF continue the strings of its base.
        let own = (offset as usize).checked_sub(self.base_strings.len());
        let rest = match own {
            Some(own) => self.strings.get(own..),
            None => self.base_strings.get(offset as usize..),
        };
        let rest = rest.ok_or(BtfError::Split)?;
        let bounded = rest.get(..=MAX_NAME).unwrap_or(rest);
        CStr::from_bytes_until_nul(bounded).map(CStr::to_bytes).map_err(|_| self.damaged("name without end"))
    }

    fn record(&mut self) -> Result<(), BtfError> {
        let (name, info, size) = (self.word()?, self.word()?, self.word()?);
        let name = self.name(name)?;
        let (count, kind, flag) = (info & 0xffff, info >> 24 & 0x1f, info >> 31 == 1);
        let node = match kind {
            kind::INT => {
                let encoding = self.word()?;
                let (bit_offset, bits) = (encoding >> 16 & 0xff, encoding & 0xff);
                self.integer(name, u64::from(size), bit_offset, bits)
            }
            kind::FLOAT => Node::Base { name, size: u64::from(size) },
            kind::PTR => Node::Pointer(size),
            kind::ARRAY => {
                let (element, _index, elements) = (self.word()?, self.word()?, self.word()?);
                Node::Array { target: element, count: u64::from(elements) }
            }
            kind::STRUCT | kind::UNION => self.composite(kind, name, size, count, flag)?,
            kind::ENUM | kind::ENUM64 => self.enumeration(kind == kind::ENUM64, name, size, count, flag)?,
            kind::FWD => {
                let kind = if flag { RecordKind::Union } else { RecordKind::Struct };
                self.add_record(Record { kind, name, size: 0, complete: false, members: 0..0 })?
            }
            kind::TYPEDEF => Node::Alias { name, target: size },
            kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                Node::Alias { name: &[], target: size }
            }
            kind::FUNC_PROTO => {
                self.used.push(size); // what it returns
                for _ in 0..count {
                    let (_name, parameter) = (self.word()?, self.word()?);
                    self.used.push(parameter);
                }
                Node::Function
            }
            kind::FUNC => Node::Void,
            kind::VAR => {
                self.used.push(size);
                self.word()?; // linkage
                Node::Void
            }
            kind::DECL_TAG => {
                self.word()?; // component
                Node::Void
            }
            kind::DATASEC => {
                for _ in 0..count {
                    let _variable = (self.word()?, self.word()?, self.word()?);
                }
                Node::Void
            }
            _ => return Err(self.damaged("unknown kind")),
        };
        self.table.nodes.push(node);
        Ok(())
    }

    /// An integer type. Older generators made special ones, narrower than their size, for bit-fields.
    fn integer(&mut self, name: &'d [u8], size: u64, bit_offset: u32, bits: u32) -> Node<'d> {
        let node = Node::Base { name, size };
        if bit_offset != 0 || u64::from(bits) != size.saturating_mul(8) {
            self.legacy_bits.push((self.id as usize, u64::from(bit_offset) << 32 | u64::from(bits)));
        }
        if matches!(name, b"long unsigned int" | b"long int" | b"unsigned long" | b"long") && size == 4 {
            self.table.address_size = 4;
        }
        node
    }

    fn add_record(&mut self, record: Record<'d>) -> Result<Node<'d>, BtfError> {
        let index = u32::try_from(self.table.records.len()).map_err(|_| self.damaged("too many types"))?;
        self.table.records.push(record);
        Ok(Node::Record(index))
    }

    fn composite(
        &mut self,
        kind: u32,
        name: &'d [u8],
        size: u32,
        count: u32,
        bit_fields: bool,
    ) -> Result<Node<'d>, BtfError> {
        let start = self.table.members.len();
        for _ in 0..count {
            let (name, ty, offset) = (self.word()?, self.word()?, self.word()?);
            let name = self.name(name)?;
            let (offset, width) = if bit_fields {
                (u64::from(offset & 0x00ff_ffff), u64::from(offset >> 24))
            } else {
                (u64::from(offset), 0)
            };
            let place = match width {
                0 if offset.is_multiple_of(8) => Place::Bytes(offset / 8),
                // Without the flag the width is that of the type; `finish` knows it.
                len => Place::Bits { offset, len },
            };
            self.table.members.push(Member { name, ty, place });
        }
        let index = |at: usize| u32::try_from(at).map_err(|_| self.damaged("too many members"));
        let members = index(start)?..index(self.table.members.len())?;
        let kind = if kind == kind::UNION { RecordKind::Union } else { RecordKind::Struct };
        self.add_record(Record { kind, name, size: u64::from(size), complete: true, members })
    }

    fn enumeration(
        &mut self,
        wide: bool,
        name: &'d [u8],
        size: u32,
        count: u32,
        signed: bool,
    ) -> Result<Node<'d>, BtfError> {
        let start = self.table.enumerators.len();
        for _ in 0..count {
            let (name, low) = (self.word()?, self.word()?);
            let value = if wide {
                let bits = u64::from(self.word()?) << 32 | u64::from(low);
                if signed { i128::from(bits.cast_signed()) } else { i128::from(bits) }
            } else if signed {
                i128::from(low.cast_signed())
            } else {
                i128::from(low)
            };
            self.table.enumerators.push(Enumerator { name: self.name(name)?, value });
        }
        let index = |at: usize| u32::try_from(at).map_err(|_| self.damaged("too many enumerators"));
        let values = index(start)?..index(self.table.enumerators.len())?;
        let at = index(self.table.enums.len())?;
        self.signs_known |= signed || wide;
        self.enums.push(signed);
        // An enum without values is a forward declaration.
        let complete = count > 0;
        self.table.enums.push(Enumeration { name, size: u64::from(size), signed, complete, values });
        Ok(Node::Enum(at))
    }

    fn finish(mut self, first: Id) -> Result<Btf<'d>, BtfError> {
        let count = self.table.nodes.len();
        let known = |id: Id| if (id as usize) < count { Ok(id) } else { Err(BtfError::Split) };
        for node in &self.table.nodes {
            if let Node::Pointer(target) | Node::Array { target, .. } | Node::Alias { target, .. } = node {
                known(*target)?;
            }
        }
        let mut uses = vec![1u32; count];
        for id in self.used.iter().copied().chain(self.table.members.iter().map(|member| member.ty)) {
            let reached = self.table.pointed(known(id)?);
            if let Some(slot) = uses.get_mut(reached as usize) {
                *slot = slot.saturating_add(1);
            }
        }
        if self.table.records.iter().all(|record| !record.complete) {
            return Err(BtfError::Empty);
        }
        self.legacy_bit_fields();
        if !self.signs_known {
            self.guess_signs();
        }
        Ok(Btf { table: self.table, uses, first })
    }

    /// Bit-fields of generators before the flag existed (Linux 4.20): their type is an integer with its own width.
    fn legacy_bit_fields(&mut self) {
        let narrow: std::collections::HashMap<usize, u64> = self.legacy_bits.drain(..).collect();
        for at in 0..self.table.members.len() {
            let Some(member) = self.table.members.get(at).copied() else { return };
            let (offset, len) = match member.place {
                Place::Bytes(offset) => (offset.saturating_mul(8), 0),
                Place::Bits { offset, len } => (offset, len),
            };
            if len != 0 {
                continue;
            }
            let ty = self.table.strip(member.ty);
            let place = match narrow.get(&(ty as usize)) {
                Some(packed) => {
                    Place::Bits { offset: offset.saturating_add(packed >> 32), len: packed & 0xff }
                }
                // A member that starts inside a byte but has a whole type: width of the type.
                None if !offset.is_multiple_of(8) => {
                    Place::Bits { offset, len: self.table.size_of(ty).unwrap_or(0).saturating_mul(8) }
                }
                None => continue,
            };
            if let Some(member) = self.table.members.get_mut(at) {
                member.place = place;
            }
        }
    }

    /// Generators that know no signs store 32 bits; like the kernel of that time, read them as signed.
    fn guess_signs(&mut self) {
        for enumeration in &mut self.table.enums {
            let range = enumeration.values.start as usize..enumeration.values.end as usize;
            let values = self.table.enumerators.get_mut(range).unwrap_or_default();
            let top = |v: &Enumerator<'_>| v.value > i128::from(i32::MAX);
            // A mask or flag in bit 31 next to small values is as likely as -1; only values near zero are taken as negative.
            let negative = values.iter().any(|v| top(v) && v.value >= i128::from(u32::MAX) - 0xffff);
            if negative {
                enumeration.signed = true;
                for value in values.iter_mut().filter(|v| top(v)) {
                    value.value -= 1 << 32;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
