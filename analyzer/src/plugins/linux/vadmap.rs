//! `vadmap`: where the pages of each memory area of processes are.
//!
//! Neighbouring pages in the same state are one row. Truth: pages in swap areas against `VmSwap` of guests; where the
//! other pages are is not compared yet.

use crate::os::linux::mm::{AreaNames, areas_of, space_of};
use crate::os::linux::page_state::{State, each_stretch};
use crate::os::linux::path::Paths;
use crate::os::linux::swap::Slot;
use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Vadmap;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    processes: ProcessFilter,
    /// First address to show
    #[arg(long, value_name = "ADDRESS", value_parser = crate::parse::address, default_value = "0")]
    start: u64,
    /// Address to stop at
    #[arg(long, value_name = "ADDRESS", value_parser = crate::parse::address)]
    end: Option<u64>,
}

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// First virtual address.
        virtual_address as "VAddr": Address,
        /// Physical address that holds it.
        physical as "PAddr": Read<Address>,
        /// Length in bytes.
        length: ByteSize,
        /// Where the pages are: `Valid` (in memory), `No access`, `Swapped`, `File`, `Demand zero`, `Special`, `Unreadable`.
        state as "type": &'static str,
        /// What the area is and where in its swap area or file the pages are.
        comment: String,
    }
}

impl Plugin for Vadmap {
    const NAME: &'static str = "vadmap";
    const SUMMARY: &'static str = "Show where the pages of processes are";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let paths = Paths::of_init(session, &kernel)?;
        let names = AreaNames::new(kernel.target(), &paths);
        let range = (args.start, args.end.unwrap_or(u64::MAX));
        for task in args.processes.tasks(session, &kernel)? {
            let Some((mm, areas)) = areas_of(&session.notes, &task) else { continue };
            let Some(space) = space_of(&session.notes, &kernel, &task) else { continue };
            for area in &areas {
                let name = names.name(&mm, area).unwrap_or_default();
                each_stretch(&space, area, range, |stretch| {
                    let detail = match stretch.state {
                        State::Swapped(Slot { area, page }) => {
                            let name = space.swap().area_name(area).unwrap_or_default();
                            format!("swap area {area} ({name}) page {page:#x}")
                        }
                        State::InFile(place) => format!("at {place:#x} of the file"),
                        State::Special(entry) => format!("entry {entry:#x}"),
                        State::Unknown(fault) => fault.to_string(),
                        State::Resident(_) | State::NoAccess(_) | State::Untouched => String::new(),
                    };
                    out.push(Row {
                        task: task.obj_ref(),
                        virtual_address: Address(stretch.start),
                        physical: match stretch.state {
                            State::Resident(phys) | State::NoAccess(phys) => Ok(Address(phys)),
                            _ => Err(Absent::NotApplicable("not in memory")),
                        },
                        length: ByteSize(stretch.len),
                        state: stretch.state.name(),
                        comment: format!("{name} {detail}").trim().to_owned(),
                    })
                })?;
            }
        }
        Ok(())
    }
}
