//! Command lines: what a process's own memory says it was started with.
//!
//! Programs may write there (`setproctitle`), so this is evidence of what the process wants to be seen as.

use memory::AddressSpace;
use object::{Absent, Read};

use super::Kernel;
use super::mm;
use super::task::Task;

/// Longest command line that is read, in bytes. The kernel allows 6 MiB.
const MAX_BYTES: u64 = 1 << 20;
const PAGE_BYTES: usize = 4096;
const PAGE_SIZE: u64 = PAGE_BYTES as u64;

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
    let mm = mm::of_task(task)?;
    let user = task.user_target(kernel)?;
    let bounds = Bounds {
        start: mm.arg_start()?.0,
        end: mm.arg_end()?.0,
        env_start: mm.env_start()?.0,
        env_end: mm.env_end()?.0,
    };
    command_line_in(user.space(), &bounds)
}

/// Where arguments and environment lie in a process; ends are exclusive.
struct Bounds {
    start: u64,
    end: u64,
    env_start: u64,
    env_end: u64,
}

/// The environment of a process, as `/proc/PID/environ` shows it (`environ_read` of fs/proc/base.c).
///
/// Not applicable to tasks without a user address space.
pub fn environment(kernel: &Kernel, task: &Task<'_>) -> Read<CommandLine> {
    let mm = mm::of_task(task)?;
    let user = task.user_target(kernel)?;
    let (start, end) = (mm.env_start()?.0, mm.env_end()?.0);
    if start == 0 || start >= end {
        return Ok(CommandLine { bytes: Vec::new(), cut: None });
    }
    read(user.space(), start, end.wrapping_sub(start).min(MAX_BYTES))
}

fn command_line_in(space: &dyn AddressSpace, bounds: &Bounds) -> Read<CommandLine> {
    let &Bounds { start, end, env_start, env_end } = bounds;
    if start >= end {
        return Ok(CommandLine { bytes: Vec::new(), cut: None });
    }
    // A process that overwrote the NUL of its last argument has set a title: one string, which may go on into the
    // environment where that follows directly; at most a page of it.
    let last = space.read_u8(end.wrapping_sub(1)).unwrap_or(0);
    if last != 0 {
        let limit = if env_start == end && env_end >= env_start { env_end } else { end };
        let mut title = read(space, start, limit.wrapping_sub(start).min(PAGE_SIZE))?;
        if let Some(nul) = title.bytes.iter().position(|byte| *byte == 0) {
            title.bytes.truncate(nul.saturating_add(1));
            title.cut = None;
        }
        return Ok(title);
    }
    let length = end.wrapping_sub(start);
    let mut line = read(space, start, length.min(MAX_BYTES))?;
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
        match space.read_vec(at, next.wrapping_sub(at), PAGE_BYTES) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::linux::testkit::Memory;

    fn line(bytes: &[u8]) -> Vec<String> {
        let line = CommandLine { bytes: bytes.to_vec(), cut: None };
        line.arguments().map(|argument| String::from_utf8_lossy(argument).into_owned()).collect()
    }

    /// Start of the arguments; the page before and those from 0x5000 on are missing.
    const START: u64 = 0x2ff8;

    fn lines(args: &[u8], env: &[u8], arg_end: u64, env_start: u64, env_end: u64) -> Read<CommandLine> {
        let mut memory = Memory::default();
        memory.bytes(START, args).bytes(START + args.len() as u64, env).word(0x3ff8, 0).word(0x4ff8, 0);
        let area = Bounds { start: START, end: arg_end, env_start, env_end };
        command_line_in(memory.target("{}", &[]).space(), &area)
    }

    #[test]
    fn arguments_are_split_at_their_nuls() {
        assert_eq!(line(b"sh\0-c\0\0"), ["sh", "-c", ""]);
        assert_eq!(line(b"a b"), ["a b"]);
        assert_eq!(line(b"\0"), [""]);
        assert!(line(b"").is_empty());
    }

    #[test]
    fn a_line_is_its_arguments_across_pages() {
        let end = START + 14;
        let line = lines(b"sleep\0eleven\0x", b"", end - 1, end, end).expect("readable");
        assert_eq!(line, CommandLine { bytes: b"sleep\0eleven\0".to_vec(), cut: None });
    }

    #[test]
    fn a_title_goes_on_into_the_environment_up_to_its_nul() {
        let end = START + 8;
        let line = lines(b"nginx: m", b"aster\0HOME=/\0", end, end, end + 13).expect("readable");
        assert_eq!(line.bytes, b"nginx: master\0");
        // Not where the environment is elsewhere.
        let line = lines(b"nginx: m", b"aster\0HOME=/\0", end, end + 1, end + 13).expect("readable");
        assert_eq!(line.bytes, b"nginx: m");
    }

    #[test]
    fn torn_and_endless_lines_are_cut_with_a_reason() {
        let torn = lines(b"a\0", b"", u64::MAX, 0, 0).expect("starts");
        assert_eq!(torn.bytes.len() as u64, 0x5000 - START);
        assert!(torn.cut.is_some());
        assert!(
            matches!(lines(b"a\0", b"", START - 4, 0, 0), Ok(CommandLine { bytes, .. }) if bytes.is_empty())
        );
    }
}
