//! Independent ways to the modules of a kernel, to compare: what one list lacks, another may have.
//!
//! Sources: kernel/module/{main,sysfs,tree_lookup}.c (kernel/module.c before v5.19), arch/x86/include/asm/pgtable_64_types.h.

use std::collections::BTreeSet;
use std::ops::Range;

use memory::AddressSpace as _;
use object::walk::Walked;
use object::{Absent, Addr, Ptr, Read, Target, Text, Uint, layout, little_endian, walk};

use super::module::{Module, modules};
use super::{Kernel, rbtree};
use crate::error::Error;
use crate::notes::Notes;
use crate::table::text_of;

/// Most entries of the set behind `/sys/module`.
const MAX_ENTRIES: usize = 1 << 16;
/// Bytes looked at at once, and most bytes of mapped memory that are looked at: the area for modules has 1 GiB.
const CHUNK: u64 = 1 << 20;
const MAX_SCANNED: u64 = 1 << 30;
/// `MODULES_VADDR` with KASLR, and `MODULES_END`, of 64-bit x86; without KASLR modules begin 512 MiB earlier, but the kernel's image
/// ends before that.
const AREA_64: Range<u64> = 0xffff_ffff_a000_0000..0xffff_ffff_ff00_0000;

layout! {
    /// `module_kobject`: an entry of `/sys/module`.
    pub struct SysEntry / SysEntryLayout = "module_kobject" {
        /// The module; null for parts of the kernel itself.
        module: Ptr = "mod",
        /// Name: a string.
        name: Ptr = "kobj.name",
        /// References to the entry.
        references: i32 = "kobj.kref.refcount.refs.counter | kobj.kref.refcount.counter",
    }

    struct Candidate / CandidateLayout = "module" {
        state: Uint = "state",
        name: Text = "name",
    }

    struct TreeRoot / TreeRootLayout = "mod_tree_root" {
        /// Two `rb_root`s, copies of one tree.
        trees: Addr = "root.tree",
        lowest: Ptr = "addr_min",
        highest: Ptr = "addr_max",
    }

    struct TreeNode / TreeNodeLayout = "mod_tree_node" {
        module: Ptr = "mod",
    }
}

impl SysEntry<'_> {
    /// Its name.
    pub fn label(&self) -> Read<String> {
        Ok(text_of(&self.target().read_cstr(self.name()?.0, 64)?))
    }
}

/// Entries of `/sys/module`, those of parts of the kernel left out.
pub fn sys_entries<'t>(notes: &Notes, target: &'t Target) -> Read<Vec<SysEntry<'t>>> {
    let set = target.read_ptr(target.symbol("module_kset")?)?;
    let head = set.wrapping_add(target.offset_of("kset", "list")?);
    let link = target.offset_of(SysEntry::STRUCT, "kobj.entry")?;
    let walked = walk::list_capped(target, head, MAX_ENTRIES);
    notes.walk("module_kset", &walked.end);
    let mut found = Vec::new();
    for entry in walked.containers(link).map(|addr| SysEntry::at(target, addr)) {
        match entry.module() {
            Ok(Ptr(0)) => {}
            Ok(_) => found.push(entry),
            Err(why) => {
                notes.partial(format!("entry of module_kset at {:#x} has no module: {why}", entry.addr()));
            }
        }
    }
    Ok(found)
}

/// The modules of a kernel, by four ways.
pub struct Views {
    /// The list behind `/proc/modules`.
    pub listed: BTreeSet<u64>,
    /// The set behind `/sys/module`.
    pub sysfs: Read<BTreeSet<u64>>,
    /// The tree by which the kernel finds the module of an address, from Linux commit 93c2e105f6bc (v4.2).
    pub tree: Read<BTreeSet<u64>>,
    /// What looks like a `struct module` in the memory for modules.
    pub scanned: Read<BTreeSet<u64>>,
}

impl Views {
    /// Looks everywhere.
    ///
    /// # Errors
    /// When the profile lacks the list.
    pub fn of(notes: &Notes, kernel: &Kernel) -> Result<Self, Error> {
        let target = kernel.target();
        let module = |entry: &SysEntry<'_>| entry.module().ok().map(|Ptr(module)| module);
        let sysfs = sys_entries(notes, target).map(|entries| entries.iter().filter_map(module).collect());
        let listed = modules(notes, target)?.iter().map(Module::addr).collect();
        Ok(Self { listed, sysfs, tree: tree(notes, target), scanned: scan(kernel) })
    }

