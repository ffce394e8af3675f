//! Where a kernel may stand: what the image says of it, and the test of each belief against the page tables it implies.

use std::sync::Arc;

use memory::{AddressSpace, Image, Paging, VirtualSpace, find_bytes};
use object::{Absent, Missing, Read};
use profile::Profile;

use super::arch::{self, Arch, shifted};
use super::identify::{Evidence, Stage};
use super::kernel::{Kernel, Layout};
use super::remains::TopTable;
use super::vmcoreinfo::VmcoreInfo;
use super::{ram_start, remains};

/// Most copies of a task name or landmark that are looked at.
const MAX_HITS: usize = 512;
/// Most places of a kernel for which it is tried where RAM begins.
const MAX_RAM_STARTS: usize = 8;
/// Most first page tables that are tried in place of the kernel's own.
const MAX_ROOTS: usize = 8;

/// Bytes that stand at symbols of every kernel: the format of `/proc/version` (init/version.c), `_ctype` (lib/ctype.c),
/// the reversed bytes of lib/bitrev.c, the header of BTF.
const LANDMARKS: [(&str, &[u8]); 4] = [
    ("linux_proc_banner", b"%s version %s"),
    ("_ctype", &[8, 8, 8, 8, 8, 8, 8, 8, 8, 0x28, 0x28, 0x28, 0x28, 0x28, 8, 8]),
    (
        "byte_rev_table",
        &[0, 0x80, 0x40, 0xc0, 0x20, 0xa0, 0x60, 0xe0, 0x10, 0x90, 0x50, 0xd0, 0x30, 0xb0, 0x70, 0xf0],
    ),
    ("__start_BTF", &[0x9f, 0xeb, 1, 0, 24, 0, 0, 0]),
];

/// Why a kernel is believed to stand somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hypothesis {
    /// Run-time minus link-time physical address, modulo 2^64.
    pub physical_shift: u64,
    /// Physical address of the first byte of the image file.
    pub ram_start: u64,
    /// Where the belief comes from.
    pub source: String,
}

impl Hypothesis {
    /// A belief.
    pub(super) fn at(physical_shift: u64, ram_start: u64, source: String) -> Self {
        Self { physical_shift, ram_start, source }
    }
}

/// Where the evidence puts the kernel that `profile` describes.
pub(super) fn hypotheses(
    evidence: &Evidence,
    stage: Stage,
    profile: &Profile,
    image: &Image,
) -> Vec<Hypothesis> {
    let alignment = Arch::of(profile).alignment();
    let mut found: Vec<Hypothesis> = Vec::new();
    let mut add = |physical_shift: u64, source: String| {
        if physical_shift.is_multiple_of(alignment)
            && !found.iter().any(|h| h.physical_shift == physical_shift)
        {
            found.push(Hypothesis::at(physical_shift, 0, source));
        }
    };
    if let Some(Hypothesis { physical_shift, source, .. }) = &evidence.carved {
        add(*physical_shift, source.clone());
    }
    let told = |info: &VmcoreInfo| told_shift(profile, info);
    for (info, source) in &evidence.vmcoreinfo {
        if let Some(shift) = told(info) {
            add(shift, source.clone());
        }
    }
    if stage < Stage::Banner {
        return found;
    }
    let mut seen: Vec<Hypothesis> = Vec::new();
    if let Some(link) = profile.symbol("linux_banner").and_then(|symbol| link_to_physical(profile, symbol)) {
        let banners = evidence.banner_hits.iter();
        seen.extend(
            banners.map(|&hit| {
                Hypothesis::at(hit.wrapping_sub(link), 0, format!("banner at physical {hit:#x}"))
            }),
        );
    }
    seen.extend(candidates(profile, &*image.space));
    if stage >= Stage::Remains {
        let shifts = remains::shifts(profile, &evidence.tables).into_iter();
        seen.extend(shifts.map(|shift| Hypothesis::at(shift, 0, "page tables of processes".to_owned())));
        seen.extend(landmarks(profile, &*image.space));
    }
    for hypothesis in &seen {
        add(hypothesis.physical_shift, hypothesis.source.clone());
    }
    let is_raw = image.layers.last().is_some_and(|layer| layer.starts_with("raw"));
    if Arch::of(profile) == Arch::Arm64 && is_raw {
        let info = evidence.vmcoreinfo.first().map(|(info, _)| info);
        let known = info.and_then(told);
        seen.retain(|hypothesis| hypothesis.physical_shift.is_multiple_of(alignment));
        seen.dedup_by_key(|hypothesis| hypothesis.physical_shift);
        found.extend(seen.into_iter().take(MAX_RAM_STARTS).find_map(|hypothesis| {
            let start = ram_start::find(profile, &image.space, hypothesis.physical_shift, info, known)?;
            let source = format!("{}, RAM begins at {start:#x}", hypothesis.source);
            Some(Hypothesis::at(hypothesis.physical_shift.wrapping_add(start), start, source))
        }));
        // Without page tables a place fits wherever RAM is believed to begin.
        found.sort_by_key(|hypothesis| known.is_some_and(|known| known != hypothesis.physical_shift));
    }
    found
}

