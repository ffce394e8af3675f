//! Modules: images in the lists of the kernel's and the processes' loaders.

use crate::system::Pdb;

/// One module of a process or of the kernel.
#[derive(Debug, Clone, Default)]
pub struct Module {
    /// Full path.
    pub path: String,
    /// Address.
    pub base: u64,
    /// Bytes of the mapped image.
    pub size: u64,
    /// Address of its entry point.
    pub entry: u64,
    /// Load count.
    pub load_count: u16,
    /// Time stamp in its header, seconds since 1970.
    pub timestamp: u32,
    /// When it was loaded, where the system keeps that: 100 ns since 1601.
    pub loaded: u64,
    /// Listed among the 32-bit modules of a WoW64 process.
    pub wow64: bool,
    /// In no list: a hidden module.
    pub unlinked: bool,
    /// Debug file named in its headers.
    pub pdb: Option<Pdb>,
}

impl Module {
    /// A module at an address.
    pub fn new(path: &str, base: u64, size: u64) -> Self {
        Self {
            path: path.to_owned(),
            base,
            size,
            entry: base + 0x1000,
            load_count: 1,
            timestamp: 0x4A5B_DF00,
            ..Self::default()
        }
    }

    /// Last component of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('\\').next().unwrap_or(&self.path)
    }
}
