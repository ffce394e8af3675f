//! Objects of the object manager: the header before every process, thread, file, driver, mutant, ...
//!
//! Optional headers stand before the header, in a fixed order; a mask tells which (from Windows 7 on), or offsets of one
//! byte each do. Source: the types in the symbols of each kernel; spec of `ObpInfoMaskToOffset`: entry `m` is the distance to the
//! optional header of the highest bit of `m`, with those of the lower bits between.

use object::{Absent, Addr, Ptr, Read, Target, layout};

use super::process::Process;
use super::unicode;

/// `InfoMask` bit of `_OBJECT_HEADER_NAME_INFO`.
const NAME_INFO: u8 = 0x02;
/// `InfoMask` bit of `_OBJECT_HEADER_HANDLE_INFO`.
const HANDLE_INFO: u8 = 0x04;
/// Type indexes are believed below this; kernels have about 70 types.
const MAX_TYPES: u64 = 256;

layout! {
    /// `_OBJECT_HEADER`.
    pub struct ObjectHeader / ObjectHeaderLayout = "_OBJECT_HEADER" {
        /// References, those of handles included.
        pointer_count: i64 = "PointerCount",
        /// The same in 32-bit kernels.
        pointer_count_32: i32 = "PointerCount",
        /// Handles, in 64-bit kernels.
        handle_count_64: i64 = "HandleCount",
        /// Handles, in 32-bit kernels.
        handle_count_32: i32 = "HandleCount",
        /// Index of the type as stored (from Windows 7 on).
        type_index_raw: u8 = "TypeIndex",
        /// Which optional headers there are (from Windows 7 on).
        info_mask: u8 = "InfoMask",
        /// Distance to the name header, 0 for none (before Windows 7).
        name_info_offset: u8 = "NameInfoOffset",
        /// Distance to the handle header, 0 for none (before Windows 7).
        handle_info_offset: u8 = "HandleInfoOffset",
        /// Distance to the quota header, 0 for none (before Windows 7).
        quota_info_offset: u8 = "QuotaInfoOffset",
        /// The type (before Windows 7).
        type_pointer: Ptr = "Type",
        /// The object itself.
        body_place: Addr = "Body",
    }

    struct NameInfo / NameInfoLayout = "_OBJECT_HEADER_NAME_INFO" {
        directory: Ptr = "Directory",
        name: Addr = "Name",
    }

    /// `_OBJECT_TYPE`: what all objects of a type have in common.
    pub struct ObjectType / ObjectTypeLayout = "_OBJECT_TYPE" {
        /// Name of the type, a `UNICODE_STRING`.
        name_place: Addr = "Name",
        /// Index of the type.
        index: object::Uint = "Index",
        /// Objects of the type there are.
        objects: u32 = "TotalNumberOfObjects",
        /// Handles to such objects.
        handles: u32 = "TotalNumberOfHandles",
        /// Pool their memory comes from (`_POOL_TYPE`).
        pool_type: object::Uint = "TypeInfo.PoolType",
        /// Pool tag, called the key of the type.
        key: u32 = "Key",
    }
}

impl<'k> ObjectHeader<'k> {
    /// The header of an object's body.
    pub fn of_body(target: &'k Target, body: u64) -> Read<Self> {
        let offset = target.offset_of(Self::STRUCT, "Body")?;
        Ok(Self::at(target, body.wrapping_sub(offset)))
    }

    /// Address of the object itself, which follows the header.
    pub fn body(&self) -> Read<u64> {
        self.body_place().map(|Addr(body)| body)
    }

    /// References to the object.
    pub fn pointers(&self) -> Read<i64> {
        self.pointer_count().or_else(|_| self.pointer_count_32().map(i64::from))
    }

    /// Handles to the object.
    pub fn handles(&self) -> Read<i64> {
        self.handle_count_64().or_else(|_| self.handle_count_32().map(i64::from))
    }

    /// Index of its type: hidden behind a cookie and the header's address from Windows 10 on, so a header that was found
    /// in physical memory needs its virtual address.
    pub fn type_index(&self) -> Read<u64> {
        let raw = self.type_index_raw()?;
        match self.target().symbol("ObHeaderCookie") {
            Ok(cookie) => {
                let [cookie, ..] = self.target().read_u32(cookie)?.to_le_bytes();
                let [_, address, ..] = self.addr().to_le_bytes();
                Ok((raw ^ cookie ^ address).into())
            }
            Err(_) => Ok(raw.into()),
        }
    }

