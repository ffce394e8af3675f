//! Image formats: a static table, one file each. Every format is told by content, never by a file name.
//!
//! To add one: a file with `probe` and `open`, and a line in [`FORMATS`] before `raw`.

use crate::image::{Failure, Limits, Refusal};
use crate::{AddressSpace, Beside, Fault, Hints};
use std::sync::Arc;

pub(crate) mod aff4;
mod avml;
mod crash;
mod elf_core;
mod ewf;
mod flattened;
mod hiber;
mod hyperv;
mod kdump;
mod lime;
mod macho;
mod notes;
mod pmem;
mod qemu;
mod raw;
mod split;
mod vmware;
mod wrapper;
mod xen;

#[cfg(test)]
mod tests;

/// What the space a format makes is addressed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yields {
    /// Offsets of another file: the format is a wrapper and stacking goes on.
    File,
    /// Physical addresses: the image is open.
    Memory,
}

/// What opening a format gives.
pub struct Opened {
    /// The new top layer.
    pub space: Arc<dyn AddressSpace>,
    /// Memory that is stored by virtual address.
    pub virtual_space: Option<Arc<dyn AddressSpace>>,
    /// What the container tells beside the bytes.
    pub hints: Hints,
    /// What is wrong though it opened.
    pub warnings: Vec<String>,
    /// What the space is addressed by, where the format leaves that to the container.
    pub yields: Option<Yields>,
}

impl Opened {
    /// A space about which the container tells nothing more.
    pub(crate) fn new(space: Arc<dyn AddressSpace>) -> Self {
        Self { space, virtual_space: None, hints: Hints::default(), warnings: Vec::new(), yields: None }
    }

    /// Adds what the container tells.
    pub(crate) fn hints(self, hints: Hints) -> Self {
        Self { hints, ..self }
    }

    /// Adds what is wrong.
    pub(crate) fn warnings(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }
}

/// What a format is tried on.
pub struct Layer<'a> {
    /// The bytes.
    pub base: &'a Arc<dyn AddressSpace>,
    /// The first of them, up to 4096; unreadable pages are zeros.
    pub head: &'a [u8],
    /// The files next to the image; none above the file itself.
    pub beside: &'a Beside,
    /// Bounds on what opening may cost.
    pub limits: &'a Limits,
}

/// Why a format that recognised a layer cannot open it.
#[derive(Debug)]
pub enum Refused {
    /// It is damaged, or a variant that is not supported; the reason is lowercase without a full stop.
    Unusable(String),
    /// It is no memory image; what it is, with the article.
    Foreign(&'static str),
}

impl Refused {
    pub(crate) fn into_failure(self, format: &'static str, refusals: Vec<Refusal>) -> Failure {
        match self {
            Self::Unusable(reason) => Failure::Refused { format, reason, refusals },
            Self::Foreign(content) => Failure::NotAnImage { content, refusals },
        }
    }
}

impl From<Fault> for Refused {
    fn from(fault: Fault) -> Self {
        Self::Unusable(fault.to_string())
    }
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self::Unusable(reason)
    }
}

impl From<&str> for Refused {
    fn from(reason: &str) -> Self {
        Self::Unusable(reason.to_owned())
    }
}

/// Looks at a layer and says why the format does not apply. Cheap: every format is asked in every round.
pub type Probe = fn(layer: &Layer<'_>) -> Result<(), &'static str>;

/// Stacks the format on a layer that its probe accepted.
pub type Open = fn(layer: &Layer<'_>) -> Result<Opened, Refused>;

/// One image format.
pub struct Format {
    /// Name for people; unique.
    pub name: &'static str,
    /// What it makes.
    pub yields: Yields,
    /// Whether it applies.
    pub probe: Probe,
    /// How it opens.
    pub open: Open,
}

/// Every format, in the order in which they are tried. `raw` takes everything and is last.
pub static FORMATS: &[Format] = &[
    Format { name: "gzip", yields: Yields::File, probe: wrapper::probe_gzip, open: wrapper::open_gzip },
    Format { name: "xz", yields: Yields::File, probe: wrapper::probe_xz, open: wrapper::open_xz },
    Format { name: "zstd", yields: Yields::File, probe: wrapper::probe_zstd, open: wrapper::open_zstd },
    Format { name: "pieces", yields: Yields::File, probe: split::probe, open: split::open },
    Format { name: "EWF", yields: Yields::File, probe: ewf::probe, open: ewf::open },
    Format { name: "AFF4", yields: Yields::Memory, probe: aff4::probe, open: aff4::open },
    Format { name: "flattened", yields: Yields::File, probe: flattened::probe, open: flattened::open },
    Format { name: "ELF core", yields: Yields::Memory, probe: elf_core::probe, open: elf_core::open },
    Format { name: "Windows crash dump", yields: Yields::Memory, probe: crash::probe, open: crash::open },
    Format { name: "kdump", yields: Yields::Memory, probe: kdump::probe, open: kdump::open },
    Format { name: "LiME", yields: Yields::Memory, probe: lime::probe, open: lime::open },
    Format { name: "AVML", yields: Yields::Memory, probe: avml::probe, open: avml::open },
    Format { name: "hibernation file", yields: Yields::Memory, probe: hiber::probe, open: hiber::open },
    Format { name: "QEMU stream", yields: Yields::Memory, probe: qemu::probe, open: qemu::open },
    Format { name: "Hyper-V state", yields: Yields::Memory, probe: hyperv::probe, open: hyperv::open },
    Format { name: "Mach-O core", yields: Yields::Memory, probe: macho::probe, open: macho::open },
    Format {
        name: "VMware state",
        yields: Yields::Memory,
        probe: vmware::probe_state,
        open: vmware::open_state,
    },
    Format {
        name: "VMware memory",
        yields: Yields::Memory,
        probe: vmware::probe_memory,
        open: vmware::open_memory,
    },
    Format { name: "raw", yields: Yields::Memory, probe: raw::probe, open: raw::open },
];

/// A probe for a fixed signature at offset 0.
fn expect_magic(layer: &Layer<'_>, magic: &[u8], reason: &'static str) -> Result<(), &'static str> {
    if layer.head.starts_with(magic) { Ok(()) } else { Err(reason) }
}
