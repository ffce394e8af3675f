//! A translation step by step, for `vtop`.

use crate::paging::walk::read_entry;
use crate::paging::{Decoded, Paging};
use crate::{AddressSpace, Fault};

/// One step of a translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Name of the entry: `"PML4E"`.
    pub name: &'static str,
    /// Physical address of the entry.
    pub entry_addr: u64,
    /// The entry; `None` when it could not be read.
    pub entry: Option<u64>,
    /// Names of the bits set in it.
    pub flags: Vec<&'static str>,
    /// What follows from it.
    pub next: Next,
}

/// What a step leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Physical address of the next table.
    Table(u64),
    /// The end: the page holds the address.
    Page {
        /// Physical address of the address asked for.
        phys: u64,
        /// Size of the page in bytes.
        size: u64,
    },
    /// The end: no translation.
    Fault(Fault),
}

/// Walks without any cache and keeps every step. An address that is not canonical has one step, with the
/// fault.
pub(super) fn explain(
    base: &dyn AddressSpace,
    paging: &'static Paging,
    root: Option<u64>,
    addr: u64,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let Some(mut table) = root else {
        let fault = Fault::NotPresent { addr, level: 0, entry: 0 };
        let (name, entry_addr, next) = ("root", 0, Next::Fault(fault));
        return vec![Step { name, entry_addr, entry: None, flags: Vec::new(), next }];
    };
    for level in paging.levels {
        let stop = |entry_addr, fault| Step {
            name: level.name,
            entry_addr,
            entry: None,
            flags: Vec::new(),
            next: Next::Fault(fault),
        };
        if paging.canonical(addr) != addr {
            steps.push(stop(table, Fault::OutOfRange { addr }));
            break;
        }
        let entry = match read_entry(base, paging, level, table, addr) {
            Ok(entry) => entry,
            Err((at, fault)) => {
                steps.push(stop(at, fault));
                break;
            }
        };
        let next = match level.decode(entry.value, paging.kept) {
            Decoded::NotPresent => {
                Next::Fault(Fault::NotPresent { addr, level: level.number, entry: entry.value })
            }
            Decoded::Page(page) => {
                let offset = addr & level.span().wrapping_sub(1);
                Next::Page { phys: page.wrapping_add(offset), size: level.span() }
            }
            Decoded::Table(next) => Next::Table(next),
        };
        steps.push(Step {
            name: level.name,
            entry_addr: entry.at,
            entry: Some(entry.value),
            flags: level.flag_names(entry.value),
            next,
        });
        match next {
            Next::Table(next) => table = next,
            Next::Page { .. } | Next::Fault(_) => break,
        }
    }
    steps
}
