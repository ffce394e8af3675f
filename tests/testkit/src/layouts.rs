//! Where the members of a kernel struct stand, by name, from any profile.
//!
//! Paths are dotted (`Pcb.DirectoryTableBase`), elements of arrays are written `[3]`, and alternatives for renamed members
//! stand beside each other (`Wow64Process|WoW64Process`); the first that the profile has is meant.

use profile::{DataModel, Profile, Type};

/// Where one member stands.
#[derive(Debug, Clone)]
pub struct Place {
    /// Bytes from the start of the outermost struct.
    pub offset: u64,
    /// Bytes the member takes, or those of the integer that holds its bits.
    pub size: u64,
    /// First bit and one past the last, of a bit-field.
    pub bits: Option<(u32, u32)>,
    ty: Type,
}

/// The layouts and symbols of one kernel build.
pub struct Layouts {
    profile: Profile,
    model: DataModel,
}

impl Layouts {
    /// Layouts of a profile.
    pub fn new(profile: Profile) -> Self {
        let model = DataModel::of(profile.metadata());
        Self { profile, model }
    }

    /// The profile itself.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Bytes of a pointer of the target.
    pub fn pointer_size(&self) -> u64 {
        u64::from(self.model.pointer_size())
    }

    /// Bytes of a struct. Panics where the profile does not define it.
    pub fn size(&self, name: &str) -> u64 {
        self.size_if(name).unwrap_or_else(|| panic!("the profile has no struct {name}"))
    }

    /// Bytes of a struct; `None` where the profile does not define it.
    pub fn size_if(&self, name: &str) -> Option<u64> {
        self.profile.struct_def(name).expect("a readable struct")?.size
    }

    /// Whether the profile has this member.
    pub fn has(&self, name: &str, path: &str) -> bool {
        self.find(name, path).is_some()
    }

    /// Offset of a member. Panics where the profile lacks it.
    pub fn offset(&self, name: &str, path: &str) -> u64 {
        self.place(name, path).offset
    }

    /// Place of a member. Panics where the profile lacks it.
    pub fn place(&self, name: &str, path: &str) -> Place {
        self.find(name, path).unwrap_or_else(|| panic!("the profile has no member {name}.{path}"))
    }

    /// Place of the first alternative that exists.
    pub fn find(&self, name: &str, path: &str) -> Option<Place> {
        path.split('|').find_map(|path| self.find_one(name, path))
    }

    fn find_one(&self, name: &str, path: &str) -> Option<Place> {
        let mut here = Place { offset: 0, size: 0, bits: None, ty: Type::named(name) };
        for part in path.split('.') {
            let (member, index) = match part.split_once('[') {
                Some((member, index)) => (member, index.trim_end_matches(']').parse::<u64>().ok()),
                None => (part, None),
            };
            let Type::Named(outer) = &here.ty else { return None };
            let field = self.profile.struct_def(outer).expect("a readable struct")?.fields.get(member)?;
            let mut offset = here.offset + u64::try_from(field.offset).expect("members follow the start");
            let mut ty = field.ty.clone();
            if let Some(index) = index {
                let Type::Array { target, .. } = ty else { return None };
                offset += index * self.type_size(&target);
                ty = *target;
            }
            let bits = self.bits(&ty);
            here = Place { offset, size: self.type_size(&ty), bits, ty };
        }
        Some(here)
    }

    fn bits(&self, ty: &Type) -> Option<(u32, u32)> {
        match ty {
            Type::BitField { start, end, .. } => Some((*start, *end)),
            Type::Enumeration { target: Some(target), .. } => self.bits(target),
            _ => None,
        }
    }

    fn type_size(&self, ty: &Type) -> u64 {
        match ty {
            Type::Named(name) => match self.model.native(name) {
                Some(native) => u64::from(native.size),
                None => self.size_if(name).unwrap_or(0),
            },
            Type::Pointer(_) | Type::Function(_) => self.pointer_size(),
            Type::Array { count: Some(count), target, .. } => count * self.type_size(target),
            Type::Array { size: Some(size), .. } => *size,
            Type::BitField { target: Some(target), .. } | Type::Enumeration { target: Some(target), .. } => {
                self.type_size(target)
            }
            Type::Pointer32(_) | Type::BitField { .. } | Type::Enumeration { .. } => 4,
            Type::Array { .. } | Type::Void | Type::Other { .. } => 0,
        }
    }

    /// Puts member values together into the integer of a small struct, such as a page table entry.
    pub fn compose(&self, name: &str, members: &[(&str, u64)]) -> u64 {
        members.iter().fold(0, |word, &(path, value)| {
            let place = self.place(name, path);
            let (start, end) =
                place.bits.unwrap_or((0, u32::try_from(place.size * 8).expect("a small member")));
            word | (value & mask(end - start)) << (place.offset * 8 + u64::from(start))
        })
    }
}

/// The lowest `bits` bits set.
pub(crate) fn mask(bits: u32) -> u64 {
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}
