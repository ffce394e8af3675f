//! Identity of types: equal layouts in different units have equal hashes; one of them is kept as a [`Layout`].
//!
//! What belongs to a layout: its name, its size, names and places of its members and their types. Types that are
//! held by value belong with their whole content, types behind a pointer with their name only. So a struct whose
//! embedded struct differs is another layout, and a pointer to a type that one unit knows and another does not
//! makes no difference.

use super::hash::Hash64;
use super::{Enumeration, Id, MAX_ALIASES, Member, Node, Place, Record, RecordKind, Table, VOID};

/// Deepest nesting of types by value or through pointers to anonymous types; C code stays below 20.
const MAX_DEPTH: u32 = 100;
/// Deepest nesting of pointers and arrays in one member; beyond the reader's limit nothing could read it back.
const MAX_REF_DEPTH: usize = profile::MAX_TYPE_NESTING - 4;

/// The two name spaces of C in which a type may be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Space {
    /// `struct NAME`, `union NAME`, `enum NAME`.
    Tag,
    /// The typedef that gives an anonymous type its name.
    Typedef,
}

/// One distinct definition, owned.
#[derive(Debug)]
pub(crate) struct Layout {
    /// `None` for an anonymous type.
    pub(crate) name: Option<Box<str>>,
    pub(crate) shape: Shape,
}

/// What is defined.
#[derive(Debug)]
pub(crate) enum Shape {
    Record { size: u64, fields: Vec<Field> },
    Enum { size: u64, signed: bool, values: Vec<(Box<str>, i128)> },
}

/// A member of a record.
#[derive(Debug)]
pub(crate) struct Field {
    /// `None` for an anonymous struct or union.
    pub(crate) name: Option<Box<str>>,
    /// Bytes from the start of the record.
    pub(crate) offset: u64,
    pub(crate) ty: Ref,
}

/// A type as a member or a global variable uses it. In the order of how much is known, as the merger compares them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ref {
    Void,
    Function,
    Base(Box<str>),
    Pointer(Box<Ref>),
    Array(u64, Box<Ref>),
    /// Bits `start..end` of an integer. `declared` is what the source declares: an integer, `_Bool` or enum;
    /// `unit` is the size of the integer to read where that is another one.
    Bits {
        start: u32,
        end: u32,
        declared: Box<Ref>,
        unit: Option<u64>,
    },
    /// A record behind a pointer: which of the definitions of that name is meant is known after merging.
    Named {
        key: u64,
        name: Box<str>,
    },
    /// A definition by identity: held by value, or anonymous.
    Layout(u64),
}

/// Hash of a name in its name space.
pub(crate) fn name_key(space: Space, name: &[u8]) -> u64 {
    let mut hash = Hash64::new(if space == Space::Tag { 20 } else { 21 });
    hash.text(name);
    hash.finish()
}

/// A record or enum and the name under which C code knows it: its tag, else the typedef through which it is reached.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Definition<'t, 'd> {
    Record(&'t Record<'d>, Option<Name<'d>>),
    Enum(&'t Enumeration<'d>, Option<Name<'d>>),
}

type Name<'d> = (Space, &'d [u8]);

impl<'d> Definition<'_, 'd> {
    pub(crate) fn name(&self) -> Option<Name<'d>> {
        match self {
            Self::Record(_, name) | Self::Enum(_, name) => *name,
        }
    }

    /// Whether there is more than a declaration.
    pub(crate) fn is_complete(&self) -> bool {
        match self {
            Self::Record(record, _) => record.complete,
            Self::Enum(enumeration, _) => enumeration.complete,
        }
    }
}

/// Computes identities over one table.
pub(crate) struct Layouts<'t, 'd> {
    table: &'t Table<'d>,
    /// Hash of each node as held by value; 0 = not computed, 1 = being computed.
    hashes: Vec<u64>,
}

impl<'t, 'd> Layouts<'t, 'd> {
    pub(crate) fn new(table: &'t Table<'d>) -> Self {
        Self { table, hashes: vec![0; table.nodes.len()] }
    }

