//! One DWARF unit as a type table.
//!
//! Entries are decoded straight from the section in one pass; what is not about types is skipped, whole functions by
//! their `DW_AT_sibling`. References inside the unit are resolved afterwards.

use gimli::{
    Abbreviation, Abbreviations, AttributeValue, DwTag, EntriesRaw, UnitHeader, UnitOffset, constants,
};

use super::forms::{Forms, constant, location, upper_bound};
use super::{Sections, Slice};
use crate::types::{
    Enumeration, Enumerator, Id, Member, Node, Place, Record, RecordKind, Table, VOID, Variable,
};

/// Most types, and most members, enumerators and variables, in one unit. A whole kernel as one unit has about a million.
const MAX_NODES: usize = 4 << 20;
/// Deepest nesting of entries about types: C++ and anonymous types nest, C does not.
const MAX_OPEN: usize = 256;

/// A unit's types.
pub(super) struct Unit<'d> {
    pub(super) table: Table<'d>,
    /// References to types in other units.
    pub(super) foreign: usize,
}

/// Reads a unit. `None` for languages whose types are not the kernel's ABI.
pub(super) fn read<'d>(
    sections: &Sections<'d>,
    header: &UnitHeader<Slice<'d>>,
    abbreviations: &Abbreviations,
) -> gimli::Result<Option<Unit<'d>>> {
    let mut raw = header.entries_raw(abbreviations, None)?;
    let Some(root) = raw.read_abbreviation()? else { return Ok(None) };
    let mut reader = Reader {
        forms: Forms::new(*sections, header.encoding()),
        table: Table::new(header.address_size()),
        offsets: vec![0],
        places: Vec::new(),
        member_owners: Vec::new(),
        value_owners: Vec::new(),
        dimensions: Vec::new(),
        variables: Vec::new(),
        foreign: 0,
    };
    // The bases come first: names of the root itself may use them.
    let root_entry = reader.entry(&mut raw, root)?;
    if root_entry.language == Some(u64::from(constants::DW_LANG_Rust.0)) {
        return Ok(None);
    }
    reader.forms.set_bases(root_entry.str_offsets_base, root_entry.addr_base);
    reader.walk(header, abbreviations, raw, root.has_children())?;
    Ok(Some(reader.finish()))
}

/// What the attributes of an entry say, as far as it is about types. References are unit offsets, 0 = none.
#[derive(Debug, Clone, Copy, Default)]
struct Entry<'d> {
    name: &'d [u8],
    ty: usize,
    byte_size: Option<u64>,
    bit_size: Option<u64>,
    /// DWARF 2-4: from the most significant bit of the storage unit.
    bit_offset: Option<i64>,
    /// DWARF 4-5: from the start of the record.
    data_bit_offset: Option<u64>,
    location: Option<u64>,
    declaration: bool,
    external: bool,
    encoding: Option<u64>,
    count: Option<u64>,
    lower_bound: u64,
    upper_bound: Option<u64>,
    const_value: Option<i128>,
    sibling: usize,
    language: Option<u64>,
    str_offsets_base: usize,
    addr_base: usize,
    /// Where a variable stands.
    address: Option<u64>,
    /// The declaration that says the rest of a definition.
    specification: usize,
}

/// An open entry whose children matter.
#[derive(Debug, Clone, Copy)]
enum Open {
    Record(u32),
    Array(Id),
    Enum(u32),
    /// Unit or name space: children are types of their own, and global variables.
    Scope,
    /// Function: its types are kept, its variables are not.
    Body,
    /// Nothing below is about types.
    Ignored,
}

struct Reader<'d> {
    forms: Forms<'d>,
    table: Table<'d>,
    /// Unit offset of each node; ascending, as entries are read in order.
    offsets: Vec<u32>,
    /// What is needed to place bit-fields once the sizes of types are known, by member.
    places: Vec<BitPlace>,
    /// Record of each member and enum of each enumerator.
    member_owners: Vec<u32>,
    value_owners: Vec<u32>,
    /// Array and element count of each dimension.
    dimensions: Vec<(Id, u64)>,
    /// Global variables by unit offset; ascending.
    variables: Vec<(usize, Entry<'d>)>,
    foreign: usize,
}

/// A DWARF 2-4 bit-field: `(member, byte offset of the storage, its size, bit offset, width)`.
struct BitPlace {
    member: usize,
    location: u64,
    storage: Option<u64>,
    bit_offset: i64,
    len: u64,
}

