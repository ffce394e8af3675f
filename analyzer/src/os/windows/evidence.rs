//! What an image says of a Windows kernel before any profile is known.
//!
//! Cheap evidence first: roots that the container or the low stub name lead to the kernel's image through its page
//! tables. Only where they do not, all of physical memory is looked at, once, on all cores, for records of the kernel's
//! PDB, debugger blocks, and page tables that map themselves.

use std::sync::Arc;

use memchr::memmem;
use memory::{AddressSpace, CHUNK, Image, VirtualSpace, paging, scan};
use profile::names::PdbId;

use super::roots::{self, KERNEL_HALF, KERNEL_HALF_32, Quality, Root};
use crate::module_profile::KERNEL_PDBS;
use crate::pe::rsds::MAX_RECORD;
use crate::pe::{Pe, Rsds};

/// Most candidates of one sort that are looked at.
const MAX_CANDIDATES: usize = 4096;
/// Most directories of PAE tables whose roots are looked for.
const MAX_PAE: usize = 4;
/// Most pages of a mapped run of the kernel's half that are looked at for an image.
const MAX_PAGES: u64 = 1 << 24;
/// Where 64-bit kernels and drivers are loaded, in all versions so far.
const IMAGE_WINDOW: (u64, u64) = (0xffff_f800_0000_0000, 0xffff_f880_0000_0000);

/// A kernel build, by its PDB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Build {
    pub(super) id: PdbId,
    pub(super) pdb: String,
    /// Where it was found.
    pub(super) source: String,
}

impl Build {
    fn of(record: &Rsds, source: String) -> Option<Self> {
        let pdb = record.file_name().to_ascii_lowercase();
        KERNEL_PDBS.contains(&pdb.as_str()).then_some(Self { id: record.id, pdb, source })
    }
}

/// A kernel image in the address space of a root.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) root: Root,
    /// Virtual address of the image.
    pub(super) base: u64,
    /// Its build; unknown where the debug directory cannot be read.
    pub(super) build: Option<Build>,
}

/// Everything that was found so far.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// Roots that passed a test, the best first.
    pub(super) roots: Vec<(Quality, Root)>,
    /// Kernel builds named in physical memory.
    pub(super) builds: Vec<Build>,
    /// `KernBase` of debugger blocks, with where they stand.
    pub(super) debugger_bases: Vec<(u64, u64)>,
}

impl Evidence {
    /// What the container and low memory say.
    pub(super) fn quick(image: &Image) -> Self {
        let mut evidence = Self::default();
        evidence.add_roots(&image.space, roots::quick(image));
        evidence
    }

    /// Only these roots count, whatever a test says of them.
    pub(super) fn replace_roots(&mut self, roots: impl IntoIterator<Item = Root>) {
        let quality = Quality { shared_data: true, population: usize::MAX };
        self.roots = roots.into_iter().map(|root| (quality, root)).collect();
    }

    /// Looks at all of physical memory, once.
    pub(super) fn scan(&mut self, image: &Image) {
        let (rsds, kdbg) = (memmem::Finder::new(b"RSDS"), memmem::Finder::new(b"KDBG"));
        let (hits, _) = scan(&*image.space, CHUNK, MAX_RECORD, |piece| {
            let mut found = Vec::new();
            let at = |offset: usize| piece.addr.wrapping_add(offset as u64);
            for offset in rsds.find_iter(piece.bytes).take_while(|offset| *offset < piece.own) {
                let record = piece.bytes.get(offset..).and_then(Rsds::parse);
                let source = format!("RSDS record at physical {:#x}", at(offset));
                found.extend(record.and_then(|record| Build::of(&record, source)).map(Hit::Build));
            }
            for offset in kdbg.find_iter(piece.bytes).take_while(|offset| *offset < piece.own) {
                found.extend(debugger_base(piece.bytes, offset).map(|base| Hit::Debugger(at(offset), base)));
            }
            let skip = usize::try_from(piece.addr.wrapping_neg() % 4096).unwrap_or(0);
            let pages = piece.bytes.get(skip..).unwrap_or_default().as_chunks::<4096>().0;
            for (n, page) in pages.iter().enumerate().take_while(|(n, _)| skip + n * 4096 < piece.own) {
                let addr = at(skip + n * 4096);
                found.extend(roots::self_mapped(addr, page).map(|paging| Hit::Root(addr, paging)));
            }
            found
        });
        let mut candidates = Vec::new();
        for hit in hits {
            match hit {
                Hit::Build(build) => {
                    let known = self.builds.iter().any(|known| known.id == build.id);
                    if !known && self.builds.len() < MAX_CANDIDATES {
                        self.builds.push(build);
                    }
                }
                Hit::Debugger(at, base) if self.debugger_bases.len() < MAX_CANDIDATES => {
                    self.debugger_bases.push((at, base));
                }
                Hit::Root(dtb, paging) if candidates.len() < MAX_CANDIDATES => {
                    let source = format!("page table at physical {dtb:#x} that maps itself");
                    let root = Root { dtb, paging, source, entry: None };
                    if paging.name == paging::X64.name {
                        // Tables of four and five levels map themselves alike.
                        candidates.push(Root { paging: &paging::WINDOWS_X64_LA57, ..root.clone() });
                    }
                    candidates.push(root);
                }
                Hit::Debugger(..) | Hit::Root(..) => {}
            }
        }
        let (pae, mut candidates): (Vec<Root>, Vec<Root>) =
            candidates.into_iter().partition(|root| root.paging.name == paging::PAE.name);
        // Each costs a search of all memory.
        candidates.extend(pae.into_iter().take(MAX_PAE).flat_map(|root| pae_root(&image.space, &root)));
        self.add_roots(&image.space, candidates);
    }

