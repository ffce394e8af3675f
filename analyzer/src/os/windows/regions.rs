//! The ranges of the kernel's virtual memory, as the kernel assigned them.
//!
//! Windows 10 and later keep a table of regions (`_MI_VISIBLE_STATE.SystemVaRegions`, one for each of `_MI_ASSIGNED_REGION_TYPES`);
//! 32-bit systems from Vista on a byte for each page directory entry of the kernel's half (`MiSystemVaType`, one of
//! `_MI_SYSTEM_VA_TYPE`); earlier 64-bit systems and XP have variables for their pools.

use memory::Paging;
use object::{Absent, Addr, Ptr, Read, Target, Uint, layout};

/// Most regions that are believed.
const MAX_REGIONS: i128 = 64;
/// Most bytes of the map of 32-bit systems: one for each 2 MiB of 4 GiB.
const MAX_TYPES: usize = 2048;

layout! {
    struct Visible / VisibleLayout = "_MI_VISIBLE_STATE" {
        regions: Addr = "SystemVaRegions",
    }

    struct Assignment / AssignmentLayout = "_MI_SYSTEM_VA_ASSIGNMENT" {
        base: Ptr = "BaseAddress",
        bytes: Uint = "NumberOfBytes",
    }
}

/// A range of the kernel's memory.
#[derive(Debug, Clone)]
pub struct Region {
    /// What it is for: `NonPagedPool`, ...
    pub name: String,
    /// The structure or variable that says so.
    pub source: &'static str,
    /// First address.
    pub start: Read<u64>,
    /// Address behind the last byte.
    pub end: Read<u64>,
}

/// Variables with start and end of a range.
const VARIABLES: [(&str, [&str; 2], [&str; 2]); 2] = [
    (
        "NonPagedPool",
        ["MiNonPagedPoolStartAligned", "MmNonPagedPoolStart"],
        ["MiNonPagedPoolEnd", "MmNonPagedPoolEnd"],
    ),
    ("PagedPool", ["MmPagedPoolStart", "MmPagedPoolStart"], ["MmPagedPoolEnd", "MmPagedPoolEnd"]),
];

/// The ranges that are known, by their place in the table or in the order of the variables. `target` is the kernel, `paging` the kind
/// of its tables.
pub fn regions(target: &Target, paging: &Paging) -> Read<Vec<Region>> {
    if let Ok(state) = target.symbol("MiVisibleState") {
        return assigned(target, state);
    }
    match target.symbol("MiSystemVaType") {
        Ok(map) if target.types().model().pointer_size() == 4 => {
            // The level above the last one: what one table maps.
            let shift = paging.levels.iter().find(|level| level.number == 2).map(|level| level.shift);
            by_map(target, map, shift.ok_or(Absent::Malformed("page tables of one level"))?)
        }
        _ => Ok(by_variables(target)),
    }
}

/// Where a pool is, `NonPagedPool` or `PagedPool`, by the table of regions or the variables: its start, and behind its end.
pub(super) fn pool(target: &Target, name: &str) -> (Read<u64>, Read<u64>) {
    let known = match target.symbol("MiVisibleState") {
        Ok(state) => assigned(target, state),
        Err(_) => Ok(by_variables(target)),
    };
    match known.map(|known| known.into_iter().find(|region| region.name == name)) {
        Ok(Some(region)) => (region.start, region.end),
        Ok(None) => {
            let none = Absent::NotApplicable("no such region in this kernel");
            (Err(none.clone()), Err(none))
        }
        Err(why) => (Err(why.clone()), Err(why)),
    }
}

/// Neighbours of one type together.
fn by_map(target: &Target, map: u64, shift: u8) -> Read<Vec<Region>> {
    let start = target.read_ptr(target.symbol("MmSystemRangeStart")?)?;
    let end = 1u64 << 32;
    let count = end.checked_sub(start).ok_or(Absent::Malformed("MmSystemRangeStart"))? >> shift;
    let types = target.read_bytes(map, count, MAX_TYPES)?;
    let names = target.types().profile().enum_def("_MI_SYSTEM_VA_TYPE").ok().flatten();
    let name = |value: u8| {
        let known = names.and_then(|names| names.names.get(&i128::from(value)));
        known.map_or_else(|| format!("type {value}"), |name| name.trim_start_matches("MiVa").to_owned())
    };
    let mut found: Vec<Region> = Vec::new();
    let mut at = start;
    for of_one_type in types.chunk_by(|one, other| one == other) {
        let next = at.saturating_add((of_one_type.len() as u64) << shift);
        if let Some(kind) = of_one_type.first().filter(|kind| **kind != 0) {
            found.push(Region { name: name(*kind), source: "MiSystemVaType", start: Ok(at), end: Ok(next) });
        }
        at = next;
    }
    Ok(found)
}

fn assigned(target: &Target, state: u64) -> Read<Vec<Region>> {
    let state = Ptr(target.read_ptr(state)?).non_null("no state of memory")?;
    let Addr(first) = Visible::at(target, state).regions()?;
    let size = target.types().struct_size(Assignment::STRUCT).map_err(Absent::from)?;
    let names = target.types().profile().enum_def("_MI_ASSIGNED_REGION_TYPES").ok().flatten();
    let names = names.ok_or(Absent::Malformed("profile without names of regions"))?;
    let mut found = Vec::new();
    for (index, name) in names.names.range(0..MAX_REGIONS) {
        let name = name.trim_start_matches("AssignedRegion");
        let Some(index) = u64::try_from(*index).ok().filter(|_| name != "Maximum") else { continue };
        let region = Assignment::at(target, first.wrapping_add(index.wrapping_mul(size)));
        let start = region.base().map(|base| base.0);
        let end = start.clone().and_then(|start| Ok(start.wrapping_add(region.bytes()?.0)));
        // Kinds that a system has no use for have no memory.
        if start != Ok(0) || end != Ok(0) {
            found.push(Region { name: name.to_owned(), source: "SystemVaRegions", start, end });
        }
    }
    Ok(found)
}

fn by_variables(target: &Target) -> Vec<Region> {
    let read = |names: [&'static str; 2]| {
        let symbol = names.iter().find_map(|name| target.symbol(name).ok());
        let none = Absent::NotApplicable("the profile names no variable for it");
        target.read_ptr(symbol.ok_or(none)?)
    };
    VARIABLES
        .into_iter()
        .map(|(name, start, end)| Region {
            name: name.to_owned(),
            source: "variables",
            start: read(start),
            end: read(end),
        })
        .collect()
}
