//! Symbols in, profile documents out.
//!
//! [`convert_linux`] takes what a Linux kernel's symbols come as and returns the profile with a report about its
//! fitness: the classic zip of a module with debug information and `System.map`, a `vmlinux` with DWARF, or BTF.
//! Inputs may be hostile; every parser is bounded by the size of its input. The same input gives the same
//! document on every machine and with any number of threads.

mod archive;
pub mod btf;
mod cabinet;
mod draft;
mod dwarf;
mod elf;
mod existing;
mod fitness;
mod image;
pub mod kallsyms;
pub mod ksymtab;
mod linux;
mod module;
mod needs;
pub mod pdb;
pub mod symbol_server;
pub mod symbols;
#[cfg(test)]
mod testkit;
mod types;
mod unpack;
pub mod worker;

use std::path::PathBuf;

pub use cabinet::{CabinetError, expand as expand_cabinet};
pub use dwarf::DwarfError;
pub use elf::ElfError;
pub use existing::read_document;
pub use fitness::{FitnessReport, Missing};
pub use image::{ImageParts, convert_image, take_symbols};
pub use linux::{LinuxOptions, build_id_in_notes, convert_linux, convert_linux_bytes};
pub use module::module_types;
pub use needs::plugins_that_use;

/// A finished conversion.
#[derive(Debug)]
pub struct Converted {
    /// The profile.
    pub document: profile::Document,
    /// What it holds and lacks; callers refuse to store it where [`FitnessReport::usable`] is false.
    pub report: FitnessReport,
}

/// Why a source cannot be converted. Each message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// A file or directory cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: std::io::Error,
    },
    /// Something is larger than any real input of its kind.
    #[error("{name} is larger than the limit of {} MB", limit >> 20)]
    TooLarge {
        /// File or archive member.
        name: String,
        /// Bytes.
        limit: u64,
    },
    /// The contents are none of the known kinds.
    #[error(
        "cannot recognise {name}: {what}; expected a zip or directory with module.ko or BTF and System.map, \
         a vmlinux with debug information, or BTF"
    )]
    Unrecognised {
        /// The file.
        name: String,
        /// What it is instead, as far as can be told.
        what: &'static str,
    },
    /// An archive is damaged.
    #[error("damaged zip archive: {0}")]
    Zip(String),
    /// A part is missing in an archive or directory.
    #[error("{name} holds no {missing}; found {found}")]
    MissingMember {
        /// The archive or directory.
        name: String,
        /// What was looked for.
        missing: &'static str,
        /// What there is.
        found: String,
    },
    /// The text dumps of old tool versions.
    #[error(
        "{0} is a text dump of dwarfdump, which is not supported: it loses information; \
         put the module itself (module.ko) into the archive instead"
    )]
    LegacyDwarfDump(String),
    /// An ELF file without type information.
    #[error(
        "{0} holds no debug information (neither DWARF nor BTF): it is stripped; use the vmlinux of the kernel's debug \
         package (linux-image-<release>-dbg, kernel-debuginfo, linux-image-unsigned-<release>-dbgsym)"
    )]
    NoDebugInfo(String),
    /// No symbol list, and the file has no symbol table of its own.
    #[error(
        "no symbol addresses for {0}: pass the kernel's System.map (or /proc/kallsyms, read as root) with --system_map"
    )]
    NoSymbols(String),
    /// Symbol list and kernel are of different builds.
    #[error(
        "{system_map} belongs to another kernel than {kernel}: {symbol} is at {listed:#x} in one and at {actual:#x} in the other"
    )]
    Mismatch {
        /// The symbol list.
        system_map: String,
        /// The kernel.
        kernel: String,
        /// A symbol they disagree about.
        symbol: &'static str,
        /// Address in the list.
        listed: u64,
        /// Address in the kernel.
        actual: u64,
    },
    /// JSON that is no profile, or a damaged one.
    #[error("{name}: {error}")]
    Document {
        /// The file.
        name: String,
        /// What is wrong.
        error: profile::ReadError,
    },
    /// A compressed part is damaged.
    #[error("cannot decompress {name}: {reason}")]
    Decompress {
        /// File or archive member.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// An ELF file is damaged or of an unknown processor.
    #[error("{name}: {error}")]
    Elf {
        /// File or archive member.
        name: String,
        /// What is wrong.
        error: ElfError,
    },
    /// DWARF is damaged.
    #[error("{name}: {error}")]
    Dwarf {
        /// File or archive member.
        name: String,
        /// What is wrong.
        error: DwarfError,
    },
    /// BTF is damaged.
    #[error("{name}: {error}")]
    Btf {
        /// File or archive member.
        name: String,
        /// What is wrong.
        error: btf::BtfError,
    },
    /// A symbol list is unusable.
    #[error("{name}: {error}")]
    Symbols {
        /// File or archive member.
        name: String,
        /// What is wrong.
        error: symbols::SymbolsError,
    },
}
