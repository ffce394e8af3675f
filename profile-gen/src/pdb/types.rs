//! Types of a PDB as vtypes: every struct, class, union and enum that is defined, under a name of its own.
//!
//! Names: the type's own; `<unnamed-N>` for `<unnamed-tag>` with its type index N, `__unnamed_N` for MSVC's `__unnamed`
//! with the index of its member list, `ENUM_<hex>` for nameless enums with their offset in the stream (as the original
//! spelled them). Types that share a name but differ are called `name`, `name@1`, `name@2`, ... in order of type
//! indexes, as converted Linux types are; equal ones are one type.
//!
//! A base class is a member named like the class, and its members are reached by their plain names besides, unless the
//! derived class has one of that name. Virtual bases have no fixed place and are left out.

use std::cell::Cell;
use std::collections::btree_map::Entry::Vacant;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use profile::{Document, Enum, Field, Struct, Type};

use super::primitive::{Primitive, pointer_size, primitive, simple_pointer_size};
use super::records::{Entry, Enumeration, Leaf, Records, Udt};
use super::{ConvertReport, PdbError, Target};

/// Deepest nesting of pointers and arrays in one member; beyond the reader's limit nothing could read it back.
const MAX_DEPTH: usize = profile::MAX_TYPE_NESTING - 4;
/// Deepest nesting of base classes whose members are hoisted.
const MAX_BASES: usize = 32;
/// Deepest nesting of functions whose arguments are written.
const MAX_FUNCTIONS: usize = 3;
/// Rounds of telling equally named types apart. Each round sees one more level of nesting by name.
const MAX_ROUNDS: usize = 8;
/// Type nodes that even the smallest file may have.
const MIN_BUDGET: usize = 200_000;

/// Kind and name of a type.
type Key<'a> = (Space, &'a [u8]);

/// Enums and structs are named apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Space {
    Struct,
    Enum,
}

