//! Performance events that threads asked for (include/linux/perf_event.h).

use object::{Addr, Ptr, Read, Uint, layout, walk};

use super::task::{Task, describe};
use crate::notes::Notes;
use crate::table::text_of;

/// Most events of one thread.
const MAX_EVENTS: usize = 1 << 12;

layout! {
    struct Owner / OwnerLayout = "task_struct" {
        events: Addr = "perf_event_list",
    }

    /// `perf_event`.
    pub struct Event / EventLayout = "perf_event" {
        /// Unit that counts: a `pmu`.
        unit: Ptr = "pmu",
        /// What is counted: `PERF_TYPE_*`, or the number of a unit.
        kind: u32 = "attr.type",
        /// Which one of its kind.
        config: Uint = "attr.config",
        /// 1 active, 0 inactive, -1 off, less for errors.
        state: i32 = "state",
    }

    struct Unit / UnitLayout = "pmu" {
        name: Ptr = "name",
    }
}

/// The events a thread has opened.
pub fn events<'k>(notes: &Notes, task: &Task<'k>) -> Read<Vec<Event<'k>>> {
    let target = task.target();
    let Addr(head) = Owner::at(target, task.addr()).events()?;
    let link = target.offset_of(Event::STRUCT, "owner_entry")?;
    let walked = walk::list_capped(target, head, MAX_EVENTS);
    notes.walk(&format!("performance events of {}", describe(task)), &walked.end);
    Ok(walked.containers(link).map(|event| Event::at(target, event)).collect())
}

impl Event<'_> {
    /// Name of the unit that counts: `cpu`, `software`, `tracepoint`, ...
    pub fn unit_name(&self) -> Read<String> {
        let unit = self.unit()?.non_null("no unit")?;
        let name = Unit::at(self.target(), unit).name()?.non_null("unit without a name")?;
        Ok(text_of(&self.target().read_cstr(name, 64)?))
    }
}