    /// What a node defines: a record, an enum, or a typedef that gives an anonymous one its name. The same anonymous
    /// type may have several such names: C code repeats contents, and BTF stores equal contents once.
    pub(crate) fn definition(&self, id: Id) -> Option<Definition<'t, 'd>> {
        let (inner, typedef) = match self.table.node(id) {
            Node::Alias { name: [], .. } => return None,
            Node::Alias { name, target } => {
                (self.table.node(through_qualifiers(self.table, target)), Some((Space::Typedef, name)))
            }
            node => (node, None),
        };
        let known_as = |tag: &'d [u8]| if tag.is_empty() { typedef } else { Some((Space::Tag, tag)) };
        let definition = match inner {
            Node::Record(at) => {
                let record = self.table.records.get(at as usize)?;
                Definition::Record(record, known_as(record.name))
            }
            Node::Enum(at) => {
                let enumeration = self.table.enums.get(at as usize)?;
                Definition::Enum(enumeration, known_as(enumeration.name))
            }
            _ => return None,
        };
        // A typedef of a tagged type defines nothing.
        let tagged = matches!(definition.name(), Some((Space::Tag, _)));
        (typedef.is_none() || !tagged).then_some(definition)
    }

    /// The node behind typedefs and qualifiers; stops at a typedef that names an anonymous type.
    pub(crate) fn resolve(&self, mut id: Id) -> Id {
        for _ in 0..MAX_ALIASES {
            match self.table.node(id) {
                Node::Alias { target, .. } if self.definition(id).is_none() => id = target,
                _ => return id,
            }
        }
        VOID
    }

    /// By node: whether it is an anonymous type that is known by typedefs only, so the plain node defines nothing.
    pub(crate) fn only_typedefs(&self) -> Vec<bool> {
        let nodes = &self.table.nodes;
        let mut only_typedefs = vec![false; nodes.len()];
        for node in nodes {
            if let Node::Alias { name: [_, ..], target } = node
                && let Some(slot) = only_typedefs.get_mut(through_qualifiers(self.table, *target) as usize)
            {
                *slot = true;
            }
        }
        let targets = nodes.iter().filter_map(|node| match node {
            Node::Pointer(target) | Node::Array { target, .. } => Some(*target),
            _ => None,
        });
        for used in targets.chain(self.table.members.iter().map(|member| member.ty)) {
            if let Some(slot) = only_typedefs.get_mut(self.resolve(used) as usize) {
                *slot = false;
            }
        }
        only_typedefs
    }

    /// Identity of the type of a node. For complete records and enums: of their layout.
    pub(crate) fn hash(&mut self, id: Id) -> u64 {
        self.by_value(id, 0)
    }

    fn by_value(&mut self, id: Id, depth: u32) -> u64 {
        let void = Hash64::new(1).finish();
        let id = self.resolve(id);
        let Some(slot) = self.hashes.get_mut(id as usize) else { return void };
        match *slot {
            0 if depth < MAX_DEPTH => *slot = 1,
            0 | 1 => return void, // a type that holds itself: damaged input
            known => return known,
        }
        let hash = match (self.definition(id), self.table.node(id)) {
            (Some(Definition::Record(record, name)), _) => self.record_hash(record, name, depth),
            (Some(Definition::Enum(enumeration, name)), _) => self.enum_hash(enumeration, name),
            (None, Node::Function) => Hash64::new(2).finish(),
            (None, Node::Base { name, size }) => {
                let mut hash = Hash64::new(3);
                hash.text(name);
                hash.word(size);
                hash.finish()
            }
            (None, Node::Pointer(target)) => {
                let mut hash = Hash64::new(4);
                hash.word(self.behind_pointer(target, depth + 1));
                hash.finish()
            }
            (None, Node::Array { target, count }) => {
                let mut hash = Hash64::new(5);
                hash.word(count);
                hash.word(self.by_value(target, depth + 1));
                hash.finish()
            }
            (None, Node::Void | Node::Alias { .. } | Node::Record(_) | Node::Enum(_)) => void,
        };
        if let Some(slot) = self.hashes.get_mut(id as usize) {
            *slot = hash;
        }
        hash
    }

    fn behind_pointer(&mut self, id: Id, depth: u32) -> u64 {
        let id = self.resolve(id);
        match (self.definition(id), self.table.node(id)) {
            (Some(Definition::Record(_, Some((space, name)))), _) => name_key(space, name),
            (_, Node::Array { target, count }) if depth < MAX_DEPTH => {
                let mut hash = Hash64::new(6);
                hash.word(count);
                hash.word(self.behind_pointer(target, depth + 1));
                hash.finish()
            }
            _ => self.by_value(id, depth),
        }
    }

