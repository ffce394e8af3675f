//! `mcat`: writes the cached content of files.
//!
//! Takes a file's pages from the page cache (`inode.i_mapping`). Pages that are not in memory are zeros in the written file,
//! and reported: the content is complete only when every page of it was cached. File names are made of the path with `/`
//! replaced, never taken from the image as they are.
//!
//! Truth: files of the memory file systems of guests of 5.10, 6.1 and 6.12, byte by byte.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use object::walk::End;

use crate::dump_file::safe_name;
use crate::os::linux::page_cache::{Named, Place, each_file, is_below, pages};
use crate::os::linux::{Kernel, KernelFact};
use crate::plugin::prelude::*;
use crate::table::text_of;

/// The command.
pub struct Mcat;

/// Largest page of any processor, in bytes.
const MAX_PAGE: usize = 64 << 10;

/// Which files.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Files or directories; of a directory all files below it
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    /// Largest file that is written, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 30)]
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
        /// The file that was written.
        dump_name: Read<String>,
    }
}

impl Plugin for Mcat {
    const NAME: &'static str = "mcat";
    const SUMMARY: &'static str = "Write the cached content of files";
    const ACTIVE: Active = Active::Linux;
    type Args = Args;
    type Row = Row;

    fn collect(&self, session: &Session, args: &Args, out: &mut Rows<'_, Row>) -> Result<(), Error> {
        let kernel = session.fact::<KernelFact>()?;
        let mut found = false;
        each_file(session, |place, file| {
            let path = text_of(&file.path);
            if !args.paths.iter().any(|top| is_below(&path, top)) || file.inode.type_name() != Ok("REG") {
                return Ok(());
            }
            found = true;
            let size = file.inode.size().map(|size| size.0);
            let written = match &size {
                Ok(size) if *size > args.max_size => Err(Absent::NotApplicable("larger than --max_size")),
                Ok(size) => write(session, &kernel, &file, (place, &path), *size)?,
                Err(why) => Err(why.clone()),
            };
            out.push(Row {
                path,
                size: size.map(ByteSize),
                cached: written.clone().map(|(cached, _)| ByteSize(cached)),
                dump_name: written.map(|(_, name)| name),
            })
        })?;
        if found {
            return Ok(());
        }
        Err(Error::analysis(format!("no such file in memory: {}", args.paths.join(", ")))
            .with_hint("rekal mls lists the files whose names are in memory"))
    }
}

/// Writes one file; how many bytes were cached, and where it was written.
fn write(
    session: &Session,
    kernel: &Kernel,
    file: &Named<'_>,
    (place, path): (&Place, &str),
    size: u64,
) -> Result<Read<(u64, String)>, Error> {
    let pages = match pages(kernel, &file.inode) {
        Ok(pages) => pages,
        Err(why) => return Ok(Err(why)),
    };
    if pages.end != End::Complete {
        session.notes.walk(&format!("pages of {path}"), &pages.end);
    }
    // Two paths may flatten to one name; the inode tells them apart, and those of two namespaces the namespace.
    let inode = file.inode.ino().map_or(0, |ino| ino.0);
    let mut name = format!("file.{}.{inode}", safe_name(path.trim_start_matches('/').as_bytes()));
    if !place.is_common {
        name.push_str(&format!(".{}", place.namespace.clone().unwrap_or(0)));
    }
    let mut output = session.create_file(Path::new(&name))?;
    output.set_len(size).map_err(Error::output)?;
    let mut handle = output.handle().map_err(Error::output)?;
    let mut cached = 0;
    let page_size = kernel.page_size();
    for (&number, &physical) in &pages.physical {
        let Some(start) = number.checked_mul(page_size).filter(|start| *start < size) else { continue };
        let len = page_size.min(size - start);
        let Ok(bytes) = kernel.physical().read_vec(physical, len, MAX_PAGE) else { continue };
        handle.seek(SeekFrom::Start(start)).and_then(|_| handle.write_all(&bytes)).map_err(Error::output)?;
        cached += len;
    }
    if cached < size {
        session.notes.partial(format!(
            "{path}: {} of {size} bytes are not in memory and zeros in the copy",
            size - cached
        ));
    }
    output.flush().map_err(Error::output)?;
    let name = output.path().display().to_string();
    output.commit()?;
    Ok(Ok((cached, name)))
}
