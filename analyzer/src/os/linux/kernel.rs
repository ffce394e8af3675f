//! The kernel of an image: its types, its address space, and where KASLR put it.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use elsa::sync::FrozenMap;
use memory::{AddressSpace, Paging, VirtualSpace};
use object::{Absent, DataModel, Missing, Read, Target, Types};
use profile::Profile;

use super::arch::{self, Arch};
use super::linear::{Linear, Piece};
use super::process_space::ProcessSpace;
use super::swap::{Swap, SwapFile};
use super::{identify, module_btf, overlay, task_scan, time};
use crate::error::Error;
use crate::notes::Notes;
use crate::session::{Fact, Session};
use crate::table::Time;

/// Most CPUs a kernel can have (`CONFIG_NR_CPUS` of the largest distribution kernels).
const MAX_CPUS: u32 = 8192;

/// Bytes of physical memory that 32-bit kernels map for good, at least: 896 MiB less what `vmalloc` was given.
const LOW_MEMORY: u64 = 768 << 20;

/// `memstart_addr` is a multiple of this with every granule: `ARM64_MEMSTART_ALIGN` (arch/arm64/include/asm/kernel-pgtable.h).
const MEMSTART_ALIGNMENT: u64 = 1 << 29;
/// Distance of the direct map from physical memory is a multiple of this: `PUD_SIZE` (arch/x86/mm/kaslr.c).
const DIRECT_MAP_ALIGNMENT: u64 = 1 << 30;
/// Fewest bytes mapped at the distance that is taken for that of the direct map.
const MIN_DIRECT_MAP: u64 = 8 << 20;
/// Most runs of the kernel's half that are looked at for the direct map.
const MAX_RUNS: usize = 1 << 20;

/// Where a kernel stands in memory.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Paging mode.
    pub paging: &'static Paging,
    /// Physical address of the kernel's page table root.
    pub dtb: u64,
    /// Run-time minus link-time virtual address of the kernel image, modulo 2^64.
    pub slide: u64,
    /// Run-time minus link-time physical address of the kernel image, modulo 2^64.
    pub physical_shift: u64,
    /// Physical address of the first byte of the image file: not 0 for a raw dump that begins where RAM does.
    pub ram_start: u64,
}

/// An identified Linux kernel.
pub struct Kernel {
    target: Target,
    space: Arc<VirtualSpace>,
    physical: Arc<dyn AddressSpace>,
    layout: Layout,
    profile_name: String,
    profile_source: String,
    decisions: Vec<String>,
    page_offset: Read<u64>,
    boot_time: OnceLock<Read<Time>>,
    /// Its BTF, for those of modules.
    btf: OnceLock<Read<Vec<u8>>>,
    /// Types of modules that were asked for, by name.
    modules: FrozenMap<String, Box<Read<Target>>>,
    swap: OnceLock<Arc<Swap>>,
}

impl Kernel {
    /// Joins a profile with the place where it was found to fit.
    pub(super) fn new(
        profile: Arc<Profile>,
        image: &Arc<dyn AddressSpace>,
        layout: Layout,
        named: (String, String),
        decisions: Vec<String>,
    ) -> Self {
        let physical = arch::shifted(image, layout.ram_start);
        let space = Arc::new(VirtualSpace::new(Arc::clone(&physical), layout.paging, layout.dtb));
        let target = target(profile, Arc::clone(&space) as Arc<dyn AddressSpace>, layout.slide);
        let (profile_name, profile_source) = named;
        let mut kernel = Self {
            target,
            space,
            physical,
            layout,
            profile_name,
            profile_source,
            decisions,
            page_offset: Err(Absent::Malformed("not looked for yet")),
            boot_time: OnceLock::new(),
            btf: OnceLock::new(),
            modules: FrozenMap::new(),
            swap: OnceLock::new(),
        };
        // The direct map's address is in the image, so the image comes first.
        let image = image_piece(kernel.target.types().profile(), &layout);
        kernel.see(image.into_iter().collect());
        kernel.page_offset = kernel.find_page_offset();
        let direct = kernel.direct_map();
        kernel.see(image.into_iter().chain(direct).collect());
        kernel
    }

    /// Reads the kernel's memory through its page tables or, where they are damaged, by pieces.
    fn see(&mut self, pieces: Vec<Piece>) {
        let space = Linear::new(Arc::clone(&self.space), pieces);
        self.target = self.target.with_space(Arc::new(space));
    }

    /// Where all of physical memory is; of 32-bit kernels what is mapped for good.
    fn direct_map(&self) -> Option<Piece> {
        let start = self.page_offset().ok()?;
        let most = if self.arch() == Arch::I386 { LOW_MEMORY } else { u64::MAX };
        let end = start.checked_add(self.physical.end().min(most))?;
        Some(Piece { start, end, physical: 0 })
    }

    /// Types over the kernel's address space.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The kernel's virtual address space.
    #[must_use]
    pub fn space(&self) -> &Arc<VirtualSpace> {
        &self.space
    }

