//! The `--address_space` argument: which bytes an address means.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use memory::AddressSpace;
use object::Target;

use super::linux;
use super::linux::task::{self, processes};
use super::system::Kernel;
use super::windows;
use crate::error::Error;
use crate::session::{Fact, Session};

/// An address space by name: `K`, `P` or `pid@N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpaceName {
    /// The kernel's virtual memory.
    Kernel,
    /// Physical memory.
    Physical,
    /// Virtual memory of a process.
    Process(i32),
}

impl FromStr for SpaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        match lower.as_str() {
            "k" | "kernel" => return Ok(Self::Kernel),
            "p" | "physical" => return Ok(Self::Physical),
            _ => {}
        }
        let pid = lower.strip_prefix("pid@").and_then(|pid| pid.parse().ok()).filter(|pid| *pid > 0);
        pid.map(Self::Process).ok_or_else(|| format!("not an address space (use K, P or pid@N): {text}"))
    }
}

impl fmt::Display for SpaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("K"),
            Self::Physical => f.write_str("P"),
            Self::Process(pid) => write!(f, "pid@{pid}"),
        }
    }
}

/// The option, for commands to flatten into theirs.
#[derive(Debug, Clone, clap::Args)]
pub struct SpaceArg {
    /// What addresses mean: K (kernel), P (physical memory) or pid@N (a process)
    ///
    /// [default: what `cc` chose, else K]
    #[arg(long = "address_space", value_name = "SPACE")]
    pub address_space: Option<SpaceName>,
}

impl SpaceArg {
    /// The address space that is meant.
    #[must_use]
    pub fn name(&self, session: &Session) -> SpaceName {
        let context = || session.context().map_or(SpaceName::Kernel, SpaceName::Process);
        self.address_space.unwrap_or_else(context)
    }
}

/// Physical memory by its addresses. It needs no kernel, so it is there for any image; only the raw dump of a machine whose RAM does
/// not begin at 0 has no addresses of its own, and those of its kernel are taken where that is found.
struct PhysicalFact;

impl Fact for PhysicalFact {
    type Value = Arc<dyn AddressSpace>;
    const NAME: &'static str = "physical memory";

    fn compute(session: &Session) -> Result<Self::Value, Error> {
        let image = session.image()?;
        // The first takes no time, the other ends early where there is a Linux.
        let may_begin_anywhere = !windows::looks_like(image) && linux::may_begin_anywhere(image);
        let kernel = if may_begin_anywhere { Kernel::of(session).ok() } else { None };
        Ok(Arc::clone(kernel.as_ref().map_or(&image.space, Kernel::physical)))
    }
}

impl SpaceName {
    /// The address space.
    pub fn open(self, session: &Session) -> Result<Arc<dyn AddressSpace>, Error> {
        match self {
            Self::Physical => Ok(Arc::clone(&*session.fact::<PhysicalFact>()?)),
            Self::Kernel | Self::Process(_) => Ok(Arc::clone(self.target(session)?.shared_space())),
        }
    }

    /// The kernel's types over the address space.
    pub fn target(self, session: &Session) -> Result<Target, Error> {
        let kernel = Kernel::of(session)?;
        match (self, &kernel) {
            (Self::Kernel, _) => Ok(kernel.target().clone()),
            (Self::Physical, _) => Ok(kernel.target().with_space(Arc::clone(kernel.physical()))),
            (Self::Process(pid), Kernel::Linux(kernel)) => {
                let tasks = processes(session, kernel)?;
                let task = tasks.iter().find(|task| task.pid() == Ok(pid)).ok_or_else(|| no_process(pid))?;
                task.user_target(kernel).map_err(|why| {
                    Error::analysis(format!("cannot use the memory of {}: {why}", task::describe(task)))
                })
            }
            (Self::Process(pid), Kernel::Windows(kernel)) => {
                let wanted = u64::try_from(pid).unwrap_or(0);
                let processes = windows::processes(session, kernel)?;
                let found = processes.iter().find(|process| process.pid() == Ok(wanted));
                let process = found.ok_or_else(|| no_process(pid))?;
                process.user_target(kernel).map_err(|why| {
                    Error::analysis(format!("cannot use the memory of {}: {why}", process.describe()))
                })
            }
        }
    }

    /// Whether the kernel's symbols have a meaning in it.
    #[must_use]
    pub fn is_virtual(self) -> bool {
        self != Self::Physical
    }
}

fn no_process(pid: i32) -> Error {
    Error::usage(format!("no process has this pid: {pid}")).with_hint("rekal pslist lists them")
}

#[cfg(test)]
mod tests {
    use super::SpaceName::{self, Kernel, Physical, Process};

    #[test]
    fn names_are_those_of_the_help_in_any_case() {
        let parse = |text: &str| text.parse::<SpaceName>();
        for (text, space) in [
            ("K", Kernel),
            ("kernel", Kernel),
            ("P", Physical),
            ("Physical", Physical),
            ("pid@1", Process(1)),
            ("PID@4194303", Process(4_194_303)),
        ] {
            assert_eq!(parse(text), Ok(space), "{text}");
        }
        for text in ["", "pid", "pid@", "pid@-1", "pid@0", "pid@99999999999", "Q", "k "] {
            assert!(parse(text).is_err(), "{text}");
        }
        for space in [Kernel, Physical, Process(7)] {
            assert_eq!(parse(&space.to_string()), Ok(space));
        }
    }
}
