//! [`Hints`]: what a container tells beside the memory. Claims of the file, to be verified before use.

use crate::paging::{self, Paging};

/// Control registers of one CPU at the time of the dump, as far as the container tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// CR0; bit 31 tells whether paging was on.
    pub cr0: u64,
    /// CR3 as it was: low bits may hold a PCID, and with page-table isolation it may be the user half.
    pub cr3: u64,
    /// CR4; bit 5 is PAE, bit 12 is LA57.
    pub cr4: u64,
    /// Whether the CPU was in 64-bit mode (EFER.LMA).
    pub long_mode: bool,
}

impl Cpu {
    /// The paging mode these registers select; `None` when paging was off. \[Intel SDM vol. 3, 4.1.1\]
    #[must_use]
    pub fn paging(&self) -> Option<&'static Paging> {
        let pae = self.cr4 & (1 << 5) != 0;
        let la57 = self.cr4 & (1 << 12) != 0;
        match (self.cr0 & (1 << 31) != 0, pae, self.long_mode) {
            (false, ..) => None,
            (true, false, _) => Some(&paging::X86),
            (true, true, false) => Some(&paging::PAE),
            (true, true, true) if la57 => Some(&paging::X64_LA57),
            (true, true, true) => Some(&paging::X64),
        }
    }
}

/// Why Windows wrote a crash dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BugCheck {
    /// The stop code, such as `0xd1`; a live dump has one too.
    pub code: u32,
    /// Its four parameters; 32-bit ones are zero-extended.
    pub parameters: [u64; 4],
}

/// What the containers of Windows (crash dump, hibernation file) and acquisition tools tell of the kernel. A
/// field is `None` where the writer left it unset. Addresses are kernel virtual, as the container has them:
/// those of a 32-bit system are zero-extended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowsHints {
    /// `IMAGE_FILE_MACHINE_*`: 0x14c x86, 0x8664 x64, 0xaa64 ARM64.
    pub machine: Option<u16>,
    /// Major version of the header: 15 for free builds, 12 for checked ones.
    pub major: Option<u32>,
    /// Build number: 2600 (XP), 7601 (7 SP1), 19041, 22000; bits above 15 may hold flags.
    pub build: Option<u32>,
    /// Whether a 32-bit kernel used PAE.
    pub pae: Option<bool>,
    /// Number of processors.
    pub processors: Option<u32>,
    /// Base address of the kernel image.
    pub kernel_base: Option<u64>,
    /// `KdDebuggerDataBlock`, the KDBG structure; from Windows 8 on possibly encoded in memory.
    pub kdbg: Option<u64>,
    /// `PsLoadedModuleList`, a list head.
    pub loaded_modules: Option<u64>,
    /// `PsActiveProcessHead`, a list head.
    pub active_processes: Option<u64>,
    /// `MmPfnDatabase`: the address of the variable in some headers, its value in others.
    pub pfn_database: Option<u64>,
    /// Stop code and parameters.
    pub bug_check: Option<BugCheck>,
    /// When it was written: 100 ns since 1601-01-01 UTC.
    pub system_time: Option<u64>,
    /// How long the system was up, in 100 ns.
    pub up_time: Option<u64>,
    /// `_EPROCESS` of the process that was running, where a triage dump maps one.
    pub process: Option<u64>,
    /// `_ETHREAD` of the thread that was running, likewise.
    pub thread: Option<u64>,
    /// `_KPRCB` of the processor that wrote the dump, likewise.
    pub prcb: Option<u64>,
    /// The drivers a triage dump lists, the kernel first.
    pub drivers: Vec<Driver>,
}

/// A driver that a triage dump lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// File name or path, as the system had it.
    pub name: String,
    /// Base address.
    pub base: u64,
    /// Size of the image in bytes.
    pub size: u32,
    /// `TimeDateStamp` of the PE header; with the size it names the file on a symbol server.
    pub time_date_stamp: u32,
}

/// What a container tells beside the memory itself. Hints are claims of the file: verify before use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// CR3 of each CPU, in the order of the notes, as found; see [`Cpu::cr3`]. Containers that tell one page
    /// table root and no registers add it here too.
    pub dtb: Vec<u64>,
    /// The registers those came from, where the container has them.
    pub cpus: Vec<Cpu>,
    /// Text of the `VMCOREINFO` note (Linux), without its header.
    pub vmcoreinfo: Option<Vec<u8>>,
    /// What it tells of a Windows kernel; `None` says nothing about which system it is.
    pub windows: Option<WindowsHints>,
    /// Difference between where the kernel runs and where it was linked, as acquisition tools report it.
    pub kernel_slide: Option<u64>,
}

impl Hints {
    /// Adds what an upper layer found; its single values win.
    pub(crate) fn merge(&mut self, other: Self) {
        self.dtb.extend(other.dtb);
        self.cpus.extend(other.cpus);
        self.vmcoreinfo = other.vmcoreinfo.or(self.vmcoreinfo.take());
        self.windows = other.windows.or(self.windows.take());
        self.kernel_slide = other.kernel_slide.or(self.kernel_slide);
    }
}
