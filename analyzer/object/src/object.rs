//! The dynamic door: any field of any struct by path, for `dt`, the shell and queries.

use profile::{NativeKind, Type};

use crate::absent::{Absent, Read};
use crate::field::{bits_of, read_uint};
use crate::target::Target;
use crate::types::Missing;

/// Longest text an overlay's `String` class reads.
const MAX_TEXT: usize = 4096;

/// A typed place in memory. Nothing is read until asked.
#[derive(Clone)]
pub struct Object<'t> {
    target: &'t Target,
    addr: u64,
    ty: Type,
    class: Option<&'static str>,
}

/// What a place holds, decoded by its type.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// An unsigned integer.
    Uint(u64),
    /// A signed integer.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// A floating-point number.
    Float(f64),
    /// A pointer's value.
    Pointer(u64),
    /// Text up to its NUL, not decoded.
    Text(Vec<u8>),
    /// An enumeration: value, and its name where the profile has one.
    Enum(i128, Option<String>),
    /// A struct or union of this name: look at its fields.
    Struct(String),
    /// An array of this many elements; absent where the profile does not know.
    Array(Option<u64>),
    /// Only the address is known.
    Opaque,
}

impl<'t> Object<'t> {
    /// The object of type `ty` at `addr`.
    #[must_use]
    pub fn new(target: &'t Target, addr: u64, ty: Type) -> Self {
        Self { target, addr, ty, class: None }
    }

    /// Address of the object.
    #[must_use]
    pub fn addr(&self) -> u64 {
        self.addr
    }

