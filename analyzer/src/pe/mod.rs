//! Portable executables, in a file or as the loader laid them out in memory. Knows no operating system.
//!
//! ```text
//! file.exe ──► sections at their addresses ─┐
//!              (Pe::file)                   ├─► headers.rs ─► debug.rs, exports.rs, imports.rs, version.rs
//! mapped module, with holes ────────────────┘
//!              (Pe::mapped)
//! ```
//! Both layouts are read alike: a file is first seen through an address space that puts its sections where the loader
//! would. Every count and address of an executable is untrusted: lists are bounded and say why they end early
//! ([`Listing`]), addresses may not leave the module, and a value that cannot be read is [`Absent`] with its reason.
//!
//! Source of the layouts: Microsoft's "PE Format" specification; Windows SDK `winnt.h` for names and numbers.
//! Truth: `llvm-readobj` on executables made by clang and lld (`analyzer/tests/pe.rs`).

mod debug;
mod exports;
mod fields;
mod headers;
mod imports;
mod names;
mod reader;
mod rebuild;
mod resources;
pub mod rsds;
mod version;

use std::sync::Arc;

use memory::AddressSpace;
use object::{Absent, Read};

pub use debug::DebugEntry;
pub use exports::{Export, ExportTarget, Exports};
pub use headers::{Directory, DirectoryIndex, Headers, Section};
pub use imports::{BoundImport, ImportKind, ImportedBy, ImportedFunction, ImportedModule};
pub use rebuild::{Loss, Rebuilt};
pub use rsds::Rsds;
pub use version::{FixedVersion, VersionInfo, VersionString};

/// A list read from an executable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// What could be read.
    pub items: Vec<T>,
    /// Why there may be more; `None` for a list that was read to its end.
    pub cut: Option<Absent>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { items: Vec::new(), cut: None }
    }
}

/// An executable: program, library, driver or kernel.
#[derive(Clone)]
pub struct Pe {
    /// Where the module lies as the loader lays it out.
    space: Arc<dyn AddressSpace>,
    /// Address of the DOS header in `space`.
    base: u64,
    /// First relative address that is none of the module's.
    end: u64,
    /// The file, and where in it the executable begins; absent for a mapped module.
    file: Option<(Arc<dyn AddressSpace>, u64)>,
    headers: Headers,
}

impl Pe {
    /// The executable that begins at an offset of a file (0 for an executable file).
    ///
    /// # Errors
    /// Where the headers cannot be read or are none of an executable.
    pub fn file(file: &Arc<dyn AddressSpace>, offset: u64) -> Read<Self> {
        let headers = Headers::read(&**file, offset)?;
        let space = Arc::new(reader::as_loaded(file, offset, &headers));
        let end = space.end();
        Ok(Self { space, base: 0, end, file: Some((Arc::clone(file), offset)), headers })
    }

    /// The module that is mapped at an address of memory.
    ///
    /// # Errors
    /// Where the headers cannot be read or are none of an executable.
    pub fn mapped(space: &Arc<dyn AddressSpace>, base: u64) -> Read<Self> {
        let headers = Headers::read(&**space, base)?;
        let end = u64::from(headers.size_of_image);
        Ok(Self { space: Arc::clone(space), base, end, file: None, headers })
    }

    /// DOS and NT headers and the table of sections.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Whether it is read from a file, not from memory.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// The space the module lies in as loaded; for a file one whose address 0 is the first byte of the module.
    #[must_use]
    pub fn space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    /// Address of a relative address (RVA) in [`Pe::space`].
    #[must_use]
    pub fn address(&self, rva: u64) -> u64 {
        self.base.wrapping_add(rva)
    }

    /// Where a directory is, if the executable has one.
    fn directory(&self, index: DirectoryIndex) -> Read<Directory> {
        let directory = self.headers.directories.get(index as usize);
        let there = directory.filter(|directory| directory.rva != 0);
        there.copied().ok_or(Absent::NotApplicable("the executable has no such directory"))
    }
}
