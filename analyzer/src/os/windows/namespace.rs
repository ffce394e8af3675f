//! The directories of the object manager, and the types of objects.
//!
//! A directory is a table of chains of entries, hashed by name. Source: `_OBJECT_DIRECTORY` in the symbols of each kernel.

use std::collections::HashSet;

use object::walk;
use object::{Absent, Addr, Ptr, Read, Target, layout};

use super::object_header::{ObjectHeader, ObjectType};
use crate::notes::Notes;

/// Most objects of all directories.
const MAX_OBJECTS: usize = 1 << 20;
/// Directories are entered this deep.
const MAX_DEPTH: u16 = 64;
/// Most chains of a directory; all kernels have 37.
const MAX_BUCKETS: u64 = 1024;
/// Most types of objects.
const MAX_TYPES: u64 = 256;

layout! {
    struct Directory / DirectoryLayout = "_OBJECT_DIRECTORY" {
        buckets: Addr = "HashBuckets",
    }

    struct DirectoryEntry / DirectoryEntryLayout = "_OBJECT_DIRECTORY_ENTRY" {
        next: Ptr = "ChainLink",
        object: Ptr = "Object",
    }
}

/// The objects of all directories in the order of a tree, by name in each directory, with their depths; the root first.
pub fn tree<'k>(notes: &Notes, target: &'k Target) -> Read<Vec<(u16, ObjectHeader<'k>)>> {
    let root =
        Ptr(target.read_ptr(target.symbol("ObpRootDirectoryObject")?)?).non_null("no root directory")?;
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    let mut stack = vec![(0u16, root)];
    while let Some((depth, body)) = stack.pop() {
        if !seen.insert(body) {
            continue;
        }
        if found.len() >= MAX_OBJECTS {
            notes.partial(format!("objects after the first {MAX_OBJECTS} are left out"));
            break;
        }
        let header = ObjectHeader::of_body(target, body)?;
        found.push((depth, header));
        let is_directory = depth == 0 || header.type_name().is_ok_and(|name| name == "Directory");
        if is_directory && depth < MAX_DEPTH {
            let mut children: Vec<(String, u64)> = children(notes, target, body)?
                .into_iter()
                .map(|child| {
                    let name = ObjectHeader::of_body(target, child).and_then(|header| header.name());
                    (name.unwrap_or_default(), child)
                })
                .collect();
            children.sort_unstable();
            stack.extend(children.into_iter().rev().map(|(_, child)| (depth + 1, child)));
        }
    }
    Ok(found)
}

/// The objects of a directory, in the order of its chains.
fn children(notes: &Notes, target: &Target, body: u64) -> Read<Vec<u64>> {
    let types = target.types();
    let width = u64::from(types.model().pointer_size());
    let table = types.resolve(Directory::STRUCT, "HashBuckets")?;
    let bytes = types.size_of(&table.ty).ok_or(Absent::Malformed("size of a directory in the profile"))?;
    let Addr(buckets) = Directory::at(target, body).buckets()?;
    let mut found = Vec::new();
    for bucket in 0..(bytes / width).min(MAX_BUCKETS) {
        let first = match target.read_ptr(buckets.wrapping_add(bucket.wrapping_mul(width))) {
            Ok(first) => first,
            Err(why) => {
                notes.partial(format!("directory of objects at {body:#x} cannot be read whole: {why}"));
                break;
            }
        };
        let next = |entry: u64| DirectoryEntry::at(target, entry).next().map(|Ptr(next)| next);
        let chain = walk::chain(first, MAX_OBJECTS, next);
        notes.walk(&format!("of the directory of objects at {body:#x}"), &chain.end);
        found.extend(chain.nodes.iter().filter_map(
            |entry| match DirectoryEntry::at(target, *entry).object() {
                Ok(Ptr(object)) if object != 0 => Some(object),
                _ => None,
            },
        ));
    }
    Ok(found)
}

/// The types of objects, in the order of the kernel's table of them.
pub fn types<'k>(notes: &Notes, target: &'k Target) -> Read<Vec<ObjectType<'k>>> {
    let table = target.symbol("ObpObjectTypes")?;
    let width = u64::from(target.types().model().pointer_size());
    let mut found = Vec::new();
    for index in 0..MAX_TYPES {
        match target.read_ptr(table.wrapping_add(index.wrapping_mul(width))) {
            Ok(0) => break,
            Ok(addr) => found.push(ObjectType::at(target, addr)),
            Err(why) => {
                notes.partial(format!("table ObpObjectTypes cannot be read whole: {why}"));
                break;
            }
        }
    }
    // What stands behind a full table is no type.
    let end = found.iter().position(|kind| kind.name().is_err_and(|why| why.is_loss()));
    found.truncate(end.unwrap_or(found.len()));
    Ok(found)
}
