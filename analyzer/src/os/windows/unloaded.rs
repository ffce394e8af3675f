//! Drivers that were unloaded: a ring of the last 50.
//!
//! No symbols describe its elements: name, start, end, time. Source: `MmLocateUnloadedDriver` as used by the debugger's `lm`,
//! Windows Internals.

use object::{Absent, Ptr, Read, Target};

use super::time::file_time;
use super::unicode::UnicodeString;
use crate::notes::Notes;
use crate::table::Time;

/// Elements of the ring.
const ELEMENTS: u64 = 50;

/// A driver that was unloaded.
pub struct Unloaded<'k> {
    target: &'k Target,
    addr: u64,
}

impl Unloaded<'_> {
    fn pointer(&self, index: u64) -> Read<u64> {
        let width = u64::from(self.target.types().model().pointer_size());
        self.target.read_ptr(self.addr.wrapping_add(index * width))
    }

    /// Name of its file.
    pub fn name(&self) -> Read<String> {
        UnicodeString::at(self.target, self.addr).text()
    }

    /// Where it was mapped.
    pub fn start(&self) -> Read<u64> {
        self.pointer(2)
    }

    /// Behind its last byte.
    pub fn end(&self) -> Read<u64> {
        self.pointer(3)
    }

    /// When it was unloaded.
    pub fn time(&self) -> Read<Time> {
        let width = u64::from(self.target.types().model().pointer_size());
        file_time(self.target.read_u64(self.addr.wrapping_add(4 * width))?)
    }
}

/// Address of the ring and the number of drivers that were put into it.
fn ring(target: &Target) -> Read<(u64, u64)> {
    if let Ok(array) = target.symbol("MmUnloadedDrivers") {
        let last = target.symbol("MmLastUnloadedDriver").map_err(Absent::from);
        let count = last.and_then(|at| target.read_u32(at)).map_or(0, u64::from);
        return Ok((target.read_ptr(array)?, count));
    }
    // Windows 10 gathered the memory manager's variables in one struct.
    let state = target.symbol("MiState")?;
    let member = |path: &str| {
        target.offset_of("_MI_SYSTEM_INFORMATION", path).map(|offset| state.wrapping_add(offset))
    };
    let count = member("LastUnloadedDriver | Vs.LastUnloadedDriver").map_err(Absent::from);
    let count = count.and_then(|at| target.read_u32(at)).map_or(0, u64::from);
    Ok((target.read_ptr(member("UnloadedDrivers | Vs.UnloadedDrivers")?)?, count))
}

/// The drivers that were unloaded, oldest first.
pub fn unloaded<'k>(notes: &Notes, target: &'k Target) -> Read<Vec<Unloaded<'k>>> {
    let (array, count) = ring(target)?;
    // Made when the first driver is unloaded.
    let array = Ptr(array).non_null("no driver was unloaded")?;
    let size = if target.types().model().pointer_size() == 4 { 0x18 } else { 0x28 };
    let mut found = Vec::new();
    for step in 0..ELEMENTS {
        // The place behind the newest is the oldest's.
        let index = count.wrapping_add(step) % ELEMENTS;
        let driver = Unloaded { target, addr: array.wrapping_add(index * size) };
        match driver.start() {
            Ok(0) => {}
            Ok(_) => found.push(driver),
            Err(why) => notes.partial(format!("an unloaded driver cannot be read: {why}")),
        }
    }
    Ok(found)
}