    /// Physical memory.
    #[must_use]
    pub fn physical(&self) -> &Arc<dyn AddressSpace> {
        &self.physical
    }

    /// The address space of a process whose page table root is at a physical address, with what was paged out.
    #[must_use]
    pub fn process_space(&self, dtb: u64) -> ProcessSpace {
        let tables =
            VirtualSpace::of_process(Arc::clone(&self.physical), self.layout.paging, dtb, self.layout.dtb);
        ProcessSpace::new(tables, Arc::clone(self.swap()))
    }

    /// The swap areas.
    pub fn swap(&self) -> &Arc<Swap> {
        self.swap.get_or_init(|| Arc::new(Swap::of(self, Vec::new(), &Notes::default())))
    }

    /// Takes the files of swap areas that the user has.
    fn take_swap_files(&self, session: &Session) {
        let files = SwapFile::of(session);
        if !files.is_empty() {
            self.swap.get_or_init(|| Arc::new(Swap::of(self, files, &session.notes)));
        }
    }

    /// The types of a loaded module, over the kernel's memory; see [`module_btf`].
    ///
    /// # Errors
    /// Why there are none.
    pub fn module_types(&self, name: &str) -> Read<Target> {
        match self.modules.get(name) {
            Some(known) => known.clone(),
            None => self.modules.insert(name.to_owned(), Box::new(module_btf::types(self, name))).clone(),
        }
    }

    /// The kernel's own BTF, out of its image.
    pub(super) fn btf(&self) -> Read<&[u8]> {
        self.btf.get_or_init(|| module_btf::of_kernel(&self.target)).as_deref().map_err(Clone::clone)
    }

    /// Whether the processor is an x86, of either width.
    #[must_use]
    pub fn is_x86(&self) -> bool {
        self.arch() != Arch::Arm64
    }

    /// Processor architecture.
    pub(super) fn arch(&self) -> Arch {
        Arch::of(self.target.types().profile())
    }

