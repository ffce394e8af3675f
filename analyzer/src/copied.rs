//! What commands that copy memory have in common: where to, how far it is, and a row for each run.

use std::io;
use std::path::PathBuf;

use memory::write::{Copied, Progress};

use crate::error::Error;
use crate::output::OutputFile;
use crate::plugin::prelude::*;

/// Where to.
#[derive(Debug, clap::Args)]
pub struct Destination {
    /// File to write
    #[arg(short = 'O', long, value_name = "FILE")]
    pub out: PathBuf,
}

row! {
    pub struct Row {
        /// First physical address of a run of memory.
        start: Address,
        /// Address behind its last byte.
        end: Address,
        /// Bytes of the run.
        size: ByteSize,
        /// Bytes of the run that could not be read and are zeros in the file.
        missing: ByteSize,
    }
}

/// Writes a file with `write`, then shows what became of each run: a reader who has seen enough rows must not stop the
/// copy.
pub fn copy(
    session: &Session,
    to: &Destination,
    out: &mut Rows<'_, Row>,
    write: impl FnOnce(&mut OutputFile, Progress<'_>) -> io::Result<Vec<Copied>>,
) -> Result<(), Error> {
    let space = &*session.image()?.space;
    if space.end() == 0 {
        return Err(Error::analysis("the image holds no physical memory to copy"));
    }
    let mut file = session.create_file(&to.out)?;
    let total = space.runs(0, u64::MAX).map(|run| run.len).fold(0, u64::saturating_add);
    let progress = session.progress("copying", total);
    let copied = write(&mut file, &|bytes| progress.add(bytes)).map_err(Error::output)?;
    drop(progress);
    if let Some((at, fault)) = copied.iter().find_map(|copied| copied.gaps.first) {
        session.notes.partial(format!("unreadable memory is zeros in the copy, first at {at:#x}: {fault}"));
    }
    file.commit()?;
    copied.into_iter().try_for_each(|Copied { run, gaps }| {
        let (start, end) = (Address(run.start), Address(run.end()));
        out.push(Row { start, end, size: ByteSize(run.len), missing: ByteSize(gaps.missing) })
    })
}
