//! A profile of the kernel in a memory image, from what that kernel keeps in its own memory.
//!
//! Where these parts are found is not told here: see `analyzer/src/os/linux/carve.rs`. The result is an ordinary profile.

use profile::Document;
use profile::names::BuildId;

use crate::draft::{Draft, sha256};
use crate::elf::Arch;
use crate::kallsyms::Kallsyms;
use crate::linux::btf_types;
use crate::types::merge::Merger;
use crate::{ConvertError, Converted, LinuxOptions};

/// What of a kernel was found in a memory image.
#[derive(Debug, Clone, Copy)]
pub struct ImageParts<'p> {
    /// The BTF of the kernel.
    pub btf: &'p [u8],
    /// Its symbols, at their run-time addresses.
    pub kallsyms: &'p Kallsyms,
    /// Whether they were already taken back to where the kernel was linked.
    pub linked: bool,
    /// Its banner, `Linux version ...`.
    pub banner: Option<&'p str>,
    /// Its GNU build-id.
    pub build_id: Option<&'p BuildId>,
}

/// Makes a profile of the parts.
///
/// # Errors
/// [`ConvertError::Btf`] when the bytes are not the BTF of a kernel.
pub fn convert_image(parts: &ImageParts<'_>, options: &LinuxOptions) -> Result<Converted, ConvertError> {
    let mut draft = btf_types(parts.btf, "BTF in memory", None)?;
    draft.source("BTF in memory", sha256(parts.btf));
    if parts.linked {
        draft.symbols(&parts.kallsyms.list().symbols);
    } else {
        draft.symbol_list("kallsyms in memory", &parts.kallsyms.list());
    }
    if parts.kallsyms.lost > 0 {
        draft.warn(format!("kallsyms in memory: {} symbols cannot be read", parts.kallsyms.lost));
    }
    if let Some(banner) = parts.banner {
        draft.banner(banner);
    }
    if let Some(id) = parts.build_id {
        draft.build_id(id);
    }
    Ok(draft.finish(options))
}

/// Gives the profile of a kernel near to that of an x86-64 image, which keeps no types, the symbols of the image. What named the other
/// kernel is taken away: build-id, banner and release.
pub fn take_symbols(document: &mut Document, kallsyms: &Kallsyms) {
    let mut draft = Draft::new(Arch::Amd64, &Merger::new().finish(&[]));
    draft.symbol_list("kallsyms in memory", &kallsyms.list());
    document.constants = draft.into_constants();
    document.functions.clear();
    for key in ["BuildID", "Banner", "Release"] {
        document.metadata.remove(key);
    }
}
