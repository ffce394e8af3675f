//! Entries of the kernel's list of modules by their content in physical memory, on the list or not.

use object::{Ptr, Read, Target};

use super::Kernel;
use super::module::Module;
use super::pool;
use super::reverse::ReverseFact;
use super::unicode;
use crate::error::Error;
use crate::session::Session;

/// Tag of the allocations that hold the entries.
const TAG: [u8; 4] = *b"MmLd";

/// An entry found in physical memory.
#[derive(Debug, Clone, Copy)]
pub struct FoundModule {
    /// Physical address.
    pub body: u64,
    /// Virtual address; `None` where the kernel maps that memory nowhere.
    pub virtual_body: Option<u64>,
}

impl FoundModule {
    /// The entry, in physical memory.
    #[must_use]
    pub fn module<'t>(&self, physical: &'t Target) -> Module<'t> {
        Module::at(physical, self.body)
    }

    /// Its file name and its path.
    pub fn names(&self, kernel: &Kernel, physical: &Target) -> (Read<String>, Read<String>) {
        let module = self.module(physical);
        let text = |place| unicode::text_through(physical, place, kernel.target());
        (text(module.base_name()), text(module.full_name()))
    }
}

/// The entries in physical memory, by ascending address: a page-aligned place in the kernel's half, and a size.
pub fn scan(session: &Session, kernel: &Kernel) -> Result<Vec<FoundModule>, Error> {
    let physical = pool::physical(kernel);
    let reverse = session.fact::<ReverseFact>()?;
    let allocations = pool::allocations(session, kernel, &[TAG])?;
    Ok(allocations
        .into_iter()
        .filter(|allocation| {
            let module = Module::at(&physical, allocation.start);
            let placed =
                module.base_pointer().is_ok_and(|Ptr(base)| base % 0x1000 == 0 && base >= kernel.user_end());
            placed && module.size().is_ok_and(|size| size != 0)
        })
        .map(|allocation| FoundModule {
            body: allocation.start,
            virtual_body: reverse.virtual_address(allocation.start),
        })
        .collect())
}