/// Converts all types: enums into `document`, then structs one after the other, by name, into `target`.
/// `address_size` is the size of a pointer in bytes.
pub(super) fn convert(
    records: &Records<'_>,
    stream_len: usize,
    address_size: u64,
    mut document: Document,
    target: &mut dyn Target,
    report: &mut ConvertReport,
) -> Result<(), PdbError> {
    let mut converter = Converter::new(records, stream_len, address_size, report);
    converter.tell_apart()?;
    converter.refill();
    let mut structs: Vec<(&str, Udt<'_>)> = Vec::new();
    for (index, name) in &converter.names {
        match records.get(*index) {
            Leaf::Udt(udt) => structs.push((name, udt)),
            Leaf::Enum(enumeration) if !document.enums.contains_key(name) => {
                let table = converter.enumeration(&enumeration, report)?;
                document.enums.insert(name.clone(), table);
            }
            _ => {}
        }
    }
    report.enums = document.enums.len();
    target.begin(document);
    // Of definitions that share a name, which are equal, the first counts; the sort keeps their order.
    structs.sort_by_key(|(name, _)| *name);
    structs.dedup_by_key(|(name, _)| *name);
    report.structs = structs.len();
    for (name, udt) in structs {
        target.structure(name, converter.record(&udt, report)?);
    }
    report.arguments_cut = converter.arguments_cut.get();
    report.hoisting_cut = converter.hoisting_cut.get();
    Ok(())
}

struct Converter<'r, 'a> {
    records: &'r Records<'a>,
    address_size: u64,
    /// Names of definitions by type index.
    names: BTreeMap<u32, String>,
    /// The first definition of a decorated and of a plain name, for declarations to resolve to.
    by_unique_name: HashMap<Key<'a>, u32>,
    by_name: HashMap<Key<'a>, u32>,
    /// Type nodes that may be written: proportional to the file, so memory is as well.
    budget: usize,
    left: Cell<usize>,
    arguments_cut: Cell<bool>,
    hoisting_cut: Cell<bool>,
}

impl<'r, 'a> Converter<'r, 'a> {
    /// Finds all definitions; counts what cannot be read.
    fn new(
        records: &'r Records<'a>,
        stream_len: usize,
        address_size: u64,
        report: &mut ConvertReport,
    ) -> Self {
        let budget = stream_len.saturating_add(MIN_BUDGET);
        let mut converter = Self {
            records,
            address_size,
            names: BTreeMap::new(),
            by_unique_name: HashMap::new(),
            by_name: HashMap::new(),
            budget,
            left: Cell::new(budget),
            arguments_cut: Cell::new(false),
            hoisting_cut: Cell::new(false),
        };
        for (index, leaf) in records.iter() {
            let (space, name, unique_name, own) = match leaf {
                Leaf::Udt(udt) if !udt.forward => {
                    let own = match udt.name {
                        b"<unnamed-tag>" | b"" => format!("<unnamed-{index}>"),
                        b"__unnamed" => format!("__unnamed_{}", udt.fields),
                        name => text(name),
                    };
                    (Space::Struct, udt.name, udt.unique_name, own)
                }
                Leaf::Enum(enumeration) if !enumeration.forward => {
                    let own = match enumeration.name {
                        b"<unnamed-tag>" | b"__unnamed" | b"" => {
                            format!("ENUM_{:x}", records.offset(index))
                        }
                        name => text(name),
                    };
                    (Space::Enum, enumeration.name, enumeration.unique_name, own)
                }
                Leaf::Unknown(leaf) => {
                    *report.unknown_leaves.entry(leaf).or_default() += 1;
                    continue;
                }
                Leaf::Damaged => {
                    report.damaged_records += 1;
                    continue;
                }
                _ => continue,
            };
            converter.names.insert(index, own);
            if let Some(unique_name) = unique_name {
                converter.by_unique_name.entry((space, unique_name)).or_insert(index);
            }
            converter.by_name.entry((space, name)).or_insert(index);
        }
        converter
    }

    fn refill(&self) {
        self.left.set(self.budget);
    }

    fn spend(&self) -> Result<(), PdbError> {
        let left = self.left.get().checked_sub(1).ok_or(PdbError::TooManyMembers)?;
        self.left.set(left);
        Ok(())
    }

    /// Whether what is useful but not essential may still be written.
    fn plenty(&self) -> bool {
        self.left.get() > self.budget / 2
    }

    /// Gives equally named types names of their own. Starts with all types of a name in one class and splits classes
    /// whose contents differ, contents being spelled with the names of the round before, until nothing splits.
    fn tell_apart(&mut self) -> Result<(), PdbError> {
        let groups = self.shared_names();
        if groups.is_empty() {
            return Ok(());
        }
        // Names made here end in `@` and a number; only such a name of the file can be in the way.
        let taken: BTreeSet<(Space, String)> = self
            .names
            .iter()
            .filter(|(_, name)| name.contains('@'))
            .map(|(&index, name)| (self.space(index), name.clone()))
            .collect();
        let mut classes = groups.len();
        for _ in 0..MAX_ROUNDS {
            self.refill();
            let mut renamed: Vec<(u32, String)> = Vec::new();
            let mut split = 0;
            for ((space, name), group) in &groups {
                let mut known: BTreeMap<String, String> = BTreeMap::new();
                let mut number = 0;
                for &index in group {
                    let contents = self.contents(index)?;
                    let own = known.entry(contents).or_insert_with(|| {
                        let mut own = name.clone();
                        while number > 0 {
                            own = format!("{name}@{number}");
                            number += 1;
                            if !taken.contains(&(*space, own.clone())) {
                                return own;
                            }
                        }
                        number = 1;
                        own
                    });
                    renamed.push((index, own.clone()));
                }
                split += known.len();
            }
            self.names.extend(renamed);
            if split == classes {
                break;
            }
            classes = split;
        }
        Ok(())
    }

    fn space(&self, index: u32) -> Space {
        match self.records.get(index) {
            Leaf::Enum(_) => Space::Enum,
            _ => Space::Struct,
        }
    }

    /// Names that several definitions have, with those definitions in order.
    fn shared_names(&self) -> BTreeMap<(Space, String), Vec<u32>> {
        let mut names: Vec<(Space, &str, u32)> =
            self.names.iter().map(|(&index, name)| (self.space(index), &**name, index)).collect();
        names.sort_unstable();
        let runs = names.chunk_by(|(space, name, _), (other, next, _)| (space, name) == (other, next));
        runs.filter(|run| run.len() > 1)
            .filter_map(|run| {
                let &(space, name, _) = run.first()?;
                Some(((space, name.to_owned()), run.iter().map(|(.., index)| *index).collect()))
            })
            .collect()
    }

    /// Everything that belongs to a definition, as text to compare.
    fn contents(&self, index: u32) -> Result<String, PdbError> {
        let mut ignored = ConvertReport::default();
        Ok(match self.records.get(index) {
            Leaf::Udt(udt) => {
                let record = self.record(&udt, &mut ignored)?;
                let mut out = format!("{:?}", record.size);
                for (name, field) in record.fields {
                    out.push_str(&format!("\n{name} {} {}", field.offset, field.ty.to_json()));
                }
                out
            }
            Leaf::Enum(enumeration) => {
                let values = self.enumeration(&enumeration, &mut ignored)?.values;
                format!("{:?} {values:?}", self.integer(enumeration.underlying))
            }
            _ => String::new(),
        })
    }

    /// The definition a type index stands for, through declarations; the index itself where there is none.
    fn resolve(&self, index: u32) -> u32 {
        let (space, name, unique_name) = match self.records.get(index) {
            Leaf::Udt(udt) if udt.forward => (Space::Struct, udt.name, udt.unique_name),
            Leaf::Enum(enumeration) if enumeration.forward => {
                (Space::Enum, enumeration.name, enumeration.unique_name)
            }
            _ => return index,
        };
        let definition = match unique_name {
            Some(unique_name) => self.by_unique_name.get(&(space, unique_name)),
            None => self.by_name.get(&(space, name)),
        };
        definition.copied().unwrap_or(index)
    }

    fn record(&self, udt: &Udt<'a>, report: &mut ConvertReport) -> Result<Struct, PdbError> {
        let mut fields = BTreeMap::new();
        self.members(udt, 0, 0, &mut fields, report)?;
        if udt.size > 0 {
            // Damaged input; readers refuse a struct with members beyond its end.
            let before = fields.len();
            fields.retain(|_, field: &mut Field| u64::try_from(field.offset).is_ok_and(|o| o <= udt.size));
            report.damaged_records += before - fields.len();
        }
        Ok(Struct { size: Some(udt.size), fields })
    }

    /// Adds the members of a record that stands `at` bytes into the outer one, then those of its bases.
    fn members(
        &self,
        udt: &Udt<'a>,
        at: u64,
        depth: usize,
        out: &mut BTreeMap<String, Field>,
        report: &mut ConvertReport,
    ) -> Result<(), PdbError> {
        let mut bases = Vec::new();
        let mut nameless = 0;
        for entry in self.records.entries(udt.fields) {
            self.spend()?;
            match entry {
                Entry::Member { ty, offset, name } => {
                    let name = if name.is_empty() {
                        nameless += 1;
                        format!("u{nameless}")
                    } else {
                        text(name)
                    };
                    if let Vacant(place) = out.entry(name) {
                        place.insert(Field { offset: offset_of(at, offset), ty: self.ty(ty, 0, 0)? });
                    }
                }
                Entry::Base { ty, offset } => bases.push((self.resolve(ty), offset)),
                // Reported where the record itself is converted, not where it is a base of another.
                Entry::Unknown(leaf) if depth == 0 => *report.unknown_leaves.entry(leaf).or_default() += 1,
                Entry::Damaged if depth == 0 => report.damaged_records += 1,
                _ => {}
            }
        }
        for (index, offset) in bases {
            let Leaf::Udt(base) = self.records.get(index) else { continue };
            let name = self.names.get(&index).cloned().unwrap_or_else(|| text(base.name));
            self.spend()?;
            let at = at.saturating_add(offset);
            out.entry(name.clone())
                .or_insert_with(|| Field { offset: offset_of(at, 0), ty: Type::named(name) });
            if depth < MAX_BASES && self.plenty() {
                self.members(&base, at, depth + 1, out, report)?;
            } else {
                self.hoisting_cut.set(true);
            }
        }
        Ok(())
    }

    fn enumeration(
        &self,
        enumeration: &Enumeration<'a>,
        report: &mut ConvertReport,
    ) -> Result<Enum, PdbError> {
        let (_, size, signed) = self.integer(enumeration.underlying);
        let mut table = Enum::default();
        for entry in self.records.entries(enumeration.fields) {
            self.spend()?;
            match entry {
                Entry::Enumerator { value, name } => table.insert(text(name), fit(value, size, signed)),
                Entry::Unknown(leaf) => *report.unknown_leaves.entry(leaf).or_default() += 1,
                Entry::Damaged => report.damaged_records += 1,
                _ => {}
            }
        }
        Ok(table)
    }

    /// Name, bytes and sign of the integer behind an enum; `long` where the file says nothing sensible.
    fn integer(&self, index: u32) -> (&'static str, u64, bool) {
        let index = match self.records.get(index) {
            Leaf::Alias(target) => target,
            _ => index,
        };
        match primitive(index & 0xff).filter(|_| index < 0x100) {
            Some(Primitive::Integer(name, size, signed)) => (name, size, signed),
            _ => ("long", 4, true),
        }
    }

    /// The type of an index; `depth` levels of pointers, arrays and functions are around it.
    fn ty(&self, index: u32, depth: usize, functions: usize) -> Result<Type, PdbError> {
        self.spend()?;
        if depth > MAX_DEPTH {
            return Ok(Type::Void);
        }
        if index < 0x1000 {
            return Ok(self.simple(index));
        }
        let index = self.resolve(index);
        Ok(match self.records.get(index) {
            Leaf::Alias(target) => self.ty(target, depth + 1, functions)?,
            Leaf::Pointer { target, attributes } => self.pointer(target, attributes, depth, functions)?,
            Leaf::Array { element, bytes } => {
                let target = self.ty(element, depth + 1, functions)?;
                match self.size(element, 0) {
                    Some(2) if self.is_wide_character(element) => wide_text(Some(bytes / 2)),
                    Some(size @ 1..) => Type::array(bytes / size, target),
                    _ if bytes == 0 => Type::array(0, target),
                    _ => Type::Array { count: None, size: Some(bytes), target: Box::new(target) },
                }
            }
            Leaf::Udt(udt) => Type::named(self.names.get(&index).cloned().unwrap_or_else(|| text(udt.name))),
            Leaf::Enum(enumeration) => Type::Enumeration {
                name: Some(self.names.get(&index).cloned().unwrap_or_else(|| text(enumeration.name))),
                choices: BTreeMap::new(),
                target: Some(Box::new(Type::named(self.integer(enumeration.underlying).0))),
            },
            Leaf::Procedure { arguments } => {
                Type::Function(self.arguments(arguments, depth + 1, functions + 1)?)
            }
            Leaf::BitField { target, length, position } => {
                let (start, end) = (u32::from(position), u32::from(position) + u32::from(length));
                let bits = |integer| Type::BitField { start, end, target: Some(integer) };
                match self.ty(target, depth + 1, functions)? {
                    Type::Enumeration { name, choices, target: Some(integer) } => {
                        Type::Enumeration { name, choices, target: Some(Box::new(bits(integer))) }
                    }
                    integer => bits(Box::new(integer)),
                }
            }
            Leaf::NoLayout | Leaf::Unknown(_) | Leaf::Damaged => Type::Void,
        })
    }

    fn arguments(&self, index: u32, depth: usize, functions: usize) -> Result<Vec<Type>, PdbError> {
        let mut arguments = Vec::new();
        // Index 0 stands for the `...` of variadic functions.
        for argument in self.records.arguments(index).filter(|&argument| argument != 0) {
            if functions > MAX_FUNCTIONS || !self.plenty() {
                self.arguments_cut.set(true);
                break;
            }
            arguments.push(self.ty(argument, depth + 1, functions)?);
        }
        Ok(arguments)
    }

    fn pointer(
        &self,
        target: u32,
        attributes: u32,
        depth: usize,
        functions: usize,
    ) -> Result<Type, PdbError> {
        let size = pointer_size(attributes);
        match (attributes >> 5) & 7 {
            // Pointer to a data member: an offset.
            2 => return Ok(Type::named(if size == 8 { "long long" } else { "long" })),
            // Pointer to a member function: an address, for some classes with more behind it.
            3 if size > self.address_size => {
                return Ok(Type::array(size, Type::named("unsigned char")));
            }
            3 => return Ok(Type::pointer(Type::Function(Vec::new()))),
            _ => {}
        }
        let target = if self.is_wide_character(target) {
            wide_text(None)
        } else {
            self.ty(target, depth + 1, functions)?
        };
        Ok(self.sized_pointer(size, target))
    }

    /// A pointer of so many bytes. One that is wider than an address of the target machine (`__ptr64` in 32-bit code)
    /// is written as an integer, because a `Pointer` would be read too short.
    fn sized_pointer(&self, size: u64, target: Type) -> Type {
        match size {
            4 if self.address_size == 8 => Type::Pointer32(Box::new(target)),
            8 if self.address_size == 4 => Type::named("unsigned long long"),
            2 => Type::named("unsigned short"),
            _ => Type::pointer(target),
        }
    }

    /// A type that is encoded in its index: low byte the primitive, next half byte the kind of pointer to it.
    fn simple(&self, index: u32) -> Type {
        let target = match primitive(index & 0xff) {
            Some(Primitive::WideCharacter) if index >= 0x100 => wide_text(None),
            Some(primitive) => primitive.ty(),
            None => Type::Void,
        };
        match simple_pointer_size(index) {
            0 => target,
            size => self.sized_pointer(size, target),
        }
    }

    fn is_wide_character(&self, index: u32) -> bool {
        match self.records.get(index) {
            Leaf::Alias(target) => target == 0x71,
            _ => index == 0x71,
        }
    }

    /// Bytes of a type; `None` where it has no known size.
    fn size(&self, index: u32, depth: usize) -> Option<u64> {
        if depth > MAX_DEPTH {
            return None;
        }
        if index < 0x1000 {
            return match simple_pointer_size(index) {
                0 => primitive(index & 0xff).map(Primitive::size),
                size => Some(size),
            };
        }
        match self.records.get(self.resolve(index)) {
            Leaf::Alias(target) | Leaf::BitField { target, .. } => self.size(target, depth + 1),
            Leaf::Pointer { attributes, .. } => Some(pointer_size(attributes)),
            Leaf::Array { bytes, .. } => Some(bytes),
            Leaf::Udt(udt) if !udt.forward => Some(udt.size),
            Leaf::Enum(enumeration) => Some(self.integer(enumeration.underlying).1),
            _ => None,
        }
    }
}

/// UTF-16 text; `length` in characters.
fn wide_text(length: Option<u64>) -> Type {
    let args = length.into_iter().map(|length| ("length".to_owned(), length.into())).collect();
    Type::Other { class: "UnicodeString".to_owned(), args }
}

/// A value as an integer of so many bytes holds it: files store it in the shortest form, whatever its sign.
fn fit(value: i128, size: u64, signed: bool) -> i128 {
    let bits = match size {
        1 | 2 | 4 | 8 => size * 8,
        _ => return value,
    };
    let value = value & ((1 << bits) - 1);
    if signed && value >> (bits - 1) == 1 { value - (1 << bits) } else { value }
}

fn offset_of(at: u64, offset: u64) -> i64 {
    at.checked_add(offset).and_then(|offset| i64::try_from(offset).ok()).unwrap_or(i64::MAX)
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}
