//! The export directory: functions and data that other modules may use.

use object::{Absent, Read};

use super::fields::Fields;
use super::headers::DirectoryIndex;
use super::{Listing, Pe};

/// Most entries of a table: ordinals have 16 bits.
const MAX_ENTRIES: u32 = 1 << 16;
/// Most bytes of all names together.
const MAX_NAMES: usize = 16 << 20;

/// What a module exports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exports {
    /// The module's name for itself.
    pub module: Read<String>,
    /// Ordinal of the first entry.
    pub ordinal_base: u32,
    /// The exports by ascending ordinal; one with several names stands once per name.
    pub entries: Listing<Export>,
}

/// One export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Its ordinal.
    pub ordinal: Read<u32>,
    /// Its name; not applicable where it is exported by ordinal only.
    pub name: Read<String>,
    /// What it stands for.
    pub target: Read<ExportTarget>,
}

/// What an export stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportTarget {
    /// The relative address of code or data of the module.
    Rva(u32),
    /// Another module's export: `NTDLL.RtlAllocateHeap` or `MODULE.#12`.
    Forwarder(String),
}

impl Pe {
    /// What the module exports.
    ///
    /// # Errors
    /// Where it exports nothing, or the directory itself cannot be read.
    pub fn exports(&self) -> Read<Exports> {
        let directory = self.directory(DirectoryIndex::Export)?;
        let mut bytes = [0; 40];
        self.read(directory.rva.into(), &mut bytes)?;
        let fields = Fields(&bytes);
        let tables = Tables {
            pe: self,
            forwarders: u64::from(directory.rva)..u64::from(directory.rva) + u64::from(directory.size),
            ordinal_base: fields.u32(16)?,
            addresses: (fields.u32(28)?.into(), fields.u32(20)?),
            names: (fields.u32(32)?.into(), fields.u32(24)?),
            ordinals: fields.u32(36)?.into(),
        };
        Ok(Exports {
            module: self.text(fields.u32(12)?.into()),
            ordinal_base: tables.ordinal_base,
            entries: tables.entries(),
        })
    }
}

/// Where the tables of a directory are.
struct Tables<'a> {
    pe: &'a Pe,
    /// Addresses of functions that lie in the directory itself are texts: forwarders.
    forwarders: std::ops::Range<u64>,
    ordinal_base: u32,
    addresses: (u64, u32),
    names: (u64, u32),
    ordinals: u64,
}

impl Tables<'_> {
    fn entries(&self) -> Listing<Export> {
        let mut listing = Listing::default();
        let names = self.names(&mut listing);
        let count = self.addresses.1.min(MAX_ENTRIES);
        if self.addresses.1 > count {
            listing.cut = Some(Absent::Malformed("more than 65536 exports"));
        }
        let mut names = names.into_iter().peekable();
        for index in 0..count {
            let target = self.target(index);
            let ordinal = || Ok(self.ordinal_base.wrapping_add(index));
            let mut named = false;
            while let Some((_, name)) = names.next_if(|(of, _)| u32::from(*of) == index) {
                named = true;
                listing.items.push(Export { ordinal: ordinal(), name, target: target.clone() });
            }
            // Unused ordinals have an entry of 0.
            if !named && target != Ok(ExportTarget::Rva(0)) {
                let name = Err(Absent::NotApplicable("exported by ordinal only"));
                listing.items.push(Export { ordinal: ordinal(), name, target });
            }
        }
        for (index, name) in names {
            let ordinal = Ok(self.ordinal_base.wrapping_add(index.into()));
            let target = Err(Absent::Malformed("the ordinal has no address"));
            listing.items.push(Export { ordinal, name, target });
        }
        listing
    }

    /// Index into the table of addresses and name of each named export, by index. Names whose index cannot be read
    /// go to the list as they are.
    fn names(&self, listing: &mut Listing<Export>) -> Vec<(u16, Read<String>)> {
        let (table, promised) = self.names;
        let count = promised.min(MAX_ENTRIES);
        if promised > count {
            listing.cut = Some(Absent::Malformed("more than 65536 names of exports"));
        }
        let mut names = Vec::new();
        let mut bytes = 0usize;
        for index in 0..u64::from(count) {
            let name = self.pe.u32(table.saturating_add(index * 4)).and_then(|rva| self.pe.text(rva.into()));
            bytes = bytes.saturating_add(name.as_ref().map_or(0, String::len));
            if bytes > MAX_NAMES {
                listing.cut = Some(Absent::Malformed("names of exports are longer than 16 MiB"));
                break;
            }
            match self.pe.u16(self.ordinals.saturating_add(index * 2)) {
                Ok(ordinal) => names.push((ordinal, name)),
                Err(why) => {
                    listing.items.push(Export { ordinal: Err(why.clone()), name, target: Err(why) });
                }
            }
        }
        names.sort_by_key(|(index, _)| *index);
        names
    }

    fn target(&self, index: u32) -> Read<ExportTarget> {
        let rva = self.pe.u32(self.addresses.0.saturating_add(u64::from(index) * 4))?;
        if self.forwarders.contains(&rva.into()) {
            self.pe.text(rva.into()).map(ExportTarget::Forwarder)
        } else {
            Ok(ExportTarget::Rva(rva))
        }
    }
}
