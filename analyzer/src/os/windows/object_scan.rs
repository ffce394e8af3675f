//! Objects found by their pool tags, as scanners show them.
//!
//! An object that the kernel maps is read through the kernel's memory; one that it maps no more (freed memory, mostly) is read
//! where it was found, and only what it points to through the kernel's.

use object::{Addr, Read, Target};

use super::Kernel;
use super::object_header::ObjectHeader;
use super::pool::{self, FoundObject, Kind};
use super::unicode;
use crate::error::Error;
use crate::session::Session;
use crate::table::Address;

/// An object found in physical memory, with the memory to read it from.
pub struct Scanned<'k> {
    found: FoundObject,
    /// The object's header.
    pub header: ObjectHeader<'k>,
    /// Address of the object, in the memory of its header.
    pub body: u64,
    kernel: &'k Target,
}

impl<'k> Scanned<'k> {
    /// The memory that the object is read from.
    #[must_use]
    pub fn target(&self) -> &'k Target {
        self.header.target()
    }

    /// `F` where the memory was given back.
    #[must_use]
    pub fn free(&self) -> &'static str {
        if self.found.allocation.is_free() { "F" } else { "" }
    }

    /// Its virtual address; `None` where the kernel maps that memory nowhere.
    #[must_use]
    pub fn offset(&self) -> Option<Address> {
        self.found.virtual_body.map(Address)
    }

    /// Its physical address.
    #[must_use]
    pub fn physical(&self) -> Address {
        Address(self.found.body)
    }

    /// The text of a `UNICODE_STRING` in the object, whose buffer is in the kernel's memory.
    pub fn text(&self, place: Read<Addr>) -> Read<String> {
        unicode::text_through(self.target(), place, self.kernel)
    }
}

/// The objects of a kind in physical memory, by ascending physical address. `physical` is [`pool::physical`].
pub fn scan<'k>(
    session: &Session,
    kernel: &'k Kernel,
    physical: &'k Target,
    kind: &Kind,
) -> Result<Vec<Scanned<'k>>, Error> {
    let offset = kernel.target().offset_of(ObjectHeader::STRUCT, "Body")?;
    let found = pool::objects(session, kernel, kind)?;
    Ok(found
        .into_iter()
        .map(|found| {
            let (target, body) = match found.virtual_body {
                Some(body) => (kernel.target(), body),
                None => (physical, found.body),
            };
            let header = ObjectHeader::at(target, body.wrapping_sub(offset));
            Scanned { found, header, body, kernel: kernel.target() }
        })
        .collect())
}
