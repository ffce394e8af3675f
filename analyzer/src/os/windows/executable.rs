//! Executables in memory, written back as files: what the commands that dump them have in common.

use std::sync::Arc;

use memory::AddressSpace;
use object::Read;

use super::process::{Peb, Process};
use super::{Kernel, processes};
use crate::dump_file::DumpArgs;
use crate::error::Error;
use crate::pe::Pe;
use crate::session::Session;
use crate::table::ByteSize;

/// Longest file that is made, in bytes; the largest libraries have a few hundred MB.
const MAX_FILE: u64 = 1 << 30;

/// An executable that was written.
#[derive(Debug, Clone)]
pub struct Dumped {
    /// The file.
    pub file: String,
    /// Its length.
    pub size: ByteSize,
    /// Bytes of it that could not be read and are zeros.
    pub missing: ByteSize,
}

/// Writes the executable that is mapped at `base` as a file of this name; a reason where there is none. What is missing is noted
/// of `what`.
pub fn dump(
    session: &Session,
    to: &DumpArgs,
    space: &Arc<dyn AddressSpace>,
    base: u64,
    name: &str,
    what: &str,
) -> Result<Read<Dumped>, Error> {
    let pe = match Pe::mapped(space, base) {
        Ok(pe) => pe,
        Err(why) => {
            session.notes.partial(format!("{what} at {base:#x} cannot be dumped: {why}"));
            return Ok(Err(why));
        }
    };
    let mut file = to.create(session, name)?;
    let rebuilt = file.fill(|output, most| {
        let rebuilt = pe.rebuild(output, most.min(MAX_FILE))?;
        Ok((rebuilt.len, rebuilt))
    })?;
    if let Some(why) = &pe.headers().sections.cut {
        session.notes.partial(format!("sections of {what} at {base:#x} are missing: {why}"));
    }
    let missing = rebuilt.losses.iter().map(|loss| loss.missing).fold(0, u64::saturating_add);
    if let Some(first) = rebuilt.losses.first() {
        session.notes.partial(format!(
            "{missing} of {} bytes of {what} at {base:#x} are zeros in the file, first in {}: {}",
            rebuilt.len, first.part, first.why
        ));
    }
    Ok(Ok(Dumped { file: file.commit(session)?, size: ByteSize(rebuilt.len), missing: ByteSize(missing) }))
}

/// Where the executable of a process is mapped: as the process knows it, else as the kernel does. Where they differ, somebody
/// put another program in place of the one that was started; that is noted. `user` is its memory.
pub fn image_base(session: &Session, process: &Process<'_>, user: &object::Target) -> Read<u64> {
    let kernel = process.section_base().and_then(|base| base.non_null("no executable"));
    let peb = process.peb().and_then(|peb| peb.non_null("no environment block"));
    let own = peb.and_then(|peb| Peb::at(user, peb).image_base()?.non_null("no executable"));
    match (own, kernel) {
        (Ok(own), Ok(kernel)) => {
            if own != kernel {
                session.notes.info(format!(
                    "{} says its executable is at {own:#x}, the kernel says {kernel:#x}",
                    process.describe()
                ));
            }
            Ok(own)
        }
        (Ok(base), Err(_)) | (Err(_), Ok(base)) => Ok(base),
        (Err(why), Err(_)) => Err(why),
    }
}

/// A space in which kernel memory can be read at `base`: the kernel's own, or for drivers of the graphical subsystem that of a
/// process of a session. Reading is then up to the caller: where no space has it, it is the kernel's.
pub fn space_of(session: &Session, kernel: &Kernel, base: u64) -> Result<Arc<dyn AddressSpace>, Error> {
    let own = kernel.target().shared_space();
    if own.read_u16(base).is_ok() {
        return Ok(Arc::clone(own));
    }
    for process in processes(session, kernel)? {
        // Only the first process of each session would be needed, but the first that has the page ends the search.
        if process.session().is_ok_and(|session| session.0 != 0)
            && let Ok(user) = process.user_target(kernel)
            && user.space().read_u16(base).is_ok()
        {
            return Ok(Arc::clone(user.shared_space()));
        }
    }
    Ok(Arc::clone(own))
}
