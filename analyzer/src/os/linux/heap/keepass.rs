//! Entries of password databases that are open in KeePassX 2 or KeePassXC: their attributes are a `QMap` of `QString`s of Qt 5.
//!
//! A node of the map (`QMapNodeBase` of qmap.h: parent and colour, left, right; then key and value) has a chunk of its own. From a node
//! with the key `Title` the way up leads to the map, and from there to all its attributes. Strings (`QArrayData` of qarraydata.h) are
//! counts of references, of characters and of room, and where the characters stand: UTF-16.

use std::collections::{BTreeMap, BTreeSet};

use object::{Absent, Read};

use super::{Heap, Kind};

/// Most attributes of an entry.
const MAX_ATTRIBUTES: usize = 1 << 10;
/// Most steps from a node to its map.
const MAX_DEPTH: usize = 64;
/// Longest text, in characters.
const MAX_TEXT: u64 = 1 << 20;
/// Attributes that every entry has.
const STANDARD: [&str; 5] = ["Notes", "Password", "Title", "URL", "UserName"];

/// An entry: its map, and its attributes by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Address of the map.
    pub addr: u64,
    /// Attributes by name.
    pub attributes: BTreeMap<String, String>,
}

/// The entries of a heap, by address.
#[must_use]
pub fn entries(heap: &Heap) -> Vec<Entry> {
    let node = 5 * heap.width;
    let nodes = heap
        .chunks
        .iter()
        .filter(|chunk| chunk.kind == Kind::Allocated && (node..node + 16).contains(&chunk.usable))
        .filter(|chunk| key(heap, chunk.data).is_ok_and(|key| key == "Title"));
    let maps: BTreeSet<u64> = nodes.filter_map(|chunk| map_of(heap, chunk.data).ok()).collect();
    let all = maps.into_iter().filter_map(|addr| {
        let attributes = attributes(heap, addr).ok()?;
        STANDARD.iter().all(|name| attributes.contains_key(*name)).then_some(Entry { addr, attributes })
    });
    all.collect()
}

fn field(heap: &Heap, node: u64, index: u64) -> Read<u64> {
    heap.word(node.wrapping_add(index * heap.width))
}

fn key(heap: &Heap, node: u64) -> Read<String> {
    text(heap, field(heap, node, 3)?)
}

/// The header of the map that a node belongs to.
fn map_of(heap: &Heap, node: u64) -> Read<u64> {
    let mut node = node;
    for _ in 0..MAX_DEPTH {
        // The colour is in the lowest bits.
        match field(heap, node, 0)? & !3 {
            0 => return Ok(node),
            parent => node = parent,
        }
    }
    Err(Absent::Malformed("a map without root"))
}

fn attributes(heap: &Heap, map: u64) -> Read<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let mut seen = BTreeSet::new();
    let mut waiting = vec![field(heap, map, 1)?];
    while let Some(node) = waiting.pop() {
        if node == 0 || node == map || !seen.insert(node) || seen.len() > MAX_ATTRIBUTES {
            continue;
        }
        found.insert(key(heap, node)?, text(heap, field(heap, node, 4)?)?);
        waiting.extend([field(heap, node, 1)?, field(heap, node, 2)?]);
    }
    Ok(found)
}

/// A `QString`.
fn text(heap: &Heap, data: u64) -> Read<String> {
    let unreadable = |fault| Absent::Unreadable { addr: data, fault };
    let len = u64::from(heap.space.read_u32(data.wrapping_add(4)).map_err(unreadable)?);
    let place = field(heap, data, if heap.width == 8 { 2 } else { 3 })?;
    if len > MAX_TEXT || place > MAX_TEXT {
        return Err(Absent::Malformed("no text of Qt"));
    }
    let most = usize::try_from(2 * MAX_TEXT).unwrap_or(0);
    let bytes = heap.space.read_vec(data.wrapping_add(place), 2 * len, most).map_err(unreadable)?;
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| pair.iter().rev().fold(0, |unit, byte| unit << 8 | u16::from(*byte)))
        .collect();
    Ok(String::from_utf16_lossy(&units))
}