    /// Bytes of a page.
    #[must_use]
    pub fn page_size(&self) -> u64 {
        self.layout.paging.levels.last().map_or(4096, |level| 1 << level.shift)
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

    /// Where the direct map has physical address 0 (`PAGE_OFFSET` on x86), whether or not there is memory.
    ///
    /// ARM64 maps physical `memstart_addr` at `PAGE_OFFSET`, which is the start of the half of the kernel's addresses that does
    /// not have the image (arch/arm64/include/asm/memory.h).
    /// `page_offset_base` where `CONFIG_RANDOMIZE_MEMORY` moves it (arch/x86/include/asm/page_64_types.h), else the
    /// constant of the paging mode (Documentation/arch/x86/x86_64/mm.rst, since v4.20).
    /// Where that variable is lost, what the page tables or the processes say.
    pub fn page_offset(&self) -> Read<u64> {
        self.page_offset.clone()
    }

    fn find_page_offset(&mut self) -> Read<u64> {
        if let Ok(symbol) = self.target.symbol("page_offset_base") {
            let why = match self.target.read_u64(symbol) {
                Ok(base) if base >> 63 == 1 && base.is_multiple_of(DIRECT_MAP_ALIGNMENT) => return Ok(base),
                Ok(_) => Absent::Malformed("page_offset_base"),
                Err(why) => why,
            };
            let by_tasks = || task_scan::direct_map(&self.target, &*self.physical, DIRECT_MAP_ALIGNMENT);
            let found = match self.direct_map_in_tables() {
                Some(base) => Some((base, "page tables have")),
                None => by_tasks().map(|base| (base, "pointers of processes to themselves have")),
            };
            let (base, who) = found.ok_or(why)?;
            self.decisions.push(format!("page_offset_base is lost; {who} the direct map at {base:#x}"));
            return Ok(base);
        }
        let profile = self.target.types().profile();
        let levels = self.layout.paging.levels.len();
        match (self.arch(), levels) {
            (Arch::Amd64, 5) => Ok(0xff11_0000_0000_0000),
            (Arch::Amd64, _) => Ok(0xffff_8880_0000_0000),
            (Arch::I386, _) => {
                Arch::I386.link_base(profile).ok_or_else(|| Absent::from(Missing::Symbol("_text".into())))
            }
            (Arch::Arm64, _) => {
                let start = self.target.read_u64(self.target.symbol("memstart_addr")?);
                // A page that was zeroed does not tell.
                let is_lost = start.as_ref().map_or(true, |start| *start == 0) && self.layout.ram_start != 0;
                if is_lost
                    && let Some(base) =
                        task_scan::direct_map(&self.target, &*self.physical, MEMSTART_ALIGNMENT)
                {
                    let how = format!(
                        "memstart_addr is lost; pointers of processes to themselves have the direct map at {base:#x}"
                    );
                    self.decisions.push(how);
                    return Ok(base);
                }
                let start = start?;
                let bits = self.layout.paging.bits;
                let half = 1u64 << bits.min(48).saturating_sub(1);
                let is_upper = arch::text(profile).is_some_and(|text| text & half != 0);
                let first = if is_upper { u64::MAX << bits } else { half.wrapping_neg() };
                Ok(first.wrapping_sub(start))
            }
        }
    }

    /// Where page tables of x86-64 have the direct map: the distance between virtual and physical addresses that most of the
    /// upper half has.
    fn direct_map_in_tables(&self) -> Option<u64> {
        let mut votes: HashMap<u64, u64> = HashMap::new();
        let first = self.layout.paging.canonical(1 << (self.layout.paging.bits - 1));
        for run in self.space.runs(first, arch::START_KERNEL_MAP).take(MAX_RUNS) {
            let base = run.start.wrapping_sub(run.target);
            if base.is_multiple_of(DIRECT_MAP_ALIGNMENT) && base >= first {
                let votes = votes.entry(base).or_default();
                *votes = votes.saturating_add(run.len);
            }
        }
        let (base, bytes) = votes.into_iter().max_by_key(|&(base, bytes)| (bytes, base))?;
        (bytes >= MIN_DIRECT_MAP).then_some(base)
    }

    /// End of the user's part of the address space, exclusive.
    #[must_use]
    pub fn user_end(&self) -> u64 {
        match self.target.types().model().pointer_size() {
            // CONFIG_VMSPLIT_3G, or where the direct map begins.
            4 => self.page_offset().unwrap_or(0xc000_0000),
            _ => 1 << 63,
        }
    }

    /// Wall clock time at which boot-based time was 0.
    pub fn boot_time(&self) -> Read<Time> {
        self.boot_time.get_or_init(|| time::boot_time(&self.target)).clone()
    }

    /// Online CPUs: number, and what to add to the address of a per-CPU symbol (`__per_cpu_offset`).
    ///
    /// Ascending. A uniprocessor kernel has no offsets and yields CPU 0 with 0.
    pub fn per_cpu(&self) -> Read<Vec<(u32, u64)>> {
        let Ok(offsets) = self.target.symbol("__per_cpu_offset") else { return Ok(vec![(0, 0)]) };
        let width = u64::from(self.target.types().model().pointer_size());
        let online = self.online_cpus()?;
        online
            .into_iter()
            .map(|cpu| {
                Ok((cpu, self.target.read_ptr(offsets.wrapping_add(width.wrapping_mul(u64::from(cpu))))?))
            })
            .collect()
    }

    /// Numbers of the CPUs in `cpu_online_mask`: `__cpu_online_mask` (v4.5), `cpu_online_bits` before.
    fn online_cpus(&self) -> Read<Vec<u32>> {
        let mask = self.target.symbol("__cpu_online_mask").or_else(|_| self.target.symbol("cpu_online_bits"));
        let mask = mask.map_err(Absent::from)?;
        let limit = match self.target.symbol("nr_cpu_ids") {
            Ok(symbol) => self.target.read_u32(symbol)?.clamp(1, MAX_CPUS),
            // A constant where CONFIG_NR_CPUS is fixed; the mask is as long as the bits that were ever possible.
            Err(_) => 64,
        };
        let bytes = self.target.read_bytes(mask, u64::from(limit.div_ceil(8)), MAX_CPUS as usize / 8)?;
        let set = |cpu: &u32| bytes.get(*cpu as usize / 8).is_some_and(|byte| byte >> (cpu % 8) & 1 == 1);
        Ok((0..limit).filter(set).collect())
    }
}

/// Where the kernel's image is.
pub(super) fn image_piece(profile: &Profile, layout: &Layout) -> Option<Piece> {
    let (text, end) = (profile.symbol("_text")?, profile.symbol("_end")?);
    let linked = text.wrapping_sub(Arch::of(profile).link_base(profile)?);
    Some(Piece {
        start: text.wrapping_add(layout.slide),
        end: end.wrapping_add(layout.slide),
        physical: linked.wrapping_add(layout.physical_shift),
    })
}

/// Types of a Linux profile, without memory.
#[must_use]
pub fn types(profile: Arc<Profile>) -> Types {
    let model = match profile.arch() {
        Some("I386" | "ARM" | "MIPS") => DataModel::Ilp32,
        _ => DataModel::Lp64,
    };
    Types::new(profile, model, overlay::LINUX)
}

/// Types of a Linux profile over an address space.
pub(super) fn target(profile: Arc<Profile>, space: Arc<dyn AddressSpace>, slide: u64) -> Target {
    let start = profile.symbol("_text").or_else(|| profile.symbol("_stext")).unwrap_or(u64::MAX);
    // Data and init sections follow the text; per-CPU and absolute symbols lie far below.
    Target::new(Arc::new(types(profile)), space, slide, start & !0x1f_ffff)
}

/// The kernel of the session's image.
pub struct KernelFact;

impl Fact for KernelFact {
    type Value = Kernel;
    const NAME: &'static str = "linux kernel";

    fn compute(session: &Session) -> Result<Kernel, Error> {
        let kernel = identify::identify(session)?;
        kernel.take_swap_files(session);
        Ok(kernel)
    }
}
