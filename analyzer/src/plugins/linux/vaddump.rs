//! `vaddump`: the memory areas of processes as files, one for each.
//!
//! Byte N of a file is byte N of its area. Pages that are not in memory (never touched, swapped out, or only in the mapped
//! file) are holes of zeros; `in_memory` says how much is not.
//!
//! Truth: `/proc/PID/maps` and `smaps_rollup` of guests; page by page, the files they booted with, where programs and libraries map
//! them unchanged; the arguments and environments of processes at the addresses of `/proc/PID/stat`.

use crate::dump_file::DumpArgs;
use crate::os::linux::mm::{AreaNames, Vma, areas_of, space_of};
use crate::os::linux::path::Paths;
use crate::os::linux::{KernelFact, ProcessFilter};
use crate::plugin::prelude::*;

/// The command.
pub struct Vaddump;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    processes: ProcessFilter,
    /// Only the area that holds this address
    #[arg(long, value_name = "ADDRESS", value_parser = crate::parse::address)]
    address: Option<u64>,
    #[command(flatten)]
    dump: DumpArgs,
}

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// First address.
        start: Read<Address>,
        /// End, exclusive.
        end: Read<Address>,
        /// Permissions, as `maps` shows them.
        flags: Read<String>,
        /// Mapped file or kind of memory, as `maps` shows it.
        file_path: Read<String>,
        /// Bytes of it that are in memory.
        in_memory: Read<ByteSize>,
        /// The file that was written.
        dump_name: Read<String>,
    }
}

impl Plugin for Vaddump {
    const NAME: &'static str = "vaddump";
    const SUMMARY: &'static str = "Write the memory areas of processes to files";
    const ACTIVE: Active = Active::Linux;
    const WRITES: bool = true;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let paths = Paths::of_init(session, &kernel)?;
        let names = AreaNames::new(kernel.target(), &paths);
        let wanted = |area: &&Vma<'_>| match (args.address, area.range()) {
            (Some(address), Ok((start, end))) => (start..end).contains(&address),
            (wanted, _) => wanted.is_none(),
        };
        for task in args.processes.tasks(session, &kernel)? {
            let Some((mm, areas)) = areas_of(&session.notes, &task) else { continue };
            let Some(space) = space_of(&session.notes, &kernel, &task) else { continue };
            let who = task.file_label();
            for area in areas.iter().filter(wanted) {
                let range = area.range();
                let written = match range.clone() {
                    Ok((start, end)) => {
                        let mut file = args.dump.create(session, &format!("{who}.{start:x}-{end:x}.dmp"))?;
                        let copied = file.copy(&*space, start, end.saturating_sub(start))?;
                        Ok((copied, file.commit(session)?))
                    }
                    Err(why) => Err(why),
                };
                out.push(Row {
                    task: task.obj_ref(),
                    start: range.clone().map(|(start, _)| Address(start)),
                    end: range.map(|(_, end)| Address(end)),
                    flags: area.permissions(),
                    file_path: names.name(&mm, area),
                    in_memory: written.clone().map(|(copied, _)| ByteSize(copied)),
                    dump_name: written.map(|(_, name)| name),
                })?;
            }
        }
        Ok(())
    }
}
