//! The resource directory: a tree of type, name and language. Only what is needed to find one type.

use object::{Absent, Read};

use super::fields::Fields;
use super::headers::DirectoryIndex;
use super::{Listing, Pe};

/// Most entries of one directory that are looked at.
const MAX_ENTRIES: u64 = 4096;
/// Most resources of one type that are listed.
const MAX_RESOURCES: usize = 256;
/// Set in an offset that leads to another directory.
const DIRECTORY: u32 = 1 << 31;

/// A resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resource {
    /// Relative address of the data.
    pub(super) rva: u32,
    /// Length in bytes.
    pub(super) size: u32,
}

impl Pe {
    /// The resources of a type that has a number, of all names and languages.
    pub(super) fn resources(&self, of_type: u32) -> Read<Listing<Resource>> {
        let root = u64::from(self.directory(DirectoryIndex::Resource)?.rva);
        let mut listing = Listing::default();
        let types = self.children(root, 0);
        let Some(&(_, names)) = types.items.iter().find(|(id, _)| *id == of_type) else {
            return Err(types.cut.unwrap_or(Absent::NotApplicable("no resource of this type")));
        };
        let names = self.subdirectory(root, names, &mut listing);
        for (_, languages) in names {
            for (_, leaf) in self.subdirectory(root, languages, &mut listing) {
                if listing.items.len() >= MAX_RESOURCES {
                    listing.cut = Some(Absent::Malformed("more than 256 resources of a type"));
                    return Ok(listing);
                }
                match self.leaf(root, leaf) {
                    Ok(resource) => listing.items.push(resource),
                    Err(why) => listing.cut = Some(why),
                }
            }
        }
        Ok(listing)
    }

    fn subdirectory(&self, root: u64, offset: u32, listing: &mut Listing<Resource>) -> Vec<(u32, u32)> {
        if offset & DIRECTORY == 0 {
            listing.cut = Some(Absent::Malformed("resource tree has fewer than three levels"));
            return Vec::new();
        }
        let children = self.children(root, offset & !DIRECTORY);
        listing.cut = children.cut.or(listing.cut.take());
        children.items
    }

    /// Number (or offset of the name, with the upper bit set) and offset of each entry of a directory.
    fn children(&self, root: u64, offset: u32) -> Listing<(u32, u32)> {
        let mut listing = Listing::default();
        let at = root.saturating_add(offset.into());
        let mut fill = || {
            let (named, numbered) = (self.u16(at.saturating_add(12))?, self.u16(at.saturating_add(14))?);
            let count = u64::from(named) + u64::from(numbered);
            for index in 0..count.min(MAX_ENTRIES) {
                let mut bytes = [0; 8];
                self.read(at.saturating_add(16 + index * 8), &mut bytes)?;
                listing.items.push((Fields(&bytes).u32(0)?, Fields(&bytes).u32(4)?));
            }
            if count > MAX_ENTRIES {
                return Err(Absent::Malformed("more than 4096 entries in a resource directory"));
            }
            Ok(())
        };
        let end = fill();
        Listing { cut: end.err(), ..listing }
    }

    fn leaf(&self, root: u64, offset: u32) -> Read<Resource> {
        if offset & DIRECTORY != 0 {
            return Err(Absent::Malformed("resource tree has more than three levels"));
        }
        let mut bytes = [0; 8];
        self.read(root.saturating_add(offset.into()), &mut bytes)?;
        Ok(Resource { rva: Fields(&bytes).u32(0)?, size: Fields(&bytes).u32(4)? })
    }
}
