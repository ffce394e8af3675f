//! Merged definitions as vtypes of a profile document.

use std::cell::Cell;
use std::collections::BTreeMap;

use profile::{Document, Enum, Struct, Type};

use super::layout::{Field, Layout, Ref, Shape, integer_name};
use super::merge::Merged;

/// Most members one struct may have after those of its anonymous members are hoisted.
const MAX_FIELDS: usize = 65_536;
/// Most members that are written a second time in the whole document, hoisted or under the name of a typedef; a kernel
/// needs about 50,000.
const MAX_REPEATED: usize = 1 << 20;
/// Deepest nesting of anonymous members.
const MAX_ANONYMOUS_DEPTH: usize = 32;

/// What was written and what could not be.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Emitted {
    /// Structs and unions, without typedef copies.
    pub(crate) types: usize,
    /// Enums.
    pub(crate) enums: usize,
    /// Structs that had more members than the limit.
    pub(crate) cut: usize,
}

/// Writes all definitions into `document`. `address_size` names the integers behind enums.
pub(crate) fn emit(merged: &Merged, address_size: u8, document: &mut Document) -> Emitted {
    let emitter = Emitter { merged, address_size, repeated: Cell::new(0) };
    let mut emitted = Emitted::default();
    // In a fixed order, as the limits cut off whatever comes last.
    let mut layouts: Vec<(&u64, &Layout)> = merged.layouts.iter().collect();
    layouts.sort_unstable_by_key(|(hash, _)| **hash);
    for (hash, layout) in layouts {
        let Some(name) = merged.names.get(hash) else { continue };
        match &layout.shape {
            Shape::Record { size, .. } => {
                let mut fields = BTreeMap::new();
                if !emitter.fields(*hash, layout, &mut fields) {
                    emitted.cut += 1;
                }
                emitted.types += 1;
                document.structs.insert(name.clone(), Struct { size: Some(*size), fields });
            }
            Shape::Enum { values, .. } => {
                let mut table = Enum::default();
                for (label, value) in values {
                    table.insert(label.to_string(), *value);
                }
                emitted.enums += 1;
                document.enums.insert(name.clone(), table);
            }
        }
    }
    for (alias, target) in &merged.aliases {
        let target = merged.names.get(target).and_then(|name| document.structs.get(name));
        match target {
            Some(target) if emitter.repeat(target.fields.len()) => {
                let copy = target.clone();
                document.structs.entry(alias.to_string()).or_insert(copy);
            }
            Some(_) => emitted.cut += 1,
            None => {}
        }
    }
    emitted
}

/// The types of global variables by name and address, those without address first. Code and unknown types are left out.
pub(crate) fn globals(merged: &Merged, address_size: u8) -> Vec<(String, Option<u64>, Type)> {
    let emitter = Emitter { merged, address_size, repeated: Cell::new(0) };
    let named = |((name, address), ty): (&(Box<str>, Option<u64>), &Ref)| {
        let ty = match ty {
            Ref::Void | Ref::Function => return None,
            // No definition has this identity, so the plain one of a name is meant.
            ty => emitter.ty(0, ty),
        };
        Some((name.to_string(), *address, ty))
    };
    merged.globals.iter().filter_map(named).collect()
}

struct Emitter<'m> {
    merged: &'m Merged,
    address_size: u8,
    /// Members written a second time so far.
    repeated: Cell<usize>,
}