impl<'d> Reader<'d> {
    fn walk<'a>(
        &mut self,
        header: &UnitHeader<Slice<'d>>,
        abbreviations: &'a Abbreviations,
        mut raw: EntriesRaw<'a, Slice<'d>>,
        root_has_children: bool,
    ) -> gimli::Result<()> {
        if !root_has_children {
            return Ok(());
        }
        let mut open = vec![Open::Scope];
        // Levels below an ignored entry, counted instead of stacked.
        let mut ignored = 0usize;
        while !raw.is_empty() {
            let offset = raw.next_offset();
            let Some(abbreviation) = raw.read_abbreviation()? else {
                if ignored > 0 {
                    ignored -= 1;
                } else {
                    open.pop();
                    if open.is_empty() {
                        break; // the rest is padding
                    }
                }
                continue;
            };
            let inside =
                if ignored > 0 { Open::Ignored } else { open.last().copied().unwrap_or(Open::Ignored) };
            let opened = self.read_entry(&mut raw, abbreviation, offset, inside)?;
            let members = self.table.members.len()
                + self.table.enumerators.len()
                + self.dimensions.len()
                + self.variables.len();
            if self.table.nodes.len().max(members) > MAX_NODES {
                return Err(gimli::Error::OffsetOutOfBounds(MAX_NODES as u64));
            }
            if !abbreviation.has_children() {
                continue;
            }
            match opened {
                Opened::Skip(sibling)
                    if sibling > raw.next_offset().0 && sibling <= header.length_including_self() =>
                {
                    raw = header.entries_raw(abbreviations, Some(UnitOffset(sibling)))?;
                }
                Opened::Skip(_) => ignored += 1,
                Opened::Children(_) if open.len() >= MAX_OPEN => ignored += 1,
                Opened::Children(what) => open.push(what),
            }
        }
        Ok(())
    }

    /// Reads one entry that stands inside `inside` and says what to do with its children.
    fn read_entry(
        &mut self,
        raw: &mut EntriesRaw<'_, Slice<'d>>,
        abbreviation: &Abbreviation,
        offset: UnitOffset,
        inside: Open,
    ) -> gimli::Result<Opened> {
        let tag = abbreviation.tag();
        let what = match inside {
            Open::Ignored => What::Other,
            _ => What::of(tag, inside),
        };
        match what {
            What::Scope(children) => {
                raw.skip_attributes(abbreviation.attributes())?;
                return Ok(Opened::Children(children));
            }
            What::Other if !abbreviation.has_children() => {
                raw.skip_attributes(abbreviation.attributes())?;
                return Ok(Opened::Skip(0));
            }
            _ => {}
        }
        let entry = self.entry(raw, abbreviation)?;
        Ok(match what {
            What::Member(record) => {
                self.member(record, &entry);
                Opened::Skip(entry.sibling)
            }
            What::Dimension(array) => {
                self.dimensions.push((array, entry.element_count()));
                Opened::Skip(entry.sibling)
            }
            What::Enumerator(owner) => {
                if let Some(value) = entry.const_value {
                    self.table.enumerators.push(Enumerator { name: entry.name, value });
                    self.value_owners.push(owner);
                }
                Opened::Skip(entry.sibling)
            }
            What::Variable => {
                self.variables.push((offset.0, entry));
                Opened::Skip(entry.sibling)
            }
            What::Type => self.node(tag, offset, &entry)?,
            What::Scope(_) | What::Other => Opened::Skip(entry.sibling),
        })
    }

    /// Adds the type of an entry. Targets are unit offsets until [`Self::finish`].
    fn node(&mut self, tag: DwTag, offset: UnitOffset, entry: &Entry<'d>) -> gimli::Result<Opened> {
        let too_far = |_| gimli::Error::OffsetOutOfBounds(offset.0 as u64);
        let at = u32::try_from(offset.0).map_err(too_far)?;
        let target = u32::try_from(entry.ty).map_err(too_far)?;
        let id = u32::try_from(self.table.nodes.len()).map_err(too_far)?;
        let mut children = Opened::Skip(entry.sibling);
        let node = match tag {
            constants::DW_TAG_base_type => {
                Node::Base { name: entry.name, size: entry.byte_size.unwrap_or_default() }
            }
            constants::DW_TAG_pointer_type
            | constants::DW_TAG_reference_type
            | constants::DW_TAG_rvalue_reference_type => Node::Pointer(target),
            constants::DW_TAG_array_type => {
                children = Opened::Children(Open::Array(id));
                Node::Array { target, count: 0 }
            }
            constants::DW_TAG_subroutine_type => Node::Function,
            constants::DW_TAG_typedef => Node::Alias { name: entry.name, target },
            constants::DW_TAG_enumeration_type => {
                let index = u32::try_from(self.table.enums.len()).map_err(too_far)?;
                children = Opened::Children(Open::Enum(index));
                self.table.enums.push(Enumeration {
                    name: entry.name,
                    size: entry.byte_size.unwrap_or_default(),
                    signed: entry.is_signed(),
                    complete: !entry.declaration,
                    values: 0..target, // the integer behind it, until `finish`
                });
                Node::Enum(index)
            }
            constants::DW_TAG_union_type
            | constants::DW_TAG_structure_type
            | constants::DW_TAG_class_type => {
                let index = u32::try_from(self.table.records.len()).map_err(too_far)?;
                children = Opened::Children(Open::Record(index));
                let union = tag == constants::DW_TAG_union_type;
                self.table.records.push(Record {
                    kind: if union { RecordKind::Union } else { RecordKind::Struct },
                    name: entry.name,
                    size: entry.byte_size.unwrap_or_default(),
                    complete: !entry.declaration && entry.byte_size.is_some(),
                    members: 0..0,
                });
                Node::Record(index)
            }
            _ => Node::Alias { name: &[], target },
        };
        self.offsets.push(at);
        self.table.nodes.push(node);
        Ok(children)
    }

    fn member(&mut self, owner: u32, entry: &Entry<'d>) {
        if entry.declaration || entry.external {
            return; // a static member of C++
        }
        let location = entry.location.unwrap_or_default();
        let place = match (entry.bit_size, entry.data_bit_offset, entry.bit_offset) {
            (None, _, _) => Place::Bytes(location),
            // Some compilers write both; the byte offset then is that of the storage unit.
            (Some(len), Some(offset), _) => {
                Place::Bits { offset: offset.saturating_add(location.saturating_mul(8)), len }
            }
            (Some(len), None, Some(bit_offset)) => {
                let member = self.table.members.len();
                self.places.push(BitPlace { member, location, storage: entry.byte_size, bit_offset, len });
                Place::Bits { offset: 0, len }
            }
            (Some(len), None, None) => Place::Bits { offset: location.saturating_mul(8), len },
        };
        // `ty` is the index in `offsets` only after `finish`; until then the low 32 bits of the unit offset.
        let ty = u32::try_from(entry.ty).unwrap_or(VOID);
        self.table.members.push(Member { name: entry.name, ty, place });
        self.member_owners.push(owner);
    }

    /// Decodes all attributes of an entry.
    fn entry(
        &mut self,
        raw: &mut EntriesRaw<'_, Slice<'d>>,
        abbreviation: &Abbreviation,
    ) -> gimli::Result<Entry<'d>> {
        let mut entry = Entry::default();
        for spec in abbreviation.attributes() {
            let attribute = raw.read_attribute_inline(*spec)?;
            let value = attribute.raw_value();
            match attribute.name() {
                constants::DW_AT_name => entry.name = self.forms.text(&value),
                constants::DW_AT_type => entry.ty = self.unit_offset(&value),
                constants::DW_AT_byte_size => entry.byte_size = value.udata_value(),
                constants::DW_AT_bit_size => entry.bit_size = value.udata_value(),
                constants::DW_AT_bit_offset => entry.bit_offset = value.sdata_value(),
                constants::DW_AT_data_bit_offset => entry.data_bit_offset = value.udata_value(),
                constants::DW_AT_data_member_location => entry.location = location(&value),
                constants::DW_AT_declaration => entry.declaration = value == AttributeValue::Flag(true),
                constants::DW_AT_external => entry.external = value == AttributeValue::Flag(true),
                constants::DW_AT_encoding => entry.encoding = value.udata_value(),
                constants::DW_AT_count => entry.count = value.udata_value(),
                constants::DW_AT_lower_bound => entry.lower_bound = value.udata_value().unwrap_or_default(),
                constants::DW_AT_upper_bound => entry.upper_bound = upper_bound(&value),
                constants::DW_AT_const_value => entry.const_value = constant(&value),
                constants::DW_AT_sibling => {
                    if let AttributeValue::UnitRef(UnitOffset(offset)) = value {
                        entry.sibling = offset;
                    }
                }
                constants::DW_AT_language => entry.language = value.udata_value(),
                constants::DW_AT_str_offsets_base => {
                    if let AttributeValue::SecOffset(base) = value {
                        entry.str_offsets_base = base;
                    }
                }
                constants::DW_AT_addr_base => {
                    if let AttributeValue::SecOffset(base) = value {
                        entry.addr_base = base;
                    }
                }
                constants::DW_AT_location => entry.address = self.forms.address(&value),
                constants::DW_AT_specification => entry.specification = self.unit_offset(&value),
                _ => {}
            }
        }
        Ok(entry)
    }

    fn unit_offset(&mut self, value: &AttributeValue<Slice<'d>>) -> usize {
        match value {
            AttributeValue::UnitRef(UnitOffset(offset)) => *offset,
            AttributeValue::DebugInfoRef(_)
            | AttributeValue::DebugInfoRefSup(_)
            | AttributeValue::DebugTypesRef(_) => {
                self.foreign += 1;
                0
            }
            _ => 0,
        }
    }

    /// Resolves references and puts members, enumerators and dimensions where they belong.
    fn finish(mut self) -> Unit<'d> {
        let offsets = std::mem::take(&mut self.offsets);
        let resolve = |offset: u32| {
            offsets.binary_search(&offset).ok().and_then(|at| Id::try_from(at).ok()).unwrap_or(VOID)
        };
        for node in &mut self.table.nodes {
            if let Node::Pointer(target) | Node::Array { target, .. } | Node::Alias { target, .. } = node {
                *target = resolve(*target);
            }
        }
        for member in &mut self.table.members {
            member.ty = resolve(member.ty);
        }
        self.dimensions();
        self.bit_places();
        for at in 0..self.table.enums.len() {
            self.enumeration(at, &resolve);
        }
        let members = group(&mut self.table.members, &mut self.member_owners, self.table.records.len());
        for (record, range) in self.table.records.iter_mut().zip(members) {
            record.members = range;
        }
        let values = group(&mut self.table.enumerators, &mut self.value_owners, self.table.enums.len());
        for (enumeration, range) in self.table.enums.iter_mut().zip(values) {
            // Compilers may leave the sign to the values.
            let values =
                self.table.enumerators.get(range.start as usize..range.end as usize).unwrap_or_default();
            enumeration.signed |= values.iter().any(|v| v.value < 0);
            enumeration.values = range;
        }
        self.globals(&resolve);
        Unit { table: self.table, foreign: self.foreign }
    }

    /// Variables that have an address, and declarations of those that another unit or the linker defines.
    fn globals(&mut self, resolve: &impl Fn(u32) -> Id) {
        let variables = std::mem::take(&mut self.variables);
        for (_, entry) in &variables {
            let declared = variables
                .binary_search_by_key(&entry.specification, |(offset, _)| *offset)
                .ok()
                .and_then(|at| variables.get(at));
            // A definition that refers to a declaration repeats what it completes: the length of an array.
            let name = declared.filter(|_| entry.name.is_empty()).map_or(entry.name, |(_, said)| said.name);
            let ty = declared.filter(|_| entry.ty == 0).map_or(entry.ty, |(_, said)| said.ty);
            let wanted = entry.address.is_some() || entry.declaration && entry.external;
            if wanted && !name.is_empty() {
                let ty = resolve(u32::try_from(ty).unwrap_or(VOID));
                self.table.variables.push(Variable { name, ty, address: entry.address });
            }
        }
    }

    /// `a[2][3]` is one entry with two dimensions; as nodes the outer array holds an inner one.
    fn dimensions(&mut self) {
        let dimensions = std::mem::take(&mut self.dimensions);
        for run in dimensions.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(array, outer)) = run.first() else { continue };
            let Node::Array { target: element, .. } = self.table.node(array) else { continue };
            let mut target = element;
            for &(_, count) in run.get(1..).unwrap_or_default().iter().rev() {
                let Ok(id) = Id::try_from(self.table.nodes.len()) else { return };
                self.table.nodes.push(Node::Array { target, count });
                target = id;
            }
            if let Some(node) = self.table.nodes.get_mut(array as usize) {
                *node = Node::Array { target, count: outer };
            }
        }
    }

    /// DWARF 2-4 count bits of a storage unit from its most significant one.
    fn bit_places(&mut self) {
        for place in std::mem::take(&mut self.places) {
            let Some(ty) = self.table.members.get(place.member).map(|member| member.ty) else { continue };
            let storage = place.storage.or_else(|| self.table.size_of(ty)).unwrap_or_default();
            let offset = i128::from(place.location) * 8 + i128::from(storage) * 8
                - i128::from(place.bit_offset)
                - i128::from(place.len);
            if let Some(member) = self.table.members.get_mut(place.member) {
                // A place before the record is damaged input; it fits no unit and the field is left out.
                let offset = u64::try_from(offset).unwrap_or(u64::MAX);
                member.place = Place::Bits { offset, len: place.len };
            }
        }
    }

    /// Size of an enum without `DW_AT_byte_size`: that of the integer behind it.
    fn enumeration(&mut self, at: usize, resolve: &impl Fn(u32) -> Id) {
        let Some(enumeration) = self.table.enums.get(at) else { return };
        let integer = resolve(enumeration.values.end);
        let size =
            if enumeration.size == 0 { self.table.size_of(integer).unwrap_or(4) } else { enumeration.size };
        if let Some(enumeration) = self.table.enums.get_mut(at) {
            enumeration.size = size;
        }
    }
}