    fn record_hash(&mut self, record: &'t Record<'d>, name: Option<Name<'d>>, depth: u32) -> u64 {
        if !record.complete {
            return name.map_or(Hash64::new(1).finish(), |(space, name)| name_key(space, name));
        }
        let mut hash = Hash64::new(if record.kind == RecordKind::Struct { 7 } else { 8 });
        hash_name(&mut hash, name);
        hash.word(record.size);
        for member in self.table.members_of(record) {
            let ty = self.by_value(member.ty, depth + 1);
            hash.text(member.name);
            match member.place {
                Place::Bytes(offset) => hash.word(offset),
                Place::Bits { offset, len } => {
                    hash.word(!offset);
                    hash.word(len);
                }
            }
            hash.word(ty);
        }
        hash.finish()
    }

    fn enum_hash(&self, enumeration: &Enumeration<'d>, name: Option<Name<'d>>) -> u64 {
        let mut hash = Hash64::new(9);
        hash_name(&mut hash, name);
        hash.word(enumeration.size);
        hash.word(u64::from(enumeration.signed));
        for value in self.table.values_of(enumeration) {
            hash.text(value.name);
            let bytes = value.value.to_le_bytes();
            let (low, high) = bytes.split_at(8);
            for half in [low, high] {
                hash.text(half);
            }
        }
        hash.finish()
    }

    /// The owned form of a complete definition.
    pub(crate) fn layout(&mut self, definition: &Definition<'t, 'd>) -> Layout {
        let shape = match definition {
            Definition::Record(record, _) => {
                let members = self.table.members_of(record);
                let fields = members.iter().filter_map(|m| self.field(m, record.size)).collect();
                Shape::Record { size: record.size, fields }
            }
            Definition::Enum(enumeration, _) => {
                let values = self.table.values_of(enumeration);
                let values = values.iter().map(|v| (text(v.name), v.value)).collect();
                Shape::Enum { size: enumeration.size, signed: enumeration.signed, values }
            }
        };
        Layout { name: definition.name().map(|(_, name)| text(name)), shape }
    }

    /// `None` for unnamed bit-fields (padding) and for places that fit no integer.
    fn field(&mut self, member: &Member<'d>, record_size: u64) -> Option<Field> {
        let name = (!member.name.is_empty()).then(|| text(member.name));
        match member.place {
            Place::Bytes(offset) => Some(Field { name, offset, ty: self.reference(member.ty, false, 0) }),
            Place::Bits { offset, len } => {
                let name = Some(name?);
                let declared =
                    self.table.size_of(member.ty).filter(|size| matches!(size, 1 | 2 | 4 | 8 | 16));
                let (unit, start, end, fits_declared) = storage_unit(offset, len, declared, record_size)?;
                let declared = Box::new(self.reference(member.ty, false, 1));
                let ty = Ref::Bits { start, end, declared, unit: (!fits_declared).then_some(unit.size) };
                Some(Field { name, offset: unit.offset, ty })
            }
        }
    }

    /// The type of a variable. Other than for a member, what its pointers mean is what its unit defines: it is no part
    /// of a layout that units may share.
    pub(crate) fn of_variable(&mut self, id: Id, depth: usize) -> Ref {
        let id = self.resolve(id);
        match (self.definition(id), self.table.node(id)) {
            (None, Node::Pointer(target)) if depth < MAX_REF_DEPTH => {
                Ref::Pointer(Box::new(self.of_variable(target, depth + 1)))
            }
            (None, Node::Array { target, count }) if depth < MAX_REF_DEPTH => {
                Ref::Array(count, Box::new(self.of_variable(target, depth + 1)))
            }
            _ => self.reference(id, false, depth),
        }
    }

    fn reference(&mut self, id: Id, behind_pointer: bool, depth: usize) -> Ref {
        if depth > MAX_REF_DEPTH {
            return Ref::Void;
        }
        let id = self.resolve(id);
        match (self.definition(id), self.table.node(id)) {
            (Some(Definition::Record(record, Some((space, name)))), _)
                if behind_pointer || !record.complete =>
            {
                Ref::Named { key: name_key(space, name), name: text(name) }
            }
            (Some(definition), _) if definition.is_complete() => Ref::Layout(self.hash(id)),
            (Some(Definition::Enum(enumeration, _)), _) => {
                Ref::Base(integer_name(enumeration.size, enumeration.signed, self.table.address_size).into())
            }
            (None, Node::Function) => Ref::Function,
            (None, Node::Base { name, .. }) => Ref::Base(text(name)),
            (None, Node::Pointer(target)) => Ref::Pointer(Box::new(self.reference(target, true, depth + 1))),
            (None, Node::Array { target, count }) => {
                Ref::Array(count, Box::new(self.reference(target, behind_pointer, depth + 1)))
            }
            _ => Ref::Void,
        }
    }
}

