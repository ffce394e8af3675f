//! What indexes of many kernels tell where an image says too little of its own: `nt/index` names builds by bytes of their code,
//! `nt/eprocess_index` leads from the name of a process to its page tables.

use std::sync::Arc;

use memory::{AddressSpace, find_bytes, paging};
use profile::names::ProfileName;
use repository::Loaded;
use repository::index::{DataIndex, DataMatch, StructIndex};

use super::roots::Root;
use crate::session::Session;

/// Points of the index that must match; most kernels have about ten.
const MINIMAL_MATCH: usize = 3;
/// Most builds that are tried.
const MAX_BUILDS: usize = 8;
/// Names that processes of every system have.
const PROCESSES: [&[u8]; 6] =
    [b"System", b"csrss.exe", b"svchost.exe", b"lsass.exe", b"winlogon.exe", b"services.exe"];
/// Bytes of `_EPROCESS.ImageFileName` that every version has; short names are filled up with zeros.
const NAME: usize = 15;
/// Most places of one name that are looked at.
const MAX_HITS: usize = 256;

fn load(session: &Session, name: &str) -> Option<Loaded> {
    let name = ProfileName::new(name).ok()?;
    session.repositories().ok()?.load_named(&name).ok()
}

/// Profiles of the builds whose code is at `base`, best first; none without an index.
pub(super) fn builds(session: &Session, space: &dyn AddressSpace, base: u64) -> Vec<ProfileName> {
    let Some(index) = load(session, "nt/index").and_then(|loaded| DataIndex::read(&loaded.profile).ok())
    else {
        return Vec::new();
    };
    let read = |offset: i64, bytes: &mut [u8]| {
        base.checked_add_signed(offset).is_some_and(|at| space.read_at(at, bytes).is_ok())
    };
    let matches = index.matches(MINIMAL_MATCH, read).into_iter().filter(DataMatch::is_perfect);
    matches.take(MAX_BUILDS).map(|found| found.profile).collect()
}

/// Page table roots of processes that are found by their names; none without an index.
pub(super) fn roots(session: &Session, space: &Arc<dyn AddressSpace>) -> Vec<Root> {
    let index = load(session, "nt/eprocess_index").and_then(|loaded| StructIndex::read(&loaded.profile).ok());
    let Some(layouts) = index.map(|index| index.eprocess_layouts()) else { return Vec::new() };
    let mut found: Vec<Root> = Vec::new();
    for name in PROCESSES {
        let mut pattern = name.to_vec();
        pattern.resize(NAME, 0);
        for hit in find_bytes(&**space, &pattern, MAX_HITS) {
            for layout in &layouts {
                let Some(at) = hit.checked_add_signed(layout.name_after_dtb.wrapping_neg()) else { continue };
                let dtb = if layout.is_64 { space.read_u64(at) } else { space.read_u32(at).map(u64::from) };
                let modes = if layout.is_64 {
                    [&paging::WINDOWS_X64, &paging::WINDOWS_X64_LA57]
                } else {
                    [&paging::WINDOWS_PAE, &paging::WINDOWS_X86]
                };
                let Ok(dtb) = dtb else { continue };
                for paging in modes {
                    let dtb = dtb & paging.root;
                    let known = found.iter().any(|root| root.dtb == dtb && root.paging.name == paging.name);
                    if dtb != 0 && dtb < space.end() && !known {
                        let name = String::from_utf8_lossy(name);
                        let source = format!("process named {name} at physical {hit:#x}");
                        found.push(Root { dtb, paging, source, entry: None });
                    }
                }
            }
        }
    }
    found
}
