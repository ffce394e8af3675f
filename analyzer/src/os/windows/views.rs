//! Independent ways to the processes of a kernel, to compare: what one list lacks, another may have.

use std::collections::BTreeSet;

use object::walk;
use object::{Ptr, Read, Target};

use super::Kernel;
use super::handle::{self, HandleTable};
use super::object_header::ObjectHeader;
use super::process::Process;
use crate::session::Session;

/// A way to find processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Method {
    /// The kernel's list of running processes
    #[value(name = "PsActiveProcessHead")]
    PsActiveProcessHead,
    /// Handles that the subsystem csrss.exe has to the processes it serves
    #[value(name = "CSRSS")]
    Csrss,
    /// The kernel's table of process and thread ids
    #[value(name = "PspCidTable")]
    PspCidTable,
    /// The lists of processes of each session
    #[value(name = "Sessions")]
    Sessions,
    /// Owners of the handle tables on the kernel's list of them
    #[value(name = "Handles")]
    Handles,
}

impl Method {
    /// All of them, the most trusted first.
    pub const ALL: [Self; 5] =
        [Self::PsActiveProcessHead, Self::Csrss, Self::PspCidTable, Self::Sessions, Self::Handles];

    /// The name users know, as in the original.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PsActiveProcessHead => "PsActiveProcessHead",
            Self::Csrss => "CSRSS",
            Self::PspCidTable => "PspCidTable",
            Self::Sessions => "Sessions",
            Self::Handles => "Handles",
        }
    }

    /// Addresses of the `_EPROCESS`es it finds. What does not look like a process is left out.
    pub fn processes(self, session: &Session, kernel: &Kernel) -> Read<BTreeSet<u64>> {
        let target = kernel.target();
        match self {
            Self::PsActiveProcessHead => active(session, target),
            Self::Csrss => csrss(session, target),
            Self::PspCidTable => cid_table(session, target),
            Self::Sessions => sessions(session, kernel),
            Self::Handles => owners(session, target),
        }
    }
}

fn active(session: &Session, target: &Target) -> Read<BTreeSet<u64>> {
    let head = target.symbol("PsActiveProcessHead")?;
    let walked = walk::list(target, head);
    session.notes.walk("PsActiveProcessHead", &walked.end);
    let links = target.offset_of(Process::STRUCT, "ActiveProcessLinks")?;
    // Torn ones stay: the list is evidence enough.
    Ok(walked.containers(links).collect())
}

/// Keeps addresses that hold a process.
fn plausible(target: &Target, found: impl IntoIterator<Item = u64>) -> BTreeSet<u64> {
    found.into_iter().filter(|addr| Process::at(target, *addr).is_plausible()).collect()
}

fn csrss(session: &Session, target: &Target) -> Read<BTreeSet<u64>> {
    let mut found = BTreeSet::new();
    for addr in active(session, target)? {
        let process = Process::at(target, addr);
        if !process.name().is_ok_and(|name| name.eq_ignore_ascii_case("csrss.exe")) {
            continue;
        }
        let Ok(Ptr(table)) = process.object_table() else { continue };
        let Ok(handles) = handle::handles(target, table) else { continue };
        for handle in handles.handles {
            let header = ObjectHeader::at(target, handle.object);
            if header.type_name().is_ok_and(|name| name == "Process") {
                found.extend(header.body());
            }
        }
    }
    Ok(plausible(target, found))
}

fn cid_table(session: &Session, target: &Target) -> Read<BTreeSet<u64>> {
    let table = target.read_ptr(target.symbol("PspCidTable")?)?;
    let handles = handle::handles(target, table)?;
    if let Some(damage) = &handles.damage {
        session.notes.partial(format!("table PspCidTable cannot be read whole: {damage}"));
    }
    // Entries of the table point to the objects, not to their headers.
    Ok(plausible(target, handles.handles.iter().map(|handle| handle.object)))
}

fn sessions(session: &Session, kernel: &Kernel) -> Read<BTreeSet<u64>> {
    let target = kernel.target();
    let list = target.offset_of("_MM_SESSION_SPACE", "ProcessList")?;
    let links = target.offset_of(Process::STRUCT, "SessionProcessLinks")?;
    let mut known = BTreeSet::new();
    let mut found = BTreeSet::new();
    for addr in active(session, target)? {
        let process = Process::at(target, addr);
        let Ok(Ptr(space)) = process.session() else { continue };
        if space == 0 || !known.insert(space) {
            continue;
        }
        let head = space.wrapping_add(list);
        // Session space may be mapped in the session's processes only.
        let walked = if target.read_ptr(head).is_ok() {
            walk::list(target, head)
        } else {
            match process.user_target(kernel) {
                Ok(user) => walk::list(&user, head),
                Err(_) => continue,
            }
        };
        session.notes.walk("ProcessList of a session", &walked.end);
        found.extend(walked.containers(links));
    }
    Ok(plausible(target, found))
}

fn owners(session: &Session, target: &Target) -> Read<BTreeSet<u64>> {
    let head = target.symbol("HandleTableListHead")?;
    let list = target.offset_of(HandleTable::STRUCT, "HandleTableList")?;
    let walked = walk::list(target, head);
    session.notes.walk("HandleTableListHead", &walked.end);
    let owners = walked.containers(list).filter_map(|table| {
        let Ok(Ptr(owner)) = HandleTable::at(target, table).quota_process() else { return None };
        (owner != 0).then_some(owner)
    });
    Ok(plausible(target, owners))
}