/// What to do with the children of an entry.
enum Opened {
    /// Nothing; the next entry after them is at this unit offset, 0 = unknown.
    Skip(usize),
    Children(Open),
}

/// What an entry is, given where it stands.
enum What {
    Type,
    Scope(Open),
    Variable,
    Member(u32),
    Dimension(Id),
    Enumerator(u32),
    Other,
}

impl What {
    fn of(tag: DwTag, inside: Open) -> Self {
        match (tag, inside) {
            (constants::DW_TAG_member, Open::Record(record)) => Self::Member(record),
            (constants::DW_TAG_subrange_type, Open::Array(array)) => Self::Dimension(array),
            (constants::DW_TAG_enumerator, Open::Enum(owner)) => Self::Enumerator(owner),
            (constants::DW_TAG_namespace, Open::Scope) => Self::Scope(Open::Scope),
            (constants::DW_TAG_subprogram | constants::DW_TAG_lexical_block, Open::Scope | Open::Body) => {
                Self::Scope(Open::Body)
            }
            (constants::DW_TAG_variable, Open::Scope) => Self::Variable,
            (
                constants::DW_TAG_base_type
                | constants::DW_TAG_pointer_type
                | constants::DW_TAG_reference_type
                | constants::DW_TAG_rvalue_reference_type
                | constants::DW_TAG_array_type
                | constants::DW_TAG_subroutine_type
                | constants::DW_TAG_typedef
                | constants::DW_TAG_const_type
                | constants::DW_TAG_volatile_type
                | constants::DW_TAG_restrict_type
                | constants::DW_TAG_atomic_type
                | constants::DW_TAG_immutable_type
                | constants::DW_TAG_packed_type
                | constants::DW_TAG_structure_type
                | constants::DW_TAG_class_type
                | constants::DW_TAG_union_type
                | constants::DW_TAG_enumeration_type,
                _,
            ) => Self::Type,
            _ => Self::Other,
        }
    }
}

