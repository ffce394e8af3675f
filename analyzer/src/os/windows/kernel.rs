//! The kernel of an image: its types, its address space, and where it is loaded.

use std::sync::Arc;

use memory::{AddressSpace, Paging, VirtualSpace};
use object::{DataModel, Target, Types};
use profile::Profile;

use super::paged::{Backing, PagedSpace};
use super::roots::{self, Version};
use super::{identify, overlay};
use crate::error::Error;
use crate::session::{Fact, Session};

/// Where a kernel stands in memory.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Paging mode.
    pub paging: &'static Paging,
    /// Physical address of the page table root of the process System.
    pub dtb: u64,
    /// Virtual address of the kernel's image.
    pub base: u64,
}

/// An identified Windows kernel.
pub struct Kernel {
    target: Target,
    space: Arc<PagedSpace>,
    backing: Arc<Backing>,
    physical: Arc<dyn AddressSpace>,
    layout: Layout,
    profile_name: String,
    profile_source: String,
    decisions: Vec<String>,
}

impl Kernel {
    /// Joins a profile with the place where it was found to fit.
    pub(super) fn new(
        session: &Session,
        profile: Arc<Profile>,
        physical: Arc<dyn AddressSpace>,
        layout: Layout,
        named: (String, String),
        decisions: Vec<String>,
    ) -> Self {
        Self::over(session, profile, physical, None, layout, named, decisions)
    }

    /// The same over memory that is stored by virtual address, without page tables.
    pub(super) fn over(
        session: &Session,
        profile: Arc<Profile>,
        physical: Arc<dyn AddressSpace>,
        stored: Option<Arc<dyn AddressSpace>>,
        layout: Layout,
        named: (String, String),
        decisions: Vec<String>,
    ) -> Self {
        let types = Arc::new(types(profile));
        let tables = VirtualSpace::new(Arc::clone(&physical), layout.paging, layout.dtb);
        let backing = Arc::new(Backing::new(session, &types, tables, layout));
        let tables = VirtualSpace::new(Arc::clone(&physical), layout.paging, layout.dtb);
        let space = Arc::new(PagedSpace::new(Arc::clone(&backing), tables, None));
        let seen = stored.unwrap_or_else(|| Arc::clone(&space) as Arc<dyn AddressSpace>);
        let target = Target::new(types, seen, layout.base, 0);
        let (profile_name, profile_source) = named;
        Self { target, space, backing, physical, layout, profile_name, profile_source, decisions }
    }

    /// Types over the kernel's address space.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The kernel's virtual address space.
    #[must_use]
    pub fn space(&self) -> &Arc<PagedSpace> {
        &self.space
    }

    /// What pages that are not resident are read from.
    pub(super) fn backing(&self) -> &Arc<Backing> {
        &self.backing
    }

    /// Physical memory.
    #[must_use]
    pub fn physical(&self) -> &Arc<dyn AddressSpace> {
        &self.physical
    }

    /// Paging mode.
    #[must_use]
    pub fn paging(&self) -> &'static Paging {
        self.layout.paging
    }

    /// Physical address of the kernel's page table root.
    #[must_use]
    pub fn dtb(&self) -> u64 {
        self.layout.dtb
    }

    /// Where the kernel stands.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Virtual address of the kernel's image, which symbols are relative to.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.layout.base
    }

    /// Whether addresses have 32 bits.
    #[must_use]
    pub fn is_32bit(&self) -> bool {
        self.layout.paging.bits == 32
    }

    /// Bytes that every allocation of a pool is a multiple of, and that pool headers are aligned to.
    #[must_use]
    pub fn pool_alignment(&self) -> u64 {
        if self.is_32bit() { 8 } else { 16 }
    }

    /// First address that is none of a process: `MmHighestUserAddress` + 1, else where it lies without options.
    #[must_use]
    pub fn user_end(&self) -> u64 {
        let highest =
            self.target.symbol("MmHighestUserAddress").ok().and_then(|at| self.target.read_ptr(at).ok());
        let usual = if self.is_32bit() { 0x7fff_0000 } else { 0x7fff_ffff_0000 };
        highest
            .and_then(|at| at.checked_add(1))
            .filter(|end| *end >= 0x7fff_0000 && *end <= 1 << 56)
            .unwrap_or(usual)
    }

    /// The version in `KUSER_SHARED_DATA`; absent where that page cannot be read.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        roots::version(&*self.space, self.is_32bit())
    }

    /// Number of its build: of the shared page, else of the kernel's own variable; `None` where neither can be read.
    #[must_use]
    pub fn build(&self) -> Option<u32> {
        build_of(&self.target)
    }

    /// Name of the profile in use.
    #[must_use]
    pub fn profile_name(&self) -> &str {
        &self.profile_name
    }

    /// The repository or file the profile came from.
    #[must_use]
    pub fn profile_source(&self) -> &str {
        &self.profile_source
    }

    /// How the kernel was identified, decision by decision.
    #[must_use]
    pub fn decisions(&self) -> &[String] {
        &self.decisions
    }
}

/// Number of the build of a kernel: of the shared page, else of its own variable.
pub(super) fn build_of(target: &Target) -> Option<u32> {
    let is_32bit = target.types().model().pointer_size() == 4;
    let version = roots::version(target.space(), is_32bit);
    let own = || {
        let at = target.symbol("NtBuildNumber").ok()?;
        // The highest bits say whether it is a free or a checked build.
        target.read_u32(at).ok().map(|number| number & 0xffff)
    };
    version.map(|version| version.build).filter(|build| *build != 0).or_else(own)
}

/// Whether a profile is of a Windows kernel.
#[must_use]
pub fn is_kernel(profile: &Profile) -> bool {
    profile.has_struct("_EPROCESS")
}

/// Types of a Windows profile, without memory. Old profiles do not say how wide a pointer is; `_LIST_ENTRY` is two.
#[must_use]
pub fn types(profile: Arc<Profile>) -> Types {
    let list_entry = profile.struct_def("_LIST_ENTRY").ok().flatten().and_then(|definition| definition.size);
    let model = match (list_entry, profile.arch()) {
        (Some(8), _) | (None, Some("I386" | "ARM")) => DataModel::Ilp32,
        _ => DataModel::Llp64,
    };
    Types::new(profile, model, overlay::WINDOWS)
}

/// The kernel of the session's image.
pub struct KernelFact;

impl Fact for KernelFact {
    type Value = Kernel;
    const NAME: &'static str = "windows kernel";

    fn compute(session: &Session) -> Result<Kernel, Error> {
        identify::identify(session)
    }
}
