//! Files that are in memory: their names (dentries), what they are (inodes), and their content (the page cache).
//!
//! A file's pages are the entries of `i_mapping->i_pages`, by page number; an entry with bit 0 set stands for a page that was
//! written out. `struct page` lies in one array over all of physical memory, so its address tells the page's.

use std::collections::{BTreeMap, HashSet};
use std::io;

use object::walk::{self, End};
use object::{Addr, Ptr, Read, Target, Uint, layout};

use super::mount::namespaces;
use super::page_array::PageArray;
use super::path::{Location, Paths};
use super::vfs::{Dentry, Inode};
use super::{Kernel, KernelFact, xarray};
use crate::error::Error;
use crate::session::Session;
use crate::table::Time;

/// Most names that one listing visits.
const MAX_NAMES: usize = 4 << 20;
/// Deepest nesting of directories.
const MAX_DEPTH: usize = 512;

layout! {
    /// The rest of `inode` that `stat(2)` shows. Times moved in Linux commits 13bc24457850 (v6.6) and 3aa63a569c64 (v6.11).
    pub struct Stat / StatLayout = "inode" {
        /// Owner.
        uid: u32 = "i_uid.val | i_uid",
        /// Group.
        gid: u32 = "i_gid.val | i_gid",
        /// Last change of the content: seconds since 1970.
        modified: i64 = "i_mtime.tv_sec | __i_mtime.tv_sec | i_mtime_sec",
        /// Its nanoseconds.
        modified_part: Uint = "i_mtime.tv_nsec | __i_mtime.tv_nsec | i_mtime_nsec",
        /// Last use: seconds since 1970.
        accessed: i64 = "i_atime.tv_sec | __i_atime.tv_sec | i_atime_sec",
        /// Its nanoseconds.
        accessed_part: Uint = "i_atime.tv_nsec | __i_atime.tv_nsec | i_atime_nsec",
        /// Last change of the inode: seconds since 1970.
        changed: i64 = "i_ctime.tv_sec | __i_ctime.tv_sec | i_ctime_sec",
        /// Its nanoseconds.
        changed_part: Uint = "i_ctime.tv_nsec | __i_ctime.tv_nsec | i_ctime_nsec",
        /// Its page cache.
        mapping: Ptr = "i_mapping",
    }

    struct Mapping / MappingLayout = "address_space" {
        pages: Addr = "i_pages | page_tree",
    }

    struct Children / ChildrenLayout = "dentry" {
        /// Circular list, up to v6.7.
        list: Addr = "d_subdirs",
        /// Ends with null, since Linux commit da549bdd15c2 (v6.8).
        chain: Addr = "d_children",
    }
}

impl Stat<'_> {
    /// Last change of the content.
    pub fn mtime(&self) -> Read<Time> {
        Ok(time(self.modified()?, self.modified_part()?))
    }

    /// Last use.
    pub fn atime(&self) -> Read<Time> {
        Ok(time(self.accessed()?, self.accessed_part()?))
    }

    /// Last change of the inode.
    pub fn ctime(&self) -> Read<Time> {
        Ok(time(self.changed()?, self.changed_part()?))
    }
}

fn time(seconds: i64, Uint(part): Uint) -> Time {
    Time(i128::from(seconds) * 1_000_000_000 + i128::from(part))
}

/// A file by one of its names.
pub struct Named<'t> {
    /// Path, as bytes.
    pub path: Vec<u8>,
    /// The name.
    pub dentry: Dentry<'t>,
    /// The file.
    pub inode: Inode<'t>,
}

/// Everything the dentry cache has below a directory, itself first, depth first; and how the walks ended that did not end
/// well. `path` is that of the directory.
pub fn below<'t>(target: &'t Target, at: Location, path: &[u8]) -> (Vec<Named<'t>>, Vec<End>) {
    let mut found = Vec::new();
    let mut ends = Vec::new();
    let mut seen = HashSet::new();
    let mut pending = vec![(at.dentry, path.to_vec(), 0)];
    while let Some((addr, path, depth)) = pending.pop() {
        if !seen.insert(addr) {
            ends.push(End::Cycle { node: addr });
            continue;
        }
        if seen.len() > MAX_NAMES || depth > MAX_DEPTH {
            ends.push(End::Truncated { limit: if depth > MAX_DEPTH { MAX_DEPTH } else { MAX_NAMES } });
            break;
        }
        let dentry = Dentry::at(target, addr);
        match dentry.inode() {
            // Names known not to exist, and the places of readers.
            Ok(Ptr(0)) => continue,
            Ok(Ptr(inode)) => {
                found.push(Named { path: path.clone(), dentry, inode: Inode::at(target, inode) });
            }
            Err(why) => {
                ends.push(End::Broken { node: addr, why, recovered: 0 });
                continue;
            }
        }
        let (children, end) = children(&dentry);
        ends.extend(Some(end).filter(|end| *end != End::Complete));
        for child in children.into_iter().rev() {
            match Dentry::at(target, child).name() {
                Ok(name) => {
                    let slash: &[u8] = if path.ends_with(b"/") { b"" } else { b"/" };
                    pending.push((child, [path.as_slice(), slash, &name].concat(), depth + 1));
                }
                Err(why) => ends.push(End::Broken { node: child, why, recovered: 0 }),
            }
        }
    }
    (found, ends)
}

