//! From virtual to physical to the image file: every step of one address, and the pages of a whole address space.

use memory::paging::Mappings;
use memory::{AddressSpace, Next, Run, Step, Stored, VirtualSpace};
use object::{Absent, Read};

use crate::error::Error;
use crate::notes::Notes;

const NOT_CANONICAL: Absent = Absent::NotApplicable("the address is not canonical");

/// One step of a translation, as shown to users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownStep {
    /// Entry of a page table (`PTE`), then `physical`, then each layer of the image down to `file`.
    pub step: String,
    /// Where the entry is in physical memory; the address itself in the layers.
    pub address: Read<u64>,
    /// The entry.
    pub entry: Read<u64>,
    /// Bits that are set in it.
    pub flags: String,
    /// What follows.
    pub comment: String,
}

impl ShownStep {
    /// A step that is no entry of a page table.
    #[must_use]
    pub fn plain(step: impl Into<String>, address: Read<u64>, comment: impl Into<String>) -> Self {
        Self {
            step: step.into(),
            address,
            entry: Err(Absent::NotApplicable("no entry of a page table")),
            flags: String::new(),
            comment: comment.into(),
        }
    }
}

/// The entries on the way of `addr` through page tables, and the physical address they lead to.
#[must_use]
pub fn table_steps(space: &VirtualSpace, addr: u64) -> (Vec<ShownStep>, Option<u64>) {
    let steps = space.explain(addr);
    // An address that is not canonical has no entry anywhere.
    let pointer = space.paging().pointer(addr);
    let canonical = space.paging().canonical(pointer) == pointer;
    let shown = steps.iter().map(|step| ShownStep {
        step: step.name.to_owned(),
        address: if canonical { Ok(step.entry_addr) } else { Err(NOT_CANONICAL) },
        entry: match (step.entry, step.next) {
            (Some(entry), _) => Ok(entry),
            (None, Next::Fault(fault)) if canonical => {
                Err(Absent::Unreadable { addr: step.entry_addr, fault })
            }
            _ => Err(NOT_CANONICAL),
        },
        flags: step.flags.join(" "),
        comment: comment(step),
    });
    let phys = match steps.last().map(|step| step.next) {
        Some(Next::Page { phys, .. }) => Some(phys),
        _ => None,
    };
    (shown.collect(), phys)
}

/// A physical address down to the image file.
#[must_use]
pub fn file_steps(physical: &dyn AddressSpace, phys: u64) -> Vec<ShownStep> {
    let mut shown = vec![ShownStep::plain("physical", Ok(phys), "physical address")];
    let (mut layer, mut at) = (physical, phys);
    while let Some(base) = layer.base() {
        let stored = layer.stored(at);
        let (address, comment) = match stored {
            Ok(Stored::Plain(offset)) => (Ok(offset), format!("where {} keeps it", layer.name())),
            Ok(Stored::Compressed { block, len }) => {
                (Ok(block), format!("compressed block of {len} bytes, by {}", layer.name()))
            }
            Err(fault) => (Err(Absent::Unreadable { addr: at, fault }), fault.to_string()),
        };
        shown.push(ShownStep::plain(base.name(), address, comment));
        let Ok(Stored::Plain(offset)) = stored else { break };
        (layer, at) = (base, offset);
    }
    shown
}

fn comment(step: &Step) -> String {
    match step.next {
        Next::Table(table) => format!("next table at {table:#x}"),
        Next::Page { phys, size } => format!("page of {} at {:#x}", unit(size), phys & !size.wrapping_sub(1)),
        Next::Fault(fault) => fault.to_string(),
    }
}

/// A page size in words: `4 KiB`.
fn unit(size: u64) -> String {
    match size.trailing_zeros() {
        0..20 => format!("{} KiB", size >> 10),
        20..30 => format!("{} MiB", size >> 20),
        _ => format!("{} GiB", size >> 30),
    }
}

/// Physical addresses that are looked for in page tables.
pub struct Sought(Vec<u64>);

impl Sought {
    /// Each address once.
    #[must_use]
    pub fn new(addresses: &[u64]) -> Self {
        let mut sorted = addresses.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        Self(sorted)
    }

    /// Those that `run` maps, ascending, each with the virtual address that is there.
    pub fn inside(&self, run: Run) -> impl Iterator<Item = (u64, u64)> + '_ {
        let first = self.0.partition_point(|physical| *physical < run.target);
        let inside = self.0.get(first..).unwrap_or_default().iter();
        let inside = inside.take_while(move |physical| **physical - run.target < run.len);
        inside.map(move |physical| (*physical, run.start.wrapping_add(physical.wrapping_sub(run.target))))
    }
}

/// Gives every page that page tables map below `end` to `each`: virtual address, length, physical address; with `coalesce`
/// merged where contiguous in both. What could not be enumerated is noted, of the process `whose`.
pub fn for_each_page(
    notes: &Notes,
    whose: &str,
    space: &VirtualSpace,
    end: u64,
    coalesce: bool,
    mut each: impl FnMut(Run) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut mappings = space.mappings(0, end);
    for run in &mut mappings {
        let mut rest = Some(run);
        while let Some(run) = rest {
            let len = if coalesce { run.len } else { page_size(space, &run).min(run.len) };
            each(Run { len, ..run })?;
            rest = run.start.checked_add(len).and_then(|next| run.clipped(next, u64::MAX));
        }
    }
    note_gaps(notes, whose, &mappings);
    Ok(())
}

/// Notes what a walk of the page tables of the process `whose` could not enumerate, once it has ended.
pub fn note_gaps(notes: &Notes, whose: &str, mappings: &Mappings<'_>) {
    if mappings.truncated() {
        notes.partial(format!("page tables of {whose} go on behind the limit"));
    }
    for (addr, fault) in mappings.unreadable() {
        notes.partial(format!("a page table of {whose} is unreadable, for {addr:#x}: {fault}"));
    }
}

/// Size of the page at the start of a run, in bytes.
fn page_size(space: &VirtualSpace, run: &Run) -> u64 {
    let Some(last) = space.paging().levels.last() else { return run.len };
    let small = 1 << last.shift;
    let large = 1 << last.shift.saturating_add(last.bits);
    if !run.start.is_multiple_of(large) || !run.target.is_multiple_of(large) || run.len < large {
        return small;
    }
    match space.explain(run.start).last().map(|step| step.next) {
        Some(Next::Page { size, .. }) => size,
        _ => small,
    }
}
