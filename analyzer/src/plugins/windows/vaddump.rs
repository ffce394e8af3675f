//! `vaddump`: the memory ranges of processes as files, one for each.
//!
//! Byte N of a file is byte N of its range, wherever the page is: in memory, on its way out, behind a prototype or in a pagefile.
//! Pages that were never touched are zeros; what cannot be read is zeros too, and reported. Truth: the description of the machine
//! that the maker of test images lays out.

use crate::dump_file::DumpArgs;
use crate::os::windows::page_state::{State, each};
use crate::os::windows::vad::ranges_of;
use crate::os::windows::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Vaddump;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Only the range that holds this address
    #[arg(long, value_name = "ADDRESS", value_parser = crate::parse::address)]
    pub offset: Option<u64>,
    /// Where to
    #[command(flatten)]
    pub to: DumpArgs,
    /// Which processes
    #[command(flatten)]
    pub processes: ProcessFilter,
}

row! {
    pub struct Row {
        /// The process.
        process as "_EPROCESS": ObjRef,
        /// First address.
        start as "Start": Address,
        /// Last address.
        end as "End": Address,
        /// Length in bytes.
        length as "Length": ByteSize,
        /// The file that was written.
        filename as "Filename": String,
        /// Mapped file, without its drive.
        comment as "Comment": Read<String>,
        /// Bytes that could be read; what was never touched is not among them.
        in_memory: ByteSize,
        /// Bytes that are zeros because they could not be read.
        missing: ByteSize,
    }
}

impl Plugin for Vaddump {
    const NAME: &'static str = "vaddump";
    const SUMMARY: &'static str = "Write the memory ranges of processes to files";
    const ACTIVE: Active = Active::Windows;
    const WRITES: bool = true;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        for process in args.processes.processes(session, &kernel)? {
            let Some((space, ranges)) = ranges_of(&session.notes, &kernel, &process) else { continue };
            let (whose, label) = (process.describe(), process.name().unwrap_or_default());
            let mut lost = 0u64;
            for (start, last, vad) in ranges {
                if args.offset.is_some_and(|offset| !(start..=last).contains(&offset)) {
                    continue;
                }
                let name = format!("{label}.{:x}.{start:08x}-{last:08x}.dmp", process.addr());
                let length = (last - start).saturating_add(1);
                let mut file = args.to.create(session, &name)?;
                file.skip_to(length)?;
                let (mut in_memory, mut missing) = (0u64, 0u64);
                let complete = each(&space, start, last, |pages| {
                    let read = match pages.state {
                        State::DemandZero => return Ok(()),
                        State::FileMapping | State::Unknown => 0,
                        _ => file.copy_to(pages.start.wrapping_sub(start), &space, pages.start, pages.len)?,
                    };
                    in_memory = in_memory.saturating_add(read);
                    missing = missing.saturating_add(pages.len.saturating_sub(read));
                    Ok(())
                })?;
                if !complete {
                    session.notes.partial(format!("the range at {start:#x} of {whose} has more pages"));
                }
                lost = lost.saturating_add(missing);
                out.push(Row {
                    process: process.obj_ref(),
                    start: Address(start),
                    end: Address(last),
                    length: ByteSize(length),
                    filename: file.commit(session)?,
                    comment: vad.file_name(),
                    in_memory: ByteSize(in_memory),
                    missing: ByteSize(missing),
                })?;
            }
            if lost > 0 {
                session.notes.partial(format!(
                    "{lost} bytes of the ranges of {whose} are not in memory and zeros in the files; see vadmap"
                ));
            }
        }
        Ok(())
    }
}