    /// Its type.
    pub fn object_type(&self) -> Read<ObjectType<'k>> {
        let target = self.target();
        let Err(Absent::NoProfile(_)) = self.type_index_raw() else {
            let index = self.type_index()?;
            return type_at(target, index);
        };
        let kind = self.type_pointer()?.non_null("no type")?;
        Ok(ObjectType::at(target, kind))
    }

    /// Name of its type: `Process`, `File`, ...
    pub fn type_name(&self) -> Read<String> {
        self.object_type()?.name()
    }

    /// Bytes of optional headers before it, by the highest that it says there is. `kernel` has the table of distances.
    pub fn preamble(&self, kernel: &Target) -> Read<u64> {
        match self.info_mask() {
            Ok(0) => Ok(0),
            Ok(mask) => {
                let table = kernel.symbol("ObpInfoMaskToOffset")?;
                let bytes = kernel.read_bytes(table.wrapping_add(u64::from(mask)), 1, 1)?;
                Ok(bytes.first().copied().unwrap_or(0).into())
            }
            Err(Absent::NoProfile(_)) => {
                let offsets =
                    [self.name_info_offset()?, self.handle_info_offset()?, self.quota_info_offset()?];
                Ok(offsets.into_iter().max().unwrap_or(0).into())
            }
            Err(why) => Err(why),
        }
    }

    /// Address of the optional header of a bit of the mask, or at an older distance; not applicable where there is none.
    fn optional(&self, bit: u8, older: Read<u8>) -> Read<u64> {
        let none = Absent::NotApplicable("no such optional header");
        let target = self.target();
        let distance = match self.info_mask() {
            Ok(mask) if mask & bit == 0 => return Err(none),
            Ok(mask) => {
                let table = target.symbol("ObpInfoMaskToOffset")?;
                // The lower bits count, whose headers are nearer.
                let index = u64::from(mask & (bit | (bit - 1)));
                let bytes = target.read_bytes(table.wrapping_add(index), 1, 1)?;
                u64::from(bytes.first().copied().unwrap_or(0))
            }
            Err(Absent::NoProfile(_)) => u64::from(older?),
            Err(why) => return Err(why),
        };
        if distance == 0 {
            return Err(none);
        }
        Ok(self.addr().wrapping_sub(distance))
    }

    /// Its name header; not applicable for objects without one.
    fn name_info(&self) -> Read<NameInfo<'k>> {
        Ok(NameInfo::at(self.target(), self.optional(NAME_INFO, self.name_info_offset())?))
    }

    /// The process that has it open, the first where there are several; not applicable where none is recorded. Most types do
    /// not record it, files do.
    pub fn owner(&self) -> Read<Process<'k>> {
        let none = Absent::NotApplicable("no process is recorded");
        let target = self.target();
        let info = self.optional(HANDLE_INFO, self.handle_info_offset())?;
        // One process, or a counted array of them; the header's flag that tells moved between kernels, a process tells itself.
        let first = target.read_ptr(info)?;
        if first == 0 {
            return Err(none);
        }
        let process = Process::at(target, first);
        if process.is_plausible() {
            return Ok(process);
        }
        let width = u64::from(target.types().model().pointer_size());
        let process = Process::at(target, target.read_ptr(first.wrapping_add(width))?);
        if process.is_plausible() { Ok(process) } else { Err(none) }
    }

    /// Its name in its directory; not applicable for objects without one.
    pub fn name(&self) -> Read<String> {
        let name = unicode::text_at(self.target(), self.name_info()?.name())?;
        if name.is_empty() { Err(Absent::NotApplicable("no name")) } else { Ok(name) }
    }

    /// The directory it is in; not applicable for objects in none.
    pub fn directory(&self) -> Read<u64> {
        self.name_info()?.directory()?.non_null("in no directory")
    }
}

/// The type of an index (from Windows 7 on).
pub fn type_at(target: &Target, index: u64) -> Read<ObjectType<'_>> {
    if index >= MAX_TYPES {
        return Err(Absent::Malformed("type index of an object"));
    }
    let table = target.symbol("ObTypeIndexTable")?;
    let width = u64::from(target.types().model().pointer_size());
    // The first entries are no types: 0, and 0xbad0b0b0 for freed objects.
    match target.read_ptr(table.wrapping_add(index.wrapping_mul(width)))? {
        0 | 0xbad0_b0b0 => Err(Absent::Malformed("type index of an object")),
        kind => Ok(ObjectType::at(target, kind)),
    }
}

impl ObjectType<'_> {
    /// Name of the type.
    pub fn name(&self) -> Read<String> {
        unicode::text_at(self.target(), self.name_place())
    }
}
