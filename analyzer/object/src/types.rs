//! A profile's types joined with overlays: sizes, and fields by dotted path.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

use elsa::sync::FrozenMap;
use profile::{DataModel, Profile, Struct, Type};

use crate::overlay::{FieldOverlay, Overlay, OverlayNote};

/// How deep anonymous members, aliases and dotted paths may nest.
const MAX_PATH_DEPTH: usize = 12;

/// A struct, field or symbol that the profile lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The profile does not define the struct.
    #[error("profile lacks struct: {0}")]
    Struct(Box<str>),
    /// The struct lacks the field, under every name tried.
    #[error("profile lacks field: {structure}.{field}")]
    Field {
        /// Struct name.
        structure: Box<str>,
        /// Dotted path, alternatives joined by `|`.
        field: Box<str>,
    },
    /// The field has another size than the code expects.
    #[error("field has {found} bytes where {expected} are expected: {structure}.{field}")]
    Size {
        /// Struct name.
        structure: Box<str>,
        /// Dotted path.
        field: Box<str>,
        /// Bytes expected by the code.
        expected: u64,
        /// Bytes by the profile.
        found: u64,
    },
    /// The profile lacks the symbol.
    #[error("profile lacks symbol: {0}")]
    Symbol(Box<str>),
    /// The profile is damaged at this struct.
    #[error("profile is damaged: {0}")]
    Damaged(Box<str>),
}

/// A field found by path.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Bytes from the start of the outermost struct.
    pub offset: u64,
    /// Type of the field.
    pub ty: Type,
    /// Class the overlay gives the field, e.g. `String`.
    pub class: Option<&'static str>,
}

/// Types of one kernel build: profile, data model and overlays, frozen.
pub struct Types {
    profile: Arc<Profile>,
    model: DataModel,
    overlay: Overlay,
    layouts: FrozenMap<TypeId, Box<dyn Any + Send + Sync>>,
}

impl Types {
    /// Joins a profile with overlays.
    #[must_use]
    pub fn new(profile: Arc<Profile>, model: DataModel, overlay: Overlay) -> Self {
        Self { profile, model, overlay, layouts: FrozenMap::new() }
    }

    /// The profile underneath.
    #[must_use]
    pub fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// Sizes of native types.
    #[must_use]
    pub fn model(&self) -> DataModel {
        self.model
    }

    /// Overlay entries that match nothing in this profile.
    #[must_use]
    pub fn overlay_notes(&self) -> Vec<OverlayNote> {
        let mut notes = Vec::new();
        for structure in self.overlay {
            if !self.profile.has_struct(structure.name) {
                notes.push(OverlayNote { structure: structure.name, field: None });
                continue;
            }
            for (field, _) in structure.fields {
                if self.resolve(structure.name, field).is_err() {
                    notes.push(OverlayNote { structure: structure.name, field: Some(field) });
                }
            }
        }
        notes
    }

    /// A struct's layout.
    pub fn structure(&self, name: &str) -> Result<&Struct, Missing> {
        match self.profile.struct_def(name) {
            Ok(Some(definition)) => Ok(definition),
            Ok(None) => Err(Missing::Struct(name.into())),
            Err(error) => Err(Missing::Damaged(error.to_string().into())),
        }
    }

    /// Size of a struct in bytes.
    pub fn struct_size(&self, name: &str) -> Result<u64, Missing> {
        self.structure(name)?
            .size
            .filter(|&size| size > 0)
            .ok_or_else(|| Missing::Damaged(format!("struct has no size: {name}").into()))
    }

    /// Size of a type in bytes; `None` where it is not known (void, unknown names).
    #[must_use]
    pub fn size_of(&self, ty: &Type) -> Option<u64> {
        self.size_at(ty, 0)
    }

    fn size_at(&self, ty: &Type, depth: usize) -> Option<u64> {
        if depth > MAX_PATH_DEPTH {
            return None;
        }
        match ty {
            Type::Named(name) => match self.model.native(name) {
                Some(native) => Some(u64::from(native.size)),
                None => self.structure(name).ok()?.size,
            },
            Type::Pointer(_) | Type::Function(_) => Some(u64::from(self.model.pointer_size())),
            Type::Pointer32(_) => Some(4),
            Type::Array { size: Some(size), count: None, .. } => Some(*size),
            Type::Array { count: Some(count), target, .. } => {
                self.size_at(target, depth + 1)?.checked_mul(*count)
            }
            Type::BitField { target, .. } | Type::Enumeration { target, .. } => match target {
                Some(target) => self.size_at(target, depth + 1),
                // The original's default target.
                None => self.model.native("unsigned long").map(|n| u64::from(n.size)),
            },
            Type::Void | Type::Array { .. } | Type::Other { .. } => None,
        }
    }