/// The physical shift by VMCOREINFO: `phys_base` on x86-64, `kimage_voffset` on ARM64. On 32 bits, where physical and virtual
/// addresses of the image differ by a constant, the shift of any symbol.
fn told_shift(profile: &Profile, info: &VmcoreInfo) -> Option<u64> {
    let offset = info.kernel_offset().unwrap_or(0);
    match Arch::of(profile) {
        Arch::Amd64 => Some(info.phys_base()?.wrapping_add(offset)),
        Arch::I386 => info
            .object_symbols()
            .find_map(|(name, address)| Some(address.wrapping_sub(profile.symbol(name)?))),
        Arch::Arm64 => Some(arch::text(profile)?.wrapping_add(offset).wrapping_sub(info.image_offset()?)),
    }
}

/// Hypotheses from the idle task: its name `swapper/0` stands in `init_task.comm` (`swapper` on one-CPU kernels).
fn candidates(profile: &Profile, space: &dyn AddressSpace) -> Vec<Hypothesis> {
    let mut found: Vec<Hypothesis> = Vec::new();
    let link = profile.symbol("init_task").and_then(|symbol| link_to_physical(profile, symbol));
    let comm = profile.struct_def("task_struct").ok().flatten().and_then(|task| task.fields.get("comm"));
    let (Some(link), Some(comm)) = (link, comm) else { return found };
    for hit in find_bytes(space, b"swapper/0\0\0\0\0\0\0\0", MAX_HITS) {
        let physical_shift = hit.wrapping_add_signed(comm.offset.wrapping_neg()).wrapping_sub(link);
        let known = found.iter().any(|h| h.physical_shift == physical_shift);
        if physical_shift.is_multiple_of(Arch::of(profile).alignment()) && !known {
            found.push(Hypothesis::at(physical_shift, 0, format!("swapper/0 at physical {hit:#x}")));
        }
    }
    found
}

/// Hypotheses from bytes that are known of symbols.
fn landmarks(profile: &Profile, space: &dyn AddressSpace) -> Vec<Hypothesis> {
    let alignment = Arch::of(profile).alignment();
    let found = LANDMARKS.iter().flat_map(|(name, bytes)| {
        let link = profile.symbol(name).and_then(|symbol| link_to_physical(profile, symbol));
        let hits = if link.is_some() { find_bytes(space, bytes, MAX_HITS) } else { Vec::new() };
        hits.into_iter().filter_map(move |hit| {
            let shift = hit.wrapping_sub(link?);
            let source = || format!("{name} at physical {hit:#x}");
            shift.is_multiple_of(alignment).then(|| Hypothesis::at(shift, 0, source()))
        })
    });
    found.collect()
}

/// One hypothesis tested.
pub struct Located {
    /// The hypothesis.
    pub hypothesis: Hypothesis,
    /// The page table root it implies, physical.
    pub dtb: Read<u64>,
    /// Where the kernel then stands, or why the hypothesis does not hold.
    pub outcome: Result<Layout, String>,
}

impl Located {
    /// Where the hypothesis comes from, and why it does not hold if it does not.
    #[must_use]
    pub fn comment(&self) -> String {
        match &self.outcome {
            Ok(_) => self.hypothesis.source.clone(),
            Err(reason) => format!("{}: {reason}", self.hypothesis.source),
        }
    }
}

/// Every hypothesis about where this kernel stands, tested: the one in use first, then those of the idle task's name.
#[must_use]
pub fn located(kernel: &Kernel) -> Vec<Located> {
    let profile = kernel.target().types().profile();
    let in_use = Hypothesis {
        physical_shift: kernel.layout().physical_shift,
        ram_start: 0, // of the kernel's view of physical memory
        source: kernel.decisions().last().cloned().unwrap_or_default(),
    };
    let others = candidates(profile, &**kernel.physical());
    let others = others.into_iter().filter(|h| h.physical_shift != in_use.physical_shift);
    std::iter::once(in_use.clone())
        .chain(others)
        .map(|hypothesis| {
            let dtb = page_table_root(profile, hypothesis.physical_shift).map_err(Absent::from);
            let outcome = locate(profile, kernel.physical(), &hypothesis, None);
            Located { hypothesis, dtb, outcome }
        })
        .collect()
}

/// Link-time physical address of a link-time virtual one.
pub(super) fn link_to_physical(profile: &Profile, symbol: u64) -> Option<u64> {
    symbol.checked_sub(Arch::of(profile).link_base(profile)?)
}

/// Physical address of the kernel's page table root: `init_top_pgt` (v4.13), `init_level4_pgt` before, `swapper_pg_dir`
/// on 32 bits and on ARM64.
fn page_table_root(profile: &Profile, physical_shift: u64) -> Result<u64, Missing> {
    ["init_top_pgt", "init_level4_pgt", "swapper_pg_dir"]
        .into_iter()
        .find_map(|name| profile.symbol(name))
        .and_then(|symbol| link_to_physical(profile, symbol))
        .map(|address| address.wrapping_add(physical_shift))
        .ok_or_else(|| Missing::Symbol("init_top_pgt".into()))
}

