//! The import directories: functions of other modules, bound at start, at the first call, or by the linker.

use object::{Absent, Read};

use super::fields::Fields;
use super::headers::DirectoryIndex;
use super::{Listing, Pe};

/// Most modules of a directory.
const MAX_MODULES: u64 = 4096;
/// Most functions of all modules together.
const MAX_FUNCTIONS: usize = 1 << 18;
/// Most bytes of all names together.
const MAX_NAMES: usize = 16 << 20;

/// When an imported module is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportKind {
    /// With the importing module.
    Normal,
    /// At the first call.
    Delay,
}

/// A module from which something is imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedModule {
    /// Its file name.
    pub name: Read<String>,
    /// When it is loaded.
    pub kind: ImportKind,
    /// What is imported from it, in the order of the table.
    pub functions: Listing<ImportedFunction>,
}

/// An imported function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportedFunction {
    /// How it is asked for.
    pub by: Read<ImportedBy>,
    /// Relative address of the slot that holds its address once the module is loaded.
    pub slot: u64,
}

/// How an import is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportedBy {
    /// By number.
    Ordinal(u16),
    /// By name.
    Name {
        /// Where the exporting module's table of names probably has it.
        hint: u16,
        /// The name.
        name: String,
    },
}

/// A module that the linker bound imports to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundImport {
    /// Time stamp of the module that was bound to.
    pub timestamp: u32,
    /// Its file name.
    pub name: Read<String>,
    /// Whether it is reached through a forwarder of the module before it.
    pub is_forwarder: bool,
}

/// What is left of the bounds on all functions together.
struct Budget {
    functions: usize,
    names: usize,
}

impl Budget {
    fn take(&mut self, name_len: usize) -> bool {
        let functions = self.functions.checked_sub(1);
        let names = self.names.checked_sub(name_len);
        let (Some(functions), Some(names)) = (functions, names) else { return false };
        *self = Self { functions, names };
        true
    }
}

impl Pe {
    /// The modules it imports from, first those loaded with it, then those loaded later.
    #[must_use]
    pub fn imports(&self) -> Listing<ImportedModule> {
        let mut listing = Listing::default();
        let mut budget = Budget { functions: MAX_FUNCTIONS, names: MAX_NAMES };
        for (index, kind) in
            [(DirectoryIndex::Import, ImportKind::Normal), (DirectoryIndex::DelayImport, ImportKind::Delay)]
        {
            let Ok(directory) = self.directory(index) else { continue };
            if let Err(why) = self.modules(directory.rva.into(), kind, &mut budget, &mut listing.items) {
                listing.cut.get_or_insert(why);
            }
        }
        listing
    }

    fn modules(
        &self,
        table: u64,
        kind: ImportKind,
        budget: &mut Budget,
        modules: &mut Vec<ImportedModule>,
    ) -> Read<()> {
        for index in 0..MAX_MODULES {
            let descriptor = match kind {
                ImportKind::Normal => self.normal_descriptor(table.saturating_add(index * 20))?,
                ImportKind::Delay => self.delay_descriptor(table.saturating_add(index * 32))?,
            };
            let Some(Descriptor { name, lookup, slots }) = descriptor else { return Ok(()) };
            let functions = self.functions(lookup, slots, budget);
            modules.push(ImportedModule { name: self.text(name), kind, functions });
        }
        Err(Absent::Malformed("more than 4096 imported modules"))
    }

    fn normal_descriptor(&self, at: u64) -> Read<Option<Descriptor>> {
        let mut bytes = [0; 20];
        self.read(at, &mut bytes)?;
        let fields = Fields(&bytes);
        let (lookup, name, slots) = (fields.u32(0)?, fields.u32(12)?, fields.u32(16)?);
        // The loader stops at the first descriptor without a name or slots.
        let end = name == 0 || slots == 0;
        let (name, lookup, slots) = (name.into(), lookup.into(), slots.into());
        Ok((!end).then_some(Descriptor { name, lookup, slots }))
    }

    fn delay_descriptor(&self, at: u64) -> Read<Option<Descriptor>> {
        let mut bytes = [0; 32];
        self.read(at, &mut bytes)?;
        let fields = Fields(&bytes);
        // The first linkers stored addresses instead of relative ones.
        let origin = if fields.u32(0)? & 1 == 0 { self.headers.image_base } else { 0 };
        let relative = |at| fields.u32(at).map(|value| u64::from(value).wrapping_sub(origin));
        let end = fields.u32(4)? == 0;
        let (name, lookup, slots) = (relative(4)?, relative(16)?, relative(12)?);
        Ok((!end).then_some(Descriptor { name, lookup, slots }))
    }

    /// The functions of one module. `lookup` is the table of names that the loader leaves alone; where it is missing
    /// the slots hold the names, until the module is loaded.
    fn functions(&self, lookup: u64, slots: u64, budget: &mut Budget) -> Listing<ImportedFunction> {
        let mut listing = Listing::default();
        if lookup == 0 && self.file.is_none() {
            listing.cut = Some(Absent::Malformed("names of imports are overwritten when it is loaded"));
            return listing;
        }
        let table = if lookup == 0 { slots } else { lookup };
        let width = if self.headers.is_64 { 8 } else { 4 };
        for index in 0.. {
            let at = width * index;
            let by = match self.word(table.saturating_add(at)) {
                Ok(0) => break,
                Ok(entry) => self.import(entry),
                Err(why) => {
                    listing.cut = Some(why);
                    break;
                }
            };
            let len = if let Ok(ImportedBy::Name { name, .. }) = &by { name.len() } else { 0 };
            if !budget.take(len) {
                listing.cut = Some(Absent::Malformed("more than 262144 imported functions"));
                break;
            }
            listing.items.push(ImportedFunction { by, slot: slots.saturating_add(at) });
        }
        listing
    }

    fn import(&self, entry: u64) -> Read<ImportedBy> {
        let by_ordinal = entry >> (if self.headers.is_64 { 63 } else { 31 }) != 0;
        if by_ordinal {
            let [low, high, ..] = entry.to_le_bytes();
            return Ok(ImportedBy::Ordinal(u16::from_le_bytes([low, high])));
        }
        Ok(ImportedBy::Name { hint: self.u16(entry)?, name: self.text(entry.saturating_add(2))? })
    }

    /// The modules whose addresses the linker wrote into the slots beforehand; empty where it did not.
    #[must_use]
    pub fn bound_imports(&self) -> Listing<BoundImport> {
        let mut listing = Listing::default();
        let Ok(directory) = self.directory(DirectoryIndex::BoundImport) else { return listing };
        let table = u64::from(directory.rva);
        let mut forwarders = 0;
        for index in 0..MAX_MODULES {
            let mut bytes = [0; 8];
            let entry = self.read(table + index * 8, &mut bytes).and_then(|()| {
                let fields = Fields(&bytes);
                Ok((fields.u32(0)?, fields.u16(4)?, fields.u16(6)?))
            });
            let (timestamp, name, count) = match entry {
                Ok((0, 0, _)) => return listing,
                Ok(entry) => entry,
                Err(why) => {
                    listing.cut = Some(why);
                    return listing;
                }
            };
            let is_forwarder = forwarders > 0;
            forwarders = if is_forwarder { forwarders - 1 } else { count };
            let name = self.text(table + u64::from(name));
            listing.items.push(BoundImport { timestamp, name, is_forwarder });
        }
        listing.cut = Some(Absent::Malformed("more than 4096 bound modules"));
        listing
    }
}

/// What is imported from one module: relative addresses of its name, of the names and of the slots.
struct Descriptor {
    name: u64,
    lookup: u64,
    slots: u64,
}