    /// Finds a field by dotted path. Overlay aliases are followed, and members of anonymous structs and unions are
    /// found under the names C code uses. `|` separates alternatives; the first that exists wins.
    pub fn resolve(&self, structure: &str, path: &str) -> Result<Resolved, Missing> {
        let mut damaged = None;
        for alternative in path.split('|') {
            match self.resolve_path(structure, alternative.trim(), 0) {
                Ok(resolved) => return Ok(resolved),
                Err(missing @ (Missing::Damaged(_) | Missing::Struct(_))) => {
                    damaged = damaged.or(Some(missing));
                }
                Err(_) => {}
            }
        }
        Err(damaged.unwrap_or_else(|| Missing::Field { structure: structure.into(), field: path.into() }))
    }

    /// Whether a field exists.
    #[must_use]
    pub fn has_field(&self, structure: &str, path: &str) -> bool {
        self.resolve(structure, path).is_ok()
    }

    fn resolve_path(&self, structure: &str, path: &str, depth: usize) -> Result<Resolved, Missing> {
        let (first, rest) = match path.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (path, None),
        };
        let found = self.member(structure, first, depth)?;
        let Some(rest) = rest else { return Ok(found) };
        let Type::Named(inner) = &found.ty else {
            return Err(Missing::Field { structure: structure.into(), field: path.into() });
        };
        let inner = self.resolve_path(inner, rest, depth + 1)?;
        Ok(Resolved { offset: found.offset.wrapping_add(inner.offset), ..inner })
    }

    fn member(&self, structure: &str, name: &str, depth: usize) -> Result<Resolved, Missing> {
        let missing = || Missing::Field { structure: structure.into(), field: name.into() };
        if depth > MAX_PATH_DEPTH {
            return Err(missing());
        }
        let overlay = self
            .overlay
            .iter()
            .find(|o| o.name == structure)
            .and_then(|o| o.fields.iter().find(|(field, _)| *field == name));
        let mut class = None;
        match overlay {
            Some((_, FieldOverlay::Alias(paths))) => {
                // An alias may name the field itself among its alternatives, so look below the overlay then.
                let target = |path: &&&str| {
                    if **path == name {
                        self.generated_member(structure, name, depth)
                    } else {
                        self.resolve_path(structure, path, depth + 1)
                    }
                };
                return paths.iter().find_map(|path| target(&path).ok()).ok_or_else(missing);
            }
            Some((_, FieldOverlay::Class(name))) => class = Some(*name),
            None => {}
        }
        self.generated_member(structure, name, depth)
            .map(|found| Resolved { class: class.or(found.class), ..found })
    }

    fn generated_member(&self, structure: &str, name: &str, depth: usize) -> Result<Resolved, Missing> {
        let missing = || Missing::Field { structure: structure.into(), field: name.into() };
        if depth > MAX_PATH_DEPTH {
            return Err(missing());
        }
        let definition = self.structure(structure)?;
        if let Some(field) = definition.fields.get(name) {
            let offset = field.offset.cast_unsigned();
            return Ok(Resolved { offset, ty: field.ty.clone(), class: None });
        }
        // Members of anonymous structs and unions, which generators of old call u1, u2, ...
        for (field_name, field) in &definition.fields {
            let Type::Named(inner) = &field.ty else { continue };
            let anonymous = field_name.strip_prefix('u').is_some_and(|n| n.parse::<u16>().is_ok())
                && inner.starts_with("__unnamed");
            if anonymous && let Ok(found) = self.generated_member(inner, name, depth + 1) {
                return Ok(Resolved { offset: found.offset.wrapping_add_signed(field.offset), ..found });
            }
        }
        Err(missing())
    }

    /// A value of an enumerator, by enum and name; with `None` for the enum, of any enum that has the name.
    pub fn enumerator(&self, enumeration: Option<&str>, name: &str) -> Option<i128> {
        let enums = self.profile.enums().ok()?;
        match enumeration {
            Some(enumeration) => enums.get(enumeration)?.values.get(name).copied(),
            None => enums.values().find_map(|table| table.values.get(name).copied()),
        }
    }

    /// The layout `L`, resolved on first use and kept.
    #[doc(hidden)]
    pub fn layout<L: crate::view::Layout>(&self) -> &L {
        let key = TypeId::of::<L>();
        let slot = match self.layouts.get(&key) {
            Some(slot) => slot,
            None => self.layouts.insert(key, Box::new(L::resolve(self))),
        };
        match slot.downcast_ref() {
            Some(layout) => layout,
            None => unreachable!("slots are keyed by the type they hold"),
        }
    }
}

impl fmt::Debug for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Types")
            .field("profile", &self.profile)
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}
