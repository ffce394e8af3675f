//! Physical resources: the tree behind `/proc/iomem` (kernel/resource.c, include/linux/ioport.h).

use std::collections::HashSet;

use object::walk::{End, MAX_NODES};
use object::{Ptr, Read, Target, Uint, layout};

use crate::error::Error;
use crate::notes::Notes;
use crate::table::text_of;

/// Longest name that is read.
const MAX_NAME: usize = 256;

/// Deepest nesting that is shown; the kernel itself prints five levels.
const MAX_DEPTH: u16 = 64;

layout! {
    /// `resource`: a range of physical addresses.
    pub struct Resource / ResourceLayout = "resource" {
        /// First address; 32 or 64 bits wide.
        start: Uint = "start",
        /// Last address, inclusive.
        end: Uint = "end",
        /// Its name, or null.
        name_ptr: Ptr = "name",
        /// Next range on the same level.
        sibling: Ptr = "sibling",
        /// First range inside.
        child: Ptr = "child",
    }
}

impl Resource<'_> {
    /// Its name; `<BAD>` where it has none, as in `/proc/iomem`.
    pub fn name(&self) -> Read<String> {
        let Ptr(name) = self.name_ptr()?;
        if name == 0 {
            return Ok("<BAD>".to_owned());
        }
        self.target().read_cstr(name, MAX_NAME).map(|bytes| text_of(&bytes))
    }
}

/// The tree under a root symbol (`iomem_resource`), without the root, in the order of `/proc/iomem`: a node before its
/// children, each with its depth from 0.
pub fn tree<'t>(notes: &Notes, target: &'t Target, root: &str) -> Result<Vec<(u16, Resource<'t>)>, Error> {
    let top = target.symbol(root)?;
    let mut seen = HashSet::from([top]);
    let mut found = Vec::new();
    let Ptr(first) = Resource::at(target, top).child()?;
    // Nodes still to visit: each stands for itself and the siblings behind it.
    let mut pending = vec![(0u16, first)];
    while let Some((depth, addr)) = pending.pop() {
        if addr == 0 {
            continue;
        }
        if found.len() >= MAX_NODES {
            notes.walk(root, &End::Truncated { limit: MAX_NODES });
            break;
        }
        if !seen.insert(addr) {
            notes.walk(root, &End::Cycle { node: addr });
            continue;
        }
        let resource = Resource::at(target, addr);
        let broken = |why| notes.walk(root, &End::Broken { node: addr, why, recovered: 0 });
        match resource.sibling() {
            Ok(Ptr(sibling)) => pending.push((depth, sibling)),
            Err(why) => {
                broken(why);
                continue;
            }
        }
        found.push((depth, resource));
        match resource.child() {
            Ok(Ptr(0)) => {}
            Ok(Ptr(_)) if depth >= MAX_DEPTH => {
                notes.partial(format!(
                    "{root}: resources nested deeper than {MAX_DEPTH} levels were left out"
                ));
            }
            Ok(Ptr(child)) => pending.push((depth.saturating_add(1), child)),
            Err(why) => broken(why),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
