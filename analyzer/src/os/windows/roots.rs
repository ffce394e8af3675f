//! Page table roots of a Windows system, found without a profile: what is known of one, and tests that tell real from
//! decoy.
//!
//! Every Windows page table root maps itself, so that tables can be edited as memory, and maps `KUSER_SHARED_DATA` at an
//! address that never changed. A process's tables hold all of the kernel's; the small tables that run user code under
//! kernel address isolation, and decoys, hold few. Sources: `_KUSER_SHARED_DATA` (Windows SDK, ntddk.h); Intel SDM vol. 3.

use std::sync::Arc;

use memory::{AddressSpace, Cpu, Image, Paging, VirtualSpace, paging};

/// `KI_USER_SHARED_DATA` of 64-bit kernels.
const SHARED_DATA_64: u64 = 0xffff_f780_0000_0000;
/// `KI_USER_SHARED_DATA` of 32-bit kernels.
const SHARED_DATA_32: u64 = 0xffdf_0000;
/// First address of the kernel's half of 64-bit address spaces.
pub(super) const KERNEL_HALF: u64 = 0xffff_8000_0000_0000;
/// First address of the kernel's part of 32-bit address spaces, unless started with `/3GB`.
pub(super) const KERNEL_HALF_32: u64 = 0x8000_0000;
/// The low stub lies in the first megabyte, where processors start.
const LOW_MEMORY: u64 = 1 << 20;
/// Bytes of a page, and of a table of all modes but PAE's root.
const PAGE: usize = 4096;

/// A page table root that may be the kernel's.
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// Physical address.
    pub(super) dtb: u64,
    /// Mode of the tables.
    pub(super) paging: &'static Paging,
    /// Where the belief comes from.
    pub(super) source: String,
    /// An address in the kernel image, as the source says.
    pub(super) entry: Option<u64>,
}

/// What a test found of a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Quality {
    /// Whether `KUSER_SHARED_DATA` is where it must be and holds a plausible version.
    pub(super) shared_data: bool,
    /// Entries of the kernel's half that are in use.
    pub(super) population: usize,
}

/// What `KUSER_SHARED_DATA` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    /// `NtMajorVersion`.
    pub major: u32,
    /// `NtMinorVersion`.
    pub minor: u32,
    /// `NtBuildNumber`; 0 before Windows 10.
    pub build: u32,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.build == 0 { Ok(()) } else { write!(f, ".{}", self.build) }
    }
}

/// The roots the container and the low stub name, in that order, without any test.
pub(super) fn quick(image: &Image) -> Vec<Root> {
    let mut roots: Vec<Root> = Vec::new();
    let mut add = |root: Root| {
        let known = roots.iter().any(|r| r.dtb == root.dtb && std::ptr::eq(r.paging, root.paging));
        if !known {
            roots.push(root);
        }
    };
    let windows = image.hints.windows.clone().unwrap_or_default();
    let entry = windows.kernel_base.or(windows.kdbg).or(windows.loaded_modules);
    for (n, &dtb) in image.hints.dtb.iter().enumerate() {
        let mode = image.hints.cpus.get(n).and_then(Cpu::paging);
        for &paging in MODES.iter().filter(|paging| mode.is_none_or(|mode| mode.name == paging.name)) {
            let dtb = dtb & paging.root;
            add(Root { dtb, paging, source: "as the container tells".to_owned(), entry });
        }
    }
    for root in low_stubs(&*image.space) {
        add(root);
    }
    roots
}

/// The modes Windows runs in, most common first.
pub(super) const MODES: [&Paging; 4] =
    [&paging::WINDOWS_X64, &paging::WINDOWS_X64_LA57, &paging::WINDOWS_PAE, &paging::WINDOWS_X86];