impl Entry<'_> {
    /// Elements of one dimension; 0 for a flexible array and for sizes only known at run time.
    fn element_count(&self) -> u64 {
        match (self.count, self.upper_bound) {
            (Some(count), _) => count,
            (None, Some(upper)) => upper.wrapping_add(1).saturating_sub(self.lower_bound),
            (None, None) => 0,
        }
    }

    fn is_signed(&self) -> bool {
        let signed = [constants::DW_ATE_signed.0, constants::DW_ATE_signed_char.0].map(u64::from);
        self.encoding.is_some_and(|encoding| signed.contains(&encoding))
    }
}

/// Sorts items by their owners, keeping the order within one; returns each owner's range.
fn group<T>(items: &mut [T], owners: &mut [u32], count: usize) -> Vec<std::ops::Range<u32>>
where
    T: Copy,
{
    if !owners.is_sorted() {
        let mut order: Vec<(u32, usize)> = owners.iter().copied().zip(0..).collect();
        order.sort_unstable();
        let sorted: Vec<T> = order.iter().filter_map(|&(_, at)| items.get(at).copied()).collect();
        items.copy_from_slice(&sorted);
        owners.sort_unstable();
    }
    let mut ranges = vec![0..0; count];
    let mut start = 0u32;
    for run in owners.chunk_by(|a, b| a == b) {
        let end = start.saturating_add(u32::try_from(run.len()).unwrap_or(u32::MAX));
        if let Some(range) = run.first().and_then(|&owner| ranges.get_mut(owner as usize)) {
            *range = start..end;
        }
        start = end;
    }
    ranges
}