    /// Adds the candidates that pass the test.
    pub(super) fn add_roots(&mut self, space: &Arc<dyn AddressSpace>, candidates: Vec<Root>) {
        for root in candidates {
            let known =
                self.roots.iter().any(|(_, r)| r.dtb == root.dtb && r.paging.name == root.paging.name);
            if let Some(quality) = roots::test(space, &root).filter(|_| !known) {
                self.roots.push((quality, root));
            }
        }
        // The fullest tables that have the shared page are a real process's; the sort is stable.
        self.roots.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    }

    /// Kernel images that the tested roots map, best root first; ends at the first whose build is known.
    pub(super) fn kernels(&self, space: &Arc<dyn AddressSpace>) -> Vec<Found> {
        let mut found = Vec::new();
        // Where the shared page is missing from the image, the fullest tables must do.
        let shared = self.roots.iter().any(|(quality, _)| quality.shared_data);
        let likely = self.roots.iter().filter(|(quality, _)| quality.shared_data || !shared);
        for (_, root) in likely.take(16) {
            let image = find_image(space, root);
            let done = image.as_ref().is_some_and(|image| image.build.is_some());
            found.extend(image);
            if done {
                break;
            }
        }
        found
    }
}

/// One thing found in physical memory.
enum Hit {
    Build(Build),
    Debugger(u64, u64),
    Root(u64, &'static memory::Paging),
}

/// `KernBase` of a `_KDDEBUGGER_DATA64` whose tag stands at `offset`: size and base follow the tag (wdbgexts.h).
fn debugger_base(bytes: &[u8], offset: usize) -> Option<u64> {
    let rest = bytes.get(offset..)?;
    let size = u32::from_le_bytes(*rest.get(4..)?.first_chunk()?);
    let base = u64::from_le_bytes(*rest.get(8..)?.first_chunk()?);
    let plausible = (0x100..0x1000).contains(&size) && base & 0xfff == 0 && base >= KERNEL_HALF_32;
    // 32-bit kernels sign extend their addresses here.
    let base = if base >> 32 == 0xffff_ffff && base < IMAGE_WINDOW.0 { base & 0xffff_ffff } else { base };
    plausible.then_some(base)
}

/// The root of PAE tables is not in the directory that maps itself: it is 32 bytes that name four directories, of which
/// the directory repeats the addresses. They are looked for in all of memory.
fn pae_root(space: &Arc<dyn AddressSpace>, root: &Root) -> Vec<Root> {
    let Ok(directory) = space.read_vec(root.dtb, 32, 32) else { return Vec::new() };
    let frames: Vec<u64> = directory
        .as_chunks::<8>()
        .0
        .iter()
        .map(|entry| u64::from_le_bytes(*entry) & 0x000f_ffff_ffff_f000)
        .collect();
    // Entries of the root have no other low bit than that they are present.
    let pattern: Vec<u8> = frames.iter().flat_map(|frame| (frame | 1).to_le_bytes()).collect();
    memory::find_bytes(&**space, &pattern, 4)
        .into_iter()
        .filter(|at| at.is_multiple_of(32))
        .map(|dtb| Root { dtb, ..root.clone() })
        .collect()
}

/// The kernel's image in the address space of a root: a mapped page that begins an executable whose PDB is a kernel's.
fn find_image(space: &Arc<dyn AddressSpace>, root: &Root) -> Option<Found> {
    let virt: Arc<dyn AddressSpace> = Arc::new(VirtualSpace::new(Arc::clone(space), root.paging, root.dtb));
    let windows: &[(u64, u64)] = if root.paging.bits == 32 {
        &[(KERNEL_HALF_32, u64::MAX)]
    } else {
        &[IMAGE_WINDOW, (KERNEL_HALF, IMAGE_WINDOW.0), (IMAGE_WINDOW.1, u64::MAX)]
    };
    let near = root.entry.and_then(|entry| image_around(&virt, root, entry));
    near.or_else(|| windows.iter().find_map(|window| image_in(&virt, root, *window)))
}

/// An address inside the kernel image leads to its start: at most 32 MiB before it.
fn image_around(virt: &Arc<dyn AddressSpace>, root: &Root, entry: u64) -> Option<Found> {
    (0..8192u64).map(|n| (entry & !0xfff).wrapping_sub(n * 4096)).find_map(|base| image_at(virt, root, base))
}

fn image_in(virt: &Arc<dyn AddressSpace>, root: &Root, (start, end): (u64, u64)) -> Option<Found> {
    let mut left = MAX_PAGES;
    for run in virt.runs(start, end) {
        let pages = (run.len / 4096).min(left);
        left -= pages;
        let found = (0..pages).find_map(|n| image_at(virt, root, run.start.wrapping_add(n * 4096)));
        if found.is_some() || left == 0 {
            return found;
        }
    }
    None
}

fn image_at(virt: &Arc<dyn AddressSpace>, root: &Root, base: u64) -> Option<Found> {
    if virt.read_u16(base) != Ok(u16::from_le_bytes(*b"MZ")) {
        return None;
    }
    let pe = Pe::mapped(virt, base).ok()?;
    let build = match pe.rsds() {
        Ok(record) => Some(Build::of(&record, format!("image at {base:#x}"))?),
        // Without a debug directory its own name must do.
        Err(_) if pe.exports().is_ok_and(|exports| exports.module.as_deref() == Ok("ntoskrnl.exe")) => None,
        Err(_) => return None,
    };
    Some(Found { root: root.clone(), base, build })
}
