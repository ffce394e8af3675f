//! Which operating system an image runs.
//!
//! The cheapest evidence decides which system is looked for first; only a kernel that was identified in full counts. So
//! the order costs time, never truth.

use std::sync::Arc;

use memory::AddressSpace;
use object::{Target, Types};
use profile::Profile;

use super::{linux, windows};
use crate::diagnosis;
use crate::error::{Error, ErrorKind};
use crate::session::{Fact, Session};

/// An operating system that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum System {
    /// Linux.
    Linux,
    /// Windows of the NT line.
    Windows,
}

impl System {
    /// The name shown to users.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Linux => "Linux",
            Self::Windows => "Windows",
        }
    }
}

/// The system of the session's image.
pub struct SystemFact;

impl Fact for SystemFact {
    type Value = System;
    const NAME: &'static str = "operating system";

    fn compute(session: &Session) -> Result<System, Error> {
        let order = order(session)?;
        let mut failures = Vec::new();
        for system in order {
            let found = match system {
                System::Linux => session.fact::<linux::KernelFact>().map(drop),
                System::Windows => session.fact::<windows::KernelFact>().map(drop),
            };
            match found {
                Ok(()) => return Ok(system),
                // What is wrong with the command line or the file is so for every system.
                Err(error) if error.kind() != ErrorKind::Identify => return Err(error),
                Err(error) => failures.push(error),
            }
        }
        Err(diagnosis::neither(&failures))
    }
}

/// The systems, the more likely one first.
fn order(session: &Session) -> Result<[System; 2], Error> {
    let (linux_first, windows_first) = ([System::Linux, System::Windows], [System::Windows, System::Linux]);
    let image = session.image()?;
    if let Some(name) = &session.config.profile
        && let Ok(loaded) = session.repositories()?.load(name)
    {
        return Ok(if windows::is_kernel(&loaded.profile) { windows_first } else { linux_first });
    }
    if image.hints.vmcoreinfo.is_some() {
        return Ok(linux_first);
    }
    // The one takes no time, the other ends early where there is a Linux.
    Ok(if windows::looks_like(image) || !linux::looks_like(image) { windows_first } else { linux_first })
}

/// The kernel of an image, whatever its system.
pub enum Kernel {
    /// Of Linux.
    Linux(Arc<linux::Kernel>),
    /// Of Windows.
    Windows(Arc<windows::Kernel>),
}

impl Kernel {
    /// The kernel of the session's image.
    pub fn of(session: &Session) -> Result<Self, Error> {
        Ok(match *session.fact::<SystemFact>()? {
            System::Linux => Self::Linux(session.fact::<linux::KernelFact>()?),
            System::Windows => Self::Windows(session.fact::<windows::KernelFact>()?),
        })
    }

    /// Types over the kernel's address space.
    #[must_use]
    pub fn target(&self) -> &Target {
        match self {
            Self::Linux(kernel) => kernel.target(),
            Self::Windows(kernel) => kernel.target(),
        }
    }

    /// Physical memory.
    #[must_use]
    pub fn physical(&self) -> &Arc<dyn AddressSpace> {
        match self {
            Self::Linux(kernel) => kernel.physical(),
            Self::Windows(kernel) => kernel.physical(),
        }
    }

    /// Name of the paging mode.
    #[must_use]
    pub fn paging_name(&self) -> &'static str {
        match self {
            Self::Linux(kernel) => kernel.paging().name,
            Self::Windows(kernel) => kernel.paging().name,
        }
    }

    /// Physical address of the kernel's page table root.
    #[must_use]
    pub fn dtb(&self) -> u64 {
        match self {
            Self::Linux(kernel) => kernel.dtb(),
            Self::Windows(kernel) => kernel.dtb(),
        }
    }

    /// Name of the profile in use and the repository or file it came from.
    #[must_use]
    pub fn profile(&self) -> (&str, &str) {
        match self {
            Self::Linux(kernel) => (kernel.profile_name(), kernel.profile_source()),
            Self::Windows(kernel) => (kernel.profile_name(), kernel.profile_source()),
        }
    }

    /// How the kernel was identified, decision by decision.
    #[must_use]
    pub fn decisions(&self) -> &[String] {
        match self {
            Self::Linux(kernel) => kernel.decisions(),
            Self::Windows(kernel) => kernel.decisions(),
        }
    }
}

/// Types of a profile, without memory.
#[must_use]
pub fn types(profile: Arc<Profile>) -> Types {
    if windows::is_kernel(&profile) { windows::types(profile) } else { linux::types(profile) }
}
