//! Terminals (include/linux/tty.h, tty_driver.h, tty_ldisc.h).

use std::collections::BTreeSet;

use object::{Ptr, Read, Target, Text, layout, walk};

use super::task::Task;
use crate::error::Error;
use crate::notes::Notes;
use crate::table::text_of;

/// Most drivers, and most terminals of one of them, that are looked at; the table of Unix 98 terminals is not kept here.
const MAX_DRIVERS: usize = 1 << 10;
const MAX_TTYS: u32 = 1 << 12;

layout! {
    struct Driver / DriverLayout = "tty_driver" {
        count: u32 = "num",
        ttys: Ptr = "ttys",
    }

    /// `tty_struct`: a terminal that is open.
    pub struct Tty / TtyLayout = "tty_struct" {
        /// Name in `/dev`.
        name: Text = "name",
        /// What the driver does: a `tty_operations`.
        operations: Ptr = "ops",
        /// Line discipline: a `tty_ldisc`.
        discipline: Ptr = "ldisc",
        /// Other end of a pseudo terminal, or null.
        link: Ptr = "link",
    }

    struct Discipline / DisciplineLayout = "tty_ldisc" {
        ops: Ptr = "ops",
    }

    struct Signal / SignalLayout = "signal_struct" {
        tty: Ptr = "tty",
    }
}

impl Tty<'_> {
    /// Its name: `tty1`, `ptm0`.
    pub fn label(&self) -> Read<String> {
        self.name().map(|Text(bytes)| text_of(&bytes))
    }

    /// The `tty_ldisc_ops` of its line discipline.
    pub fn discipline_operations(&self) -> Read<u64> {
        let discipline = self.discipline()?.non_null("no line discipline")?;
        Ok(Discipline::at(self.target(), discipline).ops()?.0)
    }
}

/// The open terminals: those in the tables of the drivers, those that control a process of `tasks`, and the other ends of them.
pub fn ttys<'t>(notes: &Notes, target: &'t Target, tasks: &[Task<'_>]) -> Result<Vec<Tty<'t>>, Error> {
    let link = target.offset_of(Driver::STRUCT, "tty_drivers")?;
    let walked = walk::list_capped(target, target.symbol("tty_drivers")?, MAX_DRIVERS);
    notes.walk("tty_drivers", &walked.end);
    let width = u64::from(target.types().model().pointer_size());
    let mut found = BTreeSet::new();
    for driver in walked.containers(link).map(|addr| Driver::at(target, addr)) {
        let mut table = || -> Read<()> {
            let (Ptr(table), count) = (driver.ttys()?, driver.count()?);
            // Pseudo terminals are kept by their file system instead.
            let count = if table == 0 { 0 } else { count.min(MAX_TTYS) };
            for index in 0..count {
                found.insert(target.read_ptr(table.wrapping_add(width.wrapping_mul(index.into())))?);
            }
            Ok(())
        };
        if let Err(why) = table() {
            notes.partial(format!("terminals of the driver at {:#x} cannot be read: {why}", driver.addr()));
        }
    }
    for task in tasks {
        let tty = task.signal().and_then(|signal| signal.non_null("no signal state"));
        if let Ok(Ptr(tty)) = tty.and_then(|signal| Signal::at(target, signal).tty()) {
            found.insert(tty);
        }
    }
    let ends: Vec<u64> =
        found.iter().filter_map(|tty| Tty::at(target, *tty).link().ok()).map(|Ptr(end)| end).collect();
    found.extend(ends);
    found.remove(&0);
    Ok(found.into_iter().map(|tty| Tty::at(target, tty)).collect())
}
