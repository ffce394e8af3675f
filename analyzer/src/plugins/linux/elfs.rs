//! `elfs`: ELF objects that are mapped into processes.
//!
//! An object is an area that begins with an ELF header, whether the loader knows it or not: also the vDSO, and what was mapped
//! by hand. A header that is not in memory cannot be found. With `--dump` the segments of each object are written where
//! its program headers want them in the file, as they are in memory; section headers are not loaded, so they are missing.
//!
//! Truth: `/proc/PID/maps` of guests of 5.10, 6.1 and 6.12, the mappings of the starts of programs and libraries.

use crate::dump_file::{DumpArgs, DumpFile};
use crate::elf::{Elf, PT_LOAD};
use crate::os::linux::mm::{AreaNames, areas_of, space_of};
use crate::os::linux::path::Paths;
use crate::os::linux::{KernelFact, ProcessFilter, ProcessSpace};
use crate::plugin::prelude::*;

/// The command.
pub struct Elfs;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    processes: ProcessFilter,
    /// Write the objects to files
    #[arg(long)]
    dump: bool,
    #[command(flatten)]
    files: DumpArgs,
}

row! {
    pub struct Row {
        /// The process.
        task: ObjRef,
        /// First address of the object.
        start: Read<Address>,
        /// End of the area that begins with its header.
        end: Read<Address>,
        /// Mapped file or kind of memory, as `maps` shows it.
        file_path: Read<String>,
        /// The file that was written.
        dump_name: Option<String>,
    }
}

impl Plugin for Elfs {
    const NAME: &'static str = "elfs";
    const SUMMARY: &'static str = "List ELF objects in the memory of processes";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let paths = Paths::of_init(session, &kernel)?;
        let names = AreaNames::new(kernel.target(), &paths);
        for task in args.processes.tasks(session, &kernel)? {
            let Some((mm, areas)) = areas_of(&session.notes, &task) else { continue };
            let Some(space) = space_of(&session.notes, &kernel, &task) else { continue };
            for area in &areas {
                let Ok((start, end)) = area.range() else { continue };
                let Ok(elf) = Elf::read(&*space, start) else { continue };
                let dump_name = if args.dump {
                    let name = format!("elf.{}.{start:x}", task.file_label());
                    let mut file = args.files.create(session, &name)?;
                    rebuild(&elf, &space, start, &mut file)?;
                    Some(file.commit(session)?)
                } else {
                    None
                };
                out.push(Row {
                    task: task.obj_ref(),
                    start: Ok(Address(start)),
                    end: Ok(Address(end)),
                    file_path: names.name(&mm, area),
                    dump_name,
                })?;
            }
        }
        Ok(())
    }
}

/// Writes the loaded segments of an object, ascending by their places in the file.
fn rebuild(elf: &Elf, space: &ProcessSpace, base: u64, file: &mut DumpFile) -> Result<(), Error> {
    let bias = elf.bias(base);
    let mut loaded: Vec<_> = elf.segments.iter().filter(|segment| segment.kind == PT_LOAD).collect();
    loaded.sort_by_key(|segment| segment.offset);
    for segment in loaded {
        // A segment that begins before the last one ended holds the same page once more, newer.
        let skipped = file.len().saturating_sub(segment.offset).min(segment.filesz);
        file.skip_to(segment.offset)?;
        let start = bias.wrapping_add(segment.vaddr).wrapping_add(skipped);
        file.copy(space, start, segment.filesz - skipped)?;
    }
    Ok(())
}