/// `PROCESSOR_START_BLOCK` of 64-bit kernels: a page of low memory that starts processors, with the root and the entry
/// into the kernel that they shall use. Begins with a jump and a flag; `LmTarget` at 0x70, CR3 at 0xa0.
fn low_stubs(space: &dyn AddressSpace) -> Vec<Root> {
    let mut roots = Vec::new();
    let mut page = [0u8; PAGE];
    for at in (0..LOW_MEMORY).step_by(PAGE) {
        if space.read_at(at, &mut page).is_err() || page.first() != Some(&0xe9) {
            continue;
        }
        let word = |offset: usize| page.get(offset..)?.first_chunk::<8>().map(|b| u64::from_le_bytes(*b));
        let (Some(head), Some(entry), Some(cr3)) = (word(0), word(0x70), word(0xa0)) else { continue };
        let plausible = head & 0xffff_ffff_ffff_00ff == 0x0000_0001_0006_00e9
            && entry >= KERNEL_HALF
            && cr3 != 0
            && cr3 & 0xffff_ff00_0000_0fff == 0;
        if plausible {
            let source = format!("low stub at physical {at:#x}");
            for paging in [&paging::WINDOWS_X64, &paging::WINDOWS_X64_LA57] {
                roots.push(Root { dtb: cr3, paging, source: source.clone(), entry: Some(entry) });
            }
        }
    }
    roots
}

/// Modes in which a page of physical memory may be a root, because an entry leads back to it: 64-bit, 32-bit, and PAE,
/// where it is the last of four directories and the root is elsewhere. The small tables' entry reads as a 64-bit one too.
pub(super) fn self_mapped(addr: u64, page: &[u8; PAGE]) -> impl Iterator<Item = &'static Paging> + use<> {
    let (words, _) = page.as_chunks::<8>();
    // Frame, size and present bit. The upper half of the table is the kernel's.
    let leads_back = |entry: u64| entry & 0x000f_ffff_ffff_f081 == addr | 1;
    let upper = words.iter().skip(256).map(|word| u64::from_le_bytes(*word));
    let wide = upper.filter(|entry| leads_back(*entry)).count() == 1;
    // PDE 0x300 of a directory maps the tables at 0xc0000000, as do the first four of the fourth directory of PAE.
    let half = page.get(0xc00..).and_then(<[u8]>::first_chunk::<4>);
    let small = half.is_some_and(|half| leads_back(u32::from_le_bytes(*half).into()));
    let fourth = words.get(3).is_some_and(|word| leads_back(u64::from_le_bytes(*word)));
    let modes: [(bool, &'static Paging); 3] =
        [(wide, &paging::WINDOWS_X64), (small, &paging::WINDOWS_X86), (fourth, &paging::WINDOWS_PAE)];
    modes.into_iter().filter_map(|(is_one, paging)| is_one.then_some(paging))
}

/// Tests a root. `None` where it cannot be one.
pub(super) fn test(space: &Arc<dyn AddressSpace>, root: &Root) -> Option<Quality> {
    let top = root.paging.levels.first()?;
    let width = usize::from(root.paging.entry_bytes);
    let size = width << top.bits;
    let table = space.read_vec(root.dtb, size as u64, PAGE).ok()?;
    let virt = VirtualSpace::new(Arc::clone(space), root.paging, root.dtb);
    let version = version(&virt, root.paging.bits == 32);
    let population = table
        .chunks_exact(width)
        .skip(if root.paging.levels.len() == 3 { 0 } else { (1 << top.bits) / 2 })
        .filter(|entry| entry.first().is_some_and(|low| low & 1 == 1))
        .count();
    (population > 0).then_some(Quality { shared_data: version.is_some(), population })
}

/// Address of `KUSER_SHARED_DATA` in the kernel's half.
pub(super) fn shared_data(is_32bit: bool) -> u64 {
    if is_32bit { SHARED_DATA_32 } else { SHARED_DATA_64 }
}

/// The version in `KUSER_SHARED_DATA`, where it is mapped and plausible.
pub(super) fn version(space: &dyn AddressSpace, is_32bit: bool) -> Option<Version> {
    let base = shared_data(is_32bit);
    let (major, minor) = (space.read_u32(base + 0x26c).ok()?, space.read_u32(base + 0x270).ok()?);
    let build = space.read_u32(base + 0x260).ok()?;
    (matches!(major, 5 | 6 | 10) && minor <= 3).then_some(Version {
        major,
        minor,
        build: if major >= 10 { build } else { 0 },
    })
}
