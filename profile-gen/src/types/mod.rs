//! The type table: what one DWARF unit or one BTF blob says about types, in one common form.
//!
//! Front ends ([`crate::dwarf`], [`crate::btf`]) fill a [`Table`]; [`layout`] gives every definition an identity,
//! [`merge`] brings the definitions of all tables together and names them, [`emit`] writes them as vtypes.
//! Names are borrowed from the debug sections and may be any bytes.

pub(crate) mod emit;
pub(crate) mod hash;
pub(crate) mod layout;
pub(crate) mod merge;

use std::ops::Range;

/// Index of a node in [`Table::nodes`]. Node 0 is always [`Node::Void`].
pub(crate) type Id = u32;

/// The node every unknown or absent type is replaced with.
pub(crate) const VOID: Id = 0;

/// Longest chain of typedefs and qualifiers that is followed.
pub(crate) const MAX_ALIASES: usize = 64;

/// One type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Node<'d> {
    /// Nothing known.
    Void,
    /// A native type: its name verbatim and its size in bytes.
    Base { name: &'d [u8], size: u64 },
    /// A pointer or reference.
    Pointer(Id),
    /// One dimension of an array; several dimensions nest, the outermost first.
    Array { target: Id, count: u64 },
    /// Code.
    Function,
    /// A typedef; an empty name is a qualifier (`const`, `volatile`, ...).
    Alias { name: &'d [u8], target: Id },
    /// A struct or union: index in [`Table::records`].
    Record(u32),
    /// An enum: index in [`Table::enums`].
    Enum(u32),
}

/// Struct or union.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Struct,
    Union,
}

/// A struct or union.
#[derive(Debug, Clone)]
pub(crate) struct Record<'d> {
    pub(crate) kind: RecordKind,
    /// Tag; empty for an anonymous type.
    pub(crate) name: &'d [u8],
    /// Bytes.
    pub(crate) size: u64,
    /// `false` for a mere declaration.
    pub(crate) complete: bool,
    /// Members in [`Table::members`], in order of declaration.
    pub(crate) members: Range<u32>,
}

/// A member of a struct or union.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'d> {
    /// Empty for an anonymous struct or union.
    pub(crate) name: &'d [u8],
    pub(crate) ty: Id,
    pub(crate) place: Place,
}

/// Where a member stands in its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Byte offset.
    Bytes(u64),
    /// A bit-field: offset of its least significant bit from the start of the record, little-endian numbering, and width.
    Bits { offset: u64, len: u64 },
}

/// An enum.
#[derive(Debug, Clone)]
pub(crate) struct Enumeration<'d> {
    /// Tag; empty for an anonymous type.
    pub(crate) name: &'d [u8],
    /// Bytes of the integer that stores it.
    pub(crate) size: u64,
    pub(crate) signed: bool,
    /// `false` for a mere declaration.
    pub(crate) complete: bool,
    /// Enumerators in [`Table::enumerators`], in order of declaration.
    pub(crate) values: Range<u32>,
}

/// A name of a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Enumerator<'d> {
    pub(crate) name: &'d [u8],
    pub(crate) value: i128,
}

/// A global variable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Variable<'d> {
    pub(crate) name: &'d [u8],
    pub(crate) ty: Id,
    /// Where it stands, as linked; `None` for a declaration of what is defined elsewhere.
    pub(crate) address: Option<u64>,
}

/// All types of one unit.
#[derive(Debug)]
pub(crate) struct Table<'d> {
    pub(crate) nodes: Vec<Node<'d>>,
    pub(crate) records: Vec<Record<'d>>,
    pub(crate) members: Vec<Member<'d>>,
    pub(crate) enums: Vec<Enumeration<'d>>,
    pub(crate) enumerators: Vec<Enumerator<'d>>,
    /// Global variables; BTF does not say them.
    pub(crate) variables: Vec<Variable<'d>>,
    /// Bytes of a pointer: 4 or 8.
    pub(crate) address_size: u8,
}

impl<'d> Table<'d> {
    /// A table that holds [`VOID`] only.
    pub(crate) fn new(address_size: u8) -> Self {
        Self {
            nodes: vec![Node::Void],
            records: Vec::new(),
            members: Vec::new(),
            enums: Vec::new(),
            enumerators: Vec::new(),
            variables: Vec::new(),
            address_size,
        }
    }

    /// A node; [`Node::Void`] where there is none of that index.
    pub(crate) fn node(&self, id: Id) -> Node<'d> {
        self.nodes.get(id as usize).copied().unwrap_or(Node::Void)
    }

    /// The members of a record.
    pub(crate) fn members_of(&self, record: &Record<'d>) -> &[Member<'d>] {
        self.members.get(record.members.start as usize..record.members.end as usize).unwrap_or_default()
    }

    /// The enumerators of an enum.
    pub(crate) fn values_of(&self, enumeration: &Enumeration<'d>) -> &[Enumerator<'d>] {
        self.enumerators
            .get(enumeration.values.start as usize..enumeration.values.end as usize)
            .unwrap_or_default()
    }

    /// The type behind typedefs and qualifiers; [`VOID`] where they loop.
    pub(crate) fn strip(&self, mut id: Id) -> Id {
        for _ in 0..MAX_ALIASES {
            match self.node(id) {
                Node::Alias { target, .. } => id = target,
                _ => return id,
            }
        }
        VOID
    }

    /// The type at the end of a chain of typedefs, qualifiers, pointers and arrays; [`VOID`] where they loop.
    pub(crate) fn pointed(&self, mut id: Id) -> Id {
        for _ in 0..MAX_ALIASES {
            match self.node(id) {
                Node::Alias { target, .. } | Node::Pointer(target) | Node::Array { target, .. } => {
                    id = target;
                }
                _ => return id,
            }
        }
        VOID
    }

    /// Size in bytes of a scalar or record; `None` for arrays, functions and void.
    pub(crate) fn size_of(&self, id: Id) -> Option<u64> {
        match self.node(self.strip(id)) {
            Node::Base { size, .. } => Some(size),
            Node::Pointer(_) => Some(u64::from(self.address_size)),
            Node::Record(at) => self.records.get(at as usize).filter(|r| r.complete).map(|r| r.size),
            Node::Enum(at) => self.enums.get(at as usize).map(|e| e.size),
            Node::Void | Node::Array { .. } | Node::Function | Node::Alias { .. } => None,
        }
    }
}