    /// All modules of all ways.
    #[must_use]
    pub fn all(&self) -> BTreeSet<u64> {
        let others = [&self.sysfs, &self.tree, &self.scanned].into_iter().flatten();
        others.chain([&self.listed]).flatten().copied().collect()
    }
}

/// Modules that sysfs or the tree of addresses has and the list has not; none where those ways are closed.
#[must_use]
pub fn unlisted<'t>(target: &'t Target, listed: &[Module<'_>]) -> Vec<Module<'t>> {
    // Whoever compares the ways tells how they end.
    let notes = Notes::default();
    let entries = sys_entries(&notes, target).unwrap_or_default();
    let mut found = tree(&notes, target).unwrap_or_default();
    found.extend(entries.iter().filter_map(|entry| entry.module().ok()).map(|Ptr(module)| module));
    for module in listed {
        found.remove(&module.addr());
    }
    found.into_iter().map(|module| Module::at(target, module)).collect()
}

fn tree(notes: &Notes, target: &Target) -> Read<BTreeSet<u64>> {
    let root = TreeRoot::at(target, target.symbol("mod_tree")?);
    let Walked { nodes, end } = rbtree::nodes(target, target.read_ptr(root.trees()?.0)?);
    notes.walk("mod_tree", &end);
    let link = target.offset_of(TreeNode::STRUCT, "node.node")?;
    let mut found = BTreeSet::new();
    for node in nodes {
        found.insert(TreeNode::at(target, node.wrapping_sub(link)).module()?.0);
    }
    Ok(found)
}

/// Where modules can be: the whole area where it is known, else from the lowest to the highest that was ever loaded.
fn area(kernel: &Kernel) -> Read<Range<u64>> {
    let target = kernel.target();
    if kernel.is_x86() && target.types().model().pointer_size() == 8 {
        return Ok(AREA_64);
    }
    let (lowest, highest) = match target.symbol("mod_tree") {
        Ok(tree) => {
            let root = TreeRoot::at(target, tree);
            (root.lowest()?.0, root.highest()?.0)
        }
        Err(_) => {
            let word = |name| target.read_ptr(target.symbol(name)?);
            (word("module_addr_min")?, word("module_addr_max")?)
        }
    };
    Ok(lowest..highest)
}

/// Places that hold a `struct module`: its `mkobj.mod` points to itself, its state is one there is, its name is one.
fn scan(kernel: &Kernel) -> Read<BTreeSet<u64>> {
    let target = kernel.target();
    let area = area(kernel)?;
    let itself = target.offset_of(Candidate::STRUCT, "mkobj.mod")?;
    let width = usize::from(target.types().model().pointer_size());
    let (mut found, mut left, mut buffer) = (BTreeSet::new(), MAX_SCANNED, Vec::new());
    for run in kernel.space().runs(area.start, area.end) {
        let mut at = run.start;
        while at < run.end() && left > 0 {
            let now = CHUNK.min(run.end().saturating_sub(at)).min(left);
            left = left.saturating_sub(now);
            buffer.resize(usize::try_from(now).unwrap_or(0), 0);
            kernel.space().read_padded(at, &mut buffer);
            for (word, place) in buffer.chunks_exact(width).zip((at..).step_by(width)) {
                let value = little_endian(word);
                let module = place.wrapping_sub(itself);
                if value == module && is_module(&Candidate::at(target, module)) {
                    found.insert(module);
                }
            }
            at = at.saturating_add(now);
        }
    }
    Ok(found)
}

fn is_module(candidate: &Candidate<'_>) -> bool {
    let plausible = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let named = candidate.name().is_ok_and(|Text(name)| !name.is_empty() && name.iter().all(plausible));
    named && candidate.state().is_ok_and(|Uint(state)| state <= 3)
}

/// Whether a way has a module; why it is not known where the way is closed.
pub fn has(view: &Read<BTreeSet<u64>>, module: u64) -> Read<bool> {
    view.as_ref().map(|modules| modules.contains(&module)).map_err(Absent::clone)
}
