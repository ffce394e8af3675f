//! In which state the pages of a range are: in memory, on their way out, behind a prototype, in a file, or not made yet.

use memory::{AddressSpace as _, Fault};

use super::paged::{DEMAND_ZERO, DEMAND_ZERO_SHARED, IN_FILE, PagedSpace, Place};
use crate::error::Error;

/// Most pages of one range that are looked at one by one; 16 GiB in small pages.
const MAX_STEPS: u64 = 1 << 22;

/// A state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In memory, by a valid entry of the process.
    Valid,
    /// In memory, on its way out.
    Transition,
    /// In memory, by the prototype entry of a section; the process has no entry for it.
    Prototype,
    /// In a pagefile.
    Pagefile,
    /// In the compressed store; the fault says why it cannot be found there.
    Compressed,
    /// In the file that is mapped.
    FileMapping,
    /// Not made yet: zeros when it is touched.
    DemandZero,
    /// Not known; the fault says why.
    Unknown,
}

impl State {
    /// Its name, as users see it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "Valid",
            Self::Transition => "Transition",
            Self::Prototype => "Prototype",
            Self::Pagefile => "Pagefile",
            Self::Compressed => "Compressed",
            Self::FileMapping => "File Mapping",
            Self::DemandZero => "Demand Zero",
            Self::Unknown => "Invalid",
        }
    }
}

/// Pages in a row that share a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    /// First virtual address.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// Their state.
    pub state: State,
    /// Where the first byte is; the others follow it there.
    pub place: Result<Place, Fault>,
}

impl Pages {
    /// Whether `next` can be told in one row with these.
    fn joins(&self, next: &Self) -> bool {
        let follows = match (self.place, next.place) {
            (Ok(Place::Memory(one)), Ok(Place::Memory(other))) => one.wrapping_add(self.len) == other,
            (Ok(Place::File { number, offset }), Ok(Place::File { number: other, offset: then })) => {
                number == other && offset.wrapping_add(self.len) == then
            }
            (Ok(Place::Compressed { offset }), Ok(Place::Compressed { offset: then })) => {
                offset.wrapping_add(self.len) == then
            }
            (Err(Fault::Elsewhere { why, .. }), Err(Fault::Elsewhere { why: other, .. })) => why == other,
            (Err(Fault::NotPresent { .. }), Err(Fault::NotPresent { .. })) => true,
            _ => false,
        };
        self.state == next.state && self.start.wrapping_add(self.len) == next.start && follows
    }
}

/// Gives the pages from `start` to `last` to `each`, in order, neighbours of one state together. Whether all of them were looked at:
/// of ranges with more pages than anybody maps the end is left out.
pub fn each(
    space: &PagedSpace,
    start: u64,
    last: u64,
    mut each: impl FnMut(Pages) -> Result<(), Error>,
) -> Result<bool, Error> {
    let mut pending: Option<Pages> = None;
    let (mut at, mut steps) = (start, 0);
    while at <= last {
        if steps == MAX_STEPS {
            break;
        }
        steps += 1;
        let len = space.stretch(at, last);
        let (state, place) = state(space, at);
        let pages = Pages { start: at, len, state, place };
        match &mut pending {
            Some(known) if known.joins(&pages) => known.len = known.len.saturating_add(len),
            _ => {
                if let Some(done) = pending.replace(pages) {
                    each(done)?;
                }
            }
        }
        at = match at.checked_add(len) {
            Some(next) => next,
            None => break,
        };
    }
    if let Some(done) = pending {
        each(done)?;
    }
    Ok(steps < MAX_STEPS)
}

fn state(space: &PagedSpace, addr: u64) -> (State, Result<Place, Fault>) {
    let place = space.place(addr);
    let state = match &place {
        Ok(Place::Memory(_)) if space.tables().translate(addr).is_ok() => {
            // Large pages are never on their way out.
            let entry = space.explain(addr).last().and_then(|step| step.entry);
            if entry.is_some_and(|entry| entry & 1 == 0) { State::Transition } else { State::Valid }
        }
        Ok(Place::Memory(_)) => State::Prototype,
        Ok(Place::File { .. }) => State::Pagefile,
        Ok(Place::Compressed { offset: entry }) => {
            let place = space.compressed(*entry).map_err(|why| Fault::Elsewhere { addr, why, entry: *entry });
            return (State::Compressed, place.and(Ok(Place::Compressed { offset: *entry })));
        }
        Err(Fault::Elsewhere { why, .. }) if *why == DEMAND_ZERO || *why == DEMAND_ZERO_SHARED => {
            State::DemandZero
        }
        Err(Fault::Elsewhere { why, .. }) if *why == IN_FILE => State::FileMapping,
        Err(_) => State::Unknown,
    };
    (state, place)
}
