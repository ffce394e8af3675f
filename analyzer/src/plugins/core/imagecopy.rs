//! `imagecopy`: writes physical memory as a raw file in which offset and physical address are the same.
//!
//! Reads the runs of the image. What lies between runs, and pages of zeros, become holes of a sparse file; pages that
//! cannot be read become zeros and are reported. Truth: the raw dump of the same paused guest.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use memory::{AddressSpace, Gaps};

use crate::output::OutputFile;
use crate::plugin::prelude::*;
use crate::progress::Progress;

/// Bytes copied at once.
const CHUNK: usize = 1 << 20;
/// Blocks of zeros of this size are left out.
const BLOCK: usize = 4096;

/// The command.
pub struct Imagecopy;

/// Where to.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File to write
    #[arg(short = 'O', long, value_name = "FILE")]
    out: PathBuf,
}

row! {
    pub struct Row {
        /// First physical address of a run of memory, and its offset in the file.
        start: Address,
        /// Address behind its last byte.
        end: Address,
        /// Bytes of the run.
        size: ByteSize,
        /// Bytes of the run that could not be read and are zeros in the file.
        missing: ByteSize,
    }
}

impl Plugin for Imagecopy {
    const NAME: &'static str = "imagecopy";
    const SUMMARY: &'static str = "Copy physical memory into a raw file";
    const ACTIVE: Active = Active::Image;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let space = &*session.image()?.space;
        let mut file = session.create_file(&args.out)?;
        let total = space.runs(0, u64::MAX).map(|run| run.len).fold(0, u64::saturating_add);
        let progress = session.progress("copying", total);
        file.set_len(space.end()).map_err(Error::output)?;
        let mut buffer = vec![0; CHUNK];
        let mut first_gap = None;
        // Shown only when the file is there: a reader who has seen enough rows must not stop the copy.
        let mut rows = Vec::new();
        for run in space.runs(0, u64::MAX) {
            let gaps = copy(space, &run, &mut file, &mut buffer, &progress)?;
            first_gap = first_gap.or(gaps.first);
            let (start, end) = (Address(run.start), Address(run.end()));
            rows.push(Row { start, end, size: ByteSize(run.len), missing: ByteSize(gaps.missing) });
        }
        if let Some((at, fault)) = first_gap {
            session
                .notes
                .partial(format!("unreadable memory is zeros in the copy, first at {at:#x}: {fault}"));
        }
        file.commit()?;
        rows.into_iter().try_for_each(|row| out.push(row))
    }
}

/// Copies one run and returns what could not be read.
fn copy(
    space: &dyn AddressSpace,
    run: &memory::Run,
    file: &mut OutputFile,
    buffer: &mut [u8],
    progress: &Progress,
) -> Result<Gaps, Error> {
    let mut all = Gaps::default();
    let mut at = run.start;
    while at < run.end() {
        let left = usize::try_from(run.end() - at).unwrap_or(usize::MAX);
        let Some(chunk) = buffer.get_mut(..left.min(CHUNK)) else { break };
        let gaps = space.read_padded(at, chunk);
        all.missing = all.missing.saturating_add(gaps.missing);
        all.first = all.first.or(gaps.first);
        let mut offset = at;
        for block in chunk.chunks(BLOCK) {
            if block.iter().any(|&byte| byte != 0) {
                file.seek(SeekFrom::Start(offset)).map_err(Error::output)?;
                file.write_all(block).map_err(Error::output)?;
            }
            offset = offset.saturating_add(block.len() as u64);
        }
        progress.add(chunk.len() as u64);
        at = offset;
    }
    Ok(all)
}
