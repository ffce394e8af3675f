//! Command lines: what a process's own memory says it was started with.
//!
//! Programs may write there (`setproctitle`), so this is evidence of what the process wants to be seen as.

use memory::AddressSpace;
use object::{Absent, Read, Uint};

use super::Kernel;
use super::mm::Mm;
use super::task::Task;

/// Longest command line that is read, in bytes. The kernel allows 6 MiB.
const MAX_BYTES: u64 = 1 << 20;
const PAGE_SIZE: u64 = 4096;

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// The bytes of `/proc/PID/cmdline`: arguments, each ended by a NUL unless the process wrote over it.
    pub bytes: Vec<u8>,
    /// Why the end is missing, if it is.
    pub cut: Option<String>,
}

impl CommandLine {
    /// The arguments.
    pub fn arguments(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = self.bytes.strip_suffix(&[0]).unwrap_or(&self.bytes);
        bytes.split(|byte| *byte == 0).filter(|_| !self.bytes.is_empty())
    }
}

/// The command line of a process, as the kernel shows it (`get_mm_cmdline` of fs/proc/base.c, from v4.18).
///
/// Not applicable to tasks without a user address space.
pub fn command_line(kernel: &Kernel, task: &Task<'_>) -> Read<CommandLine> {
    let mm = Mm::at(task.target(), task.mm()?.non_null("no user address space")?);
    let user = task.user_target(kernel)?;
    let (Uint(start), Uint(end)) = (mm.arg_start()?, mm.arg_end()?);
    let (Uint(env_start), Uint(env_end)) = (mm.env_start()?, mm.env_end()?);
    if start >= end {
        return Ok(CommandLine { bytes: Vec::new(), cut: None });
    }
    // A process that overwrote the NUL of its last argument has set a title: one string, which may go on into the
    // environment where that follows directly; at most a page of it.
    let last = user.space().read_u8(end.wrapping_sub(1)).unwrap_or(0);
    if last != 0 {
        let limit = if env_start == end && env_end >= env_start { env_end } else { end };
        let mut title = read(user.space(), start, limit.wrapping_sub(start).min(PAGE_SIZE))?;
        if let Some(nul) = title.bytes.iter().position(|byte| *byte == 0) {
            title.bytes.truncate(nul.saturating_add(1));
            title.cut = None;
        }
        return Ok(title);
    }
    let length = end.wrapping_sub(start);
    let mut line = read(user.space(), start, length.min(MAX_BYTES))?;
    if length > MAX_BYTES && line.cut.is_none() {
        line.cut = Some(format!("only {MAX_BYTES} of {length} bytes are shown"));
    }
    Ok(line)
}

/// Reads `length` bytes, or those before the first page that cannot be read; an error if that is the first.
fn read(space: &dyn AddressSpace, start: u64, length: u64) -> Read<CommandLine> {
    let mut bytes = Vec::new();
    let end = start.saturating_add(length);
    let mut at = start;
    while at < end {
        let next = (at | (PAGE_SIZE - 1)).saturating_add(1).min(end);
        match space.read_vec(at, next.wrapping_sub(at), PAGE_SIZE as usize) {
            Ok(page) => bytes.extend(page),
            Err(fault) if bytes.is_empty() => return Err(Absent::Unreadable { addr: at, fault }),
            Err(fault) => {
                return Ok(CommandLine { bytes, cut: Some(format!("the rest is unreadable: {fault}")) });
            }
        }
        at = next;
    }
    Ok(CommandLine { bytes, cut: None })
}