/// The paging modes the kernel may use: those of its architecture; of ARM64, which has many, those that VMCOREINFO allows where that
/// is left.
fn modes(profile: &Profile, info: Option<&VmcoreInfo>) -> Vec<(&'static Paging, u64, u64)> {
    let all = Arch::of(profile).modes(profile);
    let told = info.and_then(|info| Some((info.address_bits()?, info.page_size()?)));
    let Some((bits, page)) = told else { return all };
    let fits = |mode: &Paging| {
        // Kernels of 52 bits run on processors of 48.
        let has_width = u64::from(mode.bits) == bits || (bits, mode.bits) == (52, 48);
        has_width && mode.levels.last().is_some_and(|level| 1 << level.shift == page)
    };
    let told: Vec<_> = all.iter().copied().filter(|(mode, ..)| fits(mode)).collect();
    if told.is_empty() { all } else { told }
}

/// Finds the page tables and the virtual slide that go with a physical shift.
pub(super) fn locate(
    profile: &Profile,
    physical: &Arc<dyn AddressSpace>,
    hypothesis: &Hypothesis,
    info: Option<&VmcoreInfo>,
) -> Result<Layout, String> {
    let shift = hypothesis.physical_shift;
    let dtb = page_table_root(profile, shift).map_err(|missing| missing.to_string())?;
    let physical = shifted(physical, hypothesis.ram_start);
    locate_from(profile, &physical, hypothesis, info, dtb)
}

/// The same through the page tables at `dtb`.
fn locate_from(
    profile: &Profile,
    physical: &Arc<dyn AddressSpace>,
    hypothesis: &Hypothesis,
    info: Option<&VmcoreInfo>,
    dtb: u64,
) -> Result<Layout, String> {
    let shift = hypothesis.physical_shift;
    // ARM64 does not map what is in front of _stext.
    let text = profile
        .symbol("_stext")
        .or_else(|| profile.symbol("_text"))
        .ok_or("the profile has no symbol _stext")?;
    let text_physical = link_to_physical(profile, text)
        .map(|address| address.wrapping_add(shift))
        .ok_or("the profile's addresses are outside the kernel's window")?;
    if let Err(fault) = physical.read_u64(dtb) {
        return Err(format!("the kernel's page tables at physical {dtb:#x} are missing: {fault}"));
    }
    for (mode, start, end) in modes(profile, info) {
        let space = VirtualSpace::new(Arc::clone(physical), mode, dtb);
        let run = space
            .runs(start, end)
            .find(|run| text_physical.checked_sub(run.target).is_some_and(|offset| offset < run.len));
        if let Some(run) = run {
            let text_virtual = run.start.wrapping_add(text_physical.wrapping_sub(run.target));
            let slide = text_virtual.wrapping_sub(text);
            let ram_start = hypothesis.ram_start;
            return Ok(Layout { paging: mode, dtb, slide, physical_shift: shift, ram_start });
        }
    }
    Err(format!("no page table at physical {dtb:#x} maps the kernel text at physical {text_physical:#x}"))
}

/// Finds a way to the kernel where its own page tables do not lead to it: the tables of a process, which have the kernel's half
/// too, or else the pointers in the kernel's image, which tell where it ran. On 32 bits that is told by where it was loaded. Also
/// says which.
pub(super) fn locate_remains(
    profile: &Profile,
    physical: &Arc<dyn AddressSpace>,
    hypothesis: &Hypothesis,
    tables: &[TopTable],
    info: Option<&VmcoreInfo>,
) -> Result<(Layout, String), String> {
    let shift = hypothesis.physical_shift;
    let own = page_table_root(profile, shift).map_err(|missing| missing.to_string())?;
    let physical = shifted(physical, hypothesis.ram_start);
    let roots = remains::roots(profile, shift, tables, Some(own));
    for (root, _) in roots.iter().take(MAX_ROOTS) {
        if let Ok(layout) = locate_from(profile, &physical, hypothesis, info, *root) {
            let how = format!("the page tables at physical {root:#x} stand in for the kernel's at {own:#x}");
            return Ok((layout, how));
        }
    }
    let (slide, how) = match Arch::of(profile) {
        Arch::I386 => (shift, "it ran where it was loaded".to_owned()),
        _ => remains::slide(profile, &*physical, shift)
            .map(|(slide, pointers)| (slide, format!("{pointers} pointers in its image say where it ran")))
            .ok_or("neither page tables nor pointers in the kernel's image lead to the kernel")?,
    };
    let (dtb, five_levels) = roots.first().copied().unwrap_or((own, false));
    let modes = modes(profile, info);
    let (paging, ..) = modes.get(usize::from(five_levels)).or(modes.first()).ok_or("no paging mode fits")?;
    let ram_start = hypothesis.ram_start;
    let how = format!("no page table maps the kernel; {how}");
    Ok((Layout { paging, dtb, slide, physical_shift: shift, ram_start }, how))
}