/// Whether a path is `top` or something below it.
#[must_use]
pub fn is_below(path: &str, top: &str) -> bool {
    let rest = path.strip_prefix(top.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The mount that a file was found below.
#[derive(Debug, Clone)]
pub struct Place {
    /// Where it is mounted, as the processes of its namespace see it.
    pub mount_point: String,
    /// Inode number of its mount namespace.
    pub namespace: Read<u32>,
    /// Whether PID 1 sees it.
    pub is_common: bool,
}

/// Calls `f` for everything that dentries name below the mounts of PID 1, and then below those of other mount namespaces whose
/// file systems were in none before: containers have their own, and share the rest.
pub fn each_file(
    session: &Session,
    mut f: impl FnMut(&Place, Named<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let kernel = session.fact::<KernelFact>()?;
    let paths = Paths::of_init(session, &kernel)?;
    let namespaces = namespaces(session, &kernel)?;
    let first = namespaces.first();
    let first = first.ok_or_else(|| Error::damaged("no process with a mount namespace was found"))?;
    first.root.clone().map_err(Error::from)?;
    let mut before: HashSet<u64> = HashSet::new();
    for (at, namespace) in namespaces.iter().enumerate() {
        let (mounts, end) = namespace.mounts();
        session.notes.walk("mounts", &end);
        let root = match namespace.root.clone() {
            Ok(root) => root,
            Err(why) => {
                session.notes.walk("mounts", &End::Broken { node: namespace.addr, why, recovered: 0 });
                continue;
            }
        };
        let mut own = HashSet::new();
        for mount in mounts {
            let mount_point = mount.mount_point(&paths, root);
            let top = mount.public().and_then(|public| public.root());
            let (Ok(Some(mount_point)), Ok(top), Ok(vfs)) = (mount_point, top, mount.vfs()) else { continue };
            if let Ok(file_system) = mount.super_block() {
                if before.contains(&file_system.addr()) {
                    continue;
                }
                own.insert(file_system.addr());
            }
            let start = Location { mount: vfs.0, dentry: top.0 };
            let (files, ends) = below(kernel.target(), start, mount_point.as_bytes());
            for end in ends {
                session.notes.walk(&format!("names below {mount_point}"), &end);
            }
            let place = Place { mount_point, namespace: namespace.inum(), is_common: at == 0 };
            for file in files {
                f(&place, file)?;
            }
        }
        before.extend(own);
    }
    Ok(())
}

fn children(dentry: &Dentry<'_>) -> (Vec<u64>, End) {
    let target = dentry.target();
    let of = Children::at(target, dentry.addr());
    let offset = |names: &[&str]| {
        names.iter().find_map(|name| target.offset_of(Dentry::STRUCT, name).ok()).unwrap_or_default()
    };
    let (walked, link) = match (of.chain(), of.list()) {
        (Ok(Addr(head)), _) => (walk::hlist(target, head), offset(&["d_sib"])),
        (_, Ok(Addr(head))) => {
            (walk::list_capped(target, head, MAX_NAMES), offset(&["d_child", "d_u.d_child"]))
        }
        (_, Err(why)) => return (Vec::new(), End::Broken { node: dentry.addr(), why, recovered: 0 }),
    };
    (walked.containers(link).collect(), walked.end)
}

/// Pages of a file in memory.
#[derive(Debug, Clone)]
pub struct Pages {
    /// Physical address by page number.
    pub physical: BTreeMap<u64, u64>,
    /// How the walk of the tree ended.
    pub end: End,
}

/// The pages of a file that are in memory. Files without pages of their own have none.
pub fn pages(kernel: &Kernel, inode: &Inode<'_>) -> Read<Pages> {
    let target = inode.target();
    let mapping = Stat::at(target, inode.addr()).mapping()?.non_null("no page cache")?;
    let entries = xarray::entries(target, Mapping::at(target, mapping).pages()?.0)?;
    let array = PageArray::of(kernel)?;
    let page_size = kernel.page_size();
    let mut physical = BTreeMap::new();
    // Entry, its first index, and the index before this one: of a large folio all indexes have the first page.
    let mut folio: Option<(u64, u64, u64)> = None;
    for (number, page) in entries.entries {
        let first = match folio {
            Some((same, first, last)) if same == page && last.checked_add(1) == Some(number) => first,
            _ => number,
        };
        folio = Some((page, first, number));
        // Values stand for pages that were swapped or thrown out.
        if page & 1 == 0
            && let Some(start) = array.physical(page)
        {
            physical.insert(number, start.wrapping_add((number - first).wrapping_mul(page_size)));
        }
    }
    Ok(Pages { physical, end: entries.end })
}

/// The content of a file as far as it is in memory, from its start to its end; zeros stand for the rest.
pub struct Content<'k> {
    kernel: &'k Kernel,
    pages: BTreeMap<u64, u64>,
    size: u64,
    at: u64,
    cached: u64,
}

impl<'k> Content<'k> {
    /// Of a file of `size` bytes with these pages.
    #[must_use]
    pub fn new(kernel: &'k Kernel, pages: Pages, size: u64) -> Self {
        Self { kernel, pages: pages.physical, size, at: 0, cached: 0 }
    }

    /// Bytes so far that were in memory.
    #[must_use]
    pub fn cached(&self) -> u64 {
        self.cached
    }
}

impl io::Read for Content<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let page_size = self.kernel.page_size().max(1);
        let inside = self.at % page_size;
        let left = self.size.saturating_sub(self.at).min(page_size - inside);
        let len = usize::try_from(left).unwrap_or(0).min(buf.len());
        let Some(buf) = buf.get_mut(..len) else { return Ok(0) };
        let page = self.pages.get(&(self.at / page_size));
        let read =
            page.is_some_and(|page| self.kernel.physical().read_at(page.wrapping_add(inside), buf).is_ok());
        if read {
            self.cached = self.cached.saturating_add(len as u64);
        } else {
            buf.fill(0);
        }
        self.at = self.at.saturating_add(len as u64);
        Ok(len)
    }
}