fn hash_name(hash: &mut Hash64, name: Option<(Space, &[u8])>) {
    hash.word(name.map_or(0, |(space, name)| name_key(space, name)));
}

/// Through `const`, `volatile` and the like, but not through typedefs.
fn through_qualifiers(table: &Table<'_>, mut id: Id) -> Id {
    for _ in 0..8 {
        match table.node(id) {
            Node::Alias { name: [], target } => id = target,
            _ => break,
        }
    }
    id
}

fn text(name: &[u8]) -> Box<str> {
    String::from_utf8_lossy(name).into()
}

/// An integer in memory that holds a bit-field.
struct Unit {
    offset: u64,
    size: u64,
}

/// Finds the integer to read a bit-field from: of the declared size at its natural alignment, as the ABI lays
/// bit-fields out; in packed records the smallest integer that holds the bits and stays in the record.
/// Returns the unit, first bit, one past the last bit, and whether the unit is the declared type.
fn storage_unit(
    offset: u64,
    len: u64,
    declared: Option<u64>,
    record_size: u64,
) -> Option<(Unit, u32, u32, bool)> {
    let last = offset.checked_add(len)?;
    let candidates = declared
        .into_iter()
        .map(|size| (size, size, true))
        .chain([1, 2, 4, 8].map(|size| (size, size, false)))
        .chain([1, 2, 4, 8].map(|size| (size, 1, false)));
    for (size, align, is_declared) in candidates {
        let start_byte = offset / 8 / align * align;
        let (first, end) = (offset - start_byte * 8, last - start_byte * 8);
        if end <= size * 8 && start_byte.checked_add(size)? <= record_size {
            let unit = Unit { offset: start_byte, size };
            return Some((unit, u32::try_from(first).ok()?, u32::try_from(end).ok()?, is_declared));
        }
    }
    None
}

/// The C name of an integer as compilers spell it, by size and sign. `address_size` tells `long` (LP64) from
/// `long long` (ILP32).
pub(crate) fn integer_name(size: u64, signed: bool, address_size: u8) -> &'static str {
    match (size, signed) {
        (1, false) => "unsigned char",
        (1, true) => "signed char",
        (2, false) => "short unsigned int",
        (2, true) => "short int",
        (8, false) if address_size == 8 => "long unsigned int",
        (8, true) if address_size == 8 => "long int",
        (8, false) => "long long unsigned int",
        (8, true) => "long long int",
        (_, false) => "unsigned int",
        (_, true) => "int",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(offset: u64, len: u64, declared: Option<u64>, record: u64) -> Option<(u64, u64, u32, u32)> {
        storage_unit(offset, len, declared, record).map(|(u, start, end, _)| (u.offset, u.size, start, end))
    }

    #[test]
    fn bit_fields_use_the_declared_integer_at_its_alignment() {
        // struct bits of the golden input: u16 e : 12 at bit 36, u64 g : 31 at bit 97, enum ec : 4 at bit 130.
        assert_eq!(unit(36, 12, Some(2), 24), Some((4, 2, 4, 16)));
        assert_eq!(unit(97, 31, Some(8), 24), Some((8, 8, 33, 64)));
        assert_eq!(unit(130, 4, Some(4), 24), Some((16, 4, 2, 6)));
    }

    #[test]
    fn packed_bit_fields_use_an_integer_that_holds_them() {
        // A 4-byte declared type in a record of one byte.
        assert_eq!(unit(0, 3, Some(4), 1), Some((0, 1, 0, 3)));
        // Crosses the boundary of two aligned 4-byte units.
        assert_eq!(unit(30, 4, Some(4), 8), Some((0, 8, 30, 34)));
        assert_eq!(unit(30, 4, Some(4), 5), Some((3, 2, 6, 10)));
        // No integer of at most 8 bytes holds it.
        assert_eq!(unit(7, 64, Some(8), 16), None);
        assert_eq!(unit(u64::MAX, 2, Some(8), 16), None);
    }
}
