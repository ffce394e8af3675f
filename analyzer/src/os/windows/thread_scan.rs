//! Threads by their content in physical memory.

use std::collections::BTreeSet;

use object::Target;

use super::Kernel;
use super::pool::{self, Places, kinds};
use super::process::Process;
use super::thread::Thread;
use crate::error::Error;
use crate::session::Session;

/// A thread found in physical memory.
#[derive(Debug, Clone, Copy)]
pub struct FoundThread {
    /// Physical address.
    pub body: u64,
    /// Whether its allocation was given back.
    pub is_free: bool,
}

impl FoundThread {
    /// The thread, in physical memory.
    #[must_use]
    pub fn thread<'t>(&self, physical: &'t Target) -> Thread<'t> {
        Thread::at(physical, self.body)
    }
}

/// The threads in physical memory, by ascending address. Their content decides, not their object header.
pub fn scan(session: &Session, kernel: &Kernel) -> Result<Vec<FoundThread>, Error> {
    let physical = pool::physical(kernel);
    let places = Places::of(kernel, &kinds::THREAD)?;
    let mut found = Vec::new();
    for allocation in pool::allocations(session, kernel, &kinds::THREAD.tags)? {
        let body = places.in_allocation(&allocation).find(|body| Thread::at(&physical, *body).is_plausible());
        found.extend(body.map(|body| FoundThread { body, is_free: allocation.is_free() }));
    }
    Ok(found)
}

/// The processes that threads in physical memory belong to.
pub fn owners(session: &Session, kernel: &Kernel) -> Result<BTreeSet<u64>, Error> {
    let physical = pool::physical(kernel);
    let threads = scan(session, kernel)?;
    let owners = threads.iter().filter_map(|found| found.thread(&physical).process().ok());
    Ok(owners.filter(|addr| Process::at(kernel.target(), *addr).is_plausible()).collect())
}
