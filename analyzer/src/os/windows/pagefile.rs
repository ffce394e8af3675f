//! Pagefiles as the kernel knows them: `MmPagingFile` up to Windows 8.1, later the array of the system's memory partition, and a tree in
//! `MiState` of those that are files.

use std::collections::HashSet;

use object::{Absent, Addr, Ptr, Read, Target, Uint, layout};

use super::unicode;

/// Most pagefiles: `PageFileLow` has four bits.
const MAX_FILES: u64 = 16;
/// Most nodes of the tree that are looked at.
const MAX_NODES: usize = 64;

layout! {
    /// `_MMPAGING_FILE`: one pagefile.
    pub struct Pagefile / PagefileLayout = "_MMPAGING_FILE" {
        /// Its size in pages.
        pages: Uint = "Size",
        /// Its number, which page table entries name.
        number: Uint = "PageFileNumber",
        /// Its path, a `UNICODE_STRING`.
        name: Addr = "PageFileName",
        /// Not 0 for the one that stands for the compressed store, from Windows 10 on.
        virtual_store: Uint = "VirtualStorePagefile",
    }

    struct Node / NodeLayout = "_RTL_BALANCED_NODE" {
        left: Ptr = "Left",
        right: Ptr = "Right",
    }
}

impl Pagefile<'_> {
    /// Its path: `\??\C:\pagefile.sys`.
    pub fn path(&self) -> Read<String> {
        unicode::text_at(self.target(), self.name())
    }

    /// Whether it is no file: its pages are in the compressed store.
    #[must_use]
    pub fn is_compressed_store(&self) -> bool {
        self.virtual_store().is_ok_and(|Uint(flag)| flag != 0)
    }
}

/// The pagefiles, and why there may be more.
pub fn pagefiles(target: &Target) -> Read<(Vec<Pagefile<'_>>, Option<Absent>)> {
    if let Ok(array) = target.symbol("MmPagingFile") {
        return by_array(target, array);
    }
    let partition = target.symbol("MiSystemPartition");
    if let (Ok(partition), Ok(array)) = (partition, target.offset_of("_MI_PARTITION", "Vp.PagingFile")) {
        let found = by_array(target, partition.wrapping_add(array))?;
        if !found.0.is_empty() {
            return Ok(found);
        }
    }
    by_tree(target)
}

fn by_array(target: &Target, array: u64) -> Read<(Vec<Pagefile<'_>>, Option<Absent>)> {
    let width = u64::from(target.types().model().pointer_size());
    let mut found = Vec::new();
    for index in 0..MAX_FILES {
        match target.read_ptr(array.wrapping_add(index * width)) {
            Ok(0) => {}
            Ok(at) => found.push(Pagefile::at(target, at)),
            Err(why) => return Ok((found, Some(why))),
        }
    }
    Ok((found, None))
}

fn by_tree(target: &Target) -> Read<(Vec<Pagefile<'_>>, Option<Absent>)> {
    let state = target.symbol("MiState")?;
    let head = target.offset_of("_MI_SYSTEM_INFORMATION", "PagingIo.PageFileHead")?;
    let offset = target.offset_of(Pagefile::STRUCT, "FileObjectNode")?;
    let mut stack = vec![target.read_ptr(state.wrapping_add(head))?];
    let (mut seen, mut found, mut cut) = (HashSet::new(), Vec::new(), None);
    while let Some(node) = stack.pop() {
        if node == 0 {
            continue;
        }
        if !seen.insert(node) || seen.len() > MAX_NODES {
            cut = Some(Absent::Malformed("tree of pagefiles"));
            continue;
        }
        let view = Node::at(target, node);
        for child in [view.right(), view.left()] {
            match child {
                Ok(Ptr(child)) => stack.push(child),
                Err(why) => cut = Some(why),
            }
        }
        found.push(Pagefile::at(target, node.wrapping_sub(offset)));
    }
    found.sort_by_key(|file| file.number().map_or(u64::MAX, |number| number.0));
    Ok((found, cut))
}
