//! `vadmap`: where the pages of each memory range of processes are.
//!
//! Neighbouring pages in the same state are one row. Truth: the description of the machine that the maker of test images lays out,
//! which has pages of every state.

use crate::os::windows::page_state::{State, each};
use crate::os::windows::paged::Place;
use crate::os::windows::vad::ranges_of;
use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Vadmap;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// First address to show
    #[arg(long, value_name = "ADDRESS", value_parser = crate::parse::address, default_value = "0")]
    pub start: u64,
    /// Address to stop at
    #[arg(long, value_name = "ADDRESS", value_parser = crate::parse::address)]
    pub end: Option<u64>,
    /// Which processes
    #[command(flatten)]
    pub processes: ProcessFilter,
}

row! {
    pub struct Row {
        /// The process.
        process as "_EPROCESS": ObjRef,
        /// First virtual address.
        virtual_address as "VAddr": Address,
        /// Physical address that holds it.
        physical as "PAddr": Read<Address>,
        /// Length in bytes.
        length: ByteSize,
        /// `Valid`, `Transition`, `Prototype` (in memory), `Pagefile`, `Compressed`, `File Mapping`, `Demand Zero` or `Invalid`.
        state as "type": &'static str,
        /// Mapped file, place in the pagefile, or why a page is invalid or cannot be found in the compressed store.
        comment: String,
    }
}

impl Plugin for Vadmap {
    const NAME: &'static str = "vadmap";
    const SUMMARY: &'static str = "Show where the pages of processes are";
    const ACTIVE: Active = Active::Windows;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let stop = args.end.map_or(u64::MAX, |end| end.saturating_sub(1));
        for process in args.processes.processes(session, &kernel)? {
            let Some((space, ranges)) = ranges_of(&session.notes, &kernel, &process) else { continue };
            for (start, last, vad) in ranges {
                let file = vad.file_name().unwrap_or_default();
                let complete = each(&space, start.max(args.start), last.min(stop), |pages| {
                    let physical = match pages.place {
                        Ok(Place::Memory(physical)) => Ok(Address(physical)),
                        _ => Err(Absent::NotApplicable("not in memory")),
                    };
                    let detail = match pages.place {
                        Ok(Place::File { number, offset }) => format!("pagefile {number} at {offset:#x}"),
                        Ok(Place::Compressed { offset }) => format!("compressed store at {offset:#x}"),
                        Err(fault) if matches!(pages.state, State::Unknown | State::Compressed) => {
                            fault.to_string()
                        }
                        _ => String::new(),
                    };
                    out.push(Row {
                        process: process.obj_ref(),
                        virtual_address: Address(pages.start),
                        physical,
                        length: ByteSize(pages.len),
                        state: pages.state.name(),
                        comment: format!("{file} {detail}").trim().to_owned(),
                    })
                })?;
                if !complete {
                    let whose = process.describe();
                    session.notes.partial(format!("the range at {start:#x} of {whose} has more pages"));
                }
            }
        }
        Ok(())
    }
}
