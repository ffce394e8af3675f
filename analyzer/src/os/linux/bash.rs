//! The history of a bash process, from its memory.
//!
//! readline keeps each line as a `HIST_ENTRY` (lib/readline/history.h): pointers to the text and to a time stamp, `#` and
//! seconds since 1970. Entries are found by their time stamps, then the array of pointers to them, which gives the order in
//! which they were typed.

use std::collections::{BTreeMap, HashMap};

use memchr::memchr_iter;
use object::{Absent, Read, Target, Uint, little_endian};

use super::mm::{self, Vma, areas};
use super::{Kernel, Task};
use crate::notes::Notes;
use crate::table::{Time, text_of};

/// Most bytes of a process that are searched.
const MAX_BYTES: usize = 512 << 20;
/// Longest command.
const MAX_COMMAND: usize = 64 << 10;
/// Most entries of a process.
const MAX_ENTRIES: usize = 1 << 20;
/// `VM_READ | VM_WRITE`, and `VM_SHARED` (include/linux/mm.h).
const READ_WRITE: u64 = 3;
const SHARED: u64 = 8;

/// A command that was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Address of the `HIST_ENTRY`.
    pub addr: u64,
    /// When it was typed.
    pub time: Time,
    /// The command.
    pub command: Read<String>,
    /// Whether bash's list still has it; others were deleted from it.
    pub listed: bool,
}

/// The history of a process: what its list has in typed order, then what it has no more, by address.
///
/// Not applicable to tasks without a user address space.
pub fn history(notes: &Notes, kernel: &Kernel, task: &Task<'_>) -> Read<Vec<Entry>> {
    let process = mm::of_task(task)?;
    let user = task.user_target(kernel)?;
    let (found, end) = areas(&process);
    notes.walk(&format!("areas of {}", super::task::describe(task)), &end);
    let mut left = MAX_BYTES as u64;
    let mut memory = Vec::new();
    for area in found.iter().filter(|area| is_private_data(area)) {
        let (Ok(Uint(start)), Ok(Uint(end))) = (area.vm_start(), area.vm_end()) else { continue };
        let len = end.saturating_sub(start).min(left);
        left -= len;
        for run in user.space().runs(start, start.saturating_add(len)) {
            if let Ok(bytes) = user.space().read_vec(run.start, run.len, MAX_BYTES) {
                memory.push((run.start, bytes));
            }
        }
    }
    Ok(entries(&user, &memory))
}

fn is_private_data(area: &Vma<'_>) -> bool {
    area.vm_flags().is_ok_and(|Uint(flags)| flags & READ_WRITE == READ_WRITE && flags & SHARED == 0)
        && matches!(area.file(), Err(Absent::NotApplicable(_)))
}

fn entries(user: &Target, memory: &[(u64, Vec<u8>)]) -> Vec<Entry> {
    let width = usize::from(user.types().model().pointer_size());
    let stamps: HashMap<u64, i128> =
        memory.iter().flat_map(|(start, bytes)| stamps(*start, bytes)).take(MAX_ENTRIES).collect();
    // The pointer to the stamp is the second member.
    let mut found: BTreeMap<u64, Entry> = BTreeMap::new();
    for (at, value) in words(memory, width) {
        if let Some(&seconds) = stamps.get(&value) {
            let addr = at.wrapping_sub(width as u64);
            let command = user.read_ptr(addr).and_then(|text| user.read_cstr(text, MAX_COMMAND));
            // The third member is null but for lines under edit. Leftovers of freed entries have no text any more.
            let data = user.read_ptr(addr.wrapping_add(2 * width as u64));
            if data.is_ok_and(|data| data != 0) || command.as_ref().is_ok_and(Vec::is_empty) {
                continue;
            }
            let time = Time(seconds * 1_000_000_000);
            found.insert(addr, Entry { addr, time, command: command.map(|c| text_of(&c)), listed: false });
        }
    }
    let order = longest_run(memory, width, |value| found.contains_key(&value));
    let mut all = Vec::new();
    for addr in order {
        if let Some(entry) = found.remove(&addr) {
            all.push(Entry { listed: true, ..entry });
        }
    }
    all.extend(found.into_values().filter(|entry| entry.command.is_ok()));
    all
}

/// Addresses of time stamps, and their seconds: `#`, ten digits, NUL.
fn stamps(start: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, i128)> + '_ {
    memchr_iter(b'#', bytes).filter_map(move |at| {
        let text = bytes.get(at + 1..at + 12)?;
        let (digits, end) = text.split_at_checked(10)?;
        let seconds = std::str::from_utf8(digits).ok()?;
        (end == [0] && digits.iter().all(u8::is_ascii_digit))
            .then(|| Some((start.wrapping_add(at as u64), seconds.parse().ok()?)))?
    })
}

/// All aligned words, ascending.
fn words(memory: &[(u64, Vec<u8>)], width: usize) -> impl Iterator<Item = (u64, u64)> + '_ {
    memory.iter().flat_map(move |(start, bytes)| {
        (*start..).step_by(width).zip(bytes.chunks_exact(width).map(little_endian))
    })
}

/// The longest run of neighbouring words that all satisfy `belongs`.
fn longest_run(memory: &[(u64, Vec<u8>)], width: usize, belongs: impl Fn(u64) -> bool) -> Vec<u64> {
    let (mut best, mut run): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
    let mut next = None;
    for (at, value) in words(memory, width) {
        if !belongs(value) {
            continue;
        }
        if next != Some(at) {
            run.clear();
        }
        run.push(value);
        next = at.checked_add(width as u64);
        if run.len() > best.len() {
            best.clone_from(&run);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::linux::testkit::Memory;

    #[test]
    fn entries_come_in_typed_order_and_deleted_ones_last() {
        let mut memory = Memory::default();
        memory
            .bytes(0x1000, b"#1714979300\0....#1714979301\0....#1714979302\0....#17149793x2\0")
            .bytes(0x1100, b"ls\0")
            .bytes(0x1110, b"rm -rf /\0")
            .bytes(0x1120, b"id\0")
            .words(0x1200, &[0x1110, 0x1000, 0])
            .words(0x1220, &[0x1100, 0x1010, 0])
            .words(0x1240, &[0x1120, 0x1020, 0])
            .words(0x1300, &[0x1220, 0x1200, 0]);
        let target = memory.target("{}", &[]);
        let bytes = target.read_bytes(0x1000, 4096, 4096).expect("there");
        let found = entries(&target, &[(0x1000, bytes)]);
        let shown: Vec<_> = found
            .iter()
            .map(|e| (e.command.clone().expect("there"), e.time.0 / 1_000_000_000, e.listed))
            .collect();
        let expected = [
            ("ls".to_owned(), 1_714_979_301, true),
            ("rm -rf /".to_owned(), 1_714_979_300, true),
            ("id".to_owned(), 1_714_979_302, false),
        ];
        assert_eq!(shown, expected);
    }
}
