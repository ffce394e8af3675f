//! `recover_fs`: the cached content of all files as a tar archive.
//!
//! Takes every regular file that `mls` lists and that has pages in memory, with its path, owner, permissions and time of
//! change. Missing pages are zeros: compare the columns. Paths are relative and have no `..`; links and devices are left out.
//! Truth: `tar` unpacks the archive, and files of the memory file systems of guests equal what the guests reported.

use std::collections::HashSet;
use std::path::PathBuf;

use object::walk::End;

use crate::os::linux::page_cache::{Content, Named, Stat, each_file, is_below, pages};
use crate::os::linux::{Kernel, KernelFact};
use crate::output::OutputFile;
use crate::plugin::prelude::*;
use crate::table::text_of;

/// The command.
pub struct RecoverFs;

/// How much the archive may hold, as a multiple of the memory there is: holes count.
const MAX_FOLD: u64 = 8;

/// Options.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The archive to write
    #[arg(value_name = "FILE")]
    archive: PathBuf,
    /// Only what is at this path or below it
    #[arg(value_name = "PATH")]
    path: Option<String>,
    /// Largest file that is taken, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    max_size: u64,
}

row! {
    pub struct Row {
        /// Path of the file.
        path: String,
        /// Its length in bytes.
        size: Read<ByteSize>,
        /// Bytes of it that were in memory.
        cached: Read<ByteSize>,
        /// Its name in the archive.
        member: Read<String>,
    }
}

type Archive = tar::Builder<OutputFile>;

impl Plugin for RecoverFs {
    const NAME: &'static str = "recover_fs";
    const SUMMARY: &'static str = "Write the cached content of all files to a tar archive";
    const ACTIVE: Active = Active::Linux;
    const WRITES: bool = true;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let total = kernel.physical().runs(0, u64::MAX).map(|run| run.len).fold(0, u64::saturating_add);
        let mut left = total.saturating_mul(MAX_FOLD);
        let mut archive = tar::Builder::new(session.create_file(&args.archive)?);
        let top = args.path.as_deref().unwrap_or("/");
        let mut taken = HashSet::new();
        each_file(session, |_, file| {
            let path = text_of(&file.path);
            if !is_below(&path, top) || file.inode.type_name() != Ok("REG") {
                return Ok(());
            }
            let size = file.inode.size().map(|size| size.0);
            let member = member(&file.path);
            let written = match size.clone() {
                Ok(size) if size > args.max_size => Err(Absent::NotApplicable("larger than --max_size")),
                Ok(size) if size > left => Err(Absent::NotApplicable("the archive is larger than its limit")),
                Ok(_) if !taken.insert(member.clone()) => Err(Absent::NotApplicable("a name that is taken")),
                Ok(size) => append(session, &kernel, &mut archive, &file, (&member, size))?,
                Err(why) => Err(why),
            };
            if written == Ok(None) {
                return Ok(());
            }
            if let (Ok(size), Ok(Some(_))) = (&size, &written) {
                left = left.saturating_sub(*size);
            }
            out.push(Row {
                path,
                size: size.map(ByteSize),
                cached: written.clone().map(|cached| ByteSize(cached.unwrap_or(0))),
                member: written.map(|_| text_of(member.as_bytes())),
            })
        })?;
        archive.into_inner().map_err(Error::output)?.commit()
    }
}

/// Adds a file; how many bytes of it were in memory. `None` for one that has bytes but none in memory.
fn append(
    session: &Session,
    kernel: &Kernel,
    archive: &mut Archive,
    file: &Named<'_>,
    (member, size): (&str, u64),
) -> Result<Read<Option<u64>>, Error> {
    let pages = match pages(kernel, &file.inode) {
        Ok(pages) => pages,
        Err(why) => return Ok(Err(why)),
    };
    if pages.end != End::Complete {
        session.notes.walk(&format!("pages of {member}"), &pages.end);
    }
    if size > 0 && !pages.physical.keys().any(|number| number.saturating_mul(kernel.page_size()) < size) {
        return Ok(Ok(None));
    }
    let stat = Stat::at(file.inode.target(), file.inode.addr());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(file.inode.mode().map_or(0o600, |mode| u32::from(mode) & 0o777));
    header.set_uid(stat.uid().unwrap_or(0).into());
    header.set_gid(stat.gid().unwrap_or(0).into());
    header.set_mtime(stat.modified().ok().and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0));
    let mut content = Content::new(kernel, pages, size);
    archive.append_data(&mut header, member, &mut content).map_err(Error::output)?;
    let cached = content.cached();
    if cached < size {
        session
            .notes
            .partial(format!("{member}: {} of {size} bytes are zeros in the archive", size - cached));
    }
    Ok(Ok(Some(cached)))
}

/// A path that stays below the place where the archive is unpacked: no root, no `.` and `..`, no control characters.
fn member(path: &[u8]) -> String {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(part, [] | [b'.'] | [b'.', b'.']));
    let text: Vec<String> = parts.map(text_of).collect();
    text.join("/").chars().map(|c| if c.is_control() || c == '\\' { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_cannot_leave_the_place_of_unpacking() {
        assert_eq!(member(b"/etc/passwd"), "etc/passwd");
        assert_eq!(member(b"/../a/./../b\n\xff//c"), "a/b__xff/c");
    }
}