    /// Type of the object.
    #[must_use]
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// A member by dotted path; pointers on the way are followed.
    pub fn get(&self, path: &str) -> Read<Object<'t>> {
        let mut object = self.clone();
        for part in path.split('.') {
            object = object.member(part)?;
        }
        Ok(object)
    }

    fn member(&self, name: &str) -> Read<Object<'t>> {
        let object = match &self.ty {
            Type::Pointer(_) | Type::Pointer32(_) => self.deref()?,
            _ => self.clone(),
        };
        let Type::Named(structure) = &object.ty else {
            return Err(
                Missing::Field { structure: format!("{:?}", object.ty).into(), field: name.into() }.into()
            );
        };
        let found = self.target.types().resolve(structure, name)?;
        let addr = object.addr.wrapping_add(found.offset);
        Ok(Object { target: self.target, addr, ty: found.ty, class: found.class })
    }

    /// What a pointer points to.
    pub fn deref(&self) -> Read<Object<'t>> {
        let (Type::Pointer(inner) | Type::Pointer32(inner)) = &self.ty else {
            return Err(Absent::NotApplicable("not a pointer"));
        };
        match self.scalar()? {
            Scalar::Pointer(0) => Err(Absent::NotApplicable("null pointer")),
            Scalar::Pointer(addr) => Ok(Object::new(self.target, addr, inner.as_ref().clone())),
            _ => Err(Absent::Malformed("pointer")),
        }
    }

    /// Element `index` of an array.
    pub fn index(&self, index: u64) -> Read<Object<'t>> {
        let Type::Array { target: inner, .. } = &self.ty else {
            return Err(Absent::NotApplicable("not an array"));
        };
        let size =
            self.target.types().size_of(inner).ok_or(Absent::Malformed("array of unknown element size"))?;
        Ok(Object::new(self.target, self.addr.wrapping_add(size.wrapping_mul(index)), inner.as_ref().clone()))
    }

    /// Members of a struct in order of offset, then name; empty for other types.
    pub fn fields(&self) -> Read<Vec<(String, u64, Object<'t>)>> {
        let Type::Named(structure) = &self.ty else { return Ok(Vec::new()) };
        let definition = self.target.types().structure(structure)?;
        let mut fields: Vec<_> = definition
            .fields
            .keys()
            .filter_map(|name| {
                let found = self.target.types().resolve(structure, name).ok()?;
                let addr = self.addr.wrapping_add(found.offset);
                let object = Object { target: self.target, addr, ty: found.ty, class: found.class };
                Some((name.clone(), found.offset, object))
            })
            .collect();
        fields.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        Ok(fields)
    }

    /// Reads and decodes the value.
    pub fn scalar(&self) -> Read<Scalar> {
        if self.class == Some("String") {
            let size = self.target.types().size_of(&self.ty).unwrap_or(MAX_TEXT as u64);
            let max = usize::try_from(size).unwrap_or(MAX_TEXT).min(MAX_TEXT);
            return self.target.read_cstr(self.addr, max).map(Scalar::Text);
        }
        self.decode(&self.ty, 0)
    }

    fn decode(&self, ty: &Type, depth: usize) -> Read<Scalar> {
        if depth > profile::MAX_TYPE_NESTING {
            return Err(Absent::Malformed("type nests too deep"));
        }
        let types = self.target.types();
        Ok(match ty {
            Type::Named(name) => match types.model().native(name) {
                None => {
                    return types.structure(name).map(|_| Scalar::Struct(name.clone())).map_err(Absent::from);
                }
                Some(native) => {
                    let value = self.uint(u64::from(native.size))?;
                    match native.kind {
                        NativeKind::Bool => Scalar::Bool(value != 0),
                        NativeKind::Unsigned | NativeKind::Char => Scalar::Uint(value),
                        NativeKind::Signed => Scalar::Int(sign_extend(value, u32::from(native.size) * 8)),
                        NativeKind::Float if native.size == 4 => {
                            Scalar::Float(f32::from_bits(u32::try_from(value).unwrap_or_default()).into())
                        }
                        NativeKind::Float => Scalar::Float(f64::from_bits(value)),
                    }
                }
            },
            Type::Pointer(_) | Type::Function(_) => Scalar::Pointer(self.target.read_ptr(self.addr)?),
            Type::Pointer32(_) => Scalar::Pointer(u64::from(self.target.read_u32(self.addr)?)),
            Type::Array { count, size, target } => {
                let by_size = || size.zip(types.size_of(target).filter(|&n| n > 0)).map(|(size, n)| size / n);
                Scalar::Array(count.or_else(by_size))
            }
            Type::BitField { start, end, target } => {
                let size = target.as_ref().and_then(|t| types.size_of(t)).unwrap_or(4);
                let width = end.saturating_sub(*start);
                let value = bits_of(self.uint(size)?, *start, *end);
                let signed = matches!(target.as_deref(), Some(Type::Named(name))
                    if types.model().native(name).is_some_and(|n| n.kind == NativeKind::Signed));
                if signed { Scalar::Int(sign_extend(value, width)) } else { Scalar::Uint(value) }
            }
            Type::Enumeration { name, choices, target } => {
                let stored = match target {
                    Some(target) => self.decode(target, depth + 1)?,
                    None => Scalar::Uint(self.uint(4)?),
                };
                let value = match stored {
                    Scalar::Uint(value) => i128::from(value),
                    Scalar::Int(value) => i128::from(value),
                    _ => return Err(Absent::Malformed("enumeration of no integer")),
                };
                let label = match name {
                    Some(name) => {
                        let table = types.profile().enum_def(name).ok().flatten();
                        table.and_then(|table| table.names.get(&value).cloned())
                    }
                    None => choices.get(&value).cloned(),
                };
                Scalar::Enum(value, label)
            }
            Type::Void | Type::Other { .. } => Scalar::Opaque,
        })
    }

    fn uint(&self, size: u64) -> Read<u64> {
        read_uint(self.target.space(), self.addr, size)
    }
}

fn sign_extend(value: u64, bits: u32) -> i64 {
    match 64u32.checked_sub(bits) {
        Some(shift) if shift < 64 => (value << shift).cast_signed() >> shift,
        _ => value.cast_signed(),
    }
}
