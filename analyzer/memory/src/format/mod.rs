//! Image formats: a static table, one file each. Every format is told by content, never by a file name.
//!
//! To add one: a file with `probe` and `open`, and a line in [`FORMATS`] before `raw`.

use crate::image::{Failure, Hints, Limits, Refusal};
use crate::{AddressSpace, Fault};
use std::sync::Arc;

mod avml;
mod elf_core;
mod flattened;
mod kdump;
mod lime;
mod notes;
mod raw;
mod wrapper;

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
    /// What the container tells beside the bytes.
    pub hints: Hints,
    /// What is wrong though it opened.
    pub warnings: Vec<String>,
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

/// Looks at the first bytes of a layer (up to 4096) and says why the format does not apply.
pub type Probe = fn(head: &[u8]) -> Result<(), &'static str>;

/// Stacks the format on a layer whose first bytes are `head`.
pub type Open = fn(base: &Arc<dyn AddressSpace>, head: &[u8], limits: &Limits) -> Result<Opened, Refused>;

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
    Format { name: "flattened", yields: Yields::File, probe: flattened::probe, open: flattened::open },
    Format { name: "ELF core", yields: Yields::Memory, probe: elf_core::probe, open: elf_core::open },
    Format { name: "kdump", yields: Yields::Memory, probe: kdump::probe, open: kdump::open },
    Format { name: "LiME", yields: Yields::Memory, probe: lime::probe, open: lime::open },
    Format { name: "AVML", yields: Yields::Memory, probe: avml::probe, open: avml::open },
    Format { name: "raw", yields: Yields::Memory, probe: raw::probe, open: raw::open },
];

/// A probe for a fixed signature at offset 0.
fn expect_magic(head: &[u8], magic: &[u8], reason: &'static str) -> Result<(), &'static str> {
    if head.starts_with(magic) { Ok(()) } else { Err(reason) }
}
