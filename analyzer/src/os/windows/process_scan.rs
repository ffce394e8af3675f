//! Processes by their content in physical memory.

use object::{Ptr, Read, Target};

use super::Kernel;
use super::pool::{self, Places, kinds};
use super::process::Process;
use super::reverse::{Reverse, ReverseFact};
use crate::error::Error;
use crate::session::Session;

/// A process found in physical memory.
#[derive(Debug, Clone, Copy)]
pub struct FoundProcess {
    /// Physical address.
    pub body: u64,
    /// Virtual address; `None` where the kernel maps that memory nowhere.
    pub virtual_body: Option<u64>,
    /// Whether its allocation was given back.
    pub is_free: bool,
}

impl FoundProcess {
    /// The process, in physical memory.
    #[must_use]
    pub fn process<'t>(&self, physical: &'t Target) -> Process<'t> {
        Process::at(physical, self.body)
    }
}

/// The processes in physical memory, by ascending address. Their content decides, not their object header: it is the first to go.
pub fn scan(session: &Session, kernel: &Kernel) -> Result<Vec<FoundProcess>, Error> {
    let physical = pool::physical(kernel);
    let reverse = session.fact::<ReverseFact>()?;
    let places = Places::of(kernel, &kinds::PROCESS)?;
    let mut found = Vec::new();
    for allocation in pool::allocations(session, kernel, &kinds::PROCESS.tags)? {
        let body = places.in_allocation(&allocation).find(|body| is_process(kernel, &physical, *body));
        found.extend(body.map(|body| FoundProcess {
            body,
            virtual_body: virtual_address(kernel, &reverse, &physical, body),
            is_free: allocation.is_free(),
        }));
    }
    Ok(found)
}

/// A page table root where one can be, and a list of threads in kernel memory.
fn is_process(kernel: &Kernel, physical: &Target, body: u64) -> bool {
    let process = Process::at(physical, body);
    if !process.is_plausible() {
        return false;
    }
    let alignment = if kernel.paging().levels.len() == 3 { 0x20 } else { 0x1000 };
    let root =
        process.dtb().is_ok_and(|dtb| dtb != 0 && (dtb & !0xfff != 0) && (dtb & 0xfff) % alignment == 0);
    let threads = process.thread_list().and_then(|head| physical.read_ptr(head.0));
    root && threads.is_ok_and(|first| first >= kernel.user_end())
}

/// Its own list of threads says where it is: the first thread leads back to it, or an empty list to itself.
fn virtual_address(kernel: &Kernel, reverse: &Reverse, physical: &Target, body: u64) -> Option<u64> {
    let by_threads = || -> Read<u64> {
        let head = Process::at(physical, body).thread_list()?.0;
        let first = physical.read_ptr(head)?;
        let width = u64::from(physical.types().model().pointer_size());
        let Ptr(back) = Ptr(kernel.target().read_ptr(first.wrapping_add(width))?);
        Ok(back.wrapping_sub(head.wrapping_sub(body)))
    };
    let holds = |addr: &u64| kernel.target().space().translate(*addr) == Ok(body);
    by_threads().ok().filter(holds).or_else(|| reverse.virtual_address(body))
}
