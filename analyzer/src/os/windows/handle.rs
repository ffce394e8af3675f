//! Handle tables: arrays of entries in up to three levels of pages.
//!
//! The low bits of `TableCode` are the number of levels above the entries. The first entry of each page of entries is no
//! handle. Source: `_HANDLE_TABLE`, `_HANDLE_TABLE_ENTRY` in the symbols of each kernel.

use std::collections::HashSet;

use object::{Absent, Addr, Ptr, Read, Target, Uint, layout};

/// Bytes of a page of entries or of pointers.
const PAGE: u64 = 4096;
/// Most entries of one table: handles have 24 bits of index (`MAX_HANDLES`).
const MAX_ENTRIES: u64 = 1 << 24;
/// Entries that may be unreadable before the rest of a table is given up.
const MAX_HOLES: usize = 4096;

/// `EX_ADDITIONAL_INFO_SIGNATURE`, -2, in the place of the access rights, of which 25 bits are kept from Windows 8 on.
const AUDIT: u32 = 0x01ff_fffe;

layout! {
    /// `_HANDLE_TABLE`: the handles of a process.
    pub struct HandleTable / HandleTableLayout = "_HANDLE_TABLE" {
        /// Address of the first page, with the level in the low bits.
        table_code: Uint = "TableCode | Table",
        /// The process; null for the kernel's table of process and thread ids.
        quota_process: Ptr = "QuotaProcess",
        /// Id of the process.
        process_id: Uint = "UniqueProcessId",
        /// Link of the list of all tables.
        list: Addr = "HandleTableList",
        /// Handles in use; gone in Windows 8.1.
        handle_count: Uint = "HandleCount",
        /// First handle value that has no page of entries yet.
        next_needing_pool: u32 = "NextHandleNeedingPool",
    }

    struct Entry / EntryLayout = "_HANDLE_TABLE_ENTRY" {
        value: Ptr = "Object",
        pointer_bits: Uint = "ObjectPointerBits",
        granted_access: Uint = "GrantedAccess | GrantedAccessBits",
    }
}

/// One used entry of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handle {
    /// The value programs use: four times the index.
    pub value: u64,
    /// What the entry points to: an object header, or the object itself in the table of ids.
    pub object: u64,
    /// Access rights that were granted; in the table of ids a link.
    pub access: u32,
}

/// Used entries of a table in order, and what is missing.
#[derive(Debug, Clone, Default)]
pub struct Handles {
    /// The entries.
    pub handles: Vec<Handle>,
    /// Why there may be more; `None` for a table that was read whole.
    pub damage: Option<String>,
}

/// Reads the table at an address.
pub fn handles(target: &Target, table: u64) -> Read<Handles> {
    let view = HandleTable::at(target, table);
    let Uint(code) = view.table_code()?;
    let limit =
        view.next_needing_pool().map_or(MAX_ENTRIES, |next| u64::from(next / 4).clamp(1, MAX_ENTRIES));
    let mut walk = Walk {
        target,
        reader: EntryReader::new(target)?,
        limit,
        holes: 0,
        seen: HashSet::new(),
        found: Handles::default(),
    };
    walk.level(code & !7, code & 7, 0)?;
    Ok(walk.found)
}

/// Number of handles in use.
pub fn count(target: &Target, table: u64) -> Read<u64> {
    let view = HandleTable::at(target, table);
    match view.handle_count() {
        Ok(Uint(count)) => Ok(count),
        Err(Absent::NoProfile(_)) => {
            let found = handles(target, table)?;
            match found.damage {
                None => Ok(found.handles.len() as u64),
                Some(_) => Err(Absent::Malformed("handle table cannot be read whole, so not counted")),
            }
        }
        Err(why) => Err(why),
    }
}

/// How entries are decoded, resolved once.
struct EntryReader {
    size: u64,
    /// Whether entries hold a pointer shifted out of its place, rather than one with flags in its low bits.
    packed: bool,
}