impl Emitter<'_> {
    /// Whether so many more members may be written a second time.
    fn repeat(&self, members: usize) -> bool {
        self.repeated.set(self.repeated.get().saturating_add(members));
        self.repeated.get() <= MAX_REPEATED
    }

    /// Writes the members of a record: its own, `u1`, `u2`, ... for anonymous ones, and everything C code reaches
    /// through those by plain name. Returns `false` when there were too many.
    fn fields(&self, hash: u64, layout: &Layout, out: &mut BTreeMap<String, profile::Field>) -> bool {
        let Shape::Record { size, fields } = &layout.shape else { return true };
        for field in fields {
            if let Some(name) = &field.name {
                out.entry(name.to_string()).or_insert_with(|| self.field(hash, field, 0));
            }
        }
        let anonymous = || fields.iter().filter(|field| field.name.is_none());
        for (n, field) in anonymous().enumerate() {
            out.entry(format!("u{}", n + 1)).or_insert_with(|| self.field(hash, field, 0));
        }
        let mut complete = out.len() <= MAX_FIELDS;
        let mut left = MAX_FIELDS;
        for field in anonymous() {
            complete &= self.hoist(field, 0, 0, &mut left, out);
        }
        if *size > 0 {
            // Damaged input; readers refuse a struct with members beyond its end.
            out.retain(|_, field| u64::try_from(field.offset).is_ok_and(|offset| offset <= *size));
        }
        complete
    }

    /// Writes the named members behind an anonymous member `at` bytes into the outer record.
    fn hoist(
        &self,
        field: &Field,
        at: u64,
        depth: usize,
        left: &mut usize,
        out: &mut BTreeMap<String, profile::Field>,
    ) -> bool {
        let Ref::Layout(hash) = field.ty else { return true };
        let Some(layout) = self.merged.layouts.get(&hash) else { return true };
        let Shape::Record { fields, .. } = &layout.shape else { return true };
        if depth >= MAX_ANONYMOUS_DEPTH {
            return false;
        }
        let at = at.saturating_add(field.offset);
        for inner in fields {
            *left = left.saturating_sub(1);
            if *left == 0 || !self.repeat(1) {
                return false;
            }
            let complete = match &inner.name {
                Some(name) => {
                    out.entry(name.to_string()).or_insert_with(|| self.field(hash, inner, at));
                    true
                }
                None => self.hoist(inner, at, depth + 1, left, out),
            };
            if !complete {
                return false;
            }
        }
        true
    }

    fn field(&self, holder: u64, field: &Field, at: u64) -> profile::Field {
        let offset = at.saturating_add(field.offset);
        profile::Field { offset: i64::try_from(offset).unwrap_or(i64::MAX), ty: self.ty(holder, &field.ty) }
    }

    fn ty(&self, holder: u64, ty: &Ref) -> Type {
        match ty {
            Ref::Void => Type::Void,
            Ref::Function => Type::Function(Vec::new()),
            Ref::Base(name) => Type::named(name.as_ref()),
            Ref::Pointer(target) => Type::pointer(self.ty(holder, target)),
            Ref::Array(count, target) => Type::array(*count, self.ty(holder, target)),
            Ref::Layout(hash) => self.definition(*hash),
            Ref::Named { key, name } => Type::named(self.merged.target(holder, *key, name)),
            Ref::Bits { start, end, declared, unit } => {
                let bits =
                    |integer| Type::BitField { start: *start, end: *end, target: Some(Box::new(integer)) };
                let unit = unit.map(|size| Type::named(integer_name(size, false, self.address_size)));
                match self.ty(holder, declared) {
                    Type::Enumeration { name, choices, target } => {
                        let integer = unit.or(target.map(|integer| *integer)).unwrap_or(Type::Void);
                        Type::Enumeration { name, choices, target: Some(Box::new(bits(integer))) }
                    }
                    integer => bits(unit.unwrap_or(integer)),
                }
            }
        }
    }

    /// A definition held by value.
    fn definition(&self, hash: u64) -> Type {
        let Some(name) = self.merged.names.get(&hash) else { return Type::Void };
        let Some(Shape::Enum { size, signed, .. }) = self.merged.layouts.get(&hash).map(|l| &l.shape) else {
            return Type::named(name.as_str());
        };
        let integer = Type::named(integer_name(*size, *signed, self.address_size));
        Type::Enumeration {
            name: Some(name.clone()),
            choices: BTreeMap::new(),
            target: Some(Box::new(integer)),
        }
    }
}