impl EntryReader {
    fn new(target: &Target) -> Read<Self> {
        let types = target.types();
        let size = types.struct_size("_HANDLE_TABLE_ENTRY")?;
        let packed = types.has_field("_HANDLE_TABLE_ENTRY", "ObjectPointerBits");
        if !(8..=64).contains(&size) {
            return Err(Absent::Malformed("size of _HANDLE_TABLE_ENTRY in the profile"));
        }
        Ok(Self { size, packed })
    }

    /// What an entry points to; 0 for one that is not in use.
    fn object(&self, entry: &Entry<'_>) -> Read<u64> {
        if !self.packed {
            let Ptr(value) = entry.value()?;
            return Ok(value & !7);
        }
        let Uint(bits) = entry.pointer_bits()?;
        Ok(match (bits, entry.target().types().model().pointer_size()) {
            (0, _) => 0,
            // The kernel's addresses without the low 4 and the high 16 bits.
            (bits, 8) => bits << 4 | 0xffff << 48,
            (bits, _) => bits << 3 & 0xffff_ffff,
        })
    }
}

struct Walk<'t> {
    target: &'t Target,
    reader: EntryReader,
    /// Entries there can be.
    limit: u64,
    /// Pages that could not be read.
    holes: usize,
    /// Pages visited: each belongs to one place of one table.
    seen: HashSet<u64>,
    found: Handles,
}

impl Walk<'_> {
    /// Reads a page of entries, or of pages of them; `first` is the index of its first entry. Depth is at most the level.
    fn level(&mut self, page: u64, level: u64, first: u64) -> Read<()> {
        if page == 0 || first >= self.limit {
            return Ok(());
        }
        if level > 2 {
            return Err(Absent::Malformed("level of a handle table"));
        }
        if !page.is_multiple_of(PAGE) {
            self.found.damage.get_or_insert_with(|| format!("{page:#x} is no address of a page of it"));
            return Ok(());
        }
        if !self.seen.insert(page) {
            self.found.damage.get_or_insert_with(|| format!("page {page:#x} stands in it twice"));
            return Ok(());
        }
        if level == 0 {
            self.entries(page, first);
            return Ok(());
        }
        let width = u64::from(self.target.types().model().pointer_size());
        let per_page = PAGE / self.reader.size;
        let span = if level == 1 { per_page } else { per_page.saturating_mul(PAGE / width) };
        for slot in 0..PAGE / width {
            let start = first.saturating_add(slot.saturating_mul(span));
            if start >= self.limit || self.holes > MAX_HOLES {
                break;
            }
            match self.target.read_ptr(page.wrapping_add(slot.wrapping_mul(width))) {
                // Pages are filled in order.
                Ok(0) => break,
                Ok(next) => self.level(next, level - 1, start)?,
                Err(why) => {
                    self.hole(&why);
                    break;
                }
            }
        }
        Ok(())
    }

    fn entries(&mut self, page: u64, first: u64) {
        for slot in 0..PAGE / self.reader.size {
            let index = first.saturating_add(slot);
            if index >= self.limit {
                break;
            }
            let entry = Entry::at(self.target, page.wrapping_add(slot.wrapping_mul(self.reader.size)));
            match self.reader.object(&entry) {
                Ok(0) => {}
                Ok(object) => {
                    let access = entry
                        .granted_access()
                        .map_or(0, |Uint(access)| u32::try_from(access).unwrap_or(u32::MAX));
                    // The first entry of a page is for audits, and says so.
                    if slot == 0 && access & AUDIT == AUDIT {
                        continue;
                    }
                    self.found.handles.push(Handle { value: index.saturating_mul(4), object, access });
                }
                Err(why) => {
                    // Entries do not straddle pages: what one lacks the whole page lacks.
                    self.hole(&why);
                    break;
                }
            }
        }
    }

    fn hole(&mut self, why: &Absent) {
        self.holes += 1;
        if self.found.damage.is_none() {
            self.found.damage = Some(why.to_string());
        }
    }
}
